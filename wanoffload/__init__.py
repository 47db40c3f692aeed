"""WAN in a C core: films from texts, stills and films, where every way of offloading the weights gives the same bits.

    from wanoffload import WanPipeline, export_to_video

    pipe = WanPipeline.from_pretrained("path/or/repo-id", dtype="bfloat16")
    pipe.enable_auto_offload(vram="8GiB")
    print(pipe.plan(height=480, width=832, num_frames=81))
    video = pipe("a cat baking a cake", height=480, width=832, num_frames=81, generator=0).frames[0]
    export_to_video(video, "cat.mp4", fps=16)

Names and arguments are those of diffusers. Everything is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wanoffload import errors, hooks, schedulers, utils
    from wanoffload.comparison import Comparison, bench
    from wanoffload.errors import (
        BusyError,
        CheckpointError,
        DeviceError,
        Error,
        InternalError,
        OutOfMemoryError,
        PlanError,
    )
    from wanoffload.models import (
        AutoencoderKLWan,
        CLIPImageProcessor,
        CLIPVisionModel,
        UMT5EncoderModel,
        WanTransformer3DModel,
    )
    from wanoffload.pipelines import (
        WanImageToVideoPipeline,
        WanPipeline,
        WanPipelineOutput,
        WanVideoToVideoPipeline,
    )
    from wanoffload.schedulers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
    from wanoffload.utils import export_to_gif, export_to_video, load_image, load_video

_FROM = {
    "Comparison": "comparison",
    "bench": "comparison",
    "WanPipeline": "pipelines",
    "WanImageToVideoPipeline": "pipelines",
    "WanPipelineOutput": "pipelines",
    "WanVideoToVideoPipeline": "pipelines",
    "AutoencoderKLWan": "models",
    "CLIPImageProcessor": "models",
    "CLIPVisionModel": "models",
    "UMT5EncoderModel": "models",
    "WanTransformer3DModel": "models",
    "FlowMatchEulerDiscreteScheduler": "schedulers",
    "UniPCMultistepScheduler": "schedulers",
    "export_to_gif": "utils",
    "export_to_video": "utils",
    "load_image": "utils",
    "load_video": "utils",
    "BusyError": "errors",
    "CheckpointError": "errors",
    "DeviceError": "errors",
    "Error": "errors",
    "InternalError": "errors",
    "OutOfMemoryError": "errors",
    "PlanError": "errors",
}
_MODULES = ("errors", "hooks", "models", "pipelines", "schedulers", "utils")

__all__ = [
    "AutoencoderKLWan",
    "BusyError",
    "CLIPImageProcessor",
    "CLIPVisionModel",
    "CheckpointError",
    "Comparison",
    "DeviceError",
    "Error",
    "FlowMatchEulerDiscreteScheduler",
    "InternalError",
    "OutOfMemoryError",
    "PlanError",
    "UMT5EncoderModel",
    "UniPCMultistepScheduler",
    "WanImageToVideoPipeline",
    "WanPipeline",
    "WanPipelineOutput",
    "WanTransformer3DModel",
    "WanVideoToVideoPipeline",
    "__version__",
    "bench",
    "errors",
    "export_to_gif",
    "export_to_video",
    "get_float32_matmul_precision",
    "get_num_threads",
    "hooks",
    "load_image",
    "load_video",
    "schedulers",
    "set_float32_matmul_precision",
    "set_num_threads",
    "utils",
]


def set_num_threads(threads: int) -> None:
    """Sets how many threads compute. Results are bit for bit the same with any number.

    The default respects the process's affinity and the cgroup's quota; ``WANOFFLOAD_NUM_THREADS`` sets another. Copy
    and reader threads come on top.
    """
    from wanoffload import _core

    _core.set_num_threads(threads)


def get_num_threads() -> int:
    """How many threads compute."""
    from wanoffload import _core

    return _core.get_num_threads()


def set_float32_matmul_precision(precision: str) -> None:
    """How cards multiply float32 matrices, under torch's name: ``"highest"`` (the default) or ``"high"``.

    ``"high"`` lets cuBLASLt use TF32, operands of 10 bits of mantissa; other operations, own kernels and the CPU stay
    float32. It changes the film. Set it before a pipeline is loaded. ``dtype="bfloat16"`` is faster still and takes
    half the memory.
    """
    from wanoffload import _core

    if precision not in ("highest", "high"):
        raise ValueError(f'precision must be "highest" or "high" (TF32 on cards), not {precision!r}')
    _core.allow_tf32(precision == "high")


def get_float32_matmul_precision() -> str:
    """What set_float32_matmul_precision was given last."""
    from wanoffload import _core

    return "high" if _core.allows_tf32() else "highest"


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(importlib.import_module(f"wanoffload.{_FROM[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"wanoffload.{name}")
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("wanoffload")
        except PackageNotFoundError:
            return "unknown"
    if name.startswith("Wan"):
        from wanoffload.loading import NOT_YET

        if name in NOT_YET:  # AttributeError would lose its message in `from wanoffload import name`
            raise ImportError(f"wanoffload has no {name}: {NOT_YET[name]} is not there yet. Use diffusers for it.")
    raise AttributeError(f"module 'wanoffload' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

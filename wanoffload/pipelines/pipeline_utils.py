"""What a pipeline is apart from sampling: its components, how they are loaded, placed and offloaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from wanoffload import loading, offload
from wanoffload.configuration import FrozenDict
from wanoffload.devices import Device, as_device
from wanoffload.dtypes import DType
from wanoffload.errors import CheckpointError
from wanoffload.messages import warn
from wanoffload.models import AutoencoderKLWan, UMT5EncoderModel, WanTransformer3DModel
from wanoffload.models.component import Component, one_dtype, parse_to
from wanoffload.pipelines.checks import begin_schedule
from wanoffload.runtime import Runtime
from wanoffload.schedulers import SCHEDULERS, Scheduler
from wanoffload.text import Tokenizer

NETWORKS: dict[str, type[Component]] = {
    "text_encoder": UMT5EncoderModel,
    "transformer": WanTransformer3DModel,
    "vae": AutoencoderKLWan,
}


class PipelineBase:
    """Components, device, dtype and offloading of a pipeline."""

    component_names: ClassVar[tuple[str, ...]] = (
        "tokenizer",
        "text_encoder",
        "vae",
        "scheduler",
        "transformer",
        "transformer_2",
    )
    model_cpu_offload_seq: ClassVar[str] = "text_encoder->transformer->transformer_2->vae"

    tokenizer: Any
    text_encoder: UMT5EncoderModel | None
    vae: AutoencoderKLWan | None
    scheduler: Any
    transformer: WanTransformer3DModel | None
    transformer_2: None
    config: FrozenDict

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        torch_dtype: Any = None,
        dtype: Any = None,
        device: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Opens a checkpoint in diffusers' layout.

        Nothing large is read yet: configurations, headers and the tokenizer. Weights are read by the first call.

        Args:
            pretrained_model_name_or_path: A folder, or ``"owner/name"`` on the Hub.
            torch_dtype: The same as ``dtype``, under diffusers' older name.
            dtype: What the weights of text encoder and transformer are held in (the VAE is float32 unless it is
                named): a string, NumPy or torch dtype, ``"auto"``, or a dict ``{"transformer": "bfloat16", "default":
                    "float32"}``.
            device: Where to compute, ``"cpu"``.
            **kwargs: Components to use instead of the checkpoint's (``vae=``, ``transformer=``, ``scheduler=`` ...;
                None leaves one out), ``variant``, and what the Hub takes.

        Raises:
            OSError: A folder or file is missing; it is named.
            CheckpointError: No WAN text-to-video checkpoint, or a damaged one.
            TypeError: An unknown keyword.
        """
        where = as_device(device)
        given = {name: kwargs.pop(name) for name in cls.component_names if name in kwargs}
        known = (*cls.component_names, "torch_dtype", "dtype", "device")
        hub = loading.take_loading_options(f"{cls.__name__}.from_pretrained", kwargs, known)
        dtypes = _component_dtypes(one_dtype(torch_dtype, dtype))
        wanted = tuple(name for name in cls.component_names if name not in given)
        root = loading.locate(pretrained_model_name_or_path, hub, wanted)
        index = loading.read_model_index(root)
        parts: dict[str, Any] = {"transformer_2": None, **given}
        if "scheduler" not in parts:
            parts["scheduler"] = load_scheduler(root, index)
        if "tokenizer" not in parts:
            parts["tokenizer"] = Tokenizer.from_pretrained(loading.component_folder(root, "tokenizer"))
        for name, network in NETWORKS.items():
            if name not in parts:
                folder = loading.component_folder(root, name)
                parts[name] = network.from_folder(folder, dtypes.get(name), where, hub.get("variant"))
        pipe = cls(**parts)
        pipe.config = FrozenDict({**pipe.config, "_name_or_path": os.fspath(pretrained_model_name_or_path)})
        return pipe

    def _register(self, components: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Takes components in, after checking their types, and brings them onto one engine."""
        for name in self.component_names:
            check_component(name, components.get(name))
            setattr(self, name, components.get(name))
        self.config = FrozenDict(config)
        self._progress_bar_config: dict[str, Any] = {}
        networks = self.networks()
        with_engine = [one for one in networks.values() if one.has_runtime]
        self._runtime = with_engine[0].runtime if with_engine else Runtime(self.device)
        for one in networks.values():
            one.join(self._runtime)

    @property
    def components(self) -> dict[str, Any]:
        """The components by name, as `WanPipeline(**pipe.components)` takes them."""
        return {name: getattr(self, name) for name in self.component_names}

    def networks(self) -> dict[str, Component]:
        """The networks that are there, in the order they run; one that was put in later joins the engine.

        Raises:
            TypeError: Something that is no such network was put in.
        """
        found = {}
        for name in NETWORKS:
            one = getattr(self, name)
            check_component(name, one)
            if one is not None:
                found[name] = one
                if hasattr(self, "_runtime"):
                    one.join(self._runtime)
        return found

    @property
    def dtype(self) -> DType:
        """The dtype of the transformer, or of the first network that is there."""
        networks = [self.transformer, self.text_encoder, self.vae]
        return next((one.dtype for one in networks if one is not None), DType("float32"))

    @property
    def device(self) -> Device:
        """Where the pipeline computes."""
        return next((one.device for one in self.networks().values()), Device("cpu"))

    @property
    def name_or_path(self) -> str | None:
        """What it was loaded from."""
        return self.config.get("_name_or_path")

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Changes device or dtype of every network, as ``to("cpu")`` or ``to(torch.bfloat16)``; offloaded ones are not
        moved."""
        device, dtype = parse_to(args, kwargs)
        for one in self.networks().values():
            one.to(device=device, dtype=dtype)
        return self

    def enable_group_offload(
        self,
        onload_device: Any,
        offload_device: Any = "cpu",
        offload_type: str = "block_level",
        num_blocks_per_group: int | None = None,
        non_blocking: bool = False,
        use_stream: bool = False,
        record_stream: bool = False,
        low_cpu_mem_usage: bool = False,
        offload_to_disk_path: str | None = None,
        exclude_modules: str | list[str] | None = None,
    ) -> None:
        """Streams the weights of every network in groups.

        Args:
            onload_device: The device that computes, ``"cpu"``.
            offload_device: Where weights rest: ``"cpu"`` for host memory, ``"disk"`` for the checkpoint's own files.
            offload_type: ``"block_level"`` or ``"leaf_level"``.
            num_blocks_per_group: Blocks that travel together; required at block level, honoured with streams too.
            non_blocking: Accepted; copies never block the host.
            use_stream: Copy on a stream of its own, beside the computation.
            record_stream: Accepted with ``use_stream``; slots are always let go by events.
            low_cpu_mem_usage: Accepted; host memory always holds one exact-size copy.
            offload_to_disk_path: Means ``offload_device="disk"``; nothing is written there.
            exclude_modules: Names of components that become resident instead.
        """
        excluded = [exclude_modules] if isinstance(exclude_modules, str) else list(exclude_modules or [])
        unknown = sorted(set(excluded) - set(self.components))
        if unknown:
            warn(
                f"The following modules are not present in pipeline: {', '.join(unknown)}. Ignore if this is expected."
            )
        settings = offload.group_offload_settings(
            onload_device,
            offload_device,
            offload_type,
            num_blocks_per_group,
            non_blocking,
            use_stream,
            record_stream,
            low_cpu_mem_usage,
            offload_to_disk_path,
        )
        for name, one in self.networks().items():
            one.set_offload(offload.RESIDENT if name in excluded else settings)

    def enable_auto_offload(self, vram: Any = None, ram: Any = None) -> None:
        """Gives the pipeline budgets; each call is planned to fit them, as fast as they allow.

        Where everything fits, everything is resident. Otherwise each network has the budget to itself while it runs:
        as much of it as fits stays in place, the rest streams from host memory or from the checkpoint's files.

        Args:
            vram: Bound of the device arena: bytes or ``"8GiB"``. On ``"cpu"`` the arena is ordinary memory and bounded
                as well.
            ram: Bound of what the core allocates (on ``"cpu"`` the arena included), of the frames that are handed out
                and of an allowance of 64 MiB. Without either bound: nine tenths of the memory that is free now.
        """
        if vram is None and ram is None:
            from wanoffload import _core

            ram = _core.device_memory("cpu")[0] * 9 // 10
        self._set_offload(offload.auto_offload_settings(vram, ram))

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: Any = None) -> None:
        """Has one whole network in place at a time; it makes room when the next one runs."""
        offload.offload_target(gpu_id, device)
        self._set_offload(offload.model_offload_settings())

    def enable_sequential_cpu_offload(self, gpu_id: int | None = None, device: Any = None) -> None:
        """Copies each layer when it is used: the least memory, and the least speed."""
        offload.offload_target(gpu_id, device)
        self._set_offload(offload.sequential_offload_settings())

    def disable_offload(self) -> None:
        """Makes every network resident again."""
        self._set_offload(offload.RESIDENT)

    def _set_offload(self, settings: offload.OffloadSettings) -> None:
        for one in self.networks().values():
            one.set_offload(settings)

    def progress_bar(self, iterable: Iterable | None = None, total: int | None = None) -> Any:
        """A tqdm bar with the settings of `set_progress_bar_config`."""
        from tqdm.auto import tqdm

        if iterable is not None:
            return tqdm(iterable, **self._progress_bar_config)
        if total is not None:
            return tqdm(total=total, **self._progress_bar_config)
        raise ValueError("Either `total` or `iterable` has to be defined.")

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Settings for the progress bar, as tqdm takes them: ``disable=True``, ``desc="..."``."""
        self._progress_bar_config = kwargs

    def __repr__(self) -> str:
        lines = [f"  {name}: {one!r}" for name, one in self.components.items() if one is not None]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def load_scheduler(root: Path, index: Mapping[str, Any]) -> Scheduler:
    """The scheduler that model_index.json names.

    Raises:
        CheckpointError: It is one that this package has not.
    """
    entry = index.get("scheduler")
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if name not in SCHEDULERS:
        raise CheckpointError(
            f"{root / 'model_index.json'} names the scheduler {name}, which is not there. Pass one of your own: "
            f"from_pretrained(..., scheduler=...) with {' or '.join(SCHEDULERS)}."
        )
    folder = loading.component_folder(root, "scheduler")
    try:
        begin_schedule(SCHEDULERS[name].from_pretrained(folder), 2)
        return SCHEDULERS[name].from_pretrained(folder)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The scheduler in {folder} cannot be used: {error}") from None


def check_component(name: str, value: Any) -> None:
    """Raises TypeError for a component that is not this package's own, and says how to get one that is."""
    if value is None:
        return
    if name in NETWORKS and not isinstance(value, NETWORKS[name]):
        wanted = NETWORKS[name].__name__
        raise TypeError(
            f"`{name}` has to be a wanoffload.{wanted} but is a {_full_name(value)}. Load it with "
            f"wanoffload.{wanted}.from_pretrained(path, subfolder='{name}')."
        )
    if name == "scheduler" and not (hasattr(value, "set_timesteps") and isinstance(value, Scheduler)):
        raise TypeError(
            f"`scheduler` has to be one of wanoffload's ({', '.join(SCHEDULERS)}) but is a {_full_name(value)}. Make "
            "one of its configuration: UniPCMultistepScheduler.from_config(scheduler.config)."
        )
    if name == "tokenizer" and not isinstance(value, Tokenizer):
        raise TypeError(
            f"`tokenizer` has to be a wanoffload.text.Tokenizer but is a {_full_name(value)}. Load it with "
            "wanoffload.text.Tokenizer.from_pretrained(path, subfolder='tokenizer')."
        )
    if name == "transformer_2":
        raise TypeError(
            "`transformer_2` is WAN 2.2's second expert; this version runs WAN 2.1 with one transformer only."
        )


def _full_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _component_dtypes(dtype: Any) -> dict[str, Any]:
    """The dtype of each network: one for all but the VAE, or by name."""
    if not isinstance(dtype, Mapping):
        return {"text_encoder": dtype, "transformer": dtype}
    unknown = sorted(set(dtype) - set(NETWORKS) - {"default"})
    if unknown:
        raise ValueError(f"`dtype` names '{unknown[0]}', which is no network. Names: {', '.join(NETWORKS)}, default.")
    return {name: dtype.get(name, dtype.get("default")) for name in NETWORKS}

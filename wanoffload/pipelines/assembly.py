"""Putting a pipeline together from a checkpoint: which components model_index.json names, and whether they will do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wanoffload import loading
from wanoffload.errors import CheckpointError
from wanoffload.models import (
    AutoencoderKLWan,
    CLIPImageProcessor,
    CLIPVisionModel,
    UMT5EncoderModel,
    WanTransformer3DModel,
)
from wanoffload.models.component import Component
from wanoffload.pipelines.checks import begin_schedule
from wanoffload.schedulers import SCHEDULERS, Scheduler
from wanoffload.text import Tokenizer

NETWORKS: dict[str, type[Component]] = {
    "text_encoder": UMT5EncoderModel,
    "image_encoder": CLIPVisionModel,
    "transformer": WanTransformer3DModel,
    "transformer_2": WanTransformer3DModel,
    "vae": AutoencoderKLWan,
}
_OTHERS = {"tokenizer": ("text.Tokenizer", Tokenizer), "image_processor": ("CLIPImageProcessor", CLIPImageProcessor)}
_MAY_BE_MISSING = ("image_encoder", "image_processor", "transformer", "transformer_2")


def named_components(index: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a pipeline's components that a model_index.json names; those that every checkpoint has count as
    named."""
    return tuple(name for name in names if name not in _MAY_BE_MISSING or _is_named(index, name))


def _is_named(index: Mapping[str, Any], name: str) -> bool:
    entry = index.get(name, [None] if name != "transformer" else [name])
    return isinstance(entry, list) and any(entry)


def load_component(
    root: Path, index: Mapping[str, Any], name: str, dtype: Any, device: Any, variant: str | None
) -> Any:
    """One component of a checkpoint.

    Raises:
        OSError: Its folder or a file is missing.
        CheckpointError: It is damaged or of another model.
    """
    if name == "scheduler":
        return load_scheduler(root, index)
    folder = loading.component_folder(root, name)
    if name in _OTHERS:
        return _OTHERS[name][1].from_pretrained(folder)
    return NETWORKS[name].from_folder(folder, dtype, device, variant)


def load_scheduler(root: Path, index: Mapping[str, Any]) -> Scheduler:
    """The scheduler that model_index.json names.

    Raises:
        CheckpointError: It is one that this package has not.
    """
    entry = index.get("scheduler")
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if not isinstance(name, str) or name not in SCHEDULERS:
        raise CheckpointError(
            f"{root / 'model_index.json'} names the scheduler {name}, which is not there. Pass one of your own: "
            f"from_pretrained(..., scheduler=...) with {' or '.join(SCHEDULERS)}."
        )
    folder = loading.component_folder(root, "scheduler")
    try:
        begin_schedule(SCHEDULERS[name].from_pretrained(folder), 2, shift=1.0)
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
    if name in _OTHERS and not isinstance(value, _OTHERS[name][1]):
        wanted = _OTHERS[name][0]
        raise TypeError(
            f"`{name}` has to be a wanoffload.{wanted} but is a {_full_name(value)}. Load it with "
            f"wanoffload.{wanted}.from_pretrained(path, subfolder='{name}')."
        )


def _full_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def component_dtypes(dtype: Any) -> dict[str, Any]:
    """The dtype of each network: one for text encoder and transformers, or by name."""
    if not isinstance(dtype, Mapping):
        return dict.fromkeys(("text_encoder", "transformer", "transformer_2"), dtype)
    unknown = sorted(set(dtype) - set(NETWORKS) - {"default"})
    if unknown:
        raise ValueError(f"`dtype` names '{unknown[0]}', which is no network. Names: {', '.join(NETWORKS)}, default.")
    found = {name: dtype.get(name, dtype.get("default")) for name in NETWORKS}
    if "transformer_2" not in dtype and "transformer" in dtype:
        found["transformer_2"] = dtype["transformer"]
    return found

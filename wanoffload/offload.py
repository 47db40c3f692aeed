"""Offload settings: the one place that turns diffusers' arguments, and our budgets, into what the planner is asked for.

Settings hang on a component. They are checked here, when they are given; what they cost is found out when a call is
planned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wanoffload.devices import Device, as_device, parse_device
from wanoffload.errors import DeviceError
from wanoffload.messages import warn, warn_once
from wanoffload.sizes import format_size, parse_size

ALLOWANCE = 64 << 20
"""Bytes of a ram budget set aside for what is neither the core's nor the output: latents, embeddings, stacks, the
interpreter's growth."""

RESERVE = 512 << 20
"""Bytes of a card that are left alone where no bound is given, and one in `RESERVE_SHARE` of its memory on top: the
driver loads each kernel when it is first launched, cuDNN's and cuBLASLt's some hundred megabytes in all, memory is
handed out in pieces of 2 MiB, and a card that drives a display is drawn on meanwhile."""
RESERVE_SHARE = 64

_LEVELS = {"block_level": "block", "leaf_level": "leaf"}


@dataclass(frozen=True)
class OffloadSettings:
    """What one component's user asked for.

    Attributes:
        kind: ``"none"`` (resident, kept between calls), ``"group"``, ``"model"``, ``"sequential"`` or ``"auto"``.
        level: The planner's level: resident, model, block, leaf or auto.
        blocks_per_group: At block level, how many blocks travel together.
        tier: Where streamed weights rest: ``"host"`` or ``"disk"``. With ``"auto"`` the planner chooses.
        use_stream: Whether copies run beside the computation.
        vram: With ``"auto"``, the bound of the device arena in bytes; None is no bound.
        ram: With ``"auto"``, the bound of what the core allocates in bytes; None is no bound.
    """

    kind: str = "none"
    level: str = "resident"
    blocks_per_group: int = 1
    tier: str = "host"
    use_stream: bool = False
    vram: int | None = None
    ram: int | None = None

    @property
    def offloaded(self) -> bool:
        """Whether an offload call was made."""
        return self.kind != "none"

    def policy(self, **more: Any) -> dict[str, Any]:
        """The policy for `_core.Component.plan`, with further entries (what other components hold)."""
        policy: dict[str, Any] = {"level": self.level, "use_stream": self.use_stream}
        if self.kind == "auto":
            policy.update(vram=self.vram, ram=self.ram, choose_knobs=True)
        elif self.level != "resident":
            policy["tier"] = self.tier
        if self.level == "block":
            policy["blocks_per_group"] = self.blocks_per_group
        return {**policy, **more}

    def describe(self) -> str:
        """A few words for tables: ``"block level, 2 per group, host, stream"``."""
        if self.kind == "none":
            return "resident"
        if self.kind == "auto":
            bounds = [
                f"{name} {format_size(value)}"
                for name, value in (("vram", self.vram), ("ram", self.ram))
                if value is not None
            ]
            return "auto" + (f" ({', '.join(bounds)})" if bounds else "")
        words = {
            "block": f"block level, {self.blocks_per_group} per group",
            "leaf": "leaf level",
            "model": "whole model",
        }
        return ", ".join([words[self.level], self.tier] + (["stream"] if self.use_stream else []))


RESIDENT = OffloadSettings()


def group_offload_settings(
    onload_device: Any,
    offload_device: Any = "cpu",
    offload_type: Any = "block_level",
    num_blocks_per_group: int | None = None,
    non_blocking: bool = False,
    use_stream: bool = False,
    record_stream: bool = False,
    low_cpu_mem_usage: bool = False,
    offload_to_disk_path: Any = None,
    block_modules: Iterable[str] | None = None,
    exclude_kwargs: Iterable[str] | None = None,
    known_modules: Iterable[str] = (),
) -> OffloadSettings:
    """Checks the arguments of `enable_group_offload` and turns them into settings.

    ``non_blocking``, ``record_stream`` and ``low_cpu_mem_usage`` ask for what always holds here (copies never block the
    host, slots are let go by events, one exact-size copy in host memory), so they are accepted and change nothing. The
    same goes for ``block_modules`` (the blocks under every child are blocks) and ``exclude_kwargs`` (arguments are not
    moved).

    Raises:
        DeviceError: The onload device cannot be used.
        TypeError, ValueError: An argument is wrong, or cannot take effect; the text says why.
    """
    as_device(onload_device)
    flags = dict(
        non_blocking=non_blocking,
        use_stream=use_stream,
        record_stream=record_stream,
        low_cpu_mem_usage=low_cpu_mem_usage,
    )
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"`{name}` has to be True or False but is {value!r}.")
    level = _LEVELS.get(getattr(offload_type, "value", offload_type))
    if level is None:
        raise ValueError(
            f"{offload_type!r} is not a valid `offload_type`; it is one of {', '.join(map(repr, _LEVELS))}."
        )
    if record_stream and not use_stream:
        raise ValueError("`record_stream` cannot be True when `use_stream=False`.")
    _check_blocks(level, num_blocks_per_group)
    _check_names("block_modules", block_modules, known_modules)
    _check_names("exclude_kwargs", exclude_kwargs, None)
    tier = _tier(offload_device, offload_to_disk_path)
    return OffloadSettings("group", level, num_blocks_per_group or 1, tier, use_stream)


def model_offload_settings() -> OffloadSettings:
    """Whole components, one after the other, as `enable_model_cpu_offload` asks for."""
    return OffloadSettings("model", "model", tier="host")


def sequential_offload_settings() -> OffloadSettings:
    """Layer by layer, copied when used, as `enable_sequential_cpu_offload` asks for."""
    return OffloadSettings("sequential", "leaf", tier="host")


def auto_offload_settings(vram: Any = None, ram: Any = None) -> OffloadSettings:
    """Budgets in, plan out.

    Args:
        vram: Bound of the device arena: bytes, ``"8GiB"`` or None.
        ram: Bound of what the core allocates in host memory, or None.
    """
    return OffloadSettings("auto", "auto", use_stream=True, vram=parse_size(vram, "vram"), ram=parse_size(ram, "ram"))


def default_budgets(device: Device, held: int, vram: Any = None, ram: Any = None) -> tuple[Any, Any]:
    """Budgets for what was not given.

    On the cpu device, without either: nine tenths of the memory that is free now, as ``ram``. On a card each that is
    missing: of the card's memory what is free now or held already, less a reserve; and nine tenths of the host's.

    Args:
        device: Where to compute.
        held: Bytes of its memory that are ours already.
        vram: As given.
        ram: As given.
    """
    from wanoffload import _core

    if ram is None and (vram is None or device.type != "cpu"):
        ram = _core.device_memory("cpu")[0] * 9 // 10
    if vram is None and device.type != "cpu":
        free, total = _core.device_memory(str(device))
        vram = max(0, free + held - RESERVE - total // RESERVE_SHARE)
    return vram, ram


def offload_target(gpu_id: int | None, device: Any, current: Device | None = None) -> Device:
    """Where a call of `enable_model_cpu_offload` or `enable_sequential_cpu_offload` wants to compute.

    As in diffusers, that is an accelerator where there is one: without arguments the current device if it is a card,
    else the first card that can be used, else the current device.

    Args:
        gpu_id: A card's number, or None.
        device: A device, or None.
        current: Where the pipeline computes now.

    Raises:
        DeviceError: The device cannot be used.
        ValueError: An accelerator's number was given where there is no accelerator, or twice.
    """
    if device is None:
        return _accelerator(gpu_id, current or as_device(None))
    target = as_device(device)
    if gpu_id is None:
        return target
    if target.type == "cpu":
        raise ValueError(_no_numbers(gpu_id, target))
    if parse_device(device).index is not None:
        raise ValueError(
            f"You have passed both `gpu_id`={gpu_id} and an index as part of the passed device `device`={device}. "
            f"Pass one of the two: `device`={target.type}."
        )
    return as_device(f"{target.type}:{gpu_id}")


def _accelerator(gpu_id: int | None, current: Device) -> Device:
    from wanoffload import _core

    if gpu_id is None and current.type != "cpu":
        return current
    if _core.cuda_count() == 0:
        if gpu_id is not None:
            raise ValueError(_no_numbers(gpu_id, current))
        return current
    if gpu_id is not None:
        return as_device(f"cuda:{gpu_id}")
    try:
        return as_device("cuda")
    except DeviceError as error:
        warn(f"There is a card, but it cannot be used, and '{current}' goes on computing: {error}")
        return current


def _no_numbers(gpu_id: int, device: Device) -> str:
    return f"`gpu_id`={gpu_id} cannot take effect: the device is '{device}', which has no numbers. Leave it out."


def _check_blocks(level: str, count: Any) -> None:
    if level == "block":
        if count is None:
            raise ValueError("`num_blocks_per_group` must be provided when using `offload_type='block_level'.")
        if isinstance(count, bool) or not hasattr(count, "__index__"):
            raise TypeError(f"`num_blocks_per_group` has to be an int but is {count!r}.")
        if count.__index__() < 1:
            raise ValueError(f"`num_blocks_per_group` has to be at least 1 but is {count}.")
    elif count is not None:
        raise ValueError(
            f"`num_blocks_per_group`={count} cannot take effect with `offload_type='leaf_level'`: there each layer "
            "travels alone. Leave it out, or use `offload_type='block_level'`."
        )


def _check_names(argument: str, names: Any, known: Iterable[str] | None) -> None:
    if names is None:
        return
    names = [names] if isinstance(names, str) else list(names)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"`{argument}` has to be a list of str but is {names!r}.")
    if known is None:
        return
    known = list(known)
    for name in names:
        if name not in known:
            raise ValueError(
                f"`{argument}` names '{name}', which holds no blocks here. Blocks are found in: {', '.join(known)}."
            )


def _tier(offload_device: Any, path: Any) -> str:
    try:
        device = parse_device(offload_device)
    except ValueError:
        raise ValueError(f"`offload_device` has to be 'cpu' or 'disk' but is {offload_device!r}.") from None
    if path is not None:
        warn_once(
            f"`offload_to_disk_path`={str(path)!r}: nothing is written there. Weights are streamed from the "
            "checkpoint's own files (`offload_device='disk'`)."
        )
        return "disk"
    if device.type not in ("cpu", "disk"):
        raise ValueError(
            f"`offload_device` has to be 'cpu' (host memory) or 'disk' (the checkpoint's own files) but is '{device}'."
        )
    return "host" if device.type == "cpu" else "disk"

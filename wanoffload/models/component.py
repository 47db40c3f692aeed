"""What the networks share: loading, configuration, dtype and device, offload settings, and running under a
plan."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from wanoffload import loading, offload
from wanoffload.configuration import FrozenDict
from wanoffload.devices import Device, as_device, is_device
from wanoffload.dtypes import SUPPORTED, DType, as_dtype, dtype_name
from wanoffload.errors import CheckpointError, Error
from wanoffload.messages import warn
from wanoffload.offload import OffloadSettings
from wanoffload.prediction import pass_counts
from wanoffload.report import ComponentReport
from wanoffload.runtime import TRACE_SPANS, Runtime


class Component:
    """A network bound to a checkpoint: opened, checked against its configuration, its weights not yet read.

    Weights are read when a call needs them, and then stay, travel or go as the offload settings say.

    Attributes:
        config: The configuration; entries are attributes and items.
        dtype: What weights and matrix operands are held in; equals strings, NumPy and torch dtypes of that name. Beside
            float16 weights operands are float32 on the CPU, and in the text encoder everywhere.
        device: Where it computes; equals strings and torch devices of that name.
        offload: The offload settings in force.
        report: What the last call of this component alone moved and took; None before.
    """

    class_name: ClassVar[str]
    component_name: ClassVar[str]
    core_class: ClassVar[str]
    blocks_in: ClassVar[tuple[str, ...]]
    config_defaults: ClassVar[Mapping[str, Any]] = {}
    config_needed: ClassVar[tuple[str, ...]] = ()
    default_dtype: ClassVar[str] = "float32"

    def __init__(self, weights: str, config: FrozenDict, dtype: DType, device: Device) -> None:
        from wanoffload import _core

        self.config = config
        self.dtype = dtype
        self.device = device
        self.offload = offload.RESIDENT
        self.report: ComponentReport | None = None
        self.store = _core.Store(weights)
        self.core = self._bind()
        self._runtime: Runtime | None = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        subfolder: str | None = None,
        torch_dtype: Any = None,
        dtype: Any = None,
        device: Any = None,
        **options: Any,
    ) -> Any:
        """Opens a component of a checkpoint in diffusers' layout.

        Args:
            pretrained_model_name_or_path: A folder, or ``"owner/name"`` on the Hub.
            subfolder: The component's folder inside it, ``"transformer"``.
            torch_dtype: The same as ``dtype``, under diffusers' older name.
            dtype: What weights are held in: a string, NumPy or torch dtype, or ``"auto"`` for that of the files.
                float32 by default. The files may have any other; they are converted while they are read.
            device: Where to compute: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; for plans only, a card by name such as
                ``"cuda:rtx4090"``.
            **options: ``variant`` and what the Hub takes: ``revision``, ``token``, ``cache_dir``, ``local_files_only``,
                ``force_download``, ``proxies``.

        Raises:
            OSError: A folder or file is missing; it is named.
            CheckpointError: The files are damaged, of another model, or of one that cannot be run yet.
            TypeError: An unknown keyword.
        """
        function = f"{cls.class_name}.from_pretrained"
        hub = loading.take_loading_options(function, options, ("subfolder", "torch_dtype", "dtype", "device"))
        dtype = one_dtype(torch_dtype, dtype)
        where = as_device(device)
        root = loading.locate(pretrained_model_name_or_path, hub, (subfolder or "",))
        return cls.from_folder(loading.component_folder(root, subfolder), dtype, where, hub.get("variant"))

    @classmethod
    def from_single_file(cls, path: str | os.PathLike, **options: Any) -> None:
        """Not there yet. Raises NotImplementedError that says what to use instead."""
        loading.refuse_single_file(cls.class_name, path)

    @classmethod
    def from_folder(cls, folder: Path, dtype: Any, device: Device, variant: str | None = None) -> Any:
        """Opens the component whose config.json and weights lie in a local folder."""
        config = cls.read_config(folder)
        try:
            cls.check_config(config, folder / "config.json")
        except TypeError as error:
            raise CheckpointError(f"{folder / 'config.json'} has an entry of the wrong type: {error}") from None
        weights = str(loading.weights_path(folder, variant))
        dtype = cls._resolve_dtype(dtype, weights)
        try:
            return cls(weights, config, dtype, device)
        except Error:
            raise
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{folder / 'config.json'} cannot be used: {error}") from None

    @classmethod
    def read_config(cls, folder: Path) -> FrozenDict:
        """The entries of a folder's config.json, with defaults for those that are not there."""
        return loading.read_component_config(folder, cls.class_name, cls.config_defaults, cls.config_needed)

    @classmethod
    def check_config(cls, config: FrozenDict, file: Path) -> None:
        """Refuses by name what this version cannot run. Raises CheckpointError."""

    @classmethod
    def _resolve_dtype(cls, dtype: Any, weights: str) -> DType:
        if dtype_name(dtype) != "auto":
            return as_dtype(cls.default_dtype if dtype is None else dtype)
        from wanoffload import _core

        sizes: dict[str, int] = {}
        for entry in _core.Store(weights).entries():
            name = _AT_REST.get(entry["dtype"].lower(), entry["dtype"].lower())
            sizes[name] = sizes.get(name, 0) + entry["bytes"]
        most = max(sizes, key=sizes.__getitem__, default=cls.default_dtype)
        return DType(most if most in SUPPORTED else cls.default_dtype)

    def _bind(self, core_class: str | None = None) -> Any:
        """Opens the core's network of a class, of `core_class` unless another is named."""
        from wanoffload import _core

        return getattr(_core, core_class or self.core_class)(self.store, self.core_config(), self.dtype.name)

    def core_config(self) -> dict[str, Any]:
        """The configuration's entries that the core reads."""
        return dict(self.config)

    @property
    def cores(self) -> tuple[Any, ...]:
        """The core's networks that are open: one, and in the VAE a second once it encodes."""
        return (self.core,)

    @property
    def bytes(self) -> int:
        """Bytes of the weights in the dtype of use, of all that is open."""
        return sum(core.bytes for core in self.cores)

    @property
    def runtime(self) -> Runtime:
        """The engine this component runs on: its pipeline's, or one of its own."""
        if self._runtime is None:
            self.join(Runtime(self.device))
        return self._runtime

    @property
    def has_runtime(self) -> bool:
        """Whether an engine was given or made already."""
        return self._runtime is not None

    def join(self, runtime: Runtime) -> None:
        """Moves to a pipeline's engine; what the former engine held of this component is let go."""
        if self._runtime is runtime:
            return
        self._leave()
        self._runtime = runtime
        runtime.members.add(self)

    def _leave(self) -> None:
        if self._runtime is not None:
            self._runtime.drop(*self.cores)
            self._runtime.members.discard(self)
        self._runtime = None

    def _move(self, device: Device) -> None:
        """Computes on another device from now on; weights are read anew when next needed."""
        if device != self.device:
            self._leave()
            self.device = device

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Changes device or dtype, as ``to("cuda")``, ``to(torch.bfloat16)`` or ``to(device=..., dtype=...)``.

        An offloaded component is not moved: it warns and stays as it is; one with budgets is. Another device or dtype
        means that weights are read anew when next needed.
        """
        device, dtype = parse_to(args, kwargs)
        if device is not None:
            where = as_device(device)
            if self.offload.offloaded and not (self.offload.kind == "auto" and where != self.device):
                warn(f"The module '{self.class_name}' is group offloaded and moving it using `.to()` is not supported.")
                return self
            self._move(where)
        if dtype is not None and as_dtype(dtype) != self.dtype:
            self._change_dtype(as_dtype(dtype))
        return self

    def _change_dtype(self, dtype: DType) -> None:
        if self._runtime is not None:
            self._runtime.drop(*self.cores)
        before, self.dtype = self.dtype, dtype
        try:
            self.core = self._bind()
        except BaseException:
            self.dtype = before
            raise

    def set_offload(self, settings: OffloadSettings, device: Device | None = None) -> None:
        """Puts offload settings in force; what was loaded under others is let go. The last call wins.

        Args:
            settings: The settings.
            device: Where to compute from now on; None: where it does.
        """
        if settings != self.offload and self._runtime is not None:
            self._runtime.drop(*self.cores)
        if device is not None:
            self._move(device)
        self.offload = settings

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
        block_modules: list[str] | None = None,
        exclude_kwargs: list[str] | None = None,
    ) -> None:
        """Streams the weights in groups. Arguments: see `wanoffload.hooks.apply_group_offloading`.

        Results are bit for bit those of the resident component, whatever the arguments.
        """
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
            block_modules,
            exclude_kwargs,
            known_modules=self.blocks_in,
        )
        self.set_offload(settings, as_device(onload_device))

    def enable_auto_offload(self, vram: Any = None, ram: Any = None) -> None:
        """Gives this component budgets, in bytes or as ``"8GiB"``; each call is planned to fit them.

        On a card, what is not given is what is free there now, less a reserve, and nine tenths of the host's memory.
        """
        settings = offload.auto_offload_settings(vram, ram)
        if self.device.type != "cpu":
            settings = offload.auto_offload_settings(
                *offload.default_budgets(self.device, self.runtime.held(), settings.vram, settings.ram)
            )
        self.set_offload(settings)

    def disable_offload(self) -> None:
        """Makes the component resident again."""
        self.set_offload(offload.RESIDENT)

    def enable_trace(self, spans: int = TRACE_SPANS) -> None:
        """Has every call on this engine record a timeline, for ``report.plot()`` and ``report.to_chrome_trace(path)``.

        No bit changes. The memory for it is planned; what finds no room is counted and left out.

        Args:
            spans: The most groups to follow, each visit and each read of one being a span.
        """
        self.runtime.record_trace(spans)

    def disable_trace(self) -> None:
        """Records no more."""
        self.runtime.record_trace(0)

    def policy_alone(self, engine: Any, output_bytes: int, core: Any = None) -> dict[str, Any]:
        """The policy for a call of this component alone.

        With a budget, others on the same engine that have one make room; what the rest hold counts as outside.

        Args:
            engine: The engine to run on.
            output_bytes: Size of the arrays that are handed out.
            core: Which of the component's networks runs; `self.core` unless given.
        """
        if self.offload.kind != "auto":
            return self.offload.policy()
        residents = slabs = 0
        for other in self.runtime.members:
            for network in other.cores:
                if network is (core or self.core):
                    continue
                if other.offload.kind == "auto":
                    engine.drop(network)
                elif other.offload.level in ("resident", "model"):
                    residents += network.bytes
                if other.offload.offloaded and other.offload.kind != "auto" and other.offload.tier == "host":
                    slabs += network.bytes
        shared = residents if engine.host_addressable else 0
        return self.offload.policy(
            vram_outside=residents, ram_outside=offload.ALLOWANCE + output_bytes + slabs + shared
        )

    @contextmanager
    def running(self, engine: Any, plan: Any, report: ComponentReport, core: Any = None) -> Iterator[Any]:
        """Opens the component under a plan, and closes it whatever happens: ``with c.running(engine, plan, report) as
        x``. core: which of its networks; `self.core` unless given."""
        from wanoffload import _core

        execution = _core.Exec(engine, core or self.core, plan)
        try:
            yield execution
        finally:
            pinned = _core.host_memory()["pinned"]
            measured = execution.close()
            report.add(measured, plan.summary(), execution.trace(), _on_card(engine, pinned))
        self._note_speed(report.name, plan, measured)

    def _note_speed(self, name: str, plan: Any, measured: dict[str, Any]) -> None:
        """Lets predictions on this engine go by how fast a run computed."""
        rates = self._runtime.rates if self._runtime is not None else None
        if rates is None or measured["passes"] == 0:
            return
        counts = pass_counts(plan.summary(), measured["passes"])
        works = [(one["work"], count) for one, count in zip(plan.passes(), counts, strict=True)]
        rates.note((name, self.dtype.name), works, measured["compute_seconds"])

    def after_call(self, engine: Any, keep: bool | None = None) -> None:
        """Lets go of what the settings say is not to stay between calls.

        Args:
            engine: The engine that ran the call.
            keep: What a plan over several components decided about residents; None: as the settings say.
        """
        stays = self.offload.kind != "model" if keep is None else keep
        if not stays:
            for core in self.cores:
                engine.drop_residents(core)

    def __repr__(self) -> str:
        return f"{self.class_name}(dtype={self.dtype}, device={self.device}, offload={self.offload.describe()!r})"


def _on_card(engine: Any, pinned: int) -> dict[str, int]:
    """Bytes of a card's memory that the engine holds, and of host memory that was pinned for it; empty on the cpu."""
    if engine.host_addressable:
        return {}
    held = engine.held()
    return {"device_bytes": held["resident_bytes"] + held["arena_bytes"], "pinned_bytes": pinned}


_AT_REST = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "f64": "float32"}


def one_dtype(torch_dtype: Any, dtype: Any) -> Any:
    """The one of the two names for the same argument that was given.

    Raises:
        ValueError: Both were, with different values.
    """
    if torch_dtype is not None and dtype is not None and dtype_name(torch_dtype) != dtype_name(dtype):
        raise ValueError(f"You have passed `torch_dtype`={torch_dtype!r} and `dtype`={dtype!r}. Pass one of the two.")
    return torch_dtype if dtype is None else dtype


def parse_to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Reads the arguments of ``.to()``: (device, dtype), None where not given."""
    found = {"device": kwargs.pop("device", None), "dtype": kwargs.pop("dtype", None)}
    kwargs.pop("silence_dtype_warnings", None)
    kwargs.pop("non_blocking", None)
    if kwargs:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(kwargs))}'.")
    if len(args) > 2:
        raise ValueError("Please make sure to pass at most two arguments (`device` and `dtype`) `.to(...)`")
    for position, value in enumerate(args):
        if value is None:
            continue
        name = "dtype" if not is_device(value) and dtype_name(value) in SUPPORTED else "device"
        if len(args) == 2 and name != ("device", "dtype")[position]:
            raise ValueError(
                "When passing two arguments, make sure the first corresponds to `device` and the second to `dtype`."
            )
        if found[name] is not None:
            raise ValueError(
                f"You have passed `{name}` both as an argument and as a keyword argument. Please only pass one of the "
                "two."
            )
        found[name] = value
    return found["device"], found["dtype"]

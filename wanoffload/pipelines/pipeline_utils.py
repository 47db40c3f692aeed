"""What a pipeline is apart from sampling: its components, how they are loaded, placed and offloaded."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from wanoffload import loading, offload
from wanoffload.configuration import FrozenDict
from wanoffload.devices import Device, as_device
from wanoffload.dtypes import DType
from wanoffload.errors import CheckpointError
from wanoffload.messages import warn
from wanoffload.models import AutoencoderKLWan, CLIPVisionModel, UMT5EncoderModel, WanTransformer3DModel
from wanoffload.models.component import Component, one_dtype, parse_to
from wanoffload.models.vae import ENCODER
from wanoffload.pipelines.assembly import (
    NETWORKS,
    check_component,
    component_dtypes,
    load_component,
    named_components,
)
from wanoffload.pipelines.matching import check_match
from wanoffload.runtime import TRACE_SPANS, Runtime


class PipelineBase:
    """Components, device, dtype and offloading of a pipeline."""

    made_from: ClassVar[str] = "text"
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
    image_processor: Any
    image_encoder: CLIPVisionModel | None
    vae: AutoencoderKLWan | None
    scheduler: Any
    transformer: WanTransformer3DModel | None
    transformer_2: WanTransformer3DModel | None
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
            dtype: What the weights of text encoder and transformers are held in (VAE and image encoder are float32
                unless they are named): a string, NumPy or torch dtype, ``"auto"``, or a dict ``{"transformer":
                "bfloat16", "default": "float32"}``.
            device: Where to compute: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; for plans only, a card by name such as
                ``"cuda:rtx4090"``.
            **kwargs: Components to use instead of the checkpoint's (``vae=``, ``transformer=``, ``scheduler=`` ...;
                None leaves one out), ``boundary_ratio``, ``variant``, and what the Hub takes.

        Raises:
            OSError: A folder or file is missing; it is named.
            CheckpointError: No WAN checkpoint, one of another pipeline, or a damaged one.
            TypeError: An unknown keyword.
        """
        where = as_device(device)
        given = {name: kwargs.pop(name) for name in cls.component_names if name in kwargs}
        options = cls._config_options()
        config = {name: kwargs.pop(name) for name in options if name in kwargs}
        known = (*cls.component_names, *options, "torch_dtype", "dtype", "device")
        hub = loading.take_loading_options(f"{cls.__name__}.from_pretrained", kwargs, known)
        dtypes = component_dtypes(one_dtype(torch_dtype, dtype))
        wanted = tuple(name for name in cls.component_names if name not in given)
        root = loading.locate(pretrained_model_name_or_path, hub, wanted)
        index = loading.read_model_index(root, cls.__name__)
        config = {name: index.get(name) for name in options if index.get(name) is not None} | config
        parts: dict[str, Any] = dict.fromkeys(cls.component_names) | given
        for name in named_components(index, wanted):
            parts[name] = load_component(root, index, name, dtypes.get(name), where, hub.get("variant"))
        try:
            pipe = cls(**parts, **config)
            check_match(pipe)
        except (CheckpointError, ValueError) as error:
            raise CheckpointError(f"{root}: {error}") from None
        pipe.config = FrozenDict({**pipe.config, "_name_or_path": os.fspath(pretrained_model_name_or_path)})
        return pipe

    @classmethod
    def from_single_file(cls, path: str | os.PathLike, **kwargs: Any) -> None:
        """Not there yet. Raises NotImplementedError that says what to use instead."""
        loading.refuse_single_file(cls.__name__, path)

    def load_lora_weights(self, *args: Any, **kwargs: Any) -> None:
        """Not there yet. Raises NotImplementedError that says what to do instead."""
        raise NotImplementedError(
            "LoRA weights cannot be loaded yet. Merge them once with diffusers (pipe.load_lora_weights(...); "
            "pipe.fuse_lora(); pipe.unload_lora_weights(); pipe.save_pretrained(folder)) and load that folder."
        )

    @classmethod
    def _config_options(cls) -> tuple[str, ...]:
        """The constructor's arguments that are no components."""
        parameters = list(inspect.signature(cls.__init__).parameters)[1:]
        return tuple(name for name in parameters if name not in cls.component_names)

    def _register(self, components: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Takes components in, after checking their types, and brings them onto one engine."""
        for name in self.component_names:
            check_component(name, components.get(name))
            setattr(self, name, components.get(name))
        self.config = FrozenDict(config)
        self._progress_bar_config: dict[str, Any] = {}
        self._trace_spans = 0
        self._budgets: tuple[int | None, int | None] | None = None  # as asked of enable_auto_offload
        self._runtimes: dict[str, Runtime] = {}
        for one in self.networks().values():
            if one.has_runtime:
                self._runtimes.setdefault(str(one.device), one.runtime)
        self._gather()

    @property
    def components(self) -> dict[str, Any]:
        """The components by name, as the constructor takes them: `WanPipeline(**pipe.components)`."""
        return {name: getattr(self, name) for name in self.component_names}

    def networks(self) -> dict[str, Component]:
        """The networks that are there, in the order they run; one that was put in later joins the others' engine.

        Raises:
            TypeError: Something that is no such network was put in.
        """
        found = {}
        for name in NETWORKS:
            one = getattr(self, name, None)
            check_component(name, one)
            if one is not None:
                found[name] = one
        return found

    def _gather(self) -> None:
        """Brings the networks of each device onto one engine, and forgets the engines of devices that were left."""
        networks = list(self.networks().values())
        for one in networks:
            name = str(one.device)
            if name not in self._runtimes:
                self._runtimes[name] = Runtime(one.device)
                self._runtimes[name].record_trace(self._trace_spans)
            one.join(self._runtimes[name])
        used = {str(one.device) for one in networks}
        self._runtimes = {name: one for name, one in self._runtimes.items() if name in used}

    @property
    def runtime(self) -> Runtime:
        """The engine that a call runs on.

        Raises:
            ValueError: The networks are on different devices.
        """
        self._gather()
        if len(self._runtimes) > 1:
            where = ", ".join(f"{name} on {one.device}" for name, one in self.networks().items())
            raise ValueError(f"A pipeline computes on one device, but this one has {where}. Call pipe.to(...) first.")
        return next(iter(self._runtimes.values()), None) or Runtime(Device("cpu"))

    def part_names(self) -> list[str]:
        """What plans and reports call the networks that are there; the VAE's encoder once it was opened."""
        names = list(self.networks())
        if self.vae is not None and len(self.vae.cores) > 1:
            names.insert(len(names) - 1, ENCODER)
        return names

    def part(self, name: str) -> tuple[Component, Any]:
        """A network by the name that plans and reports have for it, and what the core knows it by."""
        if name == ENCODER:
            return self.vae, self.vae.encoder
        network = getattr(self, name)
        return network, network.core

    @property
    def dtype(self) -> DType:
        """The dtype of the transformer, or of the first network that is there."""
        networks = [getattr(self, name, None) for name in ("transformer", "transformer_2", "text_encoder", "vae")]
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
        """Changes device or dtype of every network, as ``to("cuda")`` or ``to(torch.bfloat16)``.

        Offloaded ones are not moved; those with budgets are, and budgets that were not given are found anew.
        """
        device, dtype = parse_to(args, kwargs)
        before = self.device
        for one in self.networks().values():
            one.to(device=device, dtype=dtype)
        self._gather()
        if self._budgets is not None and self.device != before:
            self.enable_auto_offload(*self._budgets)
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
            onload_device: The device that computes from now on, ``"cuda"`` or ``"cpu"``.
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
        where, self._budgets = as_device(onload_device), None
        for name, one in self.networks().items():
            one.set_offload(offload.RESIDENT if name in excluded else settings, where)
        self._gather()

    def enable_auto_offload(self, vram: Any = None, ram: Any = None) -> None:
        """Gives the pipeline budgets; each call is planned to fit them, as fast as they allow.

        Where everything fits, everything is resident. Otherwise each network has the budget to itself while it runs:
        as much of it as fits stays in place, the rest streams from host memory or from the checkpoint's files.

        WAN 2.2's two experts, where both have the same dtype and budgets, run in one execution, so that there is no gap
        at the change from one to the other. They run one after the other, each with the budget to itself, where it does
        not hold both, or where that is plainly better: it moves far fewer bytes, as when the budget holds one of them
        whole, or saves steps the work that both would need to fit. ``plan()`` says which it is.

        Args:
            vram: Bound of the device arena: bytes or ``"8GiB"``. On ``"cpu"`` the arena is ordinary memory and bounded
                as well. On a card, unless given: what is free there now, less 512 MiB and a 64th of its memory, for
                kernels that the driver has yet to load and for who else uses the card.
            ram: Bound of what the core allocates (on ``"cpu"`` the arena included), of the frames that are handed out
                and of an allowance of 64 MiB. On a card, unless given, and on ``"cpu"`` without either bound: nine
                tenths of the memory that is free now.
        """
        runtime = self.runtime
        asked = offload.auto_offload_settings(vram, ram)
        found = offload.default_budgets(runtime.device, runtime.held(), asked.vram, asked.ram)
        self._set_offload(offload.auto_offload_settings(*found))
        self._budgets = (asked.vram, asked.ram)

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: Any = None) -> None:
        """Has one whole network in place at a time; it makes room when the next one runs.

        As in diffusers it computes on a card where there is one.

        Args:
            gpu_id: The card's number; None: the first.
            device: The device that computes instead.
        """
        target = offload.offload_target(gpu_id, device, self.device)
        self._set_offload(offload.model_offload_settings(), target)

    def enable_sequential_cpu_offload(self, gpu_id: int | None = None, device: Any = None) -> None:
        """Copies each layer when it is used: the least memory, and the least speed. Arguments: see
        `enable_model_cpu_offload`."""
        target = offload.offload_target(gpu_id, device, self.device)
        self._set_offload(offload.sequential_offload_settings(), target)

    def disable_offload(self) -> None:
        """Makes every network resident again."""
        self._set_offload(offload.RESIDENT)

    def _set_offload(self, settings: offload.OffloadSettings, device: Device | None = None) -> None:
        self._budgets = None
        for one in self.networks().values():
            one.set_offload(settings, device)
        self._gather()

    def enable_trace(self, spans: int = TRACE_SPANS) -> None:
        """Has each call record when every group was read, copied, computed with and waited for.

        ``pipe.report.plot()`` draws it and ``pipe.report.to_chrome_trace("trace.json")`` writes it for Perfetto. No bit
        changes. The memory for it is planned; what finds no room is counted and left out.

        Args:
            spans: The most groups of a component to follow, each visit and each read of one being a span.
        """
        self._record_trace(spans)

    def disable_trace(self) -> None:
        """Records no more."""
        self._record_trace(0)

    def _record_trace(self, spans: int) -> None:
        self._gather()
        self._trace_spans = spans
        for one in self._runtimes.values():
            one.record_trace(spans)

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

"""What happened in a call: bytes moved, seconds, stalls and peaks, beside what the plan had said."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from wanoffload.sizes import format_size
from wanoffload.tables import html_table, text_table
from wanoffload.timeline import Execution, write_chrome_trace

_SUMS = (
    "passes",
    "visits",
    "bytes_loaded",
    "bytes_moved",
    "bytes_from_disk",
    "bytes_from_host",
    "wraps",
    "seconds",
    "load_seconds",
    "compute_seconds",
    "stall_seconds",
    "copy_seconds",
    "read_seconds",
)
_PEAKS = ("activation_peak", "arena_bytes", "arena_touched", "ram_peak")
_CARD_PEAKS = ("device_bytes", "pinned_bytes")
_ROWS = (
    ("seconds", "seconds"),
    ("  loading", "load_seconds"),
    ("  computing", "compute_seconds"),
    ("  stalled", "stall_seconds"),
    ("  copying", "copy_seconds"),
    ("  reading (beside)", "read_seconds"),
    ("passes", "passes"),
    ("loaded at start", "bytes_loaded"),
    ("moved in passes", "bytes_moved"),
    ("  from disk", "bytes_from_disk"),
    ("  from host memory", "bytes_from_host"),
    ("work arena", "arena_bytes"),
    ("  planned", "plan.work_bytes"),
    ("activations", "activation_peak"),
    ("  planned", "plan.activation_bytes"),
    ("core memory", "ram_peak"),
    ("  planned, tables apart", "core_ram"),  # tables of names and schedules belong to the allowance
)
_CARD_ROWS = (("device memory held", "device_bytes"), ("pinned host memory", "pinned_bytes"))


class Recorded:
    """A report that may hold a recorded timeline, and shows it."""

    def _executions(self) -> dict[str, list[Execution]]:
        raise NotImplementedError

    def to_chrome_trace(self, path: str | os.PathLike) -> None:
        """Writes the timeline as JSON that ui.perfetto.dev and chrome://tracing open.

        A process per component, a thread per lane (read, copy, compute, stall), an event per group, and the device
        memory in use beside the plan's line.

        Raises:
            ValueError: Nothing was recorded; ``enable_trace()`` comes before the call.
        """
        write_chrome_trace(self._executions(), path)

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """Draws the timeline: lanes by group, and the device memory in use beside the plan's line.

        Args:
            path: Where to write the picture, if anywhere.

        Returns:
            The matplotlib figure.

        Raises:
            ValueError: Nothing was recorded; ``enable_trace()`` comes before the call.
            ImportError: matplotlib (the extra ``plot``) is not installed.
        """
        from wanoffload import plots

        return plots.save(plots.plot_timeline(self._executions()), path)


class ComponentReport(Recorded):
    """What one component did in a call; several executions (tiles, a plan made anew) are added up.

    Attributes:
        name: The component's name in a pipeline.
        executions: How often it was opened.
        plan: The plan's summary, of the largest execution.
        ram_others: Bytes of memory that the plan of a pipeline gives to other components meanwhile.
        passes, visits, wraps: Passes over the weights; groups acquired; times the ring came round.
        bytes_loaded, bytes_moved, bytes_from_disk, bytes_from_host: Bytes that became resident or rest on the host;
            that went through the ring; and where those came from.
        seconds, load_seconds, compute_seconds, stall_seconds, copy_seconds, read_seconds: In all; filling residents
            and slabs; computing; computing held up by copies; copying, beside it with a stream and else in turn with
            it; reading, which runs beside.
        activation_peak, arena_bytes, arena_touched, ram_peak: Peaks in bytes. ram_peak is of the core in this process,
            with its tables of names and schedules, which a plan leaves to the allowance.
        device_bytes, pinned_bytes: On a card: the most of its memory that was held, residents of other components
            included, and of host memory that was pinned; 0 on the cpu device, whose arena is in ram_peak.
        timeline: What each execution recorded, after ``enable_trace()``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.executions = 0
        self.plan: dict[str, Any] = {}
        self.ram_others = 0
        self.timeline: list[Execution] = []
        for field in (*_SUMS, *_PEAKS, *_CARD_PEAKS):
            setattr(self, field, 0.0 if field.endswith("seconds") else 0)

    def add(
        self,
        measured: dict[str, Any],
        plan: dict[str, Any],
        trace: dict[str, Any] | None = None,
        on_card: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Adds one execution: the core's report, the summary of the plan it ran under, what was recorded, and
        ``device_bytes`` and ``pinned_bytes`` of one on a card."""
        self.executions += 1
        for field, value in on_card.items():
            setattr(self, field, max(getattr(self, field), value))
        if trace is not None:
            self.timeline.append(Execution(dict(plan), trace["events"], trace["dropped"]))
        for field in _SUMS:
            setattr(self, field, getattr(self, field) + measured[field])
        for field in _PEAKS:
            setattr(self, field, max(getattr(self, field), measured[field]))
        if plan["vram"] >= self.plan.get("vram", 0):
            self.plan = dict(plan)

    @property
    def on_card(self) -> bool:
        """Whether it ran on a card, whose memory is not the host's."""
        return self.device_bytes > 0

    @property
    def core_ram(self) -> int:
        """Bytes of memory that the plan says the core holds while this component runs, others' included."""
        return self.plan.get("ram", 0) + self.ram_others

    def as_dict(self) -> dict[str, Any]:
        """Every figure by name, the plan's under ``"plan"``."""
        fields = ("executions", *_SUMS, *_PEAKS, *(_CARD_PEAKS if self.on_card else ()), "ram_others")
        return {field: getattr(self, field) for field in fields} | {"plan": dict(self.plan)}

    def _executions(self) -> dict[str, list[Execution]]:
        return {self.name: self.timeline}

    def _repr_html_(self) -> str:
        return html_table(f"Report: {self.seconds:.2f} s", *_columns([self]))

    def __repr__(self) -> str:
        return (
            f"ComponentReport({self.name}: {self.seconds:.2f} s, stalled {self.stall_seconds:.2f} s, "
            f"moved {format_size(self.bytes_moved)})"
        )


class PipelineReport(Recorded):
    """What a call of a pipeline did.

    Attributes:
        components: `ComponentReport` by name: text_encoder, transformer, vae.
        seconds: From the call to its result.
        steps: Denoising steps done.
        interrupted: Whether the rest of the steps was skipped.
        ram_peak: The largest memory that the core held at one time, in bytes.
    """

    def __init__(self) -> None:
        self.components: dict[str, ComponentReport] = {}
        self.seconds = 0.0
        self.steps = 0
        self.interrupted = False

    def component(self, name: str) -> ComponentReport:
        """The report of a component, made when first asked for."""
        return self.components.setdefault(name, ComponentReport(name))

    @property
    def ram_peak(self) -> int:
        """The largest memory that the core held at one time, in bytes."""
        return max((one.ram_peak for one in self.components.values()), default=0)

    @property
    def vram_peak(self) -> int:
        """The most of a card's memory that was held at one time, in bytes; 0 on the cpu device."""
        return max((one.device_bytes for one in self.components.values()), default=0)

    @property
    def bytes_moved(self) -> int:
        """Bytes that passes brought through the rings."""
        return sum(one.bytes_moved for one in self.components.values())

    def as_dict(self) -> dict[str, Any]:
        """Every figure by name."""
        own = {"seconds": self.seconds, "steps": self.steps, "interrupted": self.interrupted, "ram_peak": self.ram_peak}
        own |= {"vram_peak": self.vram_peak} if self.vram_peak else {}
        return own | {"components": {name: one.as_dict() for name, one in self.components.items()}}

    def _executions(self) -> dict[str, list[Execution]]:
        return {name: one.timeline for name, one in self.components.items()}

    def __str__(self) -> str:
        steps = f"{self.steps} steps" + (", interrupted" if self.interrupted else "")
        return f"{text_table(*_columns(list(self.components.values())))}\n{self.seconds:.2f} s in all, {steps}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(
            f"Report: {self.seconds:.2f} s, {self.steps} steps", *_columns(list(self.components.values()))
        )


def _columns(reports: list[ComponentReport]) -> tuple[list[str], list[list[str]]]:
    shown = _ROWS + (_CARD_ROWS if any(one.on_card for one in reports) else ())
    rows = [[label, *(_cell(one, field) for one in reports)] for label, field in shown]
    return ["", *(one.name for one in reports)], rows


def _cell(report: ComponentReport, field: str) -> str:
    if field.startswith("plan."):
        value = report.plan.get(field.removeprefix("plan."))
        return format_size(value)
    value = getattr(report, field)
    if field.endswith("seconds"):
        return f"{value:.3f}"
    return str(value) if field == "passes" else format_size(value)

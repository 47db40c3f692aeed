"""Pictures, with matplotlib (the extra ``plot``): figures of their own that leave pyplot's state alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wanoffload.timeline import LANES, Execution, recorded

if TYPE_CHECKING:
    from wanoffload.comparison import Comparison, Row

_LANE_COLOURS = {"read": "tab:purple", "copy": "tab:orange", "compute": "tab:blue", "stall": "tab:red"}
_MIB = 1 << 20


def new_figure(width: float, height: float) -> Any:
    """An empty figure in inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: pip install 'wanoffload[plot]'.") from error
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: str | os.PathLike | None) -> Any:
    """Writes the figure where a path is given; returns it."""
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


# ---- the timeline of a report ----


def plot_timeline(executions: Mapping[str, list[Execution]]) -> Any:
    """Lanes by group above, device memory in use against the plan's line below, on one axis of seconds.

    Raises:
        ValueError: Nothing was recorded.
        ImportError: matplotlib is not installed.
    """
    found = recorded(executions)
    figure = new_figure(12, 5)
    lanes, memory = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    start = min(one.begin for many in found.values() for one in many)
    for number, (name, many) in enumerate(found.items()):
        for one in many:
            for row, lane in enumerate(reversed(LANES)):
                _draw_lane(lanes, one, lane, row, start)
            _draw_memory(memory, one, start)
        height = len(LANES) - 0.5 + 0.35 * (number % 2)  # short executions lie close to the next
        lanes.annotate(name, (many[0].begin - start, height), fontsize=9, annotation_clip=False)
        lanes.axvline(many[0].begin - start, color="0.8", linewidth=0.8, zorder=0)
    lanes.set_yticks(range(len(LANES)), reversed(LANES))
    lanes.set_ylim(-0.5, len(LANES) + 0.2)
    memory.set_xlabel("seconds")
    memory.set_ylabel("device memory, MiB")
    memory.set_ylim(bottom=0)
    memory.legend(*_once(memory), loc="lower right", fontsize=8)
    return figure


def _draw_lane(axes: Any, one: Execution, lane: str, row: int, start: float) -> None:
    """One bar per event; shades tell a group from the next."""
    events = one.lane(lane)
    if not events:
        return
    number = {group: i for i, group in enumerate(dict.fromkeys(event["group"] for event in one.events))}
    spans = [(event["begin"] - start, event["end"] - event["begin"]) for event in events]
    axes.broken_barh(
        spans,
        (row - 0.35, 0.7),
        facecolors=[(_LANE_COLOURS[lane], 0.95 if number[event["group"]] % 2 else 0.6) for event in events],
        label=lane,
    )


def _draw_memory(axes: Any, one: Execution, start: float) -> None:
    curve = one.memory()
    times = [time - start for time, _ in curve]
    axes.step(times, [size / _MIB for _, size in curve], where="post", color="tab:blue", linewidth=0.8, label="in use")
    axes.hlines(one.plan["vram"] / _MIB, times[0], times[-1], color="black", linestyle="--", label="plan")


def _once(axes: Any) -> tuple[list[Any], list[str]]:
    """Handles and labels of a legend, each label once."""
    found: dict[str, Any] = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        found.setdefault(label, handle)
    return list(found.values()), list(found)


# ---- a comparison ----


def plot_comparison(comparison: Comparison) -> Any:
    """Seconds per step with the stall in them, memory against the plan, and strips of the films that differ.

    Raises:
        ImportError: matplotlib is not installed.
    """
    ran = [row for row in comparison.rows if row.error is None]
    strips = [row for row in ran if row.strip is not None]
    figure = new_figure(12, 1.6 + 0.32 * len(ran) + 1.15 * len(strips))
    grid = figure.add_gridspec(1 + len(strips), 2, height_ratios=[1.2 + 0.32 * len(ran), *[1.15] * len(strips)])
    time = figure.add_subplot(grid[0, 0])
    _draw_seconds(time, ran)
    _draw_peaks(figure.add_subplot(grid[0, 1], sharey=time), ran)
    for place, row in enumerate(strips, 1):
        axes = figure.add_subplot(grid[place, :])
        axes.imshow(row.strip)
        axes.set_axis_off()
        axes.set_title(f"{row.name}  {row.sha256[:12]}", fontsize=8, loc="left")
    figure.suptitle(comparison.what, fontsize=10)
    return figure


def _draw_seconds(axes: Any, rows: list[Row]) -> None:
    names = [row.name for row in rows]
    places = range(len(rows))
    axes.barh(places, [row.seconds_per_step for row in rows], color="tab:blue", label="seconds per step")
    axes.barh(places, [row.stall_per_step for row in rows], color="tab:red", height=0.4, label="of which stalled")
    axes.set_yticks(places, names)
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color("red" if row.equal is False else "black")
    axes.invert_yaxis()
    axes.legend(fontsize=8)


def _draw_peaks(axes: Any, rows: list[Row]) -> None:
    places = range(len(rows))
    axes.barh(places, [row.ram_peak / _MIB for row in rows], color="0.75", label="core memory, MiB")
    axes.barh(places, [row.vram_peak / _MIB for row in rows], color="tab:green", height=0.4, label="device memory, MiB")
    for label, field in (("planned", "ram_plan"), (None, "vram_plan")):
        axes.scatter(
            [getattr(row, field) / _MIB for row in rows], places, marker="|", s=120, color="black", label=label
        )
    axes.tick_params(labelleft=False)
    axes.legend(fontsize=8)

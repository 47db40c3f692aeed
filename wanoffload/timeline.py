"""A recorded trace as a timeline: lanes of what was read, copied, computed and waited for, and the memory in use.

A trace is recorded after ``pipe.enable_trace()`` and lies in the report of each call: ``report.to_chrome_trace(file)``
writes it for Perfetto, ``report.plot()`` draws it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LANES = ("read", "copy", "compute", "stall")
NO_GROUP = "before the first group"


@dataclass(frozen=True)
class Execution:
    """One component in execution, as it was recorded.

    Attributes:
        plan: The summary of the plan it ran under.
        events: Dicts of lane, group, expert, pass, thread, bytes, begin, end and held, from `_core.Exec.trace`.
        dropped: Spans that found no room in the trace.
    """

    plan: Mapping[str, Any]
    events: list[dict[str, Any]]
    dropped: int

    @property
    def begin(self) -> float:
        """When the first event began, in seconds of ``time.monotonic()``."""
        return min(event["begin"] for event in self.events)

    @property
    def end(self) -> float:
        """When the last event ended."""
        return max(event["end"] for event in self.events)

    def lane(self, name: str) -> list[dict[str, Any]]:
        """The events of a lane in the order of their beginnings."""
        return sorted((event for event in self.events if event["lane"] == name), key=lambda event: event["begin"])

    def seconds(self, name: str) -> float:
        """What a lane's events add up to, loading left out."""
        return sum(event["end"] - event["begin"] for event in self.events if event["lane"] == name and event["pass"])

    def memory(self) -> list[tuple[float, int]]:
        """(time, bytes of device memory in use from then on): residents, what is kept, groups in the ring, activations.

        Between two groups the most that was alive meanwhile counts. What the plan sets aside is ``plan["vram"]``.
        """
        # Releases come before what takes their place at the same moment.
        changes: list[tuple[float, int, str, int]] = []
        for event in self.events:
            if event["held"] is not None:
                start, stop = event["held"]
                changes.append((start, 1, "ring", event["bytes"]))
                if stop is not None:
                    changes.append((stop, 0, "ring", -event["bytes"]))
            elif event["lane"] == "compute":
                changes.append((event["begin"], 1, "activations", event["bytes"]))
        standing = self.plan["resident_bytes"] + self.plan["keep_bytes"]
        ring = activations = 0
        curve = [(self.begin, standing)]
        for time, _, part, size in sorted(changes):
            if part == "ring":
                ring += size
            else:
                activations = size
            curve.append((time, standing + ring + activations))
        return [*curve, (max(self.end, curve[-1][0]), 0)]


def recorded(executions: Mapping[str, list[Execution]]) -> dict[str, list[Execution]]:
    """The executions by component that have events.

    Raises:
        ValueError: Nothing was recorded.
    """
    found = {name: [one for one in many if one.events] for name, many in executions.items()}
    found = {name: many for name, many in found.items() if many}
    if not found:
        raise ValueError("This report has no trace. Call enable_trace() on the pipeline or component before the call.")
    return found


def chrome_trace(executions: Mapping[str, list[Execution]]) -> dict[str, Any]:
    """The trace in Chrome's format: a process per component, a thread per lane, a counter of the memory.

    Raises:
        ValueError: Nothing was recorded.
    """
    found = recorded(executions)
    start = min(one.begin for many in found.values() for one in many)
    events: list[dict[str, Any]] = []
    for process, (name, many) in enumerate(found.items(), 1):
        events.append(_metadata("process_name", process, 0, name=name))
        events.append(_metadata("process_sort_index", process, 0, sort_index=process))
        for thread, label in enumerate(_threads(many), 1):
            events.append(_metadata("thread_name", process, thread, name=label))
            events.append(_metadata("thread_sort_index", process, thread, sort_index=thread))
        for one in many:
            events += _complete_events(one, process, _threads(many), start)
            events += _counters(one, process, start)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"dropped": sum(one.dropped for many in found.values() for one in many)},
    }


def write_chrome_trace(executions: Mapping[str, list[Execution]], path: str | os.PathLike) -> None:
    """Writes `chrome_trace` to a file that ui.perfetto.dev and chrome://tracing open."""
    trace = chrome_trace(executions)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(trace, file)


def _metadata(kind: str, process: int, thread: int, **args: Any) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": args}


def _name(event: Mapping[str, Any]) -> str:
    """The group's; of the second of two experts that take turns it says so."""
    return (event["group"] or NO_GROUP) + (" (second expert)" if event["expert"] else "")


def _label(event: Mapping[str, Any]) -> str:
    return f"read {event['thread']}" if event["lane"] == "read" else event["lane"]


def _threads(executions: Iterable[Execution]) -> list[str]:
    """Each lane that has events; readers one by one, since several read at a time."""
    labels = {_label(event): event["lane"] for one in executions for event in one.events}
    return sorted(labels, key=lambda label: (LANES.index(labels[label]), label))


def _complete_events(one: Execution, process: int, threads: list[str], start: float) -> list[dict[str, Any]]:
    return [
        {
            "name": _name(event),
            "cat": event["lane"],
            "ph": "X",
            "ts": (event["begin"] - start) * 1e6,
            "dur": (event["end"] - event["begin"]) * 1e6,
            "pid": process,
            "tid": threads.index(_label(event)) + 1,
            "args": {"pass": event["pass"] or "loading", "bytes": event["bytes"]},
        }
        for event in sorted(one.events, key=lambda event: event["begin"])
    ]


def _counters(one: Execution, process: int, start: float) -> list[dict[str, Any]]:
    """Two series of one counter: what is in use, and the plan's line."""
    plan = one.plan["vram"]
    curve = one.memory()
    return [
        {
            "name": "device memory",
            "ph": "C",
            "ts": (time - start) * 1e6,
            "pid": process,
            "args": {"in use": size, "plan": 0 if i + 1 == len(curve) else plan},
        }
        for i, (time, size) in enumerate(curve)
    ]

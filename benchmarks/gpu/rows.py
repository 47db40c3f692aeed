"""Rows of a stage: what each needs, how it is run in a process of its own, and how results are kept and shown."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULT = "RESULT "
STAGE_SECONDS = 480.0
_LEAST_SECONDS = 5.0  # a row that has less left than this is not begun
REAL_SECONDS = 90.0  # the same for one of real size, which reads or writes 28 GB before it measures
_STDERR_LINES = 10


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: Unique in its stage.
        run: Measures; gets the options and returns figures by name.
        needs: What has to be there, as `surroundings.missing` knows it.
        what: In words, for the table.
        least_seconds: It is not begun with less of the stage's time left.
        derived: From figures of other rows, so that it is made anew whenever the stage runs.
    """

    name: str
    run: Callable[[Any], dict[str, Any]]
    needs: Sequence[str] = ("card",)
    what: str = ""
    least_seconds: float = _LEAST_SECONDS
    derived: bool = False


@dataclass
class Stage:
    """Rows that belong together.

    Attributes:
        name: As on the command line.
        title: Above the table.
        rows: In the order they run, the important ones first.
        columns: Figures that the table shows: (heading, name, format).
        aims: Lines under the table: what was hoped for.
    """

    name: str
    title: str
    rows: list[Row]
    columns: Sequence[tuple[str, str, str]]
    aims: Sequence[str] = field(default_factory=tuple)


def run_row(stage: str, row: Row, command: Sequence[str], seconds: float) -> dict[str, Any]:
    """Runs a row in a process of its own, which prints its figures; whatever happens there is an answer."""
    began = time.perf_counter()
    code, out, errors = _run([*command, "--row", row.name], seconds)
    said = errors.strip().splitlines()[-_STDERR_LINES:]
    found: dict[str, Any] = {"wall_seconds": time.perf_counter() - began} | ({"stderr": said} if said else {})
    if code is None:
        why = f"it took longer than the {seconds:.0f} s that were left of the stage"
        return {"status": "failed", "why": why, **found}
    line = next((one for one in reversed(out.splitlines()) if one.startswith(RESULT)), None)
    if code != 0 or line is None:
        why = _ending(code) + (f": {said[-1][:500]}" if said else "")
        return {"status": "failed", "why": why, **found}
    return {"status": "ok", **found, "figures": json.loads(line.removeprefix(RESULT))}


def _run(command: Sequence[str], seconds: float) -> tuple[int | None, str, str]:
    """Runs a program in a session of its own: exit code, what it said and its errors. Past its time the code is None,
    and whatever it started ends with it, for a compute-sanitizer that goes on would hold the card."""
    row = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    )
    try:
        out, errors = row.communicate(timeout=seconds)
        return row.returncode, out, errors
    except subprocess.TimeoutExpired:
        _end_group(row)
        with contextlib.suppress(subprocess.TimeoutExpired):
            out, errors = row.communicate(timeout=_LEAST_SECONDS)
            return None, out, errors
        return None, "", ""
    except BaseException:
        _end_group(row)
        raise


def _end_group(leader: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)


def _ending(code: int) -> str:
    """How a process ended, in words: a crash has no last words but its signal's name."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def print_result(figures: dict[str, Any]) -> None:
    """What a row's process says to the one that started it."""
    print(RESULT + json.dumps(figures), flush=True)


# What has to be the same for results to be taken over. Without git there is no commit, so the extension counts too.
_SAME = ("card", "commit", "extension", "tiny")


class Results:
    """The rows of a stage in a JSON file, written anew after each."""

    def __init__(self, out: Path, stage: Stage, header: dict[str, Any], resume: bool) -> None:
        self.stage = stage
        self.path = out / f"{stage.name}.json"
        self.header = header
        self.rows: dict[str, dict[str, Any]] = {}
        if resume and self.path.exists():
            before = json.loads(self.path.read_text())
            same = [before["header"].get(key) == header.get(key) for key in _SAME]
            self.rows = before["rows"] if all(same) else {}

    def done(self, row: Row) -> bool:
        """Whether a row was measured before."""
        return not row.derived and self.rows.get(row.name, {}).get("status") == "ok"

    def put(self, row: Row, result: dict[str, Any]) -> None:
        """Keeps a row."""
        self.rows[row.name] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        known = {one.name: self.rows[one.name] for one in self.stage.rows if one.name in self.rows}
        text = json.dumps({"header": self.header, "stage": self.stage.name, "rows": known}, indent=1)
        self.path.write_text(text + "\n")
        self.path.with_suffix(".md").write_text(self.markdown())

    def markdown(self) -> str:
        """The stage as a page: where it ran, the table, what did not run and why."""
        lines = [f"# {self.stage.title}", "", *header_lines(self.header), ""]
        lines += ["| " + " | ".join(["", *(column[0] for column in self.stage.columns)]) + " |"]
        lines += ["|" + "---|" * (len(self.stage.columns) + 1)]
        for row in self.stage.rows:
            lines.append("| " + " | ".join([row.name, *self._cells(row)]) + " |")
        remarks = [f"- {row.name}: {row.what}" for row in self.stage.rows if row.what]
        lines += ["", *remarks, *(f"- Aim: {aim}" for aim in self.stage.aims)]
        return "\n".join(lines) + "\n"

    def _cells(self, row: Row) -> list[str]:
        result = self.rows.get(row.name, {"status": "not run", "why": "not reached"})
        blank = [""] * (len(self.stage.columns) - 1)
        if result["status"] != "ok":
            return [f"{result['status']}: {result['why']}".replace("|", "/"), *blank]
        return [_cell(result["figures"].get(name), how) for _, name, how in self.stage.columns]


def _cell(value: Any, how: str) -> str:
    if value is None:
        return ""
    if how == "GB":
        return f"{value / 1e9:.3f}"
    return format(value, how) if how else str(value)


def header_lines(header: dict[str, Any]) -> list[str]:
    """Machine and versions as lines of a page."""
    card = header["card"] or f"no card that can be used: {header['no card']}"
    packages = ", ".join(f"{name} {version}" for name, version in header["packages"].items() if version)
    lines = [
        f"- card: {card}" + (f", driver {header['driver']}" if header["driver"] else ""),
        f"- machine: {header['machine']}, {header['memory_bytes'] / 1e9:.0f} GB of memory",
        f"- wanoffload {header['wanoffload']} ({header['commit'] or 'no checkout'}), Python {header['python']}",
        f"- packages: {packages}",
        f"- command: {header['command']}"
        + (" (tiny sizes: its figures say nothing of speed)" if header["tiny"] else ""),
    ]
    return lines + [f"- {line}" for line in header["cuda"]]


def run_stage(stage: Stage, results: Results, options: Any, missing: Callable[[str], str | None]) -> bool:
    """Runs what is not measured yet, within the stage's time. Returns whether no row failed."""
    began = time.perf_counter()
    good = True
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--stage", stage.name]
    command += ["--work", str(options.work), "--out", str(options.out), *(["--tiny"] if options.tiny else [])]
    for row in stage.rows:
        if results.done(row):
            print(f"{stage.name}: {row.name}: measured before", flush=True)
            continue
        lacking = next((found for found in map(missing, row.needs) if found), None)
        left = options.seconds - (time.perf_counter() - began)
        if lacking is not None:
            result = {"status": "not run", "why": f"missing {lacking}"}
        elif left < row.least_seconds:
            result = {"status": "not run", "why": "the stage's time was over; --resume goes on here"}
        else:
            result = run_row(stage.name, row, command, left)
        good = good and result["status"] != "failed"
        results.put(row, result)
        print(
            f"{stage.name}: {row.name}: {result['status']}{': ' + result['why'] if 'why' in result else ''}", flush=True
        )
    return good

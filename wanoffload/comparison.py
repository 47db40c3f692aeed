"""The ways of offloading, the dtypes and the flow shifts of one model, side by side on this machine.

    found = wanoffload.bench("path/or/repo-id", "a cat baking a cake", height=480, width=832, num_frames=33)
    print(found)              # a table; every way of offloading has to make the same film
    found.plot("bench.png")

Each row is one film with the same prompt and noise, made by a pipeline of its own; a row's memory is given back before
the next begins.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from wanoffload import _core
from wanoffload.devices import Device, as_device, card
from wanoffload.errors import OutOfMemoryError, PlanError
from wanoffload.schedulers.scheduler import AUTO_SHIFT
from wanoffload.sizes import format_size
from wanoffload.tables import html_table, text_table

OFFLOADS: dict[str, dict[str, Any]] = {
    "resident": {},
    "block": {"offload_type": "block_level", "num_blocks_per_group": 1},
    "leaf": {"offload_type": "leaf_level"},
    "block+stream": {"offload_type": "block_level", "num_blocks_per_group": 1, "use_stream": True},
    "leaf+stream": {"offload_type": "leaf_level", "use_stream": True},
    "disk": {"offload_type": "leaf_level", "use_stream": True, "offload_device": "disk"},
    "auto": {},
}
"""The rows, and what `enable_group_offload` is given for them."""

_EXEC_TABLES, _GROUP_TABLES = 64 << 10, 1 << 10  # at most, in bytes: of an execution, and for each of its groups
_STRIP_FRAMES, _STRIP_HEIGHT = 8, 96
_HEAD = ["", "s/step", "stall", "moved", "device", "of plan", "memory", "of plan", "film", ""]


@dataclass
class Row:
    """One film of a comparison.

    Attributes:
        name: What is different about it: ``"leaf+stream"``, ``"bfloat16"``, ``"flow_shift 5"``.
        kind: ``"offload"``, ``"dtype"`` or ``"flow_shift"``.
        dtype: What text encoder and transformer were held in.
        seconds: Of the whole call, loading included.
        seconds_per_step: Median of the denoising steps after the first.
        stall_per_step: Of those, how long the computation waited for weights, on average.
        bytes_moved: What passes brought through the rings, over the whole call.
        vram_peak, vram_plan: Device memory: the most that was held, and what the plan had said.
        ram_peak, ram_plan: Memory that the core held for the call, on the cpu device that of the device included, and
            the plan's with the small tables of an execution, which a plan leaves to its allowance. What was held before
            (other pipelines, the names of the row's weights) is in neither.
        sha256: Of the frames' bits.
        equal: Whether the film is bit for bit that of the first row; None where it need not be.
        psnr, max_error: Distance from the float32 film: in dB, and the largest difference of a value in 0..1.
        error: Why there is no film; None where there is one.
        strip: Frames of the film side by side, uint8 [height, width, 3]; of ``"flow_shift"`` rows.
    """

    name: str
    kind: str
    dtype: str
    seconds: float = 0.0
    seconds_per_step: float = 0.0
    stall_per_step: float = 0.0
    bytes_moved: int = 0
    vram_peak: int = 0
    vram_plan: int = 0
    ram_peak: int = 0
    ram_plan: int = 0
    sha256: str = ""
    equal: bool | None = None
    psnr: float | None = None
    max_error: float | None = None
    error: str | None = None
    strip: np.ndarray | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Every figure by name; an infinite PSNR (no difference) is None."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "strip"}
        if self.psnr is not None and math.isinf(self.psnr):
            found["psnr"] = None
        return found

    def cells(self) -> list[str]:
        """The row of the table."""
        if self.error is not None:
            return [self.name, *["-"] * (len(_HEAD) - 2), self.error]
        return [
            self.name,
            f"{self.seconds_per_step:.3f}",
            f"{self.stall_per_step:.3f}",
            format_size(self.bytes_moved),
            format_size(self.vram_peak),
            format_size(self.vram_plan),
            format_size(self.ram_peak),
            format_size(self.ram_plan),
            self.sha256[:12],
            self._verdict(),
        ]

    def _verdict(self) -> str:
        if self.equal is not None:
            return "equal" if self.equal else "DIFFERENT"
        if self.psnr is None:
            return ""
        return "exact" if math.isinf(self.psnr) else f"{self.psnr:.1f} dB, at most {self.max_error:.2g} off"


@dataclass
class Comparison:
    """What `bench` found.

    Attributes:
        what: Model, film and machine in words.
        rows: `Row` objects, offload rows first.
    """

    what: str
    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether a film was made, and every way of offloading made the same one."""
        verdicts = [row.equal for row in self.rows if row.kind == "offload" and row.error is None]
        return bool(verdicts) and all(verdicts)

    def row(self, name: str) -> Row:
        """The row of a name."""
        return next(row for row in self.rows if row.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Everything by name."""
        return {"what": self.what, "ok": self.ok, "rows": [row.as_dict() for row in self.rows]}

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes `as_dict`."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.as_dict(), file, indent=2)
            file.write("\n")

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """One picture of it (needs matplotlib): seconds, memory against the plan, strips of the films.

        Args:
            path: Where to write it, if anywhere.

        Returns:
            The matplotlib figure.
        """
        from wanoffload import plots

        return plots.save(plots.plot_comparison(self), path)

    def text(self, colour: bool = False) -> str:
        """The table; with colour, rows whose film is another one are red."""
        lines = text_table(_HEAD, [row.cells() for row in self.rows]).split("\n")
        if colour:
            for number, row in enumerate(self.rows, 2):
                if row.equal is False:
                    lines[number] = f"\033[31m{lines[number]}\033[0m"
        return "\n".join([self.what, *lines])

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        red = [i for i, row in enumerate(self.rows) if row.equal is False]
        return html_table(self.what, _HEAD, [row.cells() for row in self.rows], red)


def bench(
    model: str | os.PathLike,
    prompt: str = "a cat walks through high grass",
    *,
    negative_prompt: str | None = None,
    image: Any = None,
    last_image: Any = None,
    video: Any = None,
    strength: float | None = None,
    height: int = 480,
    width: int = 832,
    num_frames: int = 17,
    num_inference_steps: int = 4,
    guidance_scale: float = 5.0,
    guidance_scale_2: float | None = None,
    seed: int = 0,
    dtype: str = "float32",
    vram: Any = None,
    ram: Any = None,
    offloads: Iterable[str] = tuple(OFFLOADS),
    dtypes: Iterable[str] = ("float32", "bfloat16"),
    flow_shifts: Iterable[float | str] = (3.0, 5.0),
    device: Any = None,
    progress: Callable[[Row], None] | None = None,
) -> Comparison:
    """Makes the same film in every way of offloading, then in other dtypes and with other flow shifts, and compares.

    Args:
        model: A checkpoint folder in diffusers' layout, or ``"owner/name"`` on the Hub.
        prompt, negative_prompt, height, width, num_inference_steps, guidance_scale: As a pipeline's call takes them.
        image: The first frame, for an image-to-video model.
        last_image: The last frame, for a model made for both (FLF2V, WAN 2.2).
        video: A film to make over again, with a text-to-video model: a path, or its frames.
        strength: With ``video``: how much of it is made anew; None: 0.8.
        num_frames: 4k + 1; of ``video`` so many of the first frames are used, or all if it has fewer.
        guidance_scale_2: Guidance in the steps of WAN 2.2's low-noise expert; None: as ``guidance_scale``.
        seed: The noise that torch gives for this seed.
        dtype: What the weights of text encoder and transformer are held in, in offload and flow shift rows.
        vram: Bound of the device arena in the ``"auto"`` row and for rows that are not about offloading.
        ram: The same for memory. Without either: what the machine has.
        offloads: Which of `OFFLOADS` to run.
        dtypes: Compared with the float32 film, which is made if it is not there; empty for no such rows.
        flow_shifts: Values of the scheduler's flow shift to make films with, beside the model's own; ``"auto"`` is what
            the model was published with for the size. Empty for no such rows.
        device: Where to compute; the cpu unless given.
        progress: Called with each row as soon as it is there.

    Raises:
        ValueError: An unknown name of a row, a flow shift that is none, or an argument that cannot take effect.
    """
    offloads, dtypes = list(offloads), list(dtypes)
    unknown = [name for name in offloads if name not in OFFLOADS]
    if unknown or not offloads:
        raise ValueError(f"`offloads` has to name some of {', '.join(OFFLOADS)}, but is {offloads!r}.")
    shifts = [_parse_shift(shift) for shift in flow_shifts]
    call = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "height": height,
        "width": width,
        "guidance_scale": guidance_scale,
    }
    call |= _sources(image, last_image, video, strength, num_frames)
    if video is not None and guidance_scale_2 is not None:
        raise ValueError("`guidance_scale_2` takes effect with two experts only, which `video` does not have.")
    only_call = {"strength": strength, "guidance_scale_2": guidance_scale_2}
    only_call = {name: value for name, value in only_call.items() if value is not None}
    budget = {"vram": vram, "ram": ram}
    where = as_device(device)
    runner = _Runner(model, call, only_call, num_inference_steps, seed, dtype, budget, where, progress)
    runner.run_offloads(offloads)
    runner.run_dtypes(dtypes)
    runner.run_flow_shifts(shifts)
    return runner.comparison


def _sources(image: Any, last_image: Any, video: Any, strength: float | None, num_frames: int) -> dict[str, Any]:
    """What a film is made from and its length, as arguments of plan and call; a path's film is read once for all."""
    if last_image is not None and image is None:
        raise ValueError("`last_image` takes effect beside `image` only, the frame that the film begins with.")
    if strength is not None and video is None:
        raise ValueError("`strength` takes effect with `video` only.")
    if video is None:
        stills = {"image": image, "last_image": last_image}
        return {name: still for name, still in stills.items() if still is not None} | {"num_frames": num_frames}
    if image is not None:
        raise ValueError("`image` and `video` do not go together: a film is made from one of them.")
    if num_frames < 1:
        raise ValueError(f"`num_frames` has to be at least 1 but is {num_frames!r}.")
    if isinstance(video, (str, os.PathLike)):
        from wanoffload.utils import load_video

        video = load_video(os.fspath(video))
    return {"video": video[:num_frames]}


def _parse_shift(shift: Any) -> float | str:
    """A flow shift: a number, or "auto"."""
    if shift == AUTO_SHIFT:
        return AUTO_SHIFT
    try:
        return float(shift)
    except (TypeError, ValueError):
        raise ValueError(f"`flow_shifts` has to hold numbers or 'auto', but has {shift!r}.") from None


class _Runner:
    """Makes the films one after the other, and holds those that others are compared with."""

    def __init__(
        self,
        model: str | os.PathLike,
        call: dict[str, Any],
        only_call: dict[str, Any],
        steps: int,
        seed: int,
        dtype: str,
        budget: dict[str, Any],
        device: Device,
        progress: Callable[[Row], None] | None,
    ) -> None:
        self.model, self.call, self.only_call, self.steps, self.seed = model, call, only_call, steps, seed
        self.dtype, self.budget, self.device, self.progress = dtype, budget, device, progress
        frames = len(call["video"]) if "video" in call else call["num_frames"]
        film = f"{call['width']}x{call['height']}, {frames} frames, {steps} steps, {dtype}"
        self.comparison = Comparison(f"{os.fspath(model)}: {film}, {describe_device(device)}")
        self.first: tuple[Row, np.ndarray] | None = None  # the film that the others have to be

    def run_offloads(self, names: list[str]) -> None:
        for name in names:
            row = Row(name, "offload", self.dtype)
            film = self._film(row, name)
            if film is not None:
                self.first = self.first or (row, film)
                row.equal = film.shape == self.first[1].shape and film.tobytes() == self.first[1].tobytes()
            self._add(row)

    def run_dtypes(self, dtypes: list[str]) -> None:
        if not dtypes:
            return
        films = {self.dtype: self.first} if self.first is not None else {}
        for dtype in dict.fromkeys(["float32", *dtypes]):
            row = Row(dtype, "dtype", dtype)
            if dtype in films:
                row = _again(films[dtype][0], dtype, "dtype")
            else:
                film = self._film(row, "auto", dtype)
                if film is not None:
                    films[dtype] = (row, film)
            if dtype in films and "float32" in films:
                row.psnr, row.max_error = distance(films[dtype][1], films["float32"][1])
            if dtype in dtypes:
                self._add(row)

    def run_flow_shifts(self, shifts: list[float | str]) -> None:
        own = self._own_shift() if shifts else None
        for shift in dict.fromkeys(([own] if own is not None else []) + shifts):
            words = shift if shift == AUTO_SHIFT else f"{shift:g}"
            name = f"flow_shift {words}" + (" (the model's)" if shift == own else "")
            if shift == own and self.first is not None:
                row, film = _again(self.first[0], name, "flow_shift"), self.first[1]
            else:
                row = Row(name, "flow_shift", self.dtype)
                film = self._film(row, "auto", flow_shift=shift)
            if film is not None:
                row.strip = film_strip(film)
            self._add(row)

    def _add(self, row: Row) -> None:
        self.comparison.rows.append(row)
        if self.progress is not None:
            self.progress(row)

    def _own_shift(self) -> float | str | None:
        """The shift of the checkpoint's scheduler; None where it is a shift for each size."""
        scheduler = open_pipeline(self.model, self.call, self.dtype, self.device).scheduler
        return None if scheduler.config.get("use_dynamic_shifting") else _parse_shift(scheduler.config[scheduler.SHIFT])

    def _film(
        self, row: Row, offload: str, dtype: str | None = None, flow_shift: float | str | None = None
    ) -> np.ndarray | None:
        """Makes one film and fills the row; None where no plan fits, and then the row says so."""
        pipe = open_pipeline(self.model, self.call, dtype or self.dtype, self.device)
        try:
            if offload == "auto":
                pipe.enable_auto_offload(**self.budget)
            elif OFFLOADS[offload]:
                pipe.enable_group_offload(onload_device=self.device, **OFFLOADS[offload])
            if flow_shift is not None:
                set_flow_shift(pipe, flow_shift)
            film = self._measure(pipe, row)
            if flow_shift == AUTO_SHIFT:
                row.name += f" ({pipe.scheduler.shift:g})"
            return film
        except (PlanError, OutOfMemoryError) as error:
            row.error = " ".join(str(error).split())
            return None
        finally:
            del pipe
            gc.collect()

    def _measure(self, pipe: Any, row: Row) -> np.ndarray:
        watch = _Watch()
        steps = {"num_inference_steps": self.steps}
        plan = pipe.plan(**self.call, **(steps if pipe.made_from != "video" else {}))
        parts = list(plan.components.values())
        tables = _EXEC_TABLES + _GROUP_TABLES * max(one.summary["groups"] for one in parts)
        row.vram_plan, row.ram_plan = plan.vram, max(one.core_ram for one in parts) + tables
        # The device is open by now: what it holds for itself is in every part of the plan, so it is no one else's.
        before = _core.host_memory()["current"] - parts[0].summary["fixed_bytes"]
        del plan, parts  # the call makes its own, of the same size
        gc.collect()
        arguments = self.call | self.only_call | steps
        frames = pipe(**arguments, generator=self.seed, callback_on_step_end=watch).frames
        watch.look(pipe)
        report = pipe.report
        between = [b - a for a, b in zip(watch.times, watch.times[1:], strict=False)]
        denoising = [one for name, one in report.components.items() if name.startswith("transformer")]
        row.seconds = report.seconds
        row.seconds_per_step = statistics.median(between) if between else sum(one.seconds for one in denoising)
        row.stall_per_step = sum(one.stall_seconds for one in denoising) / max(report.steps, 1)
        row.bytes_moved = report.bytes_moved
        row.vram_peak, row.ram_peak = watch.device_peak, report.ram_peak - before
        row.sha256 = hashlib.sha256(frames.tobytes()).hexdigest()
        return frames[0]


class _Watch:
    """A callback that notes when a step ended and what the device held."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.device_peak = 0

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.times.append(time.perf_counter())
        self.look(pipe)
        return {}

    def look(self, pipe: Any) -> None:
        held = next(iter(pipe.networks().values())).runtime.engine.held()
        self.device_peak = max(self.device_peak, held["resident_bytes"] + held["arena_bytes"])


def describe_device(device: Device) -> str:
    """A device in words: ``"cpu (avx2), 2 threads"``, ``"cuda (NVIDIA GeForce RTX 4090)"``."""
    if device.type != "cpu":
        return f"{device} ({card(device)['name']})"
    isa = next(one["name"] for one in _core.cpu_features() if one["chosen"])
    return f"cpu ({isa}), {_core.get_num_threads()} threads"


def open_pipeline(model: str | os.PathLike, call: dict[str, Any], dtype: str, device: Device) -> Any:
    """The pipeline that the checkpoint and the call ask for."""
    from wanoffload.pipelines.choice import pipeline_class

    chosen = pipeline_class(model, image="image" in call, video="video" in call)
    pipe = chosen.from_pretrained(model, dtype=dtype, device=device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def set_flow_shift(pipe: Any, shift: float | str) -> None:
    """Gives the pipeline's scheduler another flow shift."""
    scheduler = pipe.scheduler
    pipe.scheduler = type(scheduler).from_config(scheduler.config, **{scheduler.SHIFT: shift})


def distance(film: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """(PSNR in dB, largest difference) of two films with values in 0..1; the PSNR of equal ones is infinite."""
    difference = film.astype(np.float64) - reference
    error = float(np.mean(difference**2))
    return (10 * math.log10(1 / error) if error > 0 else math.inf), float(np.abs(difference).max())


def film_strip(film: np.ndarray) -> np.ndarray:
    """Frames of a film side by side, from the first to the last, uint8."""
    from wanoffload.video import to_uint8

    picked = np.unique(np.linspace(0, len(film) - 1, _STRIP_FRAMES).round().astype(int))
    step = max(1, film.shape[1] // _STRIP_HEIGHT)
    return np.concatenate([to_uint8(film[i], rounded=True)[::step, ::step] for i in picked], axis=1)


def _again(row: Row, name: str, kind: str) -> Row:
    """The same film under another heading."""
    return replace(row, name=name, kind=kind, equal=None)

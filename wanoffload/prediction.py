"""How long a call will take on a card: from the operations that its plan counted and the card's rates.

A prediction, and said as one. Work is counted exactly, from the shapes (`_core.Plan.passes`); what is uncertain is the
share of a card's tabled peak that kernels reach. The shares below are aims and other people's measurements of kernels
of the same kind, not measurements of this card. Once a call has run, its own speed takes their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = ("products", "attention", "convolutions")
_PRODUCTS, _CONVOLUTIONS, _FLOAT32, _MEMORY = 0.75, 0.5, 0.7, 0.75
_ATTENTION = {80: 0.55, 86: 0.85, 89: 0.85, 90: 0.58, 100: 0.55, 120: 0.88}
"""By compute capability: what cuDNN and FlashAttention reach of the dense peak with float32 sums."""


_LAUNCH = 5e-6
"""Seconds that an operation takes however little it has to do: enqueueing it and starting its kernels."""


@dataclass
class Rates:
    """How fast a card computes and copies.

    Attributes:
        card: Its name.
        flops: Operations per second by kind: (float32, bfloat16 or float16).
        memory: Bytes per second that operations which only move data reach.
        link: Bytes per second from host memory to the card.
        source: Where the rates come from, in words.
        measured: How many times as long as by these rates a call that ran did compute; by component and dtype.
    """

    card: str
    flops: dict[str, tuple[float, float]]
    memory: float
    link: float
    source: str
    measured: dict[tuple[str, str], float] = field(default_factory=dict)

    def computing(self, work: Mapping[str, Any], key: tuple[str, str]) -> float:
        """Seconds that the work of a pass takes; key: the component that does it, and its dtype."""
        return self._tabled(work) * self.measured.get(key, 1.0)

    def _tabled(self, work: Mapping[str, Any]) -> float:
        seconds = work["other_bytes"] / self.memory + work["operations"] * _LAUNCH
        for kind in KINDS:
            seconds += sum(count / rate for count, rate in zip(work[kind], self.flops[kind], strict=True))
        return seconds

    def note(self, key: tuple[str, str], works: Sequence[tuple[Mapping[str, Any], int]], seconds: float) -> None:
        """Takes over how long a call computed: (work of a pass, how often it ran), and the seconds of all."""
        expected = sum(self._tabled(work) * count for work, count in works)
        if expected > 0 and seconds > 0:
            self.measured[key] = seconds / expected

    def words(self, keys: Sequence[tuple[str, str]]) -> str:
        """Where the rates behind a prediction come from."""
        known = [key for key in keys if key in self.measured]
        if len(known) == len(keys):
            return "from the speed of the calls before"
        return self.source if not known else f"{self.source}; {', '.join(name for name, _ in known)} from calls before"


def tabled_rates(properties: Mapping[str, Any]) -> Rates | None:
    """The rates of a card from its table; None for one whose peak is not known."""
    bf16, f32, memory, link = (properties[name] for name in ("bf16_tflops", "f32_tflops", "memory_gbs", "link_gbs"))
    if not all((bf16, f32, memory, link)):
        return None
    attention = _ATTENTION.get(properties["sm"], min(_ATTENTION.values()))
    shares = {"products": _PRODUCTS, "attention": attention, "convolutions": _CONVOLUTIONS}
    flops = {kind: (f32 * 1e12 * _FLOAT32, bf16 * 1e12 * share) for kind, share in shares.items()}
    source = (
        f"from tabled rates: {bf16:g} TFLOP/s in bfloat16 and float16 (products at {_PRODUCTS:.0%} of it, attention at "
        f"{attention:.0%}, convolutions at {_CONVOLUTIONS:.0%}) and {f32:g} in float32 (at {_FLOAT32:.0%}), {link:g} "
        "GB/s over the link; none of it measured here"
    )
    return Rates(properties["name"], flops, memory * 1e9 * _MEMORY, link * 1e9, source)


@dataclass
class Predicted:
    """Seconds of one component.

    Attributes:
        name: As in the plan.
        pass_seconds: Of one pass: the last kind that it has, which for a transformer is a step.
        computing, copying: What a pass consists of.
        passes: How many there are, where that is known.
        seconds: Of all of them; None where their number is not known.
        beside: Whether copies run beside the computation.
    """

    name: str
    pass_seconds: float
    computing: float
    copying: float
    passes: int | None
    seconds: float | None
    beside: bool

    def as_dict(self) -> dict[str, Any]:
        """Every figure by name."""
        return dict(self.__dict__)


@dataclass
class Prediction:
    """What a call is expected to take on a card.

    Attributes:
        card: The card's name.
        source: Where the rates come from.
        components: By name, in the order they run.
        disk: Whether weights are read from their files during passes, at a speed that is not known.
    """

    card: str
    source: str
    components: dict[str, Predicted]
    disk: bool

    @property
    def seconds_per_step(self) -> float:
        """Of a denoising step; of the slower where there are two experts."""
        return max((one.pass_seconds for name, one in self.components.items() if is_transformer(name)), default=0.0)

    @property
    def seconds(self) -> float | None:
        """Of the whole call, loading left out; None where the number of steps is not known."""
        each = [one.seconds for one in self.components.values()]
        return None if None in each else sum(each)

    def as_dict(self) -> dict[str, Any]:
        """Every figure by name."""
        return {
            "card": self.card,
            "source": self.source,
            "seconds_per_step": self.seconds_per_step,
            "seconds": self.seconds,
            "disk": self.disk,
            "components": {name: one.as_dict() for name, one in self.components.items()},
        }

    def lines(self) -> list[str]:
        """The prediction as text."""
        steps = [one for name, one in self.components.items() if is_transformer(name)]
        words = [f"{duration(one.pass_seconds)} a step ({self._parts(one)})" for one in steps]
        total = self.seconds
        others = [one for name, one in self.components.items() if not is_transformer(name)]
        words += [f"{one.name} {duration(one.seconds)}" for one in others if one.seconds is not None]
        if total is not None:
            words.append(f"{duration(total)} in all, loading left out")
        lines = [f"predicted on an {self.card}: {', '.join(words)}", f"  {self.source}"]
        if self.disk:
            lines.append("  weights rest on disk: reading is counted as fast as the link, and the file may be slower")
        return lines

    @staticmethod
    def _parts(one: Predicted) -> str:
        if not one.copying:
            return "computing"
        how = "beside it" if one.beside else "in between"
        return f"computing {duration(one.computing)}, copying {duration(one.copying)} {how}"


def is_transformer(name: str) -> bool:
    """Whether a component takes the denoising steps."""
    return name.startswith("transformer")


def duration(seconds: float) -> str:
    """Seconds with three figures."""
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"


def predict(rates: Rates, name: str, dtype: str, plan: Any, counts: Sequence[int | None]) -> Predicted:
    """Predicts one component.

    Args:
        rates: The card's.
        name: What the plan calls it.
        dtype: What its weights are held in.
        plan: The core's plan.
        counts: How often each of its passes runs; None where that is not known.
    """
    summary, passes, key = plan.summary(), plan.passes(), (name, dtype)
    beside = bool(summary["policy_use_stream"])
    each = []
    for one in passes:
        over_link = one["host_bytes"] or one["streamed_bytes"]
        computing, copying = rates.computing(one["work"], key), over_link / rates.link
        each.append((max(computing, copying) if beside else computing + copying, computing, copying))
    last = each[-1]
    known = None not in counts
    seconds = sum(one[0] * count for one, count in zip(each, counts, strict=True)) if known else None
    number = sum(counts) if known else None
    return Predicted(name, last[0], last[1], last[2], number, seconds, beside)


def pass_counts(summary: Mapping[str, Any], passes: int) -> list[int]:
    """How often each pass of a plan ran, from how many ran in all: the first once for each expert, the last else."""
    if summary["passes"] == 1:
        return [passes]
    first = min(passes, summary["experts"])
    return [first, passes - first]

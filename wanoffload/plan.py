"""What a call will need, before it runs: every byte of every component, beside the budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wanoffload.offload import OffloadSettings
from wanoffload.prediction import Prediction
from wanoffload.sizes import format_size
from wanoffload.tables import html_table, text_table

_ROWS = (
    ("weights", "weight_bytes"),
    ("groups", "groups"),
    ("resident", "resident_bytes"),
    ("streamed", "streamed_bytes"),
    ("ring", "ring_bytes"),
    ("8-bit weights on arrival", "arrival_bytes"),
    ("activations", "activation_bytes"),
    ("kept between passes", "keep_bytes"),
    ("device, own", "vram"),
    ("device, others stay", "vram_outside"),
    ("device in all", "vram_in_all"),
    ("host slabs", "host_slab_bytes"),
    ("staging", "staging_bytes"),
    ("state on the host", "host_keep_bytes"),
    ("fixed", "fixed_bytes"),
    ("core memory, own", "ram"),
    ("memory, others", "ram_outside"),
    ("memory in all", "ram_in_all"),
)


@dataclass
class ComponentPlan:
    """One component's part of a plan.

    Attributes:
        name: text_encoder, image_encoder, vae encoder, transformer, transformer_2 or vae.
        settings: The offload settings it was made for.
        core: The core's plan, which an execution runs under.
        policy: The policy it was made with.
        vram_outside: Device bytes that other components hold meanwhile.
        ram_others: Bytes of memory that other components hold meanwhile.
        ram_extra: Bytes of memory for the output and the allowance.
        keep_residents: Whether residents stay when the next component takes over, and between calls.
        keep_slabs: Whether host slabs stay.
        summary: The core's figures: ``weight_bytes``, ``resident_bytes``, ``ring_bytes``, ``vram``, ``ram`` ...
    """

    name: str
    settings: OffloadSettings
    core: Any
    policy: dict[str, Any]
    vram_outside: int = 0
    ram_others: int = 0
    ram_extra: int = 0
    keep_residents: bool = True
    keep_slabs: bool = True
    summary: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.summary = self.core.summary()

    @property
    def vram(self) -> int:
        """Device bytes while this component runs, others' residents included."""
        return self.summary["vram"] + self.vram_outside

    @property
    def ram_outside(self) -> int:
        """Bytes of memory that are not this component's own: other components', the output's, the allowance."""
        return self.ram_others + self.ram_extra

    @property
    def core_ram(self) -> int:
        """Bytes of memory that the core holds while this component runs."""
        return self.summary["ram"] + self.ram_others

    @property
    def ram(self) -> int:
        """Bytes of memory while this component runs: the core's, the output's, the allowance."""
        return self.summary["ram"] + self.ram_outside

    def figure(self, name: str) -> int:
        """A figure of the summary, or one of ``vram_outside``, ``ram_outside``, ``vram_in_all``, ``ram_in_all``."""
        if name.endswith("_outside"):
            return getattr(self, name)
        if name.endswith("_in_all"):
            return self.vram if name.startswith("vram") else self.ram
        return self.summary[name]

    def as_dict(self) -> dict[str, Any]:
        """Every figure by name."""
        figures = {name: self.figure(name) for _, name in _ROWS}
        return figures | {
            "settings": self.settings.describe(),
            "keep_residents": self.keep_residents,
            "keep_slabs": self.keep_slabs,
        }


@dataclass
class PipelinePlan:
    """What a call of a pipeline will need.

    Attributes:
        components: `ComponentPlan` by name, in the order they run.
        what: The call in words: size, frames, tokens.
        budget: The bounds that were given, ``{"vram": bytes or None, "ram": bytes or None}``.
        output_bytes: Size of the arrays that are handed out.
        allowance: What is set aside in ``ram`` for everything beside the core's memory and the output.
        array_bytes: Size of the call's other arrays that grow with the film, where they take most: latents and what the
            scheduler keeps, embeddings, frames on their way.
        notes: Lines that belong under it.
        turns: Components that run in another's execution and stand in its plan: ``{"transformer_2": "transformer"}``.
        prediction: How long it is expected to take; None on the cpu device, and for cards whose rates are not known.
    """

    components: dict[str, ComponentPlan]
    what: str
    budget: dict[str, int | None]
    output_bytes: int
    allowance: int
    array_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    turns: dict[str, str] = field(default_factory=dict)
    prediction: Prediction | None = None

    def part(self, name: str) -> ComponentPlan | None:
        """The plan that a component runs under, its own or another's; None where it does not run."""
        return self.components.get(self.turns.get(name, name))

    def title(self, name: str) -> str:
        """What a plan of `components` is called: its component, and those that run in its execution."""
        return " + ".join([name, *(other for other, first in self.turns.items() if first == name)])

    @property
    def vram(self) -> int:
        """The most device memory that is needed at one time, in bytes."""
        return max((one.vram for one in self.components.values()), default=0)

    @property
    def ram(self) -> int:
        """The most memory that is needed at one time, in bytes; on the cpu device that of the device included."""
        return max((one.ram for one in self.components.values()), default=0)

    def as_dict(self) -> dict[str, Any]:
        """Every figure by name."""
        found = {
            "what": self.what,
            "vram": self.vram,
            "ram": self.ram,
            "budget": dict(self.budget),
            "output_bytes": self.output_bytes,
            "allowance": self.allowance,
            "array_bytes": self.array_bytes,
            "notes": list(self.notes),
            "turns": dict(self.turns),
            "components": {name: one.as_dict() for name, one in self.components.items()},
        }
        return found if self.prediction is None else found | {"prediction": self.prediction.as_dict()}

    def _table(self) -> tuple[list[str], list[list[str]]]:
        plans = list(self.components.values())
        rows = [["offload", *(one.settings.describe() for one in plans)]]
        for label, name in _ROWS:
            if name == "arrival_bytes" and not any(one.summary.get(name) for one in plans):
                continue
            rows.append(
                [
                    label,
                    *(str(one.figure(name)) if name == "groups" else format_size(one.figure(name)) for one in plans),
                ]
            )
        rows.append(["between calls", *(_stays(one) for one in plans)])
        return ["", *(self.title(one.name) for one in plans)], rows

    def _totals(self) -> list[str]:
        lines = []
        for name, label in (("vram", "device"), ("ram", "memory")):
            bound = self.budget[name]
            allowed = f" of {format_size(bound)} allowed" if bound is not None else ""
            lines.append(f"{label} ({name}): {format_size(getattr(self, name))}{allowed}")
        lines.append(
            f"output {format_size(self.output_bytes)}, other arrays {format_size(self.array_bytes)}, allowance "
            f"{format_size(self.allowance)} (all in memory)"
        )
        return lines + self.notes + (self.prediction.lines() if self.prediction is not None else [])

    def __str__(self) -> str:
        return "\n".join([f"Plan for {self.what}", text_table(*self._table()), *self._totals()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(f"Plan for {self.what}", *self._table()) + "<br>".join(self._totals())


def _stays(plan: ComponentPlan) -> str:
    resident = plan.summary["resident_bytes"] if plan.keep_residents else 0
    slabs = plan.summary["host_slab_bytes"] if plan.keep_slabs else 0
    return format_size(resident + slabs) if resident + slabs else "nothing"

"""Each wait of the streamer is needed: with a delay there, cutting it changes the bits each time, leaving it never."""

from pathlib import Path

import pytest
import torch
from offload.conftest import KINDS
from offload.runs import TextEncoderSubject, TransformerSubject

from wanoffload import _core

EDGES = [name for name, _ in _core._testing.edges()]
RUNS = 20
HOST = dict(level="block", blocks_per_group=1, use_stream=True, tier="host")
STAGED = dict(level="leaf", use_stream=True, tier="disk")  # at rest all is bfloat16, so float32 goes through staging
POLICIES = {"reader_copy": STAGED, "staging_reuse": STAGED}
DELAYS = {"hand_over": 0.05, "wrap_around": 0.012}  # come once in an exec or in a pass, not once in a group
IN_CALL = ("text_encoder", "transformer")
ALONE = [kind for kind in KINDS if kind not in IN_CALL]
# A component that runs once has no next pass whose copies could come too early.
SHOWN = [(kind, edge) for kind in ALONE for edge in EDGES if edge != "wrap_around" or sum(KINDS[kind][0].passes) > 1]


def configure(engine, edge, cut):
    cuts, seconds = [edge] if cut else [], DELAYS.get(edge, 0.004)
    _core._testing.configure(engine, cut_edges=cuts, delay_edges=[edge], delay_seconds=seconds)


class Call:
    """Text encoder, then transformer on one engine, as a pipeline runs them: the second takes over the arena."""

    def __init__(self, demo_model):
        self.encoder = TextEncoderSubject(demo_model / "text_encoder")
        self.transformer = TransformerSubject(demo_model / "transformer")

    def bits(self, edge=None, cut=False):
        policy = POLICIES.get(edge, HOST)
        engine = _core.Engine("cpu")
        engine.reserve(1 << 23)
        if edge is not None:
            configure(engine, edge, cut)
        return self.encoder.run(engine, **policy).bits + self.transformer.run(engine, **policy).bits


class Alone:
    """Small random components that rest in bfloat16, each in an exec of its own.

    For the hand-over an image encoder runs first and leaves the arena late. It has one pass, and the exec that counts
    is not delayed, so that costs little time.
    """

    def __init__(self, root: Path):
        for kind in ALONE:
            KINDS[kind][1](root / kind, dtype=torch.bfloat16)
        self.subjects = {kind: KINDS[kind][0](root / kind) for kind in ALONE}
        self.wanted = {kind: subject.run(level="resident").bits for kind, subject in self.subjects.items()}

    def differs(self, kind, edge, cut):
        policy = POLICIES.get(edge, HOST)
        engine = _core.Engine("cpu")
        engine.reserve(1 << 23)
        configure(engine, edge, cut)
        if edge == "hand_over":
            self.subjects["image_encoder"].run(engine, **policy)
            _core._testing.configure(engine, cut_edges=[edge] if cut else [])
        return self.subjects[kind].run(engine, **policy).bits != self.wanted[kind]


@pytest.fixture(scope="module")
def call(demo_model):
    return Call(demo_model)


@pytest.fixture(scope="module")
def wanted(call):
    return call.bits()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return Alone(tmp_path_factory.mktemp("alone"))


def test_an_edge_is_missing_from_the_list():
    assert set(EDGES) == {"ready", "free", "reader_copy", "staging_reuse", "wrap_around", "hand_over"}


@pytest.mark.parametrize("edge", EDGES)
def test_a_wait_is_not_needed(call, wanted, edge):
    assert sum(call.bits(edge, cut=True) != wanted for _ in range(RUNS)) == RUNS


@pytest.mark.parametrize("edge", EDGES)
def test_a_delay_alone_changes_the_film(call, wanted, edge):
    assert all(call.bits(edge, cut=False) == wanted for _ in range(3))


@pytest.mark.parametrize(("kind", "edge"), SHOWN)
def test_a_wait_is_not_needed_by_a_component(alone, kind, edge):
    assert sum(alone.differs(kind, edge, cut=True) for _ in range(RUNS)) == RUNS


@pytest.mark.parametrize(("kind", "edge"), SHOWN)
def test_a_delay_alone_changes_what_a_component_gives(alone, kind, edge):
    assert not any(alone.differs(kind, edge, cut=False) for _ in range(3))

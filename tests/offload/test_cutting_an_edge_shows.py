"""Each wait of the streamer is needed: with a delay there, cutting it changes the bits each time, leaving it never."""

import pytest
from offload.runs import TextEncoderSubject, TransformerSubject

from wanoffload import _core

EDGES = [name for name, _ in _core._testing.edges()]
RUNS = 20
HOST = dict(level="block", blocks_per_group=1, use_stream=True, tier="host")
STAGED = dict(level="leaf", use_stream=True, tier="disk")  # the demo rests in bfloat16, so float32 goes through staging
POLICIES = {"reader_copy": STAGED, "staging_reuse": STAGED}


DELAYS = {"hand_over": 0.05}  # comes once in an exec, not once in a group


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


@pytest.fixture(scope="module")
def call(demo_model):
    return Call(demo_model)


@pytest.fixture(scope="module")
def wanted(call):
    return call.bits()


def test_an_edge_is_missing_from_the_list():
    assert set(EDGES) == {"ready", "free", "reader_copy", "staging_reuse", "wrap_around", "hand_over"}


@pytest.mark.parametrize("edge", EDGES)
def test_a_wait_is_not_needed(call, wanted, edge):
    assert sum(call.bits(edge, cut=True) != wanted for _ in range(RUNS)) == RUNS


@pytest.mark.parametrize("edge", EDGES)
def test_a_delay_alone_changes_the_film(call, wanted, edge):
    assert all(call.bits(edge, cut=False) == wanted for _ in range(3))

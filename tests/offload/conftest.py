"""Checkpoints that every offload test runs on: the trained demo, and small random ones of odd sizes."""

from pathlib import Path

import checkpoints
import pytest
from offload.runs import TextEncoderSubject, TransformerSubject, VaeSubject

from wanoffload import _core

KINDS = {
    "transformer": (TransformerSubject, checkpoints.write_transformer),
    "text_encoder": (TextEncoderSubject, checkpoints.write_text_encoder),
    "vae": (VaeSubject, checkpoints.write_vae),
}


@pytest.fixture(scope="session")
def random_folders(tmp_path_factory) -> dict[str, Path]:
    """One random checkpoint folder of each kind."""
    folders = {}
    for kind, (_, write) in KINDS.items():
        folders[kind] = tmp_path_factory.mktemp("random") / kind
        write(folders[kind])
    return folders


@pytest.fixture(params=[(origin, kind) for origin in ("demo", "random") for kind in KINDS], ids="-".join)
def subject(request, demo_model, random_folders):
    """Each component of the demo checkpoint and of the random ones, in float32."""
    origin, kind = request.param
    return KINDS[kind][0](demo_model / kind if origin == "demo" else random_folders[kind])


@pytest.fixture
def transformer(demo_model) -> TransformerSubject:
    """The demo's transformer."""
    return TransformerSubject(demo_model / "transformer")


@pytest.fixture(autouse=True)
def threads():
    """Leaves the number of threads as it was."""
    before = _core.get_num_threads()
    yield
    _core.set_num_threads(before)

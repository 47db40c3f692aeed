"""Checkpoints that every offload test runs on: the trained demo, and small random ones of odd sizes."""

import gc
from functools import partial
from pathlib import Path

import checkpoints
import pytest
from offload.runs import (
    FirstAndLastFrameSubject,
    ImageEncoderSubject,
    ImageTransformerSubject,
    TextEncoderSubject,
    TransformerSubject,
    VaeEncoderSubject,
    VaeSubject,
)

from wanoffload import _core

# By name: the subject, what writes a random checkpoint, and the folder of the demo's, where it has one.
KINDS = {
    "transformer": (TransformerSubject, checkpoints.write_transformer, "transformer"),
    "image transformer": (
        ImageTransformerSubject,
        partial(checkpoints.write_transformer, **checkpoints.IMAGE_TRANSFORMER),
        None,
    ),
    "flf2v transformer": (
        FirstAndLastFrameSubject,
        partial(checkpoints.write_transformer, **checkpoints.FIRST_AND_LAST_FRAME),
        None,
    ),
    "text_encoder": (TextEncoderSubject, checkpoints.write_text_encoder, "text_encoder"),
    "image_encoder": (ImageEncoderSubject, checkpoints.write_image_encoder, None),
    "vae": (VaeSubject, checkpoints.write_vae, "vae"),
    "vae encoder": (VaeEncoderSubject, checkpoints.write_vae, "vae"),
}
SUBJECTS = [("demo", kind) for kind, (_, _, demo) in KINDS.items() if demo] + [("random", kind) for kind in KINDS]


@pytest.fixture(scope="session")
def random_folders(tmp_path_factory) -> dict[str, Path]:
    """One random checkpoint folder of each kind."""
    folders = {}
    for kind, (_, write, _) in KINDS.items():
        folders[kind] = tmp_path_factory.mktemp("random") / kind
        write(folders[kind])
    return folders


@pytest.fixture
def others() -> int:
    """Counted host memory of the process before a test begins: engines that other tests left open. Named first among a
    test's fixtures it is measured before those are made that live as long as the test; what a module's hold counts."""
    gc.collect()
    return _core.host_memory()["current"]


@pytest.fixture(params=SUBJECTS, ids="-".join)
def subject(request, demo_model, random_folders):
    """Each component of the demo checkpoint and of the random ones, in float32."""
    origin, kind = request.param
    make, _, folder = KINDS[kind]
    return make(demo_model / folder if origin == "demo" else random_folders[kind])


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

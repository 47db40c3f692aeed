"""Arguments of the calls that image to video needs: each bad one is an exception that names it, and nothing leaks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import IMAGE_TRANSFORMER, write_image_encoder, write_transformer
from core.models import config_of
from core.refusals import check_refusal

import wanoffload._core as core

SIZES = {"frames": 1, "height": 4, "width": 6}
TEXT = [(8, 3), (8, 0)]
TEXTS = [(8, np.ones((3, 20), np.float32)), (8, np.ones((0, 20), np.float32))]
IMAGES = np.ones((1, 5, 14), np.float32)
PATCHES = np.ones((2, 16, 147), np.float32)
FRAME = np.ones((1, 16, 24, 3), np.float32)


class Models:
    """Random networks for image to video, and the demo's VAE encoder."""

    def __init__(self, root: Path, demo: Path) -> None:
        write_transformer(root / "transformer", **IMAGE_TRANSFORMER)
        write_transformer(root / "two frames", **IMAGE_TRANSFORMER, pos_embed_seq_len=10)
        write_image_encoder(root / "image_encoder")

        def bind(kind: type, folder: Path) -> Any:
            return kind(core.Store(folder), config_of(folder), "float32")

        self.image_encoder = bind(core.ImageEncoder, root / "image_encoder")
        self.transformer = bind(core.Transformer, root / "transformer")
        self.two_frames = bind(core.Transformer, root / "two frames")
        self.vae = bind(core.VaeEncoder, demo / "vae")
        self.clip_folder = root / "image_encoder"
        self.clip_config = config_of(self.clip_folder)

    def plan(self, engine: core.Engine, images: Any = (5, [0, 0])) -> core.Plan:
        return self.transformer.plan(engine, text=TEXT, policy={}, images=images, **SIZES)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Models:
    return Models(tmp_path_factory.mktemp("models"), demo_model)


Call = Callable[[core.Engine, Models], Any]


def bind_clip(**changes: Any) -> Call:
    def call(e: core.Engine, m: Models) -> Any:
        config = {name: value for name, value in {**m.clip_config, **changes}.items() if value != "gone"}
        return core.ImageEncoder(core.Store(m.clip_folder), config, "float32")

    return call


def plan(images: Any) -> Call:
    return lambda e, m: m.plan(e, images)


def prepare(images: Any = IMAGES, image_of: Any = None, planned: Any = (5, [0, 0])) -> Call:
    def run(e: core.Engine, m: Models) -> Any:
        with core.Exec(e, m.transformer, m.plan(e, planned)) as execution:
            execution.prepare(TEXTS, **SIZES, images=images, image_of=image_of)

    return run


def encode_images(patches: Any) -> Call:
    def run(e: core.Engine, m: Models) -> Any:
        with core.Exec(e, m.image_encoder, m.image_encoder.plan(e, 2, {})) as execution:
            execution.encode_images(patches)

    return run


def encode_frames(*args: Any, **options: Any) -> Call:
    def run(e: core.Engine, m: Models) -> Any:
        with core.Exec(e, m.vae, m.vae.plan(e, 16, 24, {})) as execution:
            execution.encode_frames(*args, **options)

    return run


def wrong_exec(call: Callable[[core.Exec], Any]) -> Call:
    def run(e: core.Engine, m: Models) -> Any:
        with core.Exec(e, m.vae, m.vae.plan(e, 16, 24, {})) as execution:
            call(execution)

    return run


BAD: dict[str, tuple[Call, type[Exception], str]] = {
    "clip-act": (bind_clip(hidden_act="quick_gelu"), ValueError, "config: hidden_act is 'quick_gelu'.*only 'gelu'"),
    "clip-no-act": (bind_clip(hidden_act="gone"), ValueError, "config: the key 'hidden_act' is missing"),
    "clip-size": (bind_clip(image_size="big"), ValueError, "config: image_size.*'big'"),
    "clip-patch": (bind_clip(patch_size=0), ValueError, "config: patch_size.*got 0"),
    "clip-eps": (bind_clip(layer_norm_eps=float("nan")), ValueError, "config: layer_norm_eps.*nan"),
    "clip-count": (lambda e, m: m.image_encoder.plan(e, 0, {}), ValueError, "images: wanted an integer from 1"),
    "clip-nan": (lambda e, m: m.image_encoder.plan(e, float("nan"), {}), TypeError, "images: wanted an integer.*nan"),
    "clip-huge": (lambda e, m: m.image_encoder.plan(e, 1 << 70, {}), ValueError, "images"),
    "patches-type": (encode_images([1]), TypeError, "patches: wanted a NumPy array.*got list"),
    "patches-dtype": (encode_images(PATCHES.astype(float)), TypeError, r"patches.*float32 \[2, 16, 147\], got float64"),
    "patches-count": (encode_images(PATCHES[:1]), ValueError, r"patches.*\[2, 16, 147\].*\[1, 16, 147\]"),
    "patches-rank": (encode_images(PATCHES[0]), ValueError, "patches"),
    "images-type": (plan(7), TypeError, "images: wanted .rows, index of each batch item's embedding."),
    "images-single": (plan([5]), ValueError, r"images: wanted \(rows, index.*\[5\]"),
    "images-rows": (plan((0, [0, 0])), ValueError, "images: rows: wanted an integer from 1"),
    "images-few": (plan((5, [0])), ValueError, "images.*each of 2 batch items' embedding, got 1"),
    "images-index": (plan((5, [0, 2])), ValueError, "images: index: wanted an integer from 0 to 1, got 2"),
    "images-negative": (plan((5, [0, -1])), ValueError, "images: index.*got -1"),
    "images-nan": (plan((5, [0, float("nan")])), TypeError, "images: index: wanted an integer, got nan"),
    "images-flat": (plan((5, 0)), TypeError, "images: wanted the index of each batch item's embedding, got 0"),
    "images-table": (
        lambda e, m: m.two_frames.plan(e, text=TEXT, policy={}, images=(5, [0, 0]), **SIZES),
        ValueError,
        "images: rows: wanted an integer from 10 to 10, got 5",
    ),
    "prepare-none": (prepare(None), TypeError, r"images: wanted a NumPy array of float32 \[1, 5, 14\], got NoneType"),
    "prepare-surplus": (prepare(planned=None), ValueError, "images: the plan has none"),
    "prepare-shape": (prepare(IMAGES[:, :4]), ValueError, r"images.*\[1, 5, 14\].*\[1, 4, 14\]"),
    "prepare-count": (prepare(planned=(5, [0, 1])), ValueError, r"images.*\[2, 5, 14\].*\[1, 5, 14\]"),
    "prepare-dtype": (prepare(IMAGES.astype(np.float16)), TypeError, "images.*float16"),
    "of-type": (prepare(image_of=0), TypeError, "image_of"),
    "of-few": (prepare(image_of=[0]), ValueError, "image_of: wanted the plan's 2 batch items, got 1"),
    "of-other": (prepare(image_of=[0, 1]), ValueError, "image_of: wanted an integer from 0 to 0, got 1"),
    "of-nan": (prepare(image_of=[0, float("nan")]), TypeError, "image_of: wanted an integer, got nan"),
    "vae-height": (lambda e, m: m.vae.plan(e, 20, 24, {}), ValueError, "height: wanted a multiple of 8 pixels, got 20"),
    "vae-small": (lambda e, m: m.vae.plan(e, 0, 24, {}), ValueError, "height: wanted an integer from 8"),
    "vae-width": (lambda e, m: m.vae.plan(e, 16, 24.0, {}), TypeError, "width: wanted an integer, got 24.0"),
    "frames-shape": (encode_frames(FRAME[:, :8], True), ValueError, r"frames.*\[1, 16, 24, 3\].*\[1, 8, 24, 3\]"),
    "frames-many": (encode_frames(np.repeat(FRAME, 4, 0), True), ValueError, r"frames.*\[1, 16, 24, 3\].*\[4, 16"),
    "frames-order": (encode_frames(np.repeat(FRAME, 4, 0), False), ValueError, "encode_frames: the first frame comes"),
    "frames-flag": (encode_frames(FRAME, 1), TypeError, "first"),
    "frames-follow": (encode_frames(FRAME, True, follow=None), TypeError, "follow"),
    "exec-images": (wrong_exec(lambda x: x.encode_images(PATCHES)), TypeError, "an ImageEncoder.*a VaeEncoder"),
    "exec-decode": (wrong_exec(lambda x: x.decode(FRAME, True)), TypeError, "decode.*a VaeDecoder.*a VaeEncoder"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_named_and_nothing_leaks(name: str, engine: core.Engine, models: Models) -> None:
    call, exception, text = BAD[name]
    check_refusal(lambda: call(engine, models), exception, text)


def everything(engine: core.Engine, models: Models) -> list[np.ndarray]:
    """Each call once."""
    results = []
    with core.Exec(engine, models.image_encoder, models.image_encoder.plan(engine, 2, {})) as execution:
        results.append(execution.encode_images(PATCHES))
    with core.Exec(engine, models.vae, models.vae.plan(engine, 16, 24, {})) as execution:
        results.append(execution.encode_frames(FRAME, True, follow=True))
        results.append(execution.encode_frames(np.repeat(FRAME, 4, 0), first=False))
    with core.Exec(engine, models.transformer, models.plan(engine)) as execution:
        for _ in range(2):
            execution.prepare(TEXTS, **SIZES, images=IMAGES.copy(), image_of=[0, 0])
        results.append(execution.step(np.ones((2, 9, 1, 4, 6), np.float32), np.float32([5, 5])))
    return results


def test_what_the_calls_return(engine: core.Engine, models: Models) -> None:
    shapes = [(2, 17, 36), (32, 2, 3), (32, 2, 3), (2, 4, 1, 4, 6)]
    results = everything(engine, models)
    assert [array.shape for array in results] == shapes
    assert all(array.dtype == np.float32 and array.flags.owndata for array in results)
    assert models.image_encoder.tokens == 17
    assert (models.vae.frames_per_latent, models.vae.spatial_scale) == (4, 8)
    names = [component.name for component in (models.image_encoder, models.transformer, models.vae)]
    assert names == ["image_encoder", "transformer", "vae encoder"]


def test_calls_keep_memory(engine: core.Engine, models: Models) -> None:
    check_refusal(lambda: everything(engine, models) and 1 // 0, ZeroDivisionError, "division")


@pytest.mark.parametrize("order", ["C", "F"])
def test_inputs_of_any_stride_and_byte_order_are_read_right(engine: core.Engine, models: Models, order: str) -> None:
    patches = np.random.default_rng(0).standard_normal(PATCHES.shape, np.float32)
    with core.Exec(engine, models.image_encoder, models.image_encoder.plan(engine, 2, {})) as execution:
        expected = execution.encode_images(patches)
        assert np.array_equal(execution.encode_images(patches.astype(">f4", order=order)), expected)

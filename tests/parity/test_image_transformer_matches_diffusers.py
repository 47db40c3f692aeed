"""The transformer with image conditioning against diffusers, live, in float32 on the same weights: relative L2 error at
most 1e-5.

diffusers takes all but the last 512 rows of its context for image rows. With other text lengths it splits wrongly, so
there the reference is diffusers with that one number changed.
"""

import inspect
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import IMAGE_TRANSFORMER, edit_weights, write_transformer
from diffusers import WanTransformer3DModel
from diffusers.models.transformers import transformer_wan
from parity.components import relative_l2, transformer, velocity

import wanoffload
from wanoffload import _core

BOUND = 1e-5


def split_at(model: WanTransformer3DModel, rows: int) -> None:
    """Has the model's cross-attention take the last `rows` rows of its context for text."""
    source = textwrap.dedent(inspect.getsource(transformer_wan.WanAttnProcessor))
    assert source.count("shape[1] - 512") == 1
    names = dict(vars(transformer_wan))
    exec(source.replace("shape[1] - 512", f"shape[1] - {rows}"), names)
    for block in model.blocks:
        block.attn2.processor = names["WanAttnProcessor"]()


class Case:
    """Random latents, texts and image embeddings for a model, and diffusers' velocity for them."""

    def __init__(self, model: WanTransformer3DModel, rows: int, real: list[int], image_rows: int) -> None:
        generator = torch.Generator().manual_seed(0)
        config, batch = model.config, len(real)
        self.latents = torch.randn(batch, config.in_channels, 2, 4, 6, generator=generator)
        self.timesteps = torch.randint(1, 1000, (batch,), generator=generator)
        self.embeds = torch.zeros(batch, rows, config.text_dim)
        for item, count in enumerate(real):
            self.embeds[item, :count] = torch.randn(count, config.text_dim, generator=generator)
        self.texts = [(rows, self.embeds[item, :count].numpy()) for item, count in enumerate(real)]
        pieces = 1 if config.pos_embed_seq_len is None else 2
        self.images = torch.randn(pieces * batch, image_rows, config.image_dim, generator=generator)
        split_at(model, rows)
        with torch.no_grad():
            self.reference = model(self.latents, self.timesteps, self.embeds, self.images).sample.numpy()

    def run(self, folder: Path, **options: Any) -> np.ndarray:
        images = self.images.reshape(len(self.latents), -1, self.images.shape[-1]).numpy()
        return velocity(folder, self.latents.numpy(), self.timesteps.numpy(), self.texts, images=images, **options)


def write(folder: Path, seed: int = 1, **config: Any) -> WanTransformer3DModel:
    return write_transformer(folder, seed, **{**IMAGE_TRANSFORMER, **config})


@pytest.mark.parametrize("image_rows", [1, 2, 17, 32, 33, 257], ids=lambda rows: f"{rows} image rows")
@pytest.mark.parametrize("real", [[0], [5, 512]], ids=["no text", "two items"])
def test_velocity_differs_from_diffusers(tmp_path: Path, image_rows: int, real: list[int]) -> None:
    case = Case(write(tmp_path), 512, real, image_rows)
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


@pytest.mark.parametrize("rows", [1, 7, 226, 511, 513, 700], ids=lambda rows: f"{rows} text rows")
def test_text_and_image_are_split_elsewhere_than_between_them(tmp_path: Path, rows: int) -> None:
    case = Case(write(tmp_path, seed=2), rows, [min(rows, 9), rows], 19)
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


@pytest.mark.parametrize("image_rows", [1, 13, 257], ids=lambda rows: f"2 x {rows} rows")
def test_first_and_last_frame_have_no_places(tmp_path: Path, image_rows: int) -> None:
    case = Case(write(tmp_path, seed=3, pos_embed_seq_len=2 * image_rows), 512, [6, 20], image_rows)
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


@pytest.mark.parametrize(
    "config",
    [
        {"image_dim": 1},
        {"image_dim": 70, "cross_attn_norm": False},
        {"attention_head_dim": 40, "added_kv_proj_dim": 120, "num_layers": 1},
        {"in_channels": 36, "out_channels": 16, "eps": 1e-3},
    ],
    ids=["one channel", "no cross norm", "head 40", "36 channels"],
)
def test_other_configurations_differ_from_diffusers(tmp_path: Path, config: dict[str, Any]) -> None:
    case = Case(write(tmp_path, seed=4, **config), 64, [9, 3], 11)
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


# What is set to zero to leave one module alone.
MODULES = {
    "image keys": ("attn1.to_out", "ffn.net.2", "attn2.to_v.bias", "attn2.to_v.weight"),
    "image embedder": ("attn1.to_out", "ffn.net.2", "attn2.to_v", "image_embedder.ff.net.2.weight"),
}


@pytest.mark.parametrize("module", MODULES)
def test_module_differs_from_diffusers(tmp_path: Path, module: str) -> None:
    model = write(tmp_path, seed=5, num_layers=1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if any(part in name for part in MODULES[module]):
                value.zero_()
    model.save_pretrained(tmp_path)
    case = Case(model, 512, [20], 17)
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


def test_velocity_ignores_its_image(tmp_path: Path) -> None:
    """Guards the tests above: a model that does not look at the image could agree with one that hardly does."""
    case = Case(write(tmp_path, seed=6), 512, [20, 3], 17)
    right = case.run(tmp_path)
    case.images = -case.images
    changed = case.run(tmp_path)
    for item in range(2):
        assert relative_l2(changed[item], right[item]) > 1e-2


def test_items_that_share_an_image_do_not_get_it(tmp_path: Path) -> None:
    """One embedding for several items, as guidance has it, gives the bits of one copy for each."""
    case = Case(write(tmp_path, seed=7), 512, [20, 3, 9], 17)
    for of in ([0, 0, 0], [1, 0, 1], [0, 1, 2]):
        case.images[...] = case.images[of]
        each = case.run(tmp_path)
        shared = case.images.numpy()[[of.index(value) for value in sorted(set(of))]]
        texts = (case.latents.numpy(), case.timesteps.numpy(), case.texts)
        assert np.array_equal(velocity(tmp_path, *texts, images=shared, image_of=of), each)


@pytest.mark.parametrize("rest", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_weights_at_rest_in_another_dtype_are_read_wrongly(tmp_path: Path, rest: torch.dtype) -> None:
    case = Case(write_transformer(tmp_path, seed=8, dtype=rest, **IMAGE_TRANSFORMER), 512, [20], 17)
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


POLICIES = [
    {"level": "resident"},
    {"level": "block", "tier": "host", "use_stream": True},
    {"level": "leaf", "tier": "host", "use_stream": True},
    {"level": "leaf", "tier": "disk", "use_stream": True},
    {"level": "leaf", "tier": "disk", "use_stream": True, "cache_text": False},
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: "-".join(str(value) for value in policy.values()))
def test_a_norm_that_never_runs_degrades_the_film(tmp_path: Path, policy: dict[str, Any]) -> None:
    """Image-to-video checkpoints hold a norm_added_q that no forward pass applies. Streaming layer by layer in an order
    that counts on its running is what degraded the films that made users doubt offloading. Here its values are no
    numbers, every other layer has to have arrived when it runs, and the norm must not even be read."""
    model = write(tmp_path, seed=9)
    case = Case(model, 512, [20, 3], 17)
    plain = case.run(tmp_path, level="resident")
    width = model.config.num_attention_heads * model.config.attention_head_dim
    extra = {f"blocks.{i}.attn2.norm_added_q.weight": torch.full((width,), torch.nan) for i in range(2)}
    edit_weights(tmp_path, lambda weights: weights.update(extra))
    component = transformer(tmp_path)
    unused = dict(component.unused())
    assert set(unused) == set(extra) and all("norm_added_q" not in layer["name"] for layer in component.layers())
    velocity = case.run(tmp_path, **policy)
    assert np.array_equal(velocity, plain)
    assert relative_l2(velocity, case.reference) <= BOUND


def test_an_image_is_projected_again_in_every_step(tmp_path: Path) -> None:
    """With the cache, a step does not even visit the layers that prepare image keys and values."""
    write(tmp_path, seed=10)
    engine, component = _core.Engine("cpu"), transformer(tmp_path)
    plan = component.plan(engine, 1, 4, 4, [(8, 3)], {"level": "leaf", "tier": "disk"}, images=(5, [0]))
    assert plan.summary()["knobs_cache_text"]
    names = [group["name"] for group in plan.groups()]
    prepared, stepped = ({names[group] for group in plan.visits(index)} for index in range(2))
    added = {name for name in names if "add_k_proj" in name or "add_v_proj" in name or "norm_added_k" in name}
    assert len(added) == 6 and added <= prepared and not added & stepped


def test_the_face_of_the_transformer_differs_from_diffusers(tmp_path: Path) -> None:
    """Arguments and shapes as diffusers has them, with and without places for two images."""
    for name, table, rows in (("one", None, 257), ("two", 26, 13)):
        model = write(tmp_path / name, seed=11, pos_embed_seq_len=table)
        ours = wanoffload.WanTransformer3DModel.from_pretrained(tmp_path / name)
        case = Case(model, 512, [20, 3], rows)
        arguments = {"hidden_states": case.latents, "timestep": case.timesteps, "encoder_hidden_states": case.embeds}
        out = ours(**arguments, encoder_hidden_states_image=case.images)
        assert isinstance(out.sample, torch.Tensor) and relative_l2(out.sample.numpy(), case.reference) <= BOUND


@pytest.mark.parametrize(
    ("table", "images", "message"),
    [
        (None, None, "`encoder_hidden_states_image` is missing"),
        (None, np.zeros((1, 5, 13), np.float32), "image_dim=14"),
        (None, np.zeros((2, 5, 14), np.float32), "batch=1"),
        (None, np.zeros((1, 0, 14), np.float32), "no rows"),
        (10, np.zeros((1, 5, 14), np.float32), "batch=2"),
        (10, np.zeros((2, 10, 14), np.float32), "rows=5"),
    ],
)
def test_image_embeddings_of_another_shape_are_taken(
    tmp_path: Path, table: int | None, images: Any, message: str
) -> None:
    write(tmp_path, seed=12, pos_embed_seq_len=table)
    ours = wanoffload.WanTransformer3DModel.from_pretrained(tmp_path)
    latents, text = np.zeros((1, 9, 1, 4, 4), np.float32), np.ones((1, 5, 20), np.float32)
    with pytest.raises(ValueError, match=message):
        ours(latents, 5, text, images)

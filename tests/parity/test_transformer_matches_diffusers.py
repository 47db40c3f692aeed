"""The transformer against diffusers, live, in float32 on the same weights: relative L2 error at most 1e-5."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import write_transformer
from diffusers import WanTransformer3DModel
from parity.components import relative_l2, velocity

BOUND = 1e-5


class Case:
    """Random latents, timesteps and texts for a model, and diffusers' velocity for them."""

    def __init__(
        self, model: WanTransformer3DModel, texts: list[tuple[int, int]], size: tuple[int, int, int], seed: int = 0
    ):
        generator = torch.Generator().manual_seed(seed)
        batch, rows = len(texts), texts[0][0]
        self.latents = torch.randn(batch, model.config.in_channels, *size, generator=generator)
        self.timesteps = torch.randint(1, 1000, (batch,), generator=generator)
        self.embeds = torch.zeros(batch, rows, model.config.text_dim)
        for item, (_, real) in enumerate(texts):
            self.embeds[item, :real] = torch.randn(real, model.config.text_dim, generator=generator)
        self.texts = [(rows, self.embeds[item, :real].numpy()) for item, (_, real) in enumerate(texts)]
        with torch.no_grad():
            self.reference = model(self.latents, self.timesteps, self.embeds, return_dict=False)[0].numpy()

    def run(self, folder: Path, **options: Any) -> np.ndarray:
        return velocity(folder, self.latents.numpy(), self.timesteps.numpy(), self.texts, **options)


@pytest.mark.parametrize(
    ("config", "texts", "size"),
    [
        ({}, [(512, 20)], (3, 6, 10)),
        ({"attention_head_dim": 40}, [(512, 20), (512, 1)], (2, 4, 6)),
        (
            {"attention_head_dim": 128, "num_attention_heads": 1, "in_channels": 16, "out_channels": 16},
            [(64, 9)],
            (1, 8, 4),
        ),
        ({"attention_head_dim": 2, "num_attention_heads": 7}, [(40, 3)], (2, 4, 4)),
        ({"out_channels": 3, "ffn_dim": 1, "text_dim": 7}, [(33, 8), (33, 33), (33, 32)], (1, 2, 2)),
        ({"cross_attn_norm": False}, [(226, 40), (226, 5)], (1, 6, 6)),
        ({"eps": 1e-3, "num_layers": 1}, [(512, 7)], (5, 2, 2)),
    ],
    ids=["odd sizes", "head 40, two items", "head 128", "head 2", "three items", "no cross norm", "eps"],
)
def test_velocity_differs_from_diffusers(
    tmp_path: Path, config: dict[str, Any], texts: list[tuple[int, int]], size: Any
) -> None:
    case = Case(write_transformer(tmp_path, seed=1, **config), texts, size)
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


def test_queries_of_a_second_call_attend_to_something_else(tmp_path: Path) -> None:
    """From 16384 tokens on an item's queries go into several calls."""
    config = {"num_layers": 1, "attention_head_dim": 4, "num_attention_heads": 2, "ffn_dim": 8}
    case = Case(write_transformer(tmp_path, seed=5, **config), [(40, 3), (40, 1)], (4, 130, 130))
    wanted = case.run(tmp_path)
    assert relative_l2(wanted, case.reference) <= BOUND
    for knobs in ({"row_chunk": 5000}, {"passes_apart": True, "row_chunk": 2048}, {"items_apart": True}):
        assert case.run(tmp_path, level="leaf", tier="disk", **knobs).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("real", [0, 1, 31, 32, 33, 510, 511, 512], ids=lambda real: f"{real} real rows")
def test_zero_rows_of_the_text_are_not_keys_as_in_diffusers(tmp_path: Path, real: int) -> None:
    case = Case(write_transformer(tmp_path, seed=2), [(512, real)], (1, 4, 4))
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


def test_text_longer_than_512_rows_is_cut(tmp_path: Path) -> None:
    case = Case(write_transformer(tmp_path, seed=3), [(700, 600), (700, 4)], (1, 4, 4))
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


def test_folding_zero_rows_changes_the_velocity(tmp_path: Path) -> None:
    case = Case(write_transformer(tmp_path, seed=4), [(512, 20), (512, 3)], (2, 4, 4))
    folded, unfolded = case.run(tmp_path), case.run(tmp_path, unfolded=True)
    assert relative_l2(unfolded, case.reference) <= BOUND
    assert relative_l2(folded, unfolded) <= BOUND


def test_velocity_ignores_its_text_or_its_timestep(tmp_path: Path) -> None:
    """Guards the tests above: a model that does not look at an input could agree with a reference that hardly does."""
    case = Case(write_transformer(tmp_path, seed=5), [(64, 20)], (1, 4, 4))
    right = case.run(tmp_path)
    case.texts = [(64, case.texts[0][1] + 1)]
    other_text = case.run(tmp_path)
    case.timesteps = case.timesteps // 2
    assert relative_l2(other_text, right) > 1e-2
    assert relative_l2(case.run(tmp_path), other_text) > 1e-2


def test_an_item_depends_on_its_neighbours_in_the_batch(tmp_path: Path) -> None:
    case = Case(write_transformer(tmp_path, seed=6), [(128, 60), (128, 40)], (2, 4, 6))
    together = case.run(tmp_path)
    for item in range(2):
        alone = velocity(
            tmp_path,
            case.latents[item : item + 1].numpy(),
            case.timesteps[item : item + 1].numpy(),
            case.texts[item : item + 1],
        )
        assert np.array_equal(alone[0], together[item])


# What is set to zero to leave one module of a block alone.
MODULES = {
    "patches and head": ("attn1.to_out", "attn2.to_out", "ffn.net.2"),
    "self attention": ("attn2.to_out", "ffn.net.2"),
    "cross attention": ("attn1.to_out", "ffn.net.2"),
    "feed-forward": ("attn1.to_out", "attn2.to_out"),
}


@pytest.mark.parametrize("module", MODULES)
def test_module_differs_from_diffusers(tmp_path: Path, module: str) -> None:
    model = write_transformer(tmp_path, seed=7, num_layers=1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if any(part in name for part in MODULES[module]):
                value.zero_()
    model.save_pretrained(tmp_path)
    case = Case(model, [(512, 20), (512, 30)], (2, 6, 4))
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


def test_published_steps_differ_on_the_trained_checkpoint(demo_model: Path) -> None:
    folder = demo_model / "transformer"
    model = WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
    case = Case(model, [(512, 12), (512, 1)], (5, 12, 12))
    assert relative_l2(case.run(folder), case.reference) <= BOUND


@pytest.mark.parametrize("rest", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_weights_at_rest_in_another_dtype_are_read_wrongly(tmp_path: Path, rest: torch.dtype) -> None:
    case = Case(write_transformer(tmp_path, seed=8, dtype=rest), [(512, 20)], (1, 4, 4))
    assert relative_l2(case.run(tmp_path), case.reference) <= BOUND


def test_float16_weights_are_held_with_more_error_than_their_rounding(tmp_path: Path) -> None:
    """At rest in float16 and held in float16: nothing is rounded, and operands are float32."""
    case = Case(write_transformer(tmp_path, seed=9, dtype=torch.float16), [(512, 20), (512, 70)], (1, 4, 4))
    assert relative_l2(case.run(tmp_path, dtype="float16"), case.reference) <= BOUND

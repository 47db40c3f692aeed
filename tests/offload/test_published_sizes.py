"""What the published models need, planned from checkpoints of their shapes: files of holes, never read."""

import json
import math

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

import wanoffload

GB = 1e9


def write_holes(folder, model, dtype, width):
    """A checkpoint of the shapes of a model on torch's meta device."""
    header, at = {}, 0
    for name, value in model.state_dict().items():
        end = at + width * math.prod(value.shape)
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with open(folder / "diffusion_pytorch_model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    model.save_config(folder)
    return folder


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    """On an H200 that is not there. diffusers' defaults are the sizes of the 14B model."""
    with torch.device("meta"):
        model = WanTransformer3DModel()
    folder = write_holes(tmp_path_factory.mktemp("transformer"), model, "BF16", 2)
    return wanoffload.WanTransformer3DModel.from_pretrained(folder, dtype="bfloat16", device="cuda:h200")


def arena(transformer, size, texts=((512, 120), (512, 40)), **knobs):
    """Bytes for 81 frames at leaf level with a copy stream, both branches of guidance."""
    policy = {"level": "leaf", "tier": "host", "use_stream": True, "row_chunk": 2048, **knobs}
    return transformer.core.plan(transformer.runtime.engine, 21, *size, list(texts), policy).summary()["work_bytes"]


@pytest.mark.parametrize(("size", "most"), [((60, 104), 3.2), ((90, 160), 4.8)], ids=["480p", "720p"])
def test_one_branch_at_a_time_takes_more_memory_than_promised(transformer, size, most):
    apart = arena(transformer, size, passes_apart=True)
    assert apart <= most * GB
    assert apart < arena(transformer, size, items_apart=True) < arena(transformer, size)


def test_the_largest_layer_decides_the_ring_twice_over(transformer):
    """time_proj is six times as large as any matrix of an attention; its parts come one by one."""
    policy = {"level": "leaf", "tier": "host", "use_stream": True}
    summary = transformer.core.plan(transformer.runtime.engine, 1, 2, 2, [(512, 120)], policy).summary()
    ffn = 2 * transformer.config.ffn_dim * 5120
    assert ffn < summary["ring_bytes"] < 2.2 * ffn


def test_a_budget_of_what_one_branch_needs_is_planned_by_itself(transformer):
    plan = transformer.core.plan(
        transformer.runtime.engine,
        21,
        60,
        104,
        [(512, 120), (512, 40)],
        {"level": "auto", "vram": int(2.5 * GB), "choose_knobs": True},
    )
    summary = plan.summary()
    assert summary["vram"] <= 2.5 * GB and summary["knobs_passes_apart"]


def test_the_disk_tier_takes_more_host_memory_than_promised(transformer):
    policy = {"level": "leaf", "tier": "disk", "use_stream": True}
    summary = transformer.core.plan(transformer.runtime.engine, 21, 60, 104, [(512, 120)], policy).summary()
    assert summary["ram"] <= 8 * GB and summary["weight_bytes"] > 28 * GB


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_vae_s_state_on_the_host_leaves_too_much_on_the_card(tmp_path, dtype):
    with torch.device("meta"):
        model = AutoencoderKLWan()
    folder = write_holes(tmp_path, model, "F32", 4)
    vae = wanoffload.AutoencoderKLWan.from_pretrained(folder, dtype=dtype, device="cuda:h200")
    here, there = (
        vae.core.plan(vae.runtime.engine, 60, 104, {"level": "resident", "state_on_host": there}).summary()
        for there in (False, True)
    )
    assert there["vram"] <= 4 * GB and there["vram"] < 0.5 * here["vram"]
    assert there["host_keep_bytes"] > 0.9 * here["keep_bytes"] > 0 == there["keep_bytes"]

"""Components called alone: diffusers' shapes in and out, the same numbers, and arguments checked by name."""

import diffusers
import numpy as np
import pytest
import torch
from pipeline.helpers import open_pipeline

import wanoffload


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def shared(demo_model: object) -> wanoffload.WanPipeline:
    return open_pipeline(demo_model)


def close(ours: np.ndarray, theirs: torch.Tensor) -> bool:
    theirs = theirs.detach().numpy()
    return ours.shape == theirs.shape and np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)


def test_transformer_takes_the_arguments_of_diffusers(
    shared: wanoffload.WanPipeline, reference: diffusers.WanPipeline
) -> None:
    latents, text = normal(2, 16, 3, 4, 6), normal(2, 9, 64)
    text[0, 4:] = 0
    times = np.array([999, 13])
    with torch.no_grad():
        theirs = reference.transformer(torch.tensor(latents), torch.tensor(times), torch.tensor(text)).sample
    out = shared.transformer(hidden_states=latents, timestep=times, encoder_hidden_states=text)
    assert close(out.sample, theirs) and out[0] is out.sample and out.sample.dtype == np.float32
    (tensor,) = shared.transformer(torch.tensor(latents), torch.tensor(times), torch.tensor(text), return_dict=False)
    assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), out.sample)


def test_one_timestep_counts_for_the_whole_batch(shared: wanoffload.WanPipeline) -> None:
    latents, text = normal(2, 16, 1, 4, 4), normal(2, 5, 64)
    each = shared.transformer(latents, np.array([500.0, 500.0]), text).sample
    assert np.array_equal(shared.transformer(latents, 500, text).sample, each)
    assert np.array_equal(shared.transformer(latents, torch.tensor(500), text).sample, each)


def test_embeddings_that_are_all_zero_are_attended_as_zeros(
    shared: wanoffload.WanPipeline, reference: diffusers.WanPipeline
) -> None:
    latents, text = normal(1, 16, 1, 4, 4), np.zeros((1, 7, 64), np.float32)
    with torch.no_grad():
        theirs = reference.transformer(torch.tensor(latents), torch.tensor([5]), torch.tensor(text)).sample
    assert close(shared.transformer(latents, 5, text).sample, theirs)


def test_vae_decodes_to_the_shape_of_diffusers(
    shared: wanoffload.WanPipeline, reference: diffusers.WanPipeline
) -> None:
    latents = normal(2, 16, 3, 4, 6)
    with torch.no_grad():
        theirs = reference.vae.decode(torch.tensor(latents)).sample
    assert close(shared.vae.decode(latents).sample, theirs)
    assert shared.vae.decode(torch.tensor(latents), return_dict=False)[0].shape == (2, 3, 9, 32, 48)
    shared.vae.enable_slicing()
    assert shared.vae.use_slicing and close(shared.vae.decode(latents).sample, theirs)
    shared.vae.disable_slicing()


def test_text_encoder_gives_the_real_rows_of_transformers_and_zeros_elsewhere(
    shared: wanoffload.WanPipeline, reference: diffusers.WanPipeline
) -> None:
    ids = np.array([[5, 6, 7, 1, 0, 0], [9, 1, 0, 0, 0, 0], [3, 4, 5, 6, 7, 1]])
    mask = (ids > 0).astype(np.int64)
    with torch.no_grad():
        theirs = reference.text_encoder(torch.tensor(ids), torch.tensor(mask)).last_hidden_state
    ours = shared.text_encoder(ids, mask)
    assert close(ours.last_hidden_state, theirs * torch.tensor(mask)[..., None])
    assert not ours[0][0, 4:].any()


def test_padding_on_the_left_moves_the_rows_and_not_the_numbers(shared: wanoffload.WanPipeline) -> None:
    right = shared.text_encoder(np.array([[5, 6, 1, 0, 0]]), np.array([[1, 1, 1, 0, 0]])).last_hidden_state
    left = shared.text_encoder(np.array([[0, 0, 5, 6, 1]]), np.array([[0, 0, 1, 1, 1]])).last_hidden_state
    assert np.array_equal(left[:, 2:], right[:, :3]) and not left[:, :2].any()


def test_without_a_mask_every_token_is_real(shared: wanoffload.WanPipeline, reference: diffusers.WanPipeline) -> None:
    ids = np.array([[5, 6, 0, 0]])
    with torch.no_grad():
        theirs = reference.text_encoder(torch.tensor(ids)).last_hidden_state
    assert close(shared.text_encoder(torch.tensor(ids)).last_hidden_state.numpy(), theirs)


def test_a_prompt_without_tokens_is_all_zeros(shared: wanoffload.WanPipeline) -> None:
    out = shared.text_encoder(np.array([[4, 1], [0, 0]]), np.array([[1, 1], [0, 0]])).last_hidden_state
    assert out[0].all() and not out[1].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_states": normal(1, 15, 1, 4, 4)}, "channels=16"),
        ({"hidden_states": normal(1, 16, 1, 3, 4)}, "even height and width"),
        ({"hidden_states": normal(1, 16, 0, 4, 4)}, "no empty axis"),
        ({"hidden_states": normal(16, 1, 4, 4)}, "`hidden_states`"),
        ({"timestep": np.ones(3)}, "one number per batch item, 1, but holds 3"),
        ({"timestep": np.ones((1, 4))}, "one number per token"),
        ({"encoder_hidden_states": normal(1, 5, 63)}, "text_dim=64"),
        ({"encoder_hidden_states": normal(2, 5, 64)}, "batch=1"),
        ({"encoder_hidden_states": normal(1, 0, 64)}, "no rows"),
        ({"encoder_hidden_states_image": normal(1, 5, 64)}, "takes no image embeddings"),
        ({"attention_kwargs": {"scale": 1}}, "cannot take effect"),
    ],
)
def test_transformer_refuses_by_name(shared: wanoffload.WanPipeline, changes: dict, message: str) -> None:
    good = {"hidden_states": normal(1, 16, 1, 4, 4), "timestep": 5, "encoder_hidden_states": normal(1, 5, 64)}
    with pytest.raises(ValueError, match=message):
        shared.transformer(**{**good, **changes})
    shared.transformer(**good)


def test_latents_beyond_the_model_s_positions_are_refused(shared: wanoffload.WanPipeline) -> None:
    with pytest.raises(ValueError, match="more than the model has positions for"):
        shared.transformer(np.zeros((1, 16, 1, 2, 2050), np.float32), 5, normal(1, 5, 64))


def test_wrong_dtypes_are_type_errors(shared: wanoffload.WanPipeline) -> None:
    for wrong in (np.ones((1, 16, 1, 4, 4), int), np.ones((1, 16, 1, 4, 4), complex), "latents", None):
        with pytest.raises(TypeError, match="`z`"):
            shared.vae.decode(wrong)
        with pytest.raises(TypeError, match="`hidden_states`"):
            shared.transformer(wrong, 5, normal(1, 5, 64))


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (np.ones((1, 3)), None, "`input_ids` has to be an integer array"),
        (np.ones(3, int), None, "`input_ids`"),
        (np.array([[1, 290]]), None, "holds 290; ids of this text encoder are 0 to 289"),
        (np.array([[-1, 2]]), None, "holds -1"),
        (np.ones((1, 3), int), np.ones((1, 2), int), "`attention_mask` has to be of shape"),
        (np.ones((1, 3), int), np.array([[1, 0, 1]]), "zeros between ones"),
    ],
)
def test_text_encoder_refuses_by_name(shared: wanoffload.WanPipeline, ids: object, mask: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shared.text_encoder(ids, mask)


@pytest.mark.parametrize("tier", ["cpu", "disk"])
@pytest.mark.parametrize("stream", [False, True])
def test_offloading_one_component_gives_the_same_bits_and_moves_its_weights_once(
    demo_model: object, tier: str, stream: bool
) -> None:
    transformer = wanoffload.WanTransformer3DModel.from_pretrained(demo_model, subfolder="transformer")
    arguments = (normal(1, 16, 2, 4, 4), 5, normal(1, 5, 64))
    resident = transformer(*arguments).sample
    assert transformer.report.bytes_moved == 0
    for kind in ({"num_blocks_per_group": 4}, {"offload_type": "leaf_level"}):
        transformer.enable_group_offload("cpu", tier, use_stream=stream, **kind)
        assert np.array_equal(transformer(*arguments).sample, resident)
        report = transformer.report
        assert report.plan["streamed_bytes"] > 0 and report.bytes_moved > 0
        assert (report.bytes_from_disk > 0) == (tier == "disk") and (report.bytes_from_host > 0) == (tier == "cpu")
    transformer.disable_offload()
    assert np.array_equal(transformer(*arguments).sample, resident)


def test_a_component_may_have_a_budget_of_its_own(demo_model: object) -> None:
    vae = wanoffload.AutoencoderKLWan.from_pretrained(demo_model, subfolder="vae")
    latents = normal(1, 16, 2, 4, 4)
    resident = vae.decode(latents).sample
    vae.enable_auto_offload(vram=1)
    with pytest.raises(wanoffload.PlanError) as caught:
        vae.decode(latents)
    moved = []
    for part in (0.0, 0.5):
        vae.enable_auto_offload(vram=caught.value.needed["vram"] + int(part * vae.core.bytes))
        assert np.array_equal(vae.decode(latents).sample, resident)
        moved.append(vae.report.bytes_moved)
    assert moved[0] > moved[1] > 0


def test_a_component_called_alone_keeps_to_its_budget_beside_the_others(demo_model: object) -> None:
    pipe = open_pipeline(demo_model)
    pipe("a red star", height=32, width=32, num_frames=1, num_inference_steps=1)
    everything = pipe.runtime.engine.held()["resident_bytes"]
    pipe.vae.enable_auto_offload(vram=pipe.transformer.core.bytes)
    with pytest.raises(wanoffload.PlanError):
        pipe.vae.decode(normal(1, 16, 1, 4, 4))
    budget = everything - pipe.vae.core.bytes // 2 + (1 << 20)
    pipe.vae.enable_auto_offload(vram=budget)
    pipe.vae.decode(normal(1, 16, 1, 4, 4))
    held = pipe.runtime.engine.held()
    assert held["resident_bytes"] + held["arena_bytes"] <= budget
    pipe.enable_auto_offload(vram=budget)
    pipe("a red star", height=32, width=32, num_frames=1, num_inference_steps=1)
    pipe.vae.decode(normal(1, 16, 1, 4, 4))
    assert pipe.runtime.engine.held()["resident_bytes"] == pipe.vae.core.bytes

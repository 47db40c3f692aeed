"""Every scheduler step must be diffusers' step."""

import json

import numpy as np
import pytest

import wanoffload.schedulers as ours

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("diffusers")

UNIPC = dict(prediction_type="flow_prediction", use_flow_sigmas=True)


def run(mine, reference, steps, **kwargs):
    rng = np.random.default_rng(5)
    mine.set_timesteps(steps, **kwargs)
    reference.set_timesteps(steps, **kwargs)
    assert np.array_equal(mine.timesteps, reference.timesteps.numpy())
    assert np.array_equal(mine.sigmas, reference.sigmas.numpy())
    mine.set_begin_index(0)
    reference.set_begin_index(0)
    x = rng.standard_normal((2, 3, 2, 4, 5)).astype(np.float32)
    y = torch.from_numpy(x)
    worst = 0.0
    for t, u in zip(mine.timesteps, reference.timesteps, strict=True):
        velocity = rng.standard_normal(x.shape).astype(np.float32)
        x = mine.step(velocity, t, x, return_dict=False)[0]
        y = reference.step(torch.from_numpy(velocity), u, y, return_dict=False)[0]
        assert x.dtype == np.float32
        worst = max(worst, np.abs(x - y.numpy()).max() / np.abs(y.numpy()).max())
    return worst


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 20, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 16.0])
def test_unipc_differs(steps, shift):
    mine = ours.UniPCMultistepScheduler(flow_shift=shift)
    assert run(mine, theirs.UniPCMultistepScheduler(flow_shift=shift, **UNIPC), steps) < 2e-6


@pytest.mark.parametrize(
    "options",
    [
        dict(solver_order=1),
        dict(solver_order=3),
        dict(solver_type="bh1"),
        dict(disable_corrector=[0, 2]),
        dict(final_sigmas_type="sigma_min"),
        dict(num_train_timesteps=500),
        dict(shift_terminal=0.1),
    ],
    ids=str,
)
def test_an_option_of_unipc_differs(options):
    mine = ours.UniPCMultistepScheduler(flow_shift=3.0, **options)
    assert run(mine, theirs.UniPCMultistepScheduler(flow_shift=3.0, **UNIPC, **options), 9) < 5e-6


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_euler_differs(steps, shift):
    mine = ours.FlowMatchEulerDiscreteScheduler(shift=shift)
    assert run(mine, theirs.FlowMatchEulerDiscreteScheduler(shift=shift), steps) < 1e-6


def test_dynamic_shifting_differs():
    for kind in ("exponential", "linear"):
        options = dict(use_dynamic_shifting=True, time_shift_type=kind)
        mine = ours.FlowMatchEulerDiscreteScheduler(**options)
        assert run(mine, theirs.FlowMatchEulerDiscreteScheduler(**options), 6, mu=1.2) < 1e-6
    with pytest.raises(ValueError, match="`mu` must be passed"):
        mine.set_timesteps(4)


def test_own_sigmas_differ():
    sigmas = [1.0, 0.7, 0.4, 0.1]
    for name, options in (("UniPCMultistepScheduler", UNIPC), ("FlowMatchEulerDiscreteScheduler", {})):
        mine, reference = getattr(ours, name)(**options), getattr(theirs, name)(**options)
        mine.set_timesteps(sigmas=sigmas)
        reference.set_timesteps(sigmas=np.array(sigmas))
        np.testing.assert_allclose(mine.sigmas, reference.sigmas.numpy(), rtol=0, atol=1e-7)
        assert np.array_equal(mine.timesteps.astype(np.int64), reference.timesteps.numpy().astype(np.int64))


def test_the_official_grid_is_not_wan_21s():
    scheduler = ours.UniPCMultistepScheduler(flow_shift=5.0, sigma_grid="official")
    scheduler.set_timesteps(50)
    assert scheduler.timesteps[:5].tolist() == [999, 995, 991, 987, 982]
    assert scheduler.timesteps[-3:].tolist() == [241, 172, 92]
    scheduler = ours.UniPCMultistepScheduler(flow_shift=5.0)
    scheduler.set_timesteps(50)
    assert scheduler.timesteps[-3:].tolist() == [244, 175, 96]


@pytest.mark.parametrize("name", list(ours.SCHEDULERS))
def test_adding_noise_differs(name):
    rng = np.random.default_rng(1)
    mine = ours.SCHEDULERS[name]()
    reference = getattr(theirs, name)(**(UNIPC if "UniPC" in name else {}))
    mine.set_timesteps(7)
    reference.set_timesteps(7)
    x, noise = rng.standard_normal((2, 2, 3, 3)).astype(np.float32)
    t = mine.timesteps[[2, 5]]
    method = "add_noise" if "UniPC" in name else "scale_noise"
    args = (noise, t) if "UniPC" in name else (t, noise)
    wanted = getattr(reference, method)(torch.from_numpy(x), *(torch.from_numpy(np.asarray(a)) for a in args))
    np.testing.assert_allclose(getattr(mine, method)(x, *args), wanted.numpy(), rtol=0, atol=1e-6)


def test_a_config_is_lost_on_the_way(tmp_path):
    reference = theirs.UniPCMultistepScheduler(flow_shift=7.0, **UNIPC)
    reference.save_pretrained(tmp_path)
    mine = ours.UniPCMultistepScheduler.from_pretrained(tmp_path)
    assert mine.config.flow_shift == mine.config["flow_shift"] == 7.0
    changed = ours.UniPCMultistepScheduler.from_config(mine.config, flow_shift=3.0)
    assert changed.config.flow_shift == 3.0 and mine.config.flow_shift == 7.0
    changed.save_pretrained(tmp_path / "new")
    config = json.loads((tmp_path / "new" / "scheduler_config.json").read_text())
    again = theirs.UniPCMultistepScheduler.from_config({k: v for k, v in config.items() if k != "sigma_grid"})
    assert again.config.flow_shift == 3.0
    with pytest.raises(TypeError):
        mine.config["flow_shift"] = 1
    with pytest.raises(TypeError):
        mine.config.flow_shift = 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: ours.UniPCMultistepScheduler(flow_shfit=3.0),
        lambda: ours.FlowMatchEulerDiscreteScheduler.from_config({}, flow_shift=3.0),
        lambda: ours.UniPCMultistepScheduler.from_config("scheduler"),
    ],
)
def test_a_misspelt_option_is_swallowed(make):
    with pytest.raises(TypeError, match="flow_sh|configuration"):
        make()


@pytest.mark.parametrize(
    "options",
    [dict(use_karras_sigmas=True), dict(prediction_type="epsilon"), dict(solver_order=4), dict(sigma_grid="x")],
    ids=str,
)
def test_an_option_that_cannot_take_effect_is_taken(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ours.UniPCMultistepScheduler(**options)


@pytest.mark.parametrize("steps", [0, -1, 2.5, None, True, "4"])
@pytest.mark.parametrize("name", list(ours.SCHEDULERS))
def test_a_wrong_number_of_steps_is_taken(name, steps):
    with pytest.raises(ValueError, match="num_inference_steps"):
        ours.SCHEDULERS[name]().set_timesteps(steps)


def test_steps_beyond_the_schedule_are_taken():
    scheduler = ours.UniPCMultistepScheduler()
    x = np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match="set_timesteps"):
        scheduler.step(x, 999, x)
    scheduler.set_timesteps(1)
    x = scheduler.step(x, scheduler.timesteps[0], x).prev_sample
    with pytest.raises(ValueError, match="All 1 steps"):
        scheduler.step(x, 0, x)
    euler = ours.FlowMatchEulerDiscreteScheduler()
    euler.set_timesteps(2)
    with pytest.raises(ValueError, match="integer indices"):
        euler.step(x, 0, x)


@pytest.mark.parametrize("steps", [0, -5, 10**9, 2.5, True, "1000", None])
@pytest.mark.parametrize("name", list(ours.SCHEDULERS))
def test_a_damaged_number_of_train_timesteps_is_taken(name, steps):
    with pytest.raises(ValueError, match="num_train_timesteps"):
        ours.SCHEDULERS[name](num_train_timesteps=steps)

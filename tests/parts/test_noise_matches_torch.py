"""Seeds must give the noise that users of diffusers know."""

import numpy as np
import pytest

from wanoffload.noise import TorchGenerator, randn

torch = pytest.importorskip("torch")

SHAPES = [
    (1,),
    (2,),
    (7,),
    (15,),
    (16,),
    (17,),
    (31,),
    (32,),
    (33,),
    (100,),
    (1, 16, 3, 5, 7),
    (1, 16, 2, 12, 12),
    (3, 4001),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", [0, 51, 2**32 + 5, 2**63 + 1])
def test_a_seed_gives_another_film_than_in_diffusers(shape, seed):
    wanted = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)).numpy()
    np.testing.assert_allclose(randn(shape, seed), wanted, rtol=0, atol=1e-6)


def test_the_stream_goes_astray_over_several_draws():
    ours, theirs = TorchGenerator(3), torch.Generator("cpu").manual_seed(3)
    for count in (5, 3, 16, 1, 40, 2, 17):
        wanted = torch.randn(count, generator=theirs).numpy()
        np.testing.assert_allclose(ours.randn((count,)), wanted, rtol=0, atol=1e-6)


def test_a_list_of_seeds_is_not_one_per_video():
    from diffusers.utils.torch_utils import randn_tensor

    wanted = randn_tensor((3, 2, 5, 5), [torch.Generator("cpu").manual_seed(n) for n in (4, 5, 4)]).numpy()
    got = randn((3, 2, 5, 5), [4, 5, 4])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)
    assert np.array_equal(got[0], got[2])
    assert np.array_equal(randn((2, 30), [9]), randn((2, 30), 9))


def test_other_generators_are_not_drawn_from():
    wanted = torch.randn((2, 9), generator=torch.Generator("cpu").manual_seed(1)).numpy()
    assert np.array_equal(randn((2, 9), torch.Generator("cpu").manual_seed(1)), wanted)
    wanted = np.random.default_rng(1).standard_normal((2, 9), dtype=np.float32)
    assert np.array_equal(randn((2, 9), np.random.default_rng(1)), wanted)
    assert not np.array_equal(randn((2, 9)), randn((2, 9)))


@pytest.mark.parametrize("generator", ["7", 1.5, True, object()])
def test_a_wrong_generator_is_taken(generator):
    with pytest.raises(TypeError, match="generator"):
        randn((2, 2), generator)


def test_a_list_of_another_length_is_taken():
    with pytest.raises(ValueError, match="length 2"):
        randn((3, 2), [1, 2])
    with pytest.raises(ValueError, match="64 bits"):
        randn((3, 2), 2**64)

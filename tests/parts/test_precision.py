"""The switch for TF32 under torch's name. What it does to a product is seen in tests/cuda/vendor/test_cublaslt.c."""

import pytest

import wanoffload


def test_a_precision_is_set_that_torch_knows_and_this_does_not() -> None:
    assert wanoffload.get_float32_matmul_precision() == "highest"
    for precision in ("high", "highest"):
        wanoffload.set_float32_matmul_precision(precision)
        assert wanoffload.get_float32_matmul_precision() == precision
    with pytest.raises(ValueError, match="'medium'"):
        wanoffload.set_float32_matmul_precision("medium")
    assert wanoffload.get_float32_matmul_precision() == "highest"

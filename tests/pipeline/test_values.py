"""dtypes, devices, sizes, arrays and outputs: what users may give, and what they get told."""

import numpy as np
import pytest
import torch

from wanoffload import arrays, devices, dtypes, sizes
from wanoffload.errors import DeviceError
from wanoffload.outputs import DecoderOutput


@pytest.mark.parametrize("given", ["bfloat16", "bf16", "torch.bfloat16", torch.bfloat16, dtypes.DType("bfloat16")])
def test_bfloat16_is_recognised_however_it_is_given(given: object) -> None:
    assert dtypes.as_dtype(given) == "bfloat16"


def test_a_dtype_equals_its_string_numpy_and_torch_forms_and_no_other() -> None:
    dtype = dtypes.as_dtype(np.float32)
    assert dtype == "float32" and "float32" == dtype
    assert dtype == torch.float32 and torch.float32 == dtype
    assert dtype == np.float32 and dtype == np.dtype("float32")
    assert dtype != torch.float16 and dtype != "bfloat16" and dtype != 4 and dtype is not None
    assert {"float32": "found"}[dtype] == "found"


@pytest.mark.parametrize("given", ["int8", np.int32, torch.float64, "float8_e4m3fn"])
def test_an_unsupported_dtype_is_refused_with_the_supported_ones(given: object) -> None:
    with pytest.raises(ValueError, match="float32, bfloat16, float16"):
        dtypes.as_dtype(given)


def test_what_is_no_dtype_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="A dtype is a string"):
        dtypes.as_dtype(32)


def test_a_device_equals_its_string_and_torch_forms() -> None:
    device = devices.as_device("cpu")
    assert device == "cpu" and device == torch.device("cpu") and torch.device("cpu") == device
    assert device != "cuda" and device != torch.device("cuda") and device.type == "cpu"
    assert str(devices.as_device(torch.device("cpu"))) == "cpu"


@pytest.mark.parametrize("given", ["cuda", "cuda:1", torch.device("cuda"), "toaster", "cpu:3", "c p u"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(given: object) -> None:
    with pytest.raises(DeviceError, match="cpu"):
        devices.as_device(given)


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("8GiB", 8 << 30),
        ("500MB", 500_000_000),
        ("1.5 g", 1_500_000_000),
        ("7", 7),
        (12, 12),
        (np.int64(3), 3),
        (None, None),
    ],
)
def test_sizes_are_read(given: object, count: object) -> None:
    assert sizes.parse_size(given) == count


@pytest.mark.parametrize("given", ["", "GiB", "8 XiB", "-3GiB", "8GiB8"])
def test_a_string_that_is_no_size_is_a_value_error_that_names_the_argument(given: str) -> None:
    with pytest.raises(ValueError, match="`vram`"):
        sizes.parse_size(given, "vram")


def test_numbers_that_are_no_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        sizes.parse_size(-1)
    for value in (1.5, True, [1]):
        with pytest.raises(TypeError):
            sizes.parse_size(value)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1536, "1.50 KiB"), (15 << 20, "15.0 MiB"), (3 << 40, "3.00 TiB"), (None, "-")],
)
def test_sizes_are_written_with_three_figures(count: int, text: str) -> None:
    assert sizes.format_size(count) == text


def test_real_rows_counts_up_to_the_last_row_that_is_not_zero() -> None:
    embeds = np.zeros((5, 3), np.float32)
    assert arrays.real_rows(embeds) == 0
    embeds[0] = 1
    embeds[3, 2] = -1
    assert arrays.real_rows(embeds) == 4


def test_arrays_are_checked_by_name_shape_and_dtype() -> None:
    good = arrays.to_float32(torch.ones(2, 3, dtype=torch.bfloat16), "x", (None, 3), "batch, width")
    assert good.dtype == np.float32 and good.flags.c_contiguous
    with pytest.raises(ValueError, match=r"`x` has to be of shape \[batch, width=4\] but is of shape \[2, 3\]"):
        arrays.to_float32(np.ones((2, 3), np.float32), "x", (None, 4), "batch, width")
    for wrong in (
        np.ones((2, 3), np.int32),
        np.ones((2, 3), complex),
        torch.ones(2, 3, dtype=torch.complex64),
        "x",
        {},
    ):
        with pytest.raises(TypeError, match="`x`"):
            arrays.to_float32(wrong, "x", (None, 3), "batch, width")


def test_an_output_is_read_by_attribute_name_and_position() -> None:
    out = DecoderOutput("pixels")
    assert out.sample == out["sample"] == out[0] == out.to_tuple()[0] == "pixels"
    assert list(out) == ["sample"]
    with pytest.raises(KeyError):
        out["frames"]

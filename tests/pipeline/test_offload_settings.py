"""diffusers' offload arguments: each one honoured, guaranteed anyway, or refused with the reason."""

import inspect
import logging

import diffusers.hooks
import pytest
import torch

from wanoffload import hooks, messages, offload
from wanoffload.errors import DeviceError
from wanoffload.models import AutoencoderKLWan, WanTransformer3DModel
from wanoffload.pipelines import WanPipeline


def settings(**arguments: object) -> offload.OffloadSettings:
    defaults: dict[str, object] = {"onload_device": "cpu", "offload_type": "leaf_level", "known_modules": ("blocks",)}
    return offload.group_offload_settings(**{**defaults, **arguments})


def parameters(function: object) -> dict[str, object]:
    """Names and defaults, with torch.device("cpu") as "cpu"."""
    found = inspect.signature(function).parameters
    return {name: "cpu" if one.default == torch.device("cpu") else one.default for name, one in found.items()}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (WanPipeline.enable_group_offload, diffusers.WanPipeline.enable_group_offload),
        (WanTransformer3DModel.enable_group_offload, diffusers.WanTransformer3DModel.enable_group_offload),
        (hooks.apply_group_offloading, diffusers.hooks.apply_group_offloading),
        (WanPipeline.enable_model_cpu_offload, diffusers.WanPipeline.enable_model_cpu_offload),
        (WanPipeline.enable_sequential_cpu_offload, diffusers.WanPipeline.enable_sequential_cpu_offload),
        (AutoencoderKLWan.enable_tiling, diffusers.AutoencoderKLWan.enable_tiling),
    ],
    ids=lambda function: function.__qualname__,
)
def test_offload_functions_have_the_arguments_and_defaults_of_diffusers(ours: object, theirs: object) -> None:
    assert parameters(ours) == parameters(theirs)


def test_block_level_without_a_number_is_the_error_of_diffusers() -> None:
    with pytest.raises(
        ValueError, match="`num_blocks_per_group` must be provided when using `offload_type='block_level'"
    ):
        settings(offload_type="block_level")


def test_more_blocks_than_one_are_honoured_with_streams() -> None:
    found = settings(offload_type="block_level", num_blocks_per_group=3, use_stream=True)
    assert found.policy() == {"level": "block", "blocks_per_group": 3, "tier": "host", "use_stream": True}


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_blocks_than_one_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        settings(offload_type="block_level", num_blocks_per_group=count)


@pytest.mark.parametrize("count", [1.5, "2", True])
def test_a_number_of_blocks_that_is_no_int_is_refused(count: object) -> None:
    with pytest.raises(TypeError, match="num_blocks_per_group"):
        settings(offload_type="block_level", num_blocks_per_group=count)


def test_a_number_of_blocks_at_leaf_level_is_an_error_that_says_why() -> None:
    with pytest.raises(ValueError, match="cannot take effect with `offload_type='leaf_level'`"):
        settings(num_blocks_per_group=2)


def test_record_stream_without_a_stream_is_the_error_of_diffusers() -> None:
    with pytest.raises(ValueError, match="`record_stream` cannot be True when `use_stream=False`"):
        settings(record_stream=True)


def test_what_always_holds_is_accepted_and_changes_nothing() -> None:
    plain = settings(use_stream=True)
    assert plain == settings(
        use_stream=True,
        non_blocking=True,
        record_stream=True,
        low_cpu_mem_usage=True,
        block_modules=["blocks"],
        exclude_kwargs=["feat_cache"],
    )


@pytest.mark.parametrize("name", ["non_blocking", "use_stream", "record_stream", "low_cpu_mem_usage"])
def test_a_flag_that_is_no_bool_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        settings(**{name: "yes"})


def test_unknown_levels_devices_and_modules_are_named_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="'block_level', 'leaf_level'"):
        settings(offload_type="tensor_level")
    with pytest.raises(ValueError, match="'cpu' .*'disk'"):
        settings(offload_device="cuda")
    with pytest.raises(ValueError, match="Blocks are found in: blocks"):
        settings(block_modules=["layers"])
    with pytest.raises(DeviceError, match="cuda"):
        settings(onload_device=torch.device("cuda"))


def test_offload_device_chooses_the_tier() -> None:
    assert settings(offload_device=torch.device("cpu")).tier == "host"
    assert settings(offload_device="disk").tier == "disk"


def test_a_disk_path_means_the_disk_tier_and_is_spoken_of_once(
    caplog: pytest.LogCaptureFixture, tmp_path: object
) -> None:
    messages._said.clear()
    with caplog.at_level(logging.WARNING, "wanoffload"):
        found = [settings(offload_to_disk_path=str(tmp_path)) for _ in range(3)]
    assert [one.tier for one in found] == ["disk"] * 3
    assert [record.message for record in caplog.records if "nothing is written there" in record.message].__len__() == 1


def test_model_and_sequential_offload_refuse_a_number_where_there_is_no_accelerator() -> None:
    with pytest.raises(ValueError, match="`gpu_id`=0 cannot take effect"):
        offload.offload_target(0, None)
    with pytest.raises(DeviceError):
        offload.offload_target(None, "cuda")


def test_apply_group_offloading_refuses_what_is_no_component() -> None:
    with pytest.raises(TypeError, match="Linear"):
        hooks.apply_group_offloading(torch.nn.Linear(2, 2), onload_device="cpu")


def test_settings_say_what_they_are() -> None:
    assert offload.RESIDENT.describe() == "resident"
    assert settings(use_stream=True).describe() == "leaf level, host, stream"
    assert offload.auto_offload_settings("8GiB").describe() == "auto (vram 8.00 GiB)"
    assert offload.model_offload_settings().describe() == "whole model, host"

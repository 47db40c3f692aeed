"""Group offloading of one component, under the name that diffusers gives it."""

from __future__ import annotations

from typing import Any


def apply_group_offloading(
    module: Any,
    onload_device: Any,
    offload_device: Any = "cpu",
    offload_type: str = "block_level",
    num_blocks_per_group: int | None = None,
    non_blocking: bool = False,
    use_stream: bool = False,
    record_stream: bool = False,
    low_cpu_mem_usage: bool = False,
    offload_to_disk_path: str | None = None,
    block_modules: list[str] | None = None,
    exclude_kwargs: list[str] | None = None,
) -> None:
    """Streams a component's weights in groups; the same as ``module.enable_group_offload(...)``.

    Args:
        module: A component of this package: a transformer, a VAE or a text encoder.
        onload_device: The device that computes from now on, ``"cuda"`` or ``"cpu"``.
        offload_device: Where weights rest: ``"cpu"`` for host memory, ``"disk"`` for the checkpoint's own files.
        offload_type: ``"block_level"`` or ``"leaf_level"``.
        num_blocks_per_group: Blocks that travel together; required at block level.
        non_blocking: Accepted; copies never block the host.
        use_stream: Copy on a stream of its own, beside the computation.
        record_stream: Accepted with ``use_stream``; slots are always let go by events.
        low_cpu_mem_usage: Accepted; host memory always holds one exact-size copy.
        offload_to_disk_path: Means ``offload_device="disk"``; nothing is written there.
        block_modules: Names of children whose blocks are blocks; they all are.
        exclude_kwargs: Accepted; arguments are never moved.

    Raises:
        TypeError: ``module`` is no component of this package.
    """
    if not hasattr(module, "enable_group_offload"):
        raise TypeError(
            f"apply_group_offloading takes a component such as `pipe.transformer`, but got a {type(module).__name__}."
        )
    module.enable_group_offload(
        onload_device=onload_device,
        offload_device=offload_device,
        offload_type=offload_type,
        num_blocks_per_group=num_blocks_per_group,
        non_blocking=non_blocking,
        use_stream=use_stream,
        record_stream=record_stream,
        low_cpu_mem_usage=low_cpu_mem_usage,
        offload_to_disk_path=offload_to_disk_path,
        block_modules=block_modules,
        exclude_kwargs=exclude_kwargs,
    )

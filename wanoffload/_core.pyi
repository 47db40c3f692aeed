"""The C core. Arrays handed in are read while the call lasts; arrays handed out are new. Long calls release the GIL,
run on a core thread, and raise KeyboardInterrupt soon after Ctrl-C. Errors are the classes of wanoffload.errors."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

class Store:
    """An opened checkpoint: a .safetensors file, an index.json, or a folder that holds one of them."""

    def __init__(self, path: str | os.PathLike[str]) -> None: ...
    def entries(self) -> list[dict[str, Any]]:
        """One dict per tensor: name, dtype, shape, file (its path), offset, bytes, skipped (None or why)."""
    @property
    def files(self) -> list[str]:
        """Paths of the files."""
    @property
    def bytes(self) -> int:
        """Size of all files together."""

class Component:
    """A network bound to a checkpoint. Base of those below."""

    @property
    def name(self) -> str:
        """What plans and reports call it."""
    @property
    def dtype(self) -> str:
        """Dtype of use."""
    @property
    def bytes(self) -> int:
        """Weight bytes in the dtype of use, embedding tables left out."""
    def layers(self) -> list[dict[str, Any]]:
        """One dict per layer in execution order: name, block (name or None), bytes, params (names), read_by_row."""
    def blocks(self) -> list[str]:
        """Names of the blocks in execution order."""
    def unused(self) -> list[tuple[str, str]]:
        """(tensor, reason) for every tensor of the checkpoint that is never read."""

class TextEncoder(Component):
    """A UMT5 encoder. dtype: float32, bfloat16 or float16.

    config: vocab_size d_model d_kv d_ff num_layers num_heads relative_attention_num_buckets
    relative_attention_max_distance layer_norm_epsilon."""

    def __init__(self, store: Store, config: Mapping[str, Any], dtype: str) -> None: ...
    def plan(self, engine: Engine, tokens: Sequence[int], policy: Mapping[str, Any]) -> Plan:
        """tokens: real tokens of each prompt."""

class ImageEncoder(Component):
    """A CLIP vision encoder up to its last block but one. dtype: float32, bfloat16 or float16.

    config: CLIP's vision config (hidden_size intermediate_size num_hidden_layers num_attention_heads image_size
    patch_size num_channels layer_norm_eps hidden_act)."""

    def __init__(self, store: Store, config: Mapping[str, Any], dtype: str) -> None: ...
    def plan(self, engine: Engine, images: int, policy: Mapping[str, Any]) -> Plan:
        """images: how many are encoded at once."""
    @property
    def tokens(self) -> int:
        """Rows of an embedding: one per patch, and the class."""

class Transformer(Component):
    """A WAN transformer. dtype: float32, bfloat16 or float16.

    config: diffusers' WanTransformer3DModel config (num_layers num_attention_heads attention_head_dim ffn_dim
    in_channels out_channels text_dim freq_dim eps cross_attn_norm; optional: image_dim with added_kv_proj_dim, and
    pos_embed_seq_len)."""

    def __init__(self, store: Store, config: Mapping[str, Any], dtype: str) -> None: ...
    def plan(
        self,
        engine: Engine,
        frames: int,
        height: int,
        width: int,
        text: Sequence[tuple[int, int]],
        policy: Mapping[str, Any],
        unfolded: bool = False,
        images: tuple[int, Sequence[int]] | None = None,
        second: Transformer | None = None,
    ) -> Plan:
        """frames, height, width of the latents; text: (rows, real) of each batch item; images: rows of an image
        embedding, and the index of the embedding that each batch item attends to. second: another Transformer of the
        same shape that takes turns with this one in one Exec, sharing ring and arena."""

class VaeDecoder(Component):
    """A WAN VAE's decoder. dtype: float32, bfloat16 or float16.

    config: diffusers' AutoencoderKLWan config (base_dim z_dim dim_mult num_res_blocks temperal_downsample; optional:
    decoder_base_dim, else base_dim; out_channels, else 3)."""

    def __init__(self, store: Store, config: Mapping[str, Any], dtype: str) -> None: ...
    def plan(self, engine: Engine, height: int, width: int, policy: Mapping[str, Any]) -> Plan:
        """height, width of the latents."""
    @property
    def frames_per_latent(self) -> int:
        """Frames that each latent frame but the first stands for."""
    @property
    def spatial_scale(self) -> int:
        """Pixels per latent along height and width."""

class VaeEncoder(Component):
    """A WAN VAE's encoder. dtype: float32, bfloat16 or float16.

    config: diffusers' AutoencoderKLWan config (base_dim z_dim dim_mult num_res_blocks temperal_downsample; optional:
    in_channels, else 3)."""

    def __init__(self, store: Store, config: Mapping[str, Any], dtype: str) -> None: ...
    def plan(self, engine: Engine, height: int, width: int, policy: Mapping[str, Any]) -> Plan:
        """height, width of the frames, multiples of spatial_scale."""
    @property
    def frames_per_latent(self) -> int:
        """Frames that each latent frame but the first stands for."""
    @property
    def spatial_scale(self) -> int:
        """Pixels per latent along height and width."""

class Plan:
    """What will happen, in bytes, before anything runs. Made by a component's plan().

    policy: level "resident" | "model" | "block" | "leaf" | "auto"; blocks_per_group int; tier "host" | "disk";
    use_stream bool; resident_fraction float; vram, ram int or None; vram_outside, ram_outside int; readers int;
    choose_knobs bool; row_chunk int; cache_text bool; state_on_host bool; items_apart bool; passes_apart bool. Missing
    keys take the default of wo_policy_default. Unknown keys: ValueError."""

    def summary(self) -> dict[str, Any]:
        """The fields of wo_plan_summary; policy and knobs flattened into policy_* and knobs_*; tier, level as words."""
    def groups(self) -> list[dict[str, Any]]:
        """name, first_layer, layers, bytes, tier ("device" = resident)."""
    def passes(self) -> list[dict[str, Any]]:
        """visits, streamed_bytes, activation_bytes, activation_live_bytes; work: what is computed, from the shapes: its
        operations, FLOP of products, attention and convolutions, each as (float32, 16 bits), and other_bytes that all
        other operations read and write."""
    def visits(self, index: int) -> list[int]:
        """The groups that pass `index` acquires, in order."""

class Engine:
    """Streams, readers, the work arena, residents and slabs. One call at a time: a second one raises BusyError.

    What it holds of a component goes when the component is dropped or collected."""

    def __init__(self, device: str = "cpu") -> None: ...
    @property
    def device(self) -> str:
        """Name of the device."""
    @property
    def host_addressable(self) -> bool:
        """Whether the device's memory is host memory, and counts as such."""
    @property
    def planning_only(self) -> bool:
        """Whether it can be planned for and not be run."""
    def reserve(self, bytes: int) -> None:
        """Grows the work arena to at least so many bytes. An open Exec uses it: ValueError."""
    def release_arena(self) -> None:
        """Frees the work arena. An open Exec uses it: ValueError."""
    def drop(self, component: Component | None = None) -> None:
        """Forgets the residents and host slabs of a component, or of all. An open Exec of it: ValueError."""
    def drop_residents(self, component: Component | None = None) -> None:
        """Forgets the residents of a component, or of all. An open Exec of it: ValueError."""
    def held(self) -> dict[str, int]:
        """Bytes now held: resident_bytes, slab_bytes, arena_bytes, other_host_bytes."""
    def record_trace(self, spans: int) -> None:
        """Plans made from now on have room for a trace of so many spans (a group visited or read), counted in their
        fixed_bytes, and an Exec under such a plan records it. 0: none."""
    def cancel(self) -> None:
        """Stops the call that is running, which then raises KeyboardInterrupt. Any thread."""

class Exec:
    """A component in execution under a plan. Use as a context manager, or close()."""

    def __init__(self, engine: Engine, component: Component, plan: Plan) -> None: ...
    def encode(self, ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """TextEncoder: real token ids of each prompt -> [tokens, d_model] each."""
    def encode_images(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """ImageEncoder: patches [images, tokens - 1, channels * patch_size**2], columns in the order of the weight ->
        hidden states before the last block [images, tokens, hidden_size]."""
    def encode_frames(self, frames: NDArray[np.float32], first: bool, follow: bool = False) -> NDArray[np.float32]:
        """VaeEncoder: frames [T, H, W, in_channels] in [-1, 1], T = 1 for the first and frames_per_latent later ->
        moments [2 * z, h, w]: mean, then log of the variance. follow: other frames come next."""
    def prepare(
        self,
        text: Sequence[tuple[int, NDArray[np.float32]]],
        frames: int,
        height: int,
        width: int,
        unfolded: bool = False,
        follow: bool = True,
        images: NDArray[np.float32] | None = None,
        image_of: Sequence[int] | None = None,
    ) -> None:
        """Transformer: (rows, embeds [real, text_dim]) of each batch item; starts a generation. Call again when texts
        or images change; their sizes are the plan's. follow: a step comes next (its first weights are prefetched).
        images: embeddings [count, rows, image_dim]; image_of: the index of each batch item's, as planned. Of two
        experts both are prepared."""
    def step(
        self,
        latents: NDArray[np.float32],
        timesteps: NDArray[np.float32],
        follow: bool = False,
        expert: int = 0,
        next_expert: int | None = None,
    ) -> NDArray[np.float32]:
        """Transformer: latents [B, C, F, h, w], timesteps [B] -> velocity [B, C_out, F, h, w]. follow: another step
        comes next. expert: whose step it is, 1 being the plan's second; next_expert: whose comes next, where that is
        another's."""
    def decode(
        self, latent: NDArray[np.float32], first: bool, follow: bool = False, clamp: bool = True
    ) -> NDArray[np.float32]:
        """VaeDecoder: latent [z, h, w] -> frames [T, H, W, out_channels] in [-1, 1]. clamp=False leaves values outside
        as they are (tiles are blended before they are clamped). follow: another frame comes next."""
    def close(self) -> dict[str, Any]:
        """Gives memory back; returns the fields of wo_report. Further calls return the same numbers."""
    def trace(self) -> dict[str, Any] | None:
        """Of a closed Exec whose plan was made while its engine records: "events", dicts of lane ("read", "copy",
        "compute", "stall"), group (its name or None), expert, pass (from 1; 0 is loading), thread, bytes, begin, end
        (seconds, as time.monotonic() counts them) and held (of "copy": when the group had a place in the ring); and
        "dropped", how many there was no room for. Else None."""
    def __enter__(self) -> Exec: ...
    def __exit__(self, *args: object) -> None: ...

def set_num_threads(threads: int) -> None:
    """Sets the compute threads of the process."""

def get_num_threads() -> int:
    """Compute threads of the process."""

def default_num_threads() -> tuple[int, str]:
    """The default and why."""

def cpu_features() -> list[dict[str, Any]]:
    """One dict per instruction set, plain to best: name, built, supported, chosen."""

def describe_device(name: str = "cpu") -> str:
    """Lines for `wanoffload doctor`: what was chosen and why; for "cuda" what is there, what is missing and what mends
    it, which never fails."""

def device_memory(name: str = "cpu") -> tuple[int, int]:
    """(free, total) bytes; cpu respects the cgroup limit."""

def host_memory() -> dict[str, int]:
    """Counted host memory of the core: current, peak; and what of it is pinned for cards now: pinned."""

def cuda_count() -> int:
    """Cards that the driver shows; 0 without a driver."""

def cuda_cards() -> list[str]:
    """Names of the cards that can be planned for without being there: "rtx4090" of "cuda:rtx4090"."""

def card_properties(name: str) -> dict[str, Any]:
    """Of a cuda device, which need not be opened for it: name, sm (compute capability times 10), multiprocessors,
    shared_bytes, memory_bytes, l2_bytes, clock_mhz; tabled rates, 0 where unknown: bf16_tflops, f32_tflops,
    memory_gbs, link_gbs; planning_only. DeviceError where it is not there."""

def set_library_folders(folders: Sequence[str]) -> None:
    """Folders in which cuBLASLt, cuDNN and NVRTC may lie, searched before the system's; for devices opened from now
    on."""

def allow_tf32(allow: bool, /) -> None:
    """Whether cuBLASLt may multiply float32 matrices as TF32, on all cards from the next plan on."""

def allows_tf32() -> bool:
    """Whether it may."""

class _testing:
    """Switches for the test suite; static methods only."""

    @staticmethod
    def force_isa(name: str | None) -> None:
        """Forces an instruction set for the process; None returns to the best."""
    @staticmethod
    def edges() -> list[tuple[str, str]]:
        """(name, meaning) of each synchronisation edge of the streamer."""
    @staticmethod
    def configure(engine: Engine, **fields: Any) -> None:
        """cut_edges, delay_edges (lists of names), delay_seconds, poison, chaos_seed, chaos_delay, fail_copy_at.
        What is not given is off."""
    @staticmethod
    def fail_allocation(n: int) -> None:
        """The n-th counted allocation from now fails, once; 0 switches off."""
    @staticmethod
    def fail_read(n: int) -> None:
        """The n-th read from now fails with EIO, once; 0 switches off."""
    @staticmethod
    def delay_reads(seconds: float) -> None:
        """Every read first sleeps so long."""
    @staticmethod
    def reset_peak() -> None:
        """Begins a new host_memory()["peak"]."""
    @staticmethod
    def probe_peak(kind: str) -> float:
        """FLOP/s that all compute threads reach between registers, "float32" or "bfloat16"."""
    @staticmethod
    def own_kernels_only(only: bool) -> None:
        """Cuda devices opened from now on do without cuBLASLt and cuDNN, even if they are there."""
    @staticmethod
    def run_op(engine: Engine, op: str, arguments: Mapping[str, Any], repeats: int = 0) -> tuple[dict[str, Any], float]:
        """One operation on the engine's device: ({name: result as float32}, seconds of a call, the mean of repeats
        behind a first one). arguments: by the names of its fields, tensors as (array of one axis, dtype, shape), where
        the array is repeated until the tensor is full and None for results; a convolution's frames are one tensor
        [frames, height, width, channels], of which the first null_frames are frames of zeros that are not there. An
        input given as the name of a result is that tensor itself ({"residual": "y"}), which then begins with an
        array of its own."""
    @staticmethod
    def tiles_after_cancel(engine: Engine) -> int:
        """Tiles that threads began after the last cancel."""

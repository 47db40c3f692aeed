"""The WAN VAE: frames to latents and latents to frames, one latent frame after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wanoffload.arrays import like, to_float32
from wanoffload.configuration import FrozenDict
from wanoffload.dtypes import DType
from wanoffload.errors import CheckpointError
from wanoffload.loading import check_counts
from wanoffload.models.chunks import VideoChunks
from wanoffload.models.component import Component
from wanoffload.models.distribution import DiagonalGaussianDistribution
from wanoffload.models.tiling import Tile, TileGrid, blend_tiles
from wanoffload.outputs import AutoencoderKLOutput, DecoderOutput
from wanoffload.report import ComponentReport

_LATENTS_MEAN = (
    (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508)
    + (0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)
)  # fmt: skip
_LATENTS_STD = (
    (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743)
    + (3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)
)  # fmt: skip


_PIXEL_AXES = "batch, channels, frames, height, width"
ENCODER = "vae encoder"
"""What plans and reports call the half that encodes."""


class AutoencoderKLWan(Component):
    """The VAE of WAN 2.1. Both halves stream frames: memory does not grow with their number.

    The encoder is opened when it is first used. Offload settings hold for each half by itself: encoding and decoding
    are calls of their own, with a plan and a report each.

    Attributes:
        use_tiling: Whether frames larger than a tile are worked on in overlapping tiles that are blended.
        use_slicing: Whether the items of a batch are worked on one after the other; they always are.
    """

    class_name = "AutoencoderKLWan"
    component_name = "vae"
    core_class = "VaeDecoder"
    blocks_in = ("quant_conv", "post_quant_conv", "encoder", "decoder")
    config_defaults = {
        "base_dim": 96,
        "decoder_base_dim": None,
        "z_dim": 16,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_scales": [],
        "temperal_downsample": [False, True, True],
        "dropout": 0.0,
        "latents_mean": list(_LATENTS_MEAN),
        "latents_std": list(_LATENTS_STD),
        "is_residual": False,
        "in_channels": 3,
        "out_channels": 3,
        "patch_size": None,
        "scale_factor_temporal": 4,
        "scale_factor_spatial": 8,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.use_tiling = False
        self.use_slicing = False
        self.tile_sample_min_height = self.tile_sample_min_width = 256
        self.tile_sample_stride_height = self.tile_sample_stride_width = 192
        self._encoder: Any = None

    @classmethod
    def check_config(cls, config: FrozenDict, file: Path) -> None:
        check_counts(config, file, ("z_dim", "in_channels", "out_channels"))
        check_counts(config, file, ("scale_factor_spatial", "scale_factor_temporal"))
        if config.is_residual or config.patch_size is not None or config.z_dim == 48:
            raise CheckpointError(
                f"{file} describes the VAE of WAN 2.2 (z_dim={config.z_dim}, is_residual={config.is_residual}, "
                f"patch_size={config.patch_size}); this version runs the VAE of WAN 2.1 only."
            )
        if config.attn_scales:
            raise CheckpointError(f"{file} sets attn_scales={config.attn_scales!r}; every WAN VAE has none.")
        for name in ("latents_mean", "latents_std"):
            values = config[name]
            if not isinstance(values, list) or not all(isinstance(value, (int, float)) for value in values):
                raise CheckpointError(f"{file}: {name} has to be a list of numbers but is {values!r}.")
            if len(values) != config.z_dim:
                raise CheckpointError(f"{file}: {name} has {len(values)} entries, but z_dim is {config.z_dim}.")
        if 0 in config.latents_std:
            raise CheckpointError(f"{file}: latents_std has a zero, but latents are divided by it.")

    def core_config(self) -> dict[str, Any]:
        decoder_dim = self.config.decoder_base_dim
        return {**self.config, "decoder_base_dim": self.config.base_dim if decoder_dim is None else decoder_dim}

    @property
    def encoder(self) -> Any:
        """The core's encoder, opened when this is first read.

        Raises:
            CheckpointError: The checkpoint has no encoder, or a damaged one.
        """
        if self._encoder is None:
            self._encoder = self._bind("VaeEncoder")
        return self._encoder

    @property
    def cores(self) -> tuple[Any, ...]:
        """The decoder, and the encoder if it is open."""
        return (self.core,) if self._encoder is None else (self.core, self._encoder)

    def _change_dtype(self, dtype: DType) -> None:
        super()._change_dtype(dtype)
        self._encoder = None

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels per latent, along height and along width."""
        return self.core.spatial_scale

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
    ) -> None:
        """Decodes and encodes frames larger than a tile in overlapping tiles, blended where they overlap, exactly as
        diffusers does it.

        Memory then depends on the tile, not on the frame, and the picture changes a little. The planner never does
        this by itself.

        Args:
            tile_sample_min_height: Height of a tile in pixels; 256 unless changed.
            tile_sample_min_width: Width of a tile.
            tile_sample_stride_height: Distance from one tile's top to the next; 192 unless changed.
            tile_sample_stride_width: Distance from one tile's left side to the next.
        """
        values = {
            "tile_sample_min_height": tile_sample_min_height,
            "tile_sample_min_width": tile_sample_min_width,
            "tile_sample_stride_height": tile_sample_stride_height,
            "tile_sample_stride_width": tile_sample_stride_width,
        }
        chosen = {name: value or getattr(self, name) for name, value in values.items()}
        for name, value in chosen.items():
            if isinstance(value, bool) or value <= 0 or value % self.spatial_compression_ratio:
                raise ValueError(
                    f"`{name}` has to be a multiple of {self.spatial_compression_ratio} pixels, or tiles do not line "
                    f"up, but is {value!r}."
                )
        for axis in ("height", "width"):
            if chosen[f"tile_sample_stride_{axis}"] > chosen[f"tile_sample_min_{axis}"]:
                raise ValueError(
                    f"`tile_sample_stride_{axis}`={chosen[f'tile_sample_stride_{axis}']} is more than "
                    f"`tile_sample_min_{axis}`={chosen[f'tile_sample_min_{axis}']}: tiles would leave gaps."
                )
        for name, value in chosen.items():
            setattr(self, name, int(value))
        self.use_tiling = True

    def disable_tiling(self) -> None:
        """Works on whole frames again."""
        self.use_tiling = False

    def enable_slicing(self) -> None:
        """Works on the items of a batch one after the other. This always holds."""
        self.use_slicing = True

    def disable_slicing(self) -> None:
        """Undoes `enable_slicing`; items are still worked on one after the other, with the same result."""
        self.use_slicing = False

    def __call__(
        self, sample: Any, sample_posterior: bool = False, return_dict: bool = True, generator: Any = None
    ) -> DecoderOutput | tuple:
        """Encodes videos and decodes them again.

        Args:
            sample: Videos, as `encode` takes them.
            sample_posterior: Whether to decode a sample of the latents, rather than the most likely ones.
            return_dict: Whether to return an output object or a tuple.
            generator: Where the sample's noise comes from.

        Returns:
            As `decode`; of frames that `encode` drops there are none.
        """
        posterior = self.encode(sample).latent_dist
        return self.decode(posterior.sample(generator) if sample_posterior else posterior.mode(), return_dict)

    def encode(self, x: Any, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """Encodes videos.

        Args:
            x: Videos [batch, 3, frames, height, width] in [-1, 1], height and width multiples of
                `spatial_compression_ratio`. Of 1 + 4k frames each group of four after the first becomes one latent
                frame; frames that are left over are dropped, as in diffusers.
            return_dict: Whether to return an output object or a tuple.

        Returns:
            ``latent_dist``, whose ``mode()`` and ``sample(generator)`` are latents [batch, z_dim, frames, height,
            width] as the VAE has them (not normalised).
        """
        video = to_float32(x, "x", (None, self.config.in_channels, None, None, None), _PIXEL_AXES)
        if 0 in video.shape:
            raise ValueError(f"`x` has an empty axis: its shape is {list(video.shape)}.")
        scale, size = self.spatial_compression_ratio, video.shape[3:]
        if size[0] % scale or size[1] % scale:
            raise ValueError(
                f"`x` has frames of {size[0]}x{size[1]}; height and width have to be multiples of {scale}. Crop or "
                "resize them."
            )
        report = ComponentReport(ENCODER)
        count = self.latent_frames_of(video.shape[2])
        moments = np.empty(
            (len(video), 2 * self.config.z_dim, count, size[0] // scale, size[1] // scale), np.float32
        )
        with self.runtime.call(self.class_name) as engine:
            policy = self.policy_alone(engine, moments.nbytes, self.encoder)
            plan = self.plan_pixels(engine, *size, policy)
            for item, one in enumerate(video):
                chunks = VideoChunks(one, self.core.frames_per_latent)
                moments[item] = self.encode_chunks(engine, chunks, plan, report, policy)
            self.after_call(engine)
        self.report = report
        posterior = DiagonalGaussianDistribution(like(moments, x))
        return AutoencoderKLOutput(posterior) if return_dict else (posterior,)

    def latent_frames_of(self, frames: int) -> int:
        """How many latent frames so many frames encode to; what is left over is dropped."""
        return 1 + (frames - 1) // self.core.frames_per_latent

    def pixel_tiles(self, height: int, width: int) -> TileGrid | None:
        """The tiles that frames of this size are encoded in, or None where they are encoded whole."""
        tile = Tile(self.tile_sample_min_height, self.tile_sample_min_width)
        stride = Tile(self.tile_sample_stride_height, self.tile_sample_stride_width)
        if self.use_tiling and (width > tile.width or height > tile.height):
            return TileGrid(height, width, tile, stride, 1, self.spatial_compression_ratio)
        return None

    def plan_pixels(self, engine: Any, height: int, width: int, policy: dict[str, Any]) -> Any:
        """The core's plan for encoding frames of a size; with tiling, for the largest tile."""
        grid = self.pixel_tiles(height, width)
        if grid is not None:
            height, width = grid.largest()
        return self.encoder.plan(engine, height, width, policy)

    def encode_chunks(
        self, engine: Any, chunks: Sequence[np.ndarray], plan: Any, report: ComponentReport, policy: dict[str, Any]
    ) -> np.ndarray:
        """Encodes one video, chunk by chunk.

        Args:
            engine: The engine to run on.
            chunks: What becomes one latent frame each: float32 [T, H, W, 3] in [-1, 1], where T is 1 in the first and
                the core's ``frames_per_latent`` in the others. Each is asked for once; with tiling once per tile, and
                the first once more for its size. So they may be made when asked for.
            plan: From `plan_pixels`.
            report: What happens is added to it.
            policy: The policy the plan was made with, for tiles of other sizes.

        Returns:
            float32 [2 * z_dim, latent frames, height, width]: means, and behind them logarithms of variances.
        """
        grid = self.pixel_tiles(*chunks[0].shape[1:3]) if self.use_tiling else None
        if grid is None:
            return self._encode_part(engine, chunks, slice(None), slice(None), plan, report)
        plans = {grid.largest(): plan}

        def encode(rows: slice, columns: slice) -> np.ndarray:
            size = (rows.stop - rows.start, columns.stop - columns.start)
            if size not in plans:
                plans[size] = self.encoder.plan(engine, *size, policy)
            part = self._encode_part(engine, chunks, rows, columns, plans[size], report)
            return np.ascontiguousarray(part.transpose(1, 2, 3, 0))

        moments = blend_tiles(grid, encode, len(chunks), 2 * self.config.z_dim)
        return np.ascontiguousarray(moments.transpose(3, 0, 1, 2))

    def _encode_part(
        self,
        engine: Any,
        chunks: Sequence[np.ndarray],
        rows: slice,
        columns: slice,
        plan: Any,
        report: ComponentReport,
    ) -> np.ndarray:
        """Encodes some rows and columns of every frame to [2 * z_dim, latent frames, height, width]."""
        with self.running(engine, plan, report, self.encoder) as execution:
            last = len(chunks) - 1
            moments = []
            for i in range(len(chunks)):
                frames = np.ascontiguousarray(chunks[i][:, rows, columns])
                moments.append(execution.encode_frames(frames, i == 0, follow=i < last))
        return np.stack(moments, axis=1)

    def decode(self, z: Any, return_dict: bool = True) -> DecoderOutput | tuple:
        """Decodes latents.

        Args:
            z: Latents as the VAE has them (denormalised), [batch, z_dim, frames, height, width].
            return_dict: Whether to return an output object or a tuple.

        Returns:
            ``sample``, float32 [batch, 3, frames, height, width] in [-1, 1].
        """
        latents = to_float32(z, "z", (None, self.config.z_dim, None, None, None), "batch, z_dim, frames, height, width")
        if 0 in latents.shape:
            raise ValueError(f"`z` has an empty axis: its shape is {list(latents.shape)}.")
        batch, _, _, height, width = latents.shape
        scale = self.spatial_compression_ratio
        video = np.empty(
            (batch, self.config.out_channels, self.frames_of(latents.shape[2]), height * scale, width * scale),
            np.float32,
        )
        report = ComponentReport(self.component_name)
        with self.runtime.call(self.class_name) as engine:
            policy = self.policy_alone(engine, video.nbytes)
            plan = self.plan_frames(engine, height, width, policy)
            for item, start, frames in self.stream(engine, latents, plan, report, policy):
                video[item, :, start : start + len(frames)] = frames.transpose(3, 0, 1, 2)
            self.after_call(engine)
        self.report = report
        result = like(video, z)
        return DecoderOutput(result) if return_dict else (result,)

    def frames_of(self, latent_frames: int) -> int:
        """How many frames so many latent frames decode to."""
        return 1 + (latent_frames - 1) * self.core.frames_per_latent

    def tiles(self, height: int, width: int) -> TileGrid | None:
        """The tiles that latents of this size are decoded in, or None where they are decoded whole."""
        scale = self.spatial_compression_ratio
        tile = Tile(self.tile_sample_min_height, self.tile_sample_min_width)
        stride = Tile(self.tile_sample_stride_height, self.tile_sample_stride_width)
        if self.use_tiling and (width > tile.width // scale or height > tile.height // scale):
            return TileGrid(height, width, tile, stride, scale)
        return None

    def plan_frames(self, engine: Any, height: int, width: int, policy: dict[str, Any]) -> Any:
        """The core's plan for latents of a size; with tiling, for the largest tile."""
        grid = self.tiles(height, width)
        if grid is not None:
            height, width = grid.largest()
        return self.core.plan(engine, height, width, policy)

    def stream(
        self, engine: Any, latents: np.ndarray, plan: Any, report: ComponentReport, policy: dict[str, Any]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Decodes latents [batch, z_dim, frames, height, width] frame by frame.

        Args:
            engine: The engine to run on.
            latents: Denormalised latents, float32.
            plan: From `plan_frames`.
            report: What happens is added to it.
            policy: The policy the plan was made with, for tiles of other sizes.

        Yields:
            (item, index of the first frame, frames [T, H, W, 3] in [-1, 1]), as they are ready. With tiling, an item's
            frames come all at once, since a tile holds every frame.
        """
        grid = self.tiles(*latents.shape[3:])
        if grid is not None:
            for item, one in enumerate(latents):
                yield item, 0, self._decode_tiled(engine, one, grid, plan, report, policy)
            return
        last = (len(latents) - 1, latents.shape[2] - 1)
        with self.running(engine, plan, report) as execution:
            for item, one in enumerate(latents):
                start = 0
                for index in range(one.shape[1]):
                    latent = np.ascontiguousarray(one[:, index])
                    frames = execution.decode(latent, index == 0, follow=(item, index) != last)
                    yield item, start, frames
                    start += len(frames)

    def _decode_tiled(
        self,
        engine: Any,
        latents: np.ndarray,
        grid: TileGrid,
        plan: Any,
        report: ComponentReport,
        policy: dict[str, Any],
    ) -> np.ndarray:
        """Decodes one item [z_dim, frames, height, width] tile by tile to [frames, H, W, 3] in [-1, 1]."""
        plans = {grid.largest(): plan}

        def decode(rows: slice, columns: slice) -> np.ndarray:
            part = latents[:, :, rows, columns]
            size = part.shape[2:]
            if size not in plans:
                plans[size] = self.core.plan(engine, *size, policy)
            with self.running(engine, plans[size], report) as execution:
                count = part.shape[1]
                chunks = [
                    execution.decode(np.ascontiguousarray(part[:, i]), i == 0, follow=i + 1 < count, clamp=False)
                    for i in range(count)
                ]
            return np.concatenate(chunks)

        frames = blend_tiles(grid, decode, self.frames_of(latents.shape[1]), self.config.out_channels)
        return np.clip(frames, -1.0, 1.0, out=frames)

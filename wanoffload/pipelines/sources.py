"""What a film is made from beside its texts: stills or a film, brought into the shapes that the networks take.

Image to video (Wan 2.1, image2video.py): a film of the still and grey frames is encoded; the transformer gets, in each
step, [noisy latents | mask | encoded film], where the mask says which of the 4 frames behind a latent are known:

    frames       0  1  2  3  4  5  6  7  8        a still at frame 0, perhaps another at the last
    mask[0..3]   1111  .  .  .  .  .  .  .  1     frame 0 counts four times, so that each latent has four entries

Video to video: the encoded film, with noise up to a strength, is where sampling starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wanoffload.pictures import Still
from wanoffload.pipelines.checks import check_frames
from wanoffload.pipelines.films import whole_chunks


@dataclass
class Layout:
    """Sizes of a call that its source has to fit.

    Attributes:
        batch: Videos to make.
        height, width, frames: Of each, in pixels.
        latent_frames: Latent frames of each.
        per_latent: Frames behind each latent frame but the first.
    """

    batch: int
    height: int
    width: int
    frames: int
    latent_frames: int
    per_latent: int


@dataclass
class Condition:
    """What the videos of a call are conditioned on.

    Attributes:
        source_of: For each video, the index of its source.
        chunks: For each source, its frames as the VAE's encoder takes them: one item per latent frame, float32
            [T, height, width, 3] in [-1, 1], made when asked for.
        mask: Which frames are known, float32 [frames per latent, latent frames]; None where the encoded frames are no
            input of the transformer but where sampling starts.
        pictures: For each source, the PIL images for the image encoder; empty where it does not run.
        rows: Rows of each source's image embedding; 0 where there are none.
        embeds: float32 [sources, rows, image_dim], once encoded or given.
        latents: float32 [sources, z_dim, latent frames, height, width], normalised, once encoded.
        held: Bytes of the stills or films themselves, which the call holds while it runs.
    """

    source_of: list[int]
    chunks: list[Sequence[np.ndarray]]
    mask: np.ndarray | None = None
    pictures: list[list[Any]] = field(default_factory=list)
    rows: int = 0
    embeds: np.ndarray | None = None
    latents: np.ndarray | None = None
    held: int = 0

    def channels(self) -> np.ndarray | None:
        """What the transformer gets beside the noisy latents, [sources, channels, frames, height, width]: the mask,
        then the encoded frames; None where it gets nothing."""
        if self.mask is None or self.latents is None:
            return None
        count, _, _, height, width = self.latents.shape
        mask = np.broadcast_to(self.mask[None, :, :, None, None], (count, *self.mask.shape, height, width))
        return np.concatenate([mask, self.latents], axis=1)

    def starts(self) -> np.ndarray:
        """The encoded frames of each video, [batch, z_dim, frames, height, width]."""
        return self.latents[self.source_of]


class StillChunks(Sequence):
    """A film of one or two stills and grey frames between, chunk by chunk; nothing of it is stored but the stills."""

    def __init__(self, first: Still, last: Still | None, layout: Layout) -> None:
        self._stills = (first, last)
        self._layout = layout

    def __len__(self) -> int:
        return self._layout.latent_frames

    def __getitem__(self, index: int) -> np.ndarray:
        layout = self._layout
        chunk = np.zeros((1 if index == 0 else layout.per_latent, layout.height, layout.width, 3), np.float32)
        first, last = self._stills
        if index == 0:
            chunk[0] = first.pixels(layout.height, layout.width)
        elif last is not None and index == len(self) - 1:
            chunk[-1] = last.pixels(layout.height, layout.width)
        return chunk


class FilmChunks(Sequence):
    """A film's frames, brought to size chunk by chunk."""

    def __init__(self, film: Sequence[Still], layout: Layout) -> None:
        self._film = film
        self._layout = layout

    def __len__(self) -> int:
        return self._layout.latent_frames

    def __getitem__(self, index: int) -> np.ndarray:
        layout = self._layout
        start = 0 if index == 0 else 1 + (index - 1) * layout.per_latent
        frames = self._film[start : 1 if index == 0 else start + layout.per_latent]
        return np.stack([frame.pixels(layout.height, layout.width) for frame in frames])


@dataclass
class StillSource:
    """The stills of image to video.

    Attributes:
        first: The first frame of each source.
        last: The last frame of each, or None.
        embeds: Image embeddings that were given, in any of the shapes that diffusers takes.
    """

    first: list[Still]
    last: list[Still] | None = None
    embeds: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.first)

    def frames(self, num_frames: int, factor: int) -> int:
        """The number of frames of the video, from what was asked for, checked."""
        frames = check_frames(num_frames, factor)
        if self.last is not None and frames < 2:
            raise ValueError(
                f"`last_image` needs a video of at least two frames, but `num_frames` is {frames}. Give 5 or more, "
                "or leave `last_image` out."
            )
        return frames

    def condition(self, pipe: Any, layout: Layout, source_of: list[int]) -> Condition:
        """What the stills become for a call of this layout."""
        lasts: Sequence[Still | None] = self.last or [None] * len(self.first)
        if self.last is not None and len(self.last) not in (1, len(self.first)):
            raise ValueError(
                f"`last_image` holds {len(self.last)} images, but `image` {len(self.first)}. Give one, or one for each."
            )
        lasts = [lasts[index % len(lasts)] for index in range(len(self.first))]
        mask = np.zeros((layout.per_latent, layout.latent_frames), np.float32)
        mask[:, 0] = 1
        if self.last is not None:
            mask[-1, -1] = 1
        chunks = [StillChunks(first, last, layout) for first, last in zip(self.first, lasts, strict=True)]
        condition = Condition(source_of, chunks, mask)
        condition.held = sum(still.nbytes for still in [*self.first, *(self.last or [])])
        self._add_embeddings(pipe, condition, lasts)
        return condition

    def _add_embeddings(self, pipe: Any, condition: Condition, lasts: Sequence[Still | None]) -> None:
        """Image embeddings, for models that take them: given, or pictures to encode."""
        config = pipe.main_transformer.config
        if config.image_dim is None:
            if self.embeds is not None:
                raise ValueError(
                    "`image_embeds` cannot take effect: this model takes no image embeddings (its transformer has no "
                    "image_dim, as in WAN 2.2). Leave it out."
                )
            return
        table = config.pos_embed_seq_len
        if table is None and self.last is not None:
            raise ValueError(
                "`last_image` cannot take effect: this checkpoint is image to video from the first frame only (its "
                "transformer has no pos_embed_seq_len). Leave it out, or load a first-and-last-frame one (FLF2V)."
            )
        if table is not None and self.last is None:
            raise ValueError(
                "This checkpoint makes films between a first and a last frame (its transformer has pos_embed_seq_len="
                f"{table}). Give `last_image` as well."
            )
        if self.embeds is not None:
            condition.embeds = self._given(config, table, condition)
            condition.rows = condition.embeds.shape[1]
            return
        encoder = pipe.image_encoder
        if encoder is None or pipe.image_processor is None:
            missing = "image_encoder" if encoder is None else "image_processor"
            raise ValueError(
                f"This pipeline has no {missing}, but its transformer takes image embeddings. Load it with one, or "
                "pass `image_embeds`."
            )
        images = 1 if self.last is None else 2
        condition.rows = images * encoder.core.tokens
        if encoder.config.hidden_size != config.image_dim or table not in (None, condition.rows):
            raise ValueError(
                f"The image_encoder gives {condition.rows} embeddings of width {encoder.config.hidden_size}, but the "
                f"transformer takes {table or 'any number'} of width {config.image_dim}: they are of different models."
            )
        pairs = [[one for one in pair if one is not None] for pair in zip(self.first, lasts, strict=True)]
        condition.pictures = [[one.picture() for one in pair] for pair in pairs]
        condition.held += sum(one.picture_bytes for pair in pairs for one in pair)

    def _given(self, config: Any, table: int | None, condition: Condition) -> np.ndarray:
        """Embeddings that were given: one for all sources, or one for each."""
        embeds = self.embeds
        if embeds.ndim != 3 or embeds.shape[2] != config.image_dim or 0 in embeds.shape:
            raise ValueError(
                f"`image_embeds` has to be of shape [images, tokens, image_dim={config.image_dim}] but is of shape "
                f"{list(embeds.shape)}."
            )
        if table is not None:
            if embeds.shape[0] * embeds.shape[1] % table:
                raise ValueError(
                    f"`image_embeds` of shape {list(embeds.shape)} do not make {table} tokens per video: give the "
                    "embeddings of the first image, then those of the last."
                )
            embeds = embeds.reshape(-1, table, embeds.shape[2])
        if len(embeds) not in (1, len(self.first)):
            raise ValueError(
                f"`image_embeds` are of {len(embeds)} images, but `image` holds {len(self.first)}. Give one, or one "
                "for each."
            )
        if not np.isfinite(embeds).all():
            raise ValueError("`image_embeds` holds values that are not finite. Encode the images anew.")
        return np.ascontiguousarray(np.broadcast_to(embeds, (len(self.first), *embeds.shape[1:])), np.float32)


@dataclass
class FilmSource:
    """The films of video to video, as their frames."""

    films: list[list[Still]]

    def __len__(self) -> int:
        return len(self.films)

    def frames(self, num_frames: Any, factor: int) -> int:
        """The number of frames that are used: what was asked for does not count."""
        return whole_chunks(self.films, factor)

    def condition(self, pipe: Any, layout: Layout, source_of: list[int]) -> Condition:
        """What the films become for a call of this layout."""
        held = sum(frame.nbytes for film in self.films for frame in film)
        return Condition(source_of, [FilmChunks(film, layout) for film in self.films], held=held)

"""A call in the shapes that the networks take: texts as token ids or embeddings, the size of the latents, what comes
out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wanoffload.arrays import real_rows
from wanoffload.pipelines import checks
from wanoffload.text import prompt_clean


@dataclass
class Text:
    """The text of one branch: token ids to encode, or embeddings that were given.

    Attributes:
        ids: One int32 array of real tokens per prompt, or None.
        embeds: float32 [batch, rows, text_dim] once encoded or given.
        rows: Rows of each item, padding included.
        repeats: How many videos each prompt makes; p0, p0, p1, p1.
    """

    rows: int
    repeats: int = 1
    ids: list[np.ndarray] | None = None
    embeds: np.ndarray | None = None

    def sizes(self) -> list[tuple[int, int]]:
        """(rows, of which not padding) of each item of the batch."""
        if self.embeds is not None:
            return [(self.rows, real_rows(item)) for item in self.embeds]
        return [(self.rows, len(ids)) for ids in self.ids or [] for _ in range(self.repeats)]


@dataclass
class Request:
    """A checked call.

    Attributes:
        height, width, frames: Of the video, in pixels.
        latent_shape: [batch, channels, frames, height, width] of the latents.
        output_type: np, pil, latent or pt.
        cond, uncond: The texts of the two branches; uncond is None without guidance.
        encodes: Whether the text encoder runs.
        decodes: Whether the VAE runs.
    """

    height: int
    width: int
    frames: int
    latent_shape: tuple[int, ...]
    output_type: str
    cond: Text
    uncond: Text | None
    encodes: bool = field(init=False)

    def __post_init__(self) -> None:
        self.encodes = any(text.ids is not None for text in self.texts())

    @property
    def batch(self) -> int:
        """Videos to make."""
        return self.latent_shape[0]

    @property
    def decodes(self) -> bool:
        """Whether the VAE runs."""
        return self.output_type != "latent"

    @property
    def output_bytes(self) -> int:
        """Size of what is handed out, beside the latents."""
        item = 1 if self.output_type == "pil" else 4
        return self.batch * self.frames * self.height * self.width * 3 * item if self.decodes else 0

    def texts(self) -> list[Text]:
        """The branches that run."""
        return [self.cond] if self.uncond is None else [self.cond, self.uncond]

    def sizes(self) -> list[tuple[int, int]]:
        """(rows, of which not padding) of each item of the transformer's batch: cond, then uncond."""
        return [size for text in self.texts() for size in text.sizes()]

    def describe(self) -> str:
        """The call in words."""
        tokens = [len(ids) for text in self.texts() for ids in text.ids or []]
        words = f"{self.width}x{self.height}, {self.frames} frames"
        if self.batch > 1:
            words += f", {self.batch} videos"
        words += ", guidance" if self.uncond is not None else ", no guidance"
        return words + (f", {'+'.join(map(str, tokens))} tokens" if tokens else "")


@dataclass
class Prompts:
    """The text arguments of a call."""

    prompt: Any
    negative_prompt: Any
    prompt_embeds: Any
    negative_prompt_embeds: Any
    repeats: int
    length: int

    def texts(self, pipe: Any, guided: bool, needed: bool = True) -> tuple[Text, Text | None]:
        """Checks and tokenises both branches.

        Args:
            pipe: The pipeline: its tokenizer, and the widths that embeddings have to have.
            guided: Whether there is an unconditional branch.
            needed: Whether a prompt has to be there; else one of `length` tokens is assumed.
        """
        checks.check_either(self.prompt, self.prompt_embeds, ("prompt", "prompt_embeds"), both_missing=needed)
        negative_names = ("negative_prompt", "negative_prompt_embeds")
        checks.check_either(self.negative_prompt, self.negative_prompt_embeds, negative_names, both_missing=False)
        prompts = checks.check_prompts(self.prompt, "prompt")
        negatives = checks.check_prompts(self.negative_prompt, "negative_prompt")
        if prompts is not None:
            cond = self._tokenise(pipe, prompts)
            batch = len(prompts)
        elif self.prompt_embeds is not None:
            cond = self._given(pipe, self.prompt_embeds, "prompt_embeds", None)
            batch = len(cond.embeds) // self.repeats
        else:
            cond = Text(self.length, self.repeats, ids=[np.zeros(self.length, np.int32)])
            batch = 1
        if not guided:
            return cond, None
        if self.negative_prompt_embeds is not None:
            return cond, self._given(pipe, self.negative_prompt_embeds, "negative_prompt_embeds", batch)
        if not needed and prompts is None and (pipe.tokenizer is None or pipe.text_encoder is None):
            return cond, Text(self.length, self.repeats, ids=[np.zeros(self.length, np.int32)] * batch)
        single = not isinstance(self.negative_prompt, list)
        return cond, self._tokenise(pipe, checks.match_negatives(prompts, negatives, single, batch))

    def _tokenise(self, pipe: Any, prompts: list[str]) -> Text:
        for name in ("tokenizer", "text_encoder"):
            if getattr(pipe, name) is None:
                raise ValueError(
                    f"A prompt cannot be encoded: this pipeline has no {name}. Pass `prompt_embeds` (and "
                    "`negative_prompt_embeds` with guidance) instead."
                )
        ids = pipe.tokenizer([prompt_clean(one) for one in prompts], self.length)
        return Text(self.length, self.repeats, ids=ids)

    def _given(self, pipe: Any, embeds: Any, name: str, batch: int | None) -> Text:
        network = pipe.transformer if pipe.transformer is not None else pipe.text_encoder
        width = network.config.get("text_dim", network.config.get("d_model")) if network is not None else None
        array = checks.check_embeds(embeds, name, batch, width, self.repeats)
        return Text(array.shape[1], self.repeats, embeds=array)


def unique_ids(texts: Sequence[Text]) -> list[np.ndarray]:
    """The token arrays of all texts, each once: what is asked for twice is encoded once."""
    found = {ids.tobytes(): ids for text in texts for ids in text.ids or []}
    return list(found.values())


def fill_embeds(texts: Sequence[Text], unique: Sequence[np.ndarray], encoded: Sequence[np.ndarray]) -> None:
    """Gives every text its embeddings [batch, rows, width]: what was encoded, then zeros, repeated per video."""
    by_ids = {ids.tobytes(): embeds for ids, embeds in zip(unique, encoded, strict=True)}
    for text in texts:
        if text.ids is None:
            continue
        padded = np.zeros((len(text.ids), text.rows, encoded[0].shape[1]), np.float32)
        for row, ids in zip(padded, text.ids, strict=True):
            row[: len(ids)] = by_ids[ids.tobytes()]
        text.embeds = np.repeat(padded, text.repeats, axis=0) if text.repeats > 1 else padded


def make_request(
    pipe: Any,
    prompts: Prompts,
    height: Any,
    width: Any,
    num_frames: Any,
    guidance_scale: Any,
    output_type: Any,
    prompt_needed: bool = True,
) -> Request:
    """Checks a call's arguments against the pipeline's networks and tokenises its texts.

    Raises:
        ValueError, TypeError: An argument is wrong, or asks for a network that is not there.
    """
    height, width = checks.check_size(height, width)
    guided = checks.check_guidance(guidance_scale) > 1.0
    output_type = checks.check_output_type(output_type)
    pipe.networks()
    transformer, vae = pipe.transformer, pipe.vae
    if transformer is None:
        raise ValueError(
            "This pipeline has no transformer, so it can only encode prompts (`encode_prompt`). Load it with one."
        )
    if vae is None and output_type != "latent":
        raise ValueError(
            "This pipeline has no vae, so it can only give latents. Pass `output_type='latent'`, or load it with a vae."
        )
    _check_match(pipe)
    frames = checks.check_frames(num_frames, pipe.vae_scale_factor_temporal)
    cond, uncond = prompts.texts(pipe, guided, prompt_needed)
    batch = len(cond.sizes())
    latent_frames = (frames - 1) // pipe.vae_scale_factor_temporal + 1
    latent_size = (height // pipe.vae_scale_factor_spatial, width // pipe.vae_scale_factor_spatial)
    transformer.check_size(latent_frames, *latent_size)
    if vae is not None:
        scale = vae.spatial_compression_ratio
        height, width, frames = latent_size[0] * scale, latent_size[1] * scale, vae.frames_of(latent_frames)
    shape = (batch, transformer.config.in_channels, latent_frames, *latent_size)
    return Request(height, width, frames, shape, output_type, cond, uncond)


def _check_match(pipe: Any) -> None:
    """Raises ValueError for networks that do not fit together."""
    transformer, vae, encoder = pipe.transformer, pipe.vae, pipe.text_encoder
    if vae is not None and vae.config.z_dim != transformer.config.in_channels:
        raise ValueError(
            f"The vae has latents of {vae.config.z_dim} channels, but the transformer takes "
            f"{transformer.config.in_channels}: they are of different models."
        )
    if vae is not None and vae.config.out_channels != 3:
        raise ValueError(f"The vae gives {vae.config.out_channels} channels, but videos have 3.")
    if encoder is not None and encoder.config.d_model != transformer.config.text_dim:
        raise ValueError(
            f"The text_encoder gives embeddings of width {encoder.config.d_model}, but the transformer takes "
            f"{transformer.config.text_dim}: they are of different models."
        )

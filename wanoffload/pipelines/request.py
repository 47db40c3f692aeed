"""A call in the shapes that the networks take: texts as token ids or embeddings, the size of the latents, what comes
out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wanoffload.arrays import real_rows
from wanoffload.pipelines import checks
from wanoffload.pipelines.experts import expert_at, experts_of, missing_expert
from wanoffload.pipelines.matching import check_match
from wanoffload.pipelines.published import film_kind, published_shift, shift_note
from wanoffload.pipelines.sources import Condition, FilmSource, Layout, StillSource
from wanoffload.text import prompt_clean

Source = StillSource | FilmSource


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

    def spread(self, count: int) -> None:
        """Gives the one prompt there is to so many sources; each makes `repeats` videos of it."""
        if self.embeds is not None:
            self.embeds = np.tile(self.embeds, (count, 1, 1))
        else:
            self.ids = (self.ids or []) * count


@dataclass
class Request:
    """A checked call.

    Attributes:
        height, width, frames: Of the video, in pixels.
        latent_shape: [batch, channels, frames, height, width] of the latents.
        output_type: np, pil, latent or pt.
        cond, uncond: The texts of the two branches; uncond is None without guidance.
        condition: What the videos are conditioned on beside their texts; None in text to video.
        experts: Names of the transformers that run, in their order.
        steps: How many steps each expert takes, where the schedule is known.
        input_channels: Channels that the transformer takes.
        shift: The flow shift that the model was published with for such a video.
        notes: Lines for the plan.
        encodes: Whether the text encoder runs.
        decodes: Whether the VAE's decoder runs.
    """

    height: int
    width: int
    frames: int
    latent_shape: tuple[int, ...]
    output_type: str
    cond: Text
    uncond: Text | None
    condition: Condition | None = None
    experts: tuple[str, ...] = ("transformer",)
    steps: dict[str, int] = field(default_factory=dict)
    input_channels: int = 0
    shift: float = 1.0
    notes: list[str] = field(default_factory=list)
    encodes: bool = field(init=False)

    def __post_init__(self) -> None:
        self.encodes = any(text.ids is not None for text in self.texts())

    @property
    def batch(self) -> int:
        """Videos to make."""
        return self.latent_shape[0]

    @property
    def decodes(self) -> bool:
        """Whether the VAE's decoder runs."""
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

    def images(self, items: int) -> tuple[int, list[int]] | None:
        """Rows of an image embedding, and for each item of a transformer's batch the embedding it attends to; None
        where there are none."""
        if self.condition is None or self.condition.rows == 0:
            return None
        return self.condition.rows, self.condition.source_of * (items // self.batch)

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
        network = pipe.main_transformer if pipe.main_transformer is not None else pipe.text_encoder
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


@dataclass
class Arguments:
    """What calls of every pipeline are asked for, as it was given."""

    prompt: Any = None
    negative_prompt: Any = None
    height: Any = 480
    width: Any = 832
    num_frames: Any = 81
    num_inference_steps: Any = 50
    guidance_scale: Any = 5.0
    guidance_scale_2: Any = None
    num_videos_per_prompt: Any = 1
    generator: Any = None
    latents: Any = None
    prompt_embeds: Any = None
    negative_prompt_embeds: Any = None
    output_type: Any = "np"
    attention_kwargs: Any = None
    callback_on_step_end: Any = None
    callback_on_step_end_tensor_inputs: Any = None
    max_sequence_length: Any = 512
    strength: Any = None

    def prompts(self) -> Prompts:
        """The texts."""
        repeats = 1 if self.num_videos_per_prompt is None else self.num_videos_per_prompt
        return Prompts(
            self.prompt,
            self.negative_prompt,
            self.prompt_embeds,
            self.negative_prompt_embeds,
            checks.whole_number(repeats, "num_videos_per_prompt"),
            checks.whole_number(self.max_sequence_length, "max_sequence_length"),
        )


def make_request(pipe: Any, arguments: Arguments, source: Source | None, planning: bool = False) -> Request:
    """Checks a call's arguments against the pipeline's networks and tokenises its texts.

    Args:
        pipe: The pipeline.
        arguments: What it was called with.
        source: The stills or the film that it was given.
        planning: Whether no more than a plan is wanted, for which a prompt and a scheduler need not be there.

    Raises:
        ValueError, TypeError: An argument is wrong, or asks for a network that is not there.
    """
    height, width = checks.check_size(arguments.height, arguments.width)
    guided = checks.check_guidance(arguments.guidance_scale) > 1.0
    output_type = checks.check_output_type(arguments.output_type)
    prompts = arguments.prompts()
    pipe.networks()
    transformer, vae = pipe.main_transformer, pipe.vae
    if transformer is None:
        raise ValueError(missing_expert(pipe, "transformer"))
    if vae is None and (output_type != "latent" or source is not None):
        raise ValueError(
            "This pipeline has no vae, so it can only give latents. Pass `output_type='latent'`, or load it with a vae."
            if source is None
            else "This pipeline has no vae, so it cannot encode what the film is made from. Load it with a vae."
        )
    check_match(pipe)
    factor = pipe.vae_scale_factor_temporal
    frames = arguments.num_frames
    frames = source.frames(frames, factor) if source is not None else checks.check_frames(frames, factor)
    cond, uncond = prompts.texts(pipe, guided, not planning)
    source_of = [] if source is None else match_sources(len(source), cond, uncond, pipe.made_from)
    latent_frames = (frames - 1) // factor + 1
    latent_size = (height // pipe.vae_scale_factor_spatial, width // pipe.vae_scale_factor_spatial)
    transformer.check_size(latent_frames, *latent_size)
    if vae is not None:
        scale = vae.spatial_compression_ratio
        height, width, frames = latent_size[0] * scale, latent_size[1] * scale, vae.frames_of(latent_frames)
    shape = (len(cond.sizes()), transformer.config.out_channels, latent_frames, *latent_size)
    request = Request(height, width, frames, shape, output_type, cond, uncond)
    request.input_channels = transformer.config.in_channels
    if source is not None:
        layout = Layout(request.batch, height, width, frames, latent_frames, factor)
        request.condition = source.condition(pipe, layout, source_of)
    _add_schedule(pipe, request, arguments)
    return request


def match_sources(sources: int, cond: Text, uncond: Text | None, name: str) -> list[int]:
    """For each video its source: one for all, or one for each prompt; a single prompt is said of every source."""
    repeats = cond.repeats
    prompts = len(cond.sizes()) // repeats
    if prompts == 1 and sources > 1:
        for text in (cond, uncond):
            if text is not None:
                text.spread(sources)
        prompts = sources
    if sources not in (1, prompts):
        raise ValueError(
            f"`{name}` holds {sources}, but there are {prompts} prompts. Give one for all, or one for each prompt."
        )
    return [index % sources for index in range(prompts) for _ in range(repeats)]


def _add_schedule(pipe: Any, request: Request, arguments: Arguments) -> None:
    """Which experts run, and the published flow shift, with a note where another is in force."""
    transformer, scheduler = pipe.main_transformer, pipe.scheduler
    kind = film_kind(transformer, "image" if pipe.made_from == "image" else "text")
    two = pipe.config.get("boundary_ratio") is not None
    request.shift = published_shift(kind, two, request.height, request.width)
    if two and scheduler is not None:
        steps = checks.whole_number(arguments.num_inference_steps, "num_inference_steps")
        timesteps = checks.begin_schedule(copy(scheduler), steps, request.shift)
        request.experts = experts_of(pipe, timesteps)
        request.steps = dict(Counter(expert_at(pipe, timestep) for timestep in timesteps))
    elif two:
        request.experts = tuple(name for name in ("transformer", "transformer_2") if getattr(pipe, name) is not None)
    elif pipe.transformer is None:
        raise ValueError(missing_expert(pipe, "transformer"))
    elif pipe.made_from != "video" and isinstance(arguments.num_inference_steps, int):
        request.steps = {"transformer": arguments.num_inference_steps}
    note = shift_note(scheduler, transformer, request.shift, request.height, request.width)
    if note is not None:
        request.notes.append(note)

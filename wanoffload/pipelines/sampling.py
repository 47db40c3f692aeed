"""What the pipelines share beyond their components: the state of a call, encoding prompts, planning, sampling."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np

from wanoffload import noise
from wanoffload.messages import warn_once
from wanoffload.models.transformer import refuse_attention_kwargs
from wanoffload.pipelines import checks
from wanoffload.pipelines.assembly import check_component
from wanoffload.pipelines.experts import check_boundary
from wanoffload.pipelines.generation import Generation, plan_call, smallest_planner
from wanoffload.pipelines.pipeline_utils import PipelineBase
from wanoffload.pipelines.request import Arguments, Prompts, Request, Source, fill_embeds, make_request, unique_ids
from wanoffload.pipelines.room import check_room
from wanoffload.plan import PipelinePlan
from wanoffload.report import PipelineReport


class SamplingPipeline(PipelineBase):
    """A pipeline that denoises latents under prompts.

    Attributes:
        report: `PipelineReport` of the last call, None before.
    """

    _callback_tensor_inputs: ClassVar[list[str]] = list(checks.CALLBACK_TENSORS)

    def _begin(self, components: dict[str, Any], config: dict[str, Any]) -> None:
        """Takes in what the constructor was given."""
        if config.get("expand_timesteps"):
            raise ValueError(
                "`expand_timesteps`=True is WAN 2.2 TI2V-5B's, which this version does not run. Load a checkpoint of "
                "WAN 2.1, or one of 2.2 with two experts (A14B)."
            )
        check_boundary(config.get("boundary_ratio"))
        self._register(components, config)
        self.report: PipelineReport | None = None
        self._guidance_scale = 5.0
        self._guidance_scale_2: float | None = None
        self._num_timesteps = 0
        self._current_timestep: Any = None
        self._interrupt = False

    @property
    def main_transformer(self) -> Any:
        """The transformer whose configuration counts: the only one, or WAN 2.2's high-noise expert if it is there."""
        second = getattr(self, "transformer_2", None)
        return self.transformer if self.transformer is not None else second

    @property
    def vae_scale_factor_temporal(self) -> int:
        """Frames per latent frame."""
        return self.vae.config.scale_factor_temporal if self.vae is not None else 4

    @property
    def vae_scale_factor_spatial(self) -> int:
        """Pixels per latent, along height and along width."""
        return self.vae.config.scale_factor_spatial if self.vae is not None else 8

    @property
    def guidance_scale(self) -> float:
        """Guidance of the call that runs, or of the last; a callback may set ``pipe._guidance_scale`` for the next
        step."""
        return self._guidance_scale

    @property
    def guidance_scale_2(self) -> float:
        """The same for the steps of WAN 2.2's low-noise expert; a callback may set ``pipe._guidance_scale_2``."""
        return self._guidance_scale if self._guidance_scale_2 is None else self._guidance_scale_2

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the unconditional branch is computed."""
        return self._guidance_scale > 1.0

    @property
    def num_timesteps(self) -> int:
        """Steps of the call that runs, or of the last."""
        return self._num_timesteps

    @property
    def current_timestep(self) -> Any:
        """The timestep of the step that runs; None between calls."""
        return self._current_timestep

    @property
    def attention_kwargs(self) -> None:
        """Always None: there are no attention processors."""
        return None

    @property
    def interrupt(self) -> bool:
        """Set it (from a callback, or another thread) to skip the steps that are left; what is there is decoded."""
        return self._interrupt

    @interrupt.setter
    def interrupt(self, value: bool) -> None:
        self._interrupt = bool(value)

    def encode_prompt(
        self,
        prompt: str | list[str] | None,
        negative_prompt: str | list[str] | None = None,
        do_classifier_free_guidance: bool = True,
        num_videos_per_prompt: int = 1,
        prompt_embeds: Any = None,
        negative_prompt_embeds: Any = None,
        max_sequence_length: int = 226,
        device: Any = None,
        dtype: Any = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Encodes prompts as a call does.

        Args:
            prompt: One prompt or several.
            negative_prompt: What to steer away from; empty when None.
            do_classifier_free_guidance: Whether to encode it.
            num_videos_per_prompt: How often to repeat each.
            prompt_embeds: Embeddings to use instead of ``prompt``.
            negative_prompt_embeds: Embeddings to use instead of ``negative_prompt``.
            max_sequence_length: Rows to pad or cut to. A call uses 512.
            device: Accepted; arrays are handed out in host memory.
            dtype: Accepted; arrays are handed out as float32.

        Returns:
            Two float32 arrays [batch, max_sequence_length, text_dim], zero after the prompt's tokens; the second None
            without guidance.
        """
        checks.check_texts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        repeats = checks.whole_number(num_videos_per_prompt, "num_videos_per_prompt")
        length = checks.whole_number(max_sequence_length, "max_sequence_length")
        prompts = Prompts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, repeats, length)
        cond, uncond = prompts.texts(self, do_classifier_free_guidance)
        texts = [text for text in (cond, uncond) if text is not None]
        unique = unique_ids(texts)
        if unique:
            fill_embeds(texts, unique, self.text_encoder.encode(unique))
        return cond.embeds, None if uncond is None else uncond.embeds

    def _plan(self, arguments: Arguments, source: Source | None = None) -> PipelinePlan:
        """The plan of a call."""
        return plan_call(self, make_request(self, arguments, source, planning=True), self.runtime.engine)

    def _sample(self, arguments: Arguments, source: Source | None = None) -> Any:
        """Makes the videos of a call whose texts and callback have been checked.

        Returns:
            The frames, as the output type wants them.
        """
        started = time.perf_counter()
        callback, tensors = arguments.callback_on_step_end, arguments.callback_on_step_end_tensor_inputs
        refuse_attention_kwargs(arguments.attention_kwargs)
        steps = checks.whole_number(arguments.num_inference_steps, "num_inference_steps")
        start = 0 if arguments.strength is None else checks.check_strength(arguments.strength, steps)
        check_component("scheduler", self.scheduler)
        request = make_request(self, arguments, source)
        if self.scheduler is None:
            raise ValueError("This pipeline has no scheduler. Set one: pipe.scheduler = UniPCMultistepScheduler(...).")
        latents = arguments.latents
        if latents is not None:
            latents = checks.check_latents(latents, request.latent_shape)
        else:
            checks.check_generator(arguments.generator, request.batch)
        runtime = self.runtime
        with runtime.call("The pipeline") as engine:
            self._interrupt = False
            self._guidance_scale = float(arguments.guidance_scale)
            second = arguments.guidance_scale_2
            self._guidance_scale_2 = None if second is None else float(second)
            timesteps = checks.begin_schedule(self.scheduler, steps, request.shift, start)
            self._num_timesteps = len(timesteps)
            plan = plan_call(self, request, engine)
            check_room(runtime, engine, plan, lambda: smallest_planner(self, request, engine))
            for note in request.notes:
                warn_once(note)
            self.report = PipelineReport()
            generation = Generation(self, engine, plan, request, self.report)
            generation.encode()
            if latents is None:
                latents = self._first_latents(request, timesteps, arguments.generator)
            try:
                latents = generation.denoise(latents, timesteps, callback, tensors)
            finally:
                self._current_timestep = None
            frames = generation.decode(latents) if request.decodes else latents
            self.report.seconds = time.perf_counter() - started
        return frames

    def _first_latents(self, request: Request, timesteps: np.ndarray, generator: Any) -> np.ndarray:
        """Noise; where sampling starts from an encoded film, that film with as much noise as the first step takes."""
        noisy = noise.randn(request.latent_shape, generator)
        if request.condition is None or request.condition.mask is not None:
            return noisy
        film = request.condition.starts()
        first = np.repeat(timesteps[:1], len(noisy))
        if hasattr(self.scheduler, "add_noise"):
            return self.scheduler.add_noise(film, noisy, first)
        return self.scheduler.scale_noise(film, first, noisy)

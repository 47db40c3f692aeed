"""Text to video with WAN 2.1, under diffusers' names."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from wanoffload import noise
from wanoffload.models.transformer import refuse_attention_kwargs
from wanoffload.pipelines import checks
from wanoffload.pipelines.generation import Generation, plan_call
from wanoffload.pipelines.pipeline_output import WanPipelineOutput
from wanoffload.pipelines.pipeline_utils import PipelineBase, check_component
from wanoffload.pipelines.request import Prompts, fill_embeds, make_request, unique_ids
from wanoffload.plan import PipelinePlan
from wanoffload.report import PipelineReport


class WanPipeline(PipelineBase):
    """Makes videos from prompts.

    Args:
        tokenizer: `wanoffload.text.Tokenizer`.
        text_encoder: `UMT5EncoderModel`.
        vae: `AutoencoderKLWan`.
        scheduler: `UniPCMultistepScheduler` or `FlowMatchEulerDiscreteScheduler`.
        transformer: `WanTransformer3DModel`.
        transformer_2: WAN 2.2's second expert; not supported.
        boundary_ratio: WAN 2.2's; not supported.
        expand_timesteps: WAN 2.2's; not supported.

    Attributes:
        report: `PipelineReport` of the last call, None before.
    """

    _callback_tensor_inputs = list(checks.CALLBACK_TENSORS)

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        vae: Any,
        scheduler: Any,
        transformer: Any = None,
        transformer_2: Any = None,
        boundary_ratio: float | None = None,
        expand_timesteps: bool = False,
    ) -> None:
        for name, value in (("boundary_ratio", boundary_ratio), ("expand_timesteps", expand_timesteps)):
            if value:
                raise ValueError(f"`{name}`={value!r} is WAN 2.2's; this version runs WAN 2.1 only.")
        components = {
            "tokenizer": tokenizer,
            "text_encoder": text_encoder,
            "vae": vae,
            "scheduler": scheduler,
            "transformer": transformer,
            "transformer_2": transformer_2,
        }
        self._register(components, {"boundary_ratio": None, "expand_timesteps": False})
        self.report: PipelineReport | None = None
        self._guidance_scale = 5.0
        self._num_timesteps = 0
        self._current_timestep: Any = None
        self._interrupt = False

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

    def check_inputs(
        self,
        prompt: Any,
        negative_prompt: Any,
        height: Any,
        width: Any,
        prompt_embeds: Any = None,
        negative_prompt_embeds: Any = None,
        callback_on_step_end_tensor_inputs: Any = None,
        guidance_scale_2: Any = None,
    ) -> None:
        """Checks arguments that several calls share. Raises ValueError or TypeError that names the argument."""
        checks.check_size(height, width)
        checks.check_callback_inputs(callback_on_step_end_tensor_inputs)
        checks.check_either(prompt, prompt_embeds, ("prompt", "prompt_embeds"), both_missing=True)
        checks.check_either(
            negative_prompt, negative_prompt_embeds, ("negative_prompt", "negative_prompt_embeds"), both_missing=False
        )
        checks.check_prompts(prompt, "prompt")
        checks.check_prompts(negative_prompt, "negative_prompt")
        if guidance_scale_2 is not None:
            raise ValueError("`guidance_scale_2` is only supported when the pipeline's `boundary_ratio` is not None.")

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
        self.check_inputs(prompt, negative_prompt, 16, 16, prompt_embeds, negative_prompt_embeds)
        repeats = checks.whole_number(num_videos_per_prompt, "num_videos_per_prompt")
        length = checks.whole_number(max_sequence_length, "max_sequence_length")
        prompts = Prompts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, repeats, length)
        cond, uncond = prompts.texts(self, do_classifier_free_guidance)
        texts = [text for text in (cond, uncond) if text is not None]
        unique = unique_ids(texts)
        if unique:
            fill_embeds(texts, unique, self.text_encoder.encode(unique))
        return cond.embeds, None if uncond is None else uncond.embeds

    def plan(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int = 480,
        width: int = 832,
        num_frames: int = 81,
        guidance_scale: float = 5.0,
        num_videos_per_prompt: int = 1,
        prompt_embeds: Any = None,
        negative_prompt_embeds: Any = None,
        output_type: str = "np",
        max_sequence_length: int = 512,
    ) -> PipelinePlan:
        """Says what a call with these arguments will need, before anything runs.

        Without a prompt, one of ``max_sequence_length`` tokens is assumed. Arguments: see `__call__`.

        Raises:
            PlanError: The budgets cannot hold; ``needed`` are the smallest that would.
        """
        checks.check_size(height, width)
        repeats, length = _repeats_and_length(num_videos_per_prompt, max_sequence_length)
        prompts = Prompts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, repeats, length)
        request = make_request(
            self, prompts, height, width, num_frames, guidance_scale, output_type, prompt_needed=False
        )
        return plan_call(self, request, self._runtime.engine)

    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int = 480,
        width: int = 832,
        num_frames: int = 81,
        num_inference_steps: int = 50,
        guidance_scale: float = 5.0,
        guidance_scale_2: float | None = None,
        num_videos_per_prompt: int | None = 1,
        generator: Any = None,
        latents: Any = None,
        prompt_embeds: Any = None,
        negative_prompt_embeds: Any = None,
        output_type: str | None = "np",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006  diffusers' signature; never changed
        max_sequence_length: int = 512,
    ) -> WanPipelineOutput | tuple:
        """Makes videos.

        Args:
            prompt: What to show, or a list of prompts.
            negative_prompt: What to steer away from, one for all prompts or a list; used with guidance only.
            height: In pixels, a multiple of 16.
            width: In pixels, a multiple of 16.
            num_frames: 4k + 1; others are rounded with a warning.
            num_inference_steps: Denoising steps, at least 1.
            guidance_scale: Classifier-free guidance; up to 1 means none.
            guidance_scale_2: WAN 2.2's; refused.
            num_videos_per_prompt: Videos of each prompt; they come out as p0, p0, p1, p1.
            generator: Where the noise comes from: an int gives the noise that
                ``torch.Generator("cpu").manual_seed(n)`` gives diffusers; a list has one per video;
                ``np.random.Generator`` and ``torch.Generator`` work as well.
            latents: The noise itself, [batch, channels, latent frames, height / 8, width / 8], instead of a
                generator's.
            prompt_embeds: Embeddings [batch, rows, text_dim] instead of ``prompt``, as `encode_prompt` makes them.
            negative_prompt_embeds: Embeddings instead of ``negative_prompt``.
            output_type: ``"np"``, ``"pil"``, ``"pt"`` (with torch) or ``"latent"``.
            return_dict: Whether to return an output object or a tuple.
            attention_kwargs: Refused; there are no attention processors.
            callback_on_step_end: Called as ``callback(pipe, step, timestep, tensors)`` after each step. It may return
                a dict with new ``latents``, ``prompt_embeds`` or ``negative_prompt_embeds``, and may set
                ``pipe._guidance_scale`` or ``pipe.interrupt``; each takes effect from the next step.
            callback_on_step_end_tensor_inputs: Which of these it gets.
            max_sequence_length: Tokens a prompt is cut to and rows it is padded to.

        Returns:
            `WanPipelineOutput` with ``frames``, float32 [batch, frames, height, width, 3] in 0..1 for ``"np"``; or a
            1-tuple of it.

        Raises:
            ValueError, TypeError: An argument is wrong; nothing has been done.
            PlanError: The budgets cannot hold this call; nothing has been done.
            BusyError: Another call of this pipeline is running.
        """
        started = time.perf_counter()
        tensors = checks.callback_tensors(callback_on_step_end, callback_on_step_end_tensor_inputs)
        self.check_inputs(
            prompt, negative_prompt, height, width, prompt_embeds, negative_prompt_embeds, tensors, guidance_scale_2
        )
        refuse_attention_kwargs(attention_kwargs)
        steps = checks.whole_number(num_inference_steps, "num_inference_steps")
        repeats, length = _repeats_and_length(num_videos_per_prompt, max_sequence_length)
        prompts = Prompts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, repeats, length)
        request = make_request(self, prompts, height, width, num_frames, guidance_scale, output_type)
        check_component("scheduler", self.scheduler)
        if self.scheduler is None:
            raise ValueError("This pipeline has no scheduler. Set one: pipe.scheduler = UniPCMultistepScheduler(...).")
        if latents is not None:
            latents = checks.check_latents(latents, request.latent_shape)
        else:
            checks.check_generator(generator, request.batch)
        with self._runtime.call("The pipeline") as engine:
            self._interrupt = False
            self._guidance_scale = float(guidance_scale)
            timesteps = checks.begin_schedule(self.scheduler, steps)
            self._num_timesteps = len(timesteps)
            plan = plan_call(self, request, engine)
            self.report = PipelineReport()
            generation = Generation(self, engine, plan, request, self.report)
            generation.encode()
            if latents is None:
                latents = noise.randn(request.latent_shape, generator)
            latents = generation.denoise(latents, timesteps, callback_on_step_end, tensors)
            frames = generation.decode(latents) if request.decodes else latents
            self.report.seconds = time.perf_counter() - started
        return WanPipelineOutput(frames=frames) if return_dict else (frames,)


def _repeats_and_length(num_videos_per_prompt: Any, max_sequence_length: Any) -> tuple[int, int]:
    repeats = 1 if num_videos_per_prompt is None else num_videos_per_prompt
    return (
        checks.whole_number(repeats, "num_videos_per_prompt"),
        checks.whole_number(max_sequence_length, "max_sequence_length"),
    )

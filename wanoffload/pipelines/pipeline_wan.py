"""Text to video with WAN 2.1, and with the two experts of WAN 2.2, under diffusers' names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wanoffload.pipelines import checks
from wanoffload.pipelines.pipeline_output import WanPipelineOutput
from wanoffload.pipelines.request import Arguments
from wanoffload.pipelines.sampling import SamplingPipeline
from wanoffload.plan import PipelinePlan


class WanPipeline(SamplingPipeline):
    """Makes videos from prompts.

    Args:
        tokenizer: `wanoffload.text.Tokenizer`.
        text_encoder: `UMT5EncoderModel`.
        vae: `AutoencoderKLWan`.
        scheduler: `UniPCMultistepScheduler` or `FlowMatchEulerDiscreteScheduler`.
        transformer: `WanTransformer3DModel`; in WAN 2.2 the high-noise expert.
        transformer_2: WAN 2.2's low-noise expert.
        boundary_ratio: Steps at timesteps of at least boundary_ratio * num_train_timesteps are the high-noise expert's,
            the others the low-noise expert's. None: all steps are ``transformer``'s. An expert without a step is never
            read, and may be None.
        expand_timesteps: WAN 2.2 TI2V-5B's; refused.

    Attributes:
        report: `PipelineReport` of the last call, None before.
    """

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
        components = {
            "tokenizer": tokenizer,
            "text_encoder": text_encoder,
            "vae": vae,
            "scheduler": scheduler,
            "transformer": transformer,
            "transformer_2": transformer_2,
        }
        self._begin(components, {"boundary_ratio": boundary_ratio, "expand_timesteps": expand_timesteps})

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
        checks.check_texts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        checks.check_guidance_2(guidance_scale_2, self.config.boundary_ratio)

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
        num_inference_steps: int = 50,
    ) -> PipelinePlan:
        """Says what a call with these arguments will need, before anything runs.

        Without a prompt, one of ``max_sequence_length`` tokens is assumed. Arguments: see `__call__`; the number of
        steps tells which of WAN 2.2's experts run.

        Raises:
            PlanError: The budgets cannot hold; ``needed`` are the smallest that would.
        """
        return self._plan(
            Arguments(
                prompt=prompt,
                negative_prompt=negative_prompt,
                height=height,
                width=width,
                num_frames=num_frames,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                num_videos_per_prompt=num_videos_per_prompt,
                prompt_embeds=prompt_embeds,
                negative_prompt_embeds=negative_prompt_embeds,
                output_type=output_type,
                max_sequence_length=max_sequence_length,
            )
        )

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
            guidance_scale_2: The same for the steps of WAN 2.2's low-noise expert; None: as ``guidance_scale``, which
                alone decides whether there is guidance at all.
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
                ``pipe._guidance_scale`` or ``pipe.interrupt``; each takes effect from the next step. It cannot call the
                pipeline's own ``encode_prompt`` or ``vae.decode`` (BusyError): embed other prompts before the call, and
                decode with a second pipeline.
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
        tensors = checks.callback_tensors(callback_on_step_end, callback_on_step_end_tensor_inputs)
        self.check_inputs(
            prompt, negative_prompt, height, width, prompt_embeds, negative_prompt_embeds, tensors, guidance_scale_2
        )
        frames = self._sample(
            Arguments(
                prompt=prompt,
                negative_prompt=negative_prompt,
                height=height,
                width=width,
                num_frames=num_frames,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                guidance_scale_2=guidance_scale_2,
                num_videos_per_prompt=num_videos_per_prompt,
                generator=generator,
                latents=latents,
                prompt_embeds=prompt_embeds,
                negative_prompt_embeds=negative_prompt_embeds,
                output_type=output_type,
                attention_kwargs=attention_kwargs,
                callback_on_step_end=callback_on_step_end,
                callback_on_step_end_tensor_inputs=tensors,
                max_sequence_length=max_sequence_length,
            )
        )
        return WanPipelineOutput(frames=frames) if return_dict else (frames,)

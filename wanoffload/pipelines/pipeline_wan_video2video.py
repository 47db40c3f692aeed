"""Video to video with WAN 2.1's text-to-video checkpoints, under diffusers' names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from wanoffload.pictures import AssumedStill
from wanoffload.pipelines import checks
from wanoffload.pipelines.films import parse_films
from wanoffload.pipelines.pipeline_output import WanPipelineOutput
from wanoffload.pipelines.request import Arguments
from wanoffload.pipelines.sampling import SamplingPipeline
from wanoffload.pipelines.sources import FilmSource
from wanoffload.plan import PipelinePlan


class WanVideoToVideoPipeline(SamplingPipeline):
    """Makes videos over again: a film is encoded, covered with noise up to a strength, and denoised under a prompt.

    Where it does better than diffusers 0.42: ``num_videos_per_prompt`` counts (there it is always 1); a film may be a
    path; ``latents`` are checked. The run begins at the position that the strength says, where diffusers looks the
    timestep up by value and skips a step if it occurs twice. Frames beyond 4k + 1 are left out with a warning.

    Args:
        tokenizer: `wanoffload.text.Tokenizer`.
        text_encoder: `UMT5EncoderModel`.
        transformer: `WanTransformer3DModel` for text to video.
        vae: `AutoencoderKLWan`.
        scheduler: `UniPCMultistepScheduler` or `FlowMatchEulerDiscreteScheduler`.

    Attributes:
        report: `PipelineReport` of the last call, None before.
    """

    made_from: ClassVar[str] = "video"
    component_names: ClassVar[tuple[str, ...]] = ("tokenizer", "text_encoder", "transformer", "vae", "scheduler")
    model_cpu_offload_seq: ClassVar[str] = "text_encoder->transformer->vae"

    def __init__(self, tokenizer: Any, text_encoder: Any, transformer: Any, vae: Any, scheduler: Any) -> None:
        components = {
            "tokenizer": tokenizer,
            "text_encoder": text_encoder,
            "transformer": transformer,
            "vae": vae,
            "scheduler": scheduler,
        }
        self._begin(components, {})

    def check_inputs(
        self,
        prompt: Any,
        negative_prompt: Any,
        height: Any,
        width: Any,
        video: Any = None,
        latents: Any = None,
        prompt_embeds: Any = None,
        negative_prompt_embeds: Any = None,
        callback_on_step_end_tensor_inputs: Any = None,
    ) -> None:
        """Checks arguments that several calls share. Raises ValueError or TypeError that names the argument."""
        checks.check_size(height, width)
        checks.check_callback_inputs(callback_on_step_end_tensor_inputs)
        checks.check_texts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        if video is not None and latents is not None:
            raise ValueError("Only one of `video` or `latents` should be provided")

    def plan(
        self,
        video: Any = None,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int = 480,
        width: int = 832,
        guidance_scale: float = 5.0,
        num_videos_per_prompt: int = 1,
        prompt_embeds: Any = None,
        negative_prompt_embeds: Any = None,
        output_type: str = "np",
        max_sequence_length: int = 512,
        num_frames: int = 81,
    ) -> PipelinePlan:
        """Says what a call with these arguments will need, before anything runs.

        Without a film, one of ``num_frames`` frames of the video's size is assumed; without a prompt, one of
        ``max_sequence_length`` tokens. Arguments: see `__call__`.

        Raises:
            PlanError: The budgets cannot hold; ``needed`` are the smallest that would.
        """
        if video is not None:
            films = parse_films(video)
        else:
            frames = checks.whole_number(num_frames, "num_frames")
            films = [[AssumedStill(*checks.check_size(height, width))] * frames]
        arguments = Arguments(
            prompt=prompt,
            negative_prompt=negative_prompt,
            height=height,
            width=width,
            guidance_scale=guidance_scale,
            num_videos_per_prompt=num_videos_per_prompt,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            output_type=output_type,
            max_sequence_length=max_sequence_length,
        )
        return self._plan(arguments, FilmSource(films))

    def __call__(
        self,
        video: Any = None,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int = 480,
        width: int = 832,
        num_inference_steps: int = 50,
        timesteps: list[int] | None = None,
        guidance_scale: float = 5.0,
        strength: float = 0.8,
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
            video: The film: a path or URL, a list of PIL images or arrays, or an array [F, H, W, 3] (NumPy) or
                [F, 3, H, W] (torch); a list of films, or an array with one more axis, has one for each prompt. Frames
                are stretched to height and width as `WanImageToVideoPipeline` does it.
            prompt: What to show, or a list of prompts.
            negative_prompt: What to steer away from, one for all prompts or a list; used with guidance only.
            height: In pixels, a multiple of 16.
            width: In pixels, a multiple of 16.
            num_inference_steps: Steps of the whole schedule, of which the strength says how many are taken.
            timesteps: Refused: UniPC, which WAN is sampled with, takes none; diffusers fails there as well.
            guidance_scale: Classifier-free guidance; up to 1 means none.
            strength: How much is made anew, above 0 and up to 1: the last int(num_inference_steps * strength) steps
                are taken, and the film gets the noise of the first of them.
            num_videos_per_prompt: Videos of each prompt; they come out as p0, p0, p1, p1.
            generator: Where the noise comes from: see `WanPipeline`.
            latents: Where sampling starts, instead of a film: already with noise, [batch, channels, latent frames,
                height / 8, width / 8].
            prompt_embeds: Embeddings [batch, rows, text_dim] instead of ``prompt``, as `encode_prompt` makes them.
            negative_prompt_embeds: Embeddings instead of ``negative_prompt``.
            output_type: ``"np"``, ``"pil"``, ``"pt"`` (with torch) or ``"latent"``.
            return_dict: Whether to return an output object or a tuple.
            attention_kwargs: Refused; there are no attention processors.
            callback_on_step_end: Called after each step: see `WanPipeline`.
            callback_on_step_end_tensor_inputs: What it gets.
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
            prompt, negative_prompt, height, width, video, latents, prompt_embeds, negative_prompt_embeds, tensors
        )
        if timesteps is not None:
            raise ValueError(
                "`timesteps` cannot take effect: the schedule comes from the scheduler, `num_inference_steps` and "
                "`strength`. Leave it out; for another schedule set pipe.scheduler."
            )
        source, num_frames = self._source(video, latents)
        arguments = Arguments(
            prompt=prompt,
            negative_prompt=negative_prompt,
            height=height,
            width=width,
            num_frames=num_frames,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
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
            strength=strength,
        )
        frames = self._sample(arguments, source)
        return WanPipelineOutput(frames=frames) if return_dict else (frames,)

    def _source(self, video: Any, latents: Any) -> tuple[FilmSource | None, int]:
        """The film to encode; or None, and the frames that the given latents stand for."""
        if video is not None:
            return FilmSource(parse_films(video)), 1
        if latents is None:
            raise ValueError("Provide `video`, the film to start from, or `latents`. Text to video is WanPipeline's.")
        shape = getattr(latents, "shape", ())
        if len(shape) != 5 or shape[2] < 1:
            raise ValueError(
                f"`latents` has to be of shape [batch, channels, frames, height, width] but is of shape {list(shape)}."
            )
        return None, (int(shape[2]) - 1) * self.vae_scale_factor_temporal + 1

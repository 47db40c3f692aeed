"""Image to video with WAN 2.1 (first frame; first and last frame) and WAN 2.2 (two experts), under diffusers' names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from wanoffload.arrays import to_numpy
from wanoffload.pictures import AssumedStill, parse_stills
from wanoffload.pipelines import checks
from wanoffload.pipelines.pipeline_output import WanPipelineOutput
from wanoffload.pipelines.request import Arguments
from wanoffload.pipelines.sampling import SamplingPipeline
from wanoffload.pipelines.sources import StillSource
from wanoffload.plan import PipelinePlan


class WanImageToVideoPipeline(SamplingPipeline):
    """Makes videos that begin with a still, or lead from one still to another.

    Where it does better than diffusers 0.42: stills may be PIL images of any mode, NumPy arrays, paths,
    or a list with one for each prompt; ``image_embeds`` may be given beside ``image``, whose frames are needed in any
    case; ``num_videos_per_prompt`` may be more than 1, and ``max_sequence_length`` other than 512. ``last_image`` with
    a checkpoint that was not made for it (and a first-and-last-frame one without it) is an error that says so. Arrays
    of floats go to the image encoder as the pictures that they are, where diffusers divides them by 255 once more.

    Args:
        tokenizer: `wanoffload.text.Tokenizer`.
        text_encoder: `UMT5EncoderModel`.
        vae: `AutoencoderKLWan`.
        scheduler: `UniPCMultistepScheduler` or `FlowMatchEulerDiscreteScheduler`.
        image_processor: `CLIPImageProcessor`; WAN 2.2 has none.
        image_encoder: `CLIPVisionModel`; WAN 2.2 has none.
        transformer: `WanTransformer3DModel`; in WAN 2.2 the high-noise expert.
        transformer_2: WAN 2.2's low-noise expert.
        boundary_ratio: See `WanPipeline`.
        expand_timesteps: WAN 2.2 TI2V-5B's; refused.

    Attributes:
        report: `PipelineReport` of the last call, None before.
    """

    made_from: ClassVar[str] = "image"
    component_names: ClassVar[tuple[str, ...]] = (
        "tokenizer",
        "text_encoder",
        "vae",
        "scheduler",
        "image_processor",
        "image_encoder",
        "transformer",
        "transformer_2",
    )
    model_cpu_offload_seq: ClassVar[str] = "text_encoder->image_encoder->transformer->transformer_2->vae"

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        vae: Any,
        scheduler: Any,
        image_processor: Any = None,
        image_encoder: Any = None,
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
            "image_processor": image_processor,
            "image_encoder": image_encoder,
            "transformer": transformer,
            "transformer_2": transformer_2,
        }
        self._begin(components, {"boundary_ratio": boundary_ratio, "expand_timesteps": expand_timesteps})

    def check_inputs(
        self,
        prompt: Any,
        negative_prompt: Any,
        image: Any,
        height: Any,
        width: Any,
        prompt_embeds: Any = None,
        negative_prompt_embeds: Any = None,
        image_embeds: Any = None,
        callback_on_step_end_tensor_inputs: Any = None,
        guidance_scale_2: Any = None,
    ) -> None:
        """Checks arguments that several calls share. Raises ValueError or TypeError that names the argument."""
        if image is None:
            raise ValueError(
                "Provide `image`: it is the first frame of the video, with `image_embeds` too. Text to video is "
                "WanPipeline's."
            )
        checks.check_size(height, width)
        checks.check_callback_inputs(callback_on_step_end_tensor_inputs)
        checks.check_texts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        checks.check_guidance_2(guidance_scale_2, self.config.boundary_ratio)

    def encode_image(self, image: Any, device: Any = None) -> np.ndarray:
        """Encodes stills as a call does.

        Args:
            image: One still or several: paths, PIL images, NumPy arrays or torch tensors.
            device: Accepted; arrays are handed out in host memory.

        Returns:
            float32 [images, tokens, width], which a call takes as ``image_embeds``.
        """
        for name in ("image_processor", "image_encoder"):
            if getattr(self, name) is None:
                raise ValueError(f"An image cannot be encoded: this pipeline has no {name}. Load it with one.")
        pictures = [still.picture() for still in parse_stills(image, "image")]
        pixels = self.image_processor(pictures, return_tensors="np").pixel_values
        return self.image_encoder.encode(self.image_encoder.check_pixels(pixels))

    def plan(
        self,
        image: Any = None,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int = 480,
        width: int = 832,
        num_frames: int = 81,
        guidance_scale: float = 5.0,
        num_videos_per_prompt: int = 1,
        prompt_embeds: Any = None,
        negative_prompt_embeds: Any = None,
        image_embeds: Any = None,
        last_image: Any = None,
        output_type: str = "np",
        max_sequence_length: int = 512,
        num_inference_steps: int = 50,
    ) -> PipelinePlan:
        """Says what a call with these arguments will need, before anything runs.

        Without stills, as many as the checkpoint is made for are assumed, of the video's size; without a prompt, one
        of ``max_sequence_length`` tokens. Arguments: see `__call__`.

        Raises:
            PlanError: The budgets cannot hold; ``needed`` are the smallest that would.
        """
        arguments = Arguments(
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
        if image is not None:
            return self._plan(arguments, _source(image, last_image, image_embeds))
        for name, given in (("last_image", last_image), ("image_embeds", image_embeds)):
            if given is not None:
                raise ValueError(f"`{name}` takes effect with `image` only. Give that as well, or leave it out.")
        blank = [AssumedStill(*checks.check_size(height, width))]
        network = self.main_transformer
        both = network is not None and network.config.pos_embed_seq_len is not None
        return self._plan(arguments, StillSource(blank, blank if both else None))

    def __call__(
        self,
        image: Any,
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
        image_embeds: Any = None,
        last_image: Any = None,
        output_type: str | None = "np",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006  diffusers' signature; never changed
        max_sequence_length: int = 512,
    ) -> WanPipelineOutput | tuple:
        """Makes videos.

        Args:
            image: The first frame: a path or URL, a PIL image, or an array [H, W, 3] (NumPy) or [3, H, W]
                (torch) of uint8 or of floats in 0..1 (floats with negative values are taken as -1..1). A list, or an
                array with one more axis, has one for each prompt; a single prompt is said of each. It is stretched to
                height and width: pictures and uint8 with Lanczos, floats by nearest neighbour, as in diffusers. A
                path's picture is turned as its EXIF says; a PIL image is taken as it is. Grey of
                16 bits and of floats is scaled to 8 bits.
            prompt: What is to happen, or a list of prompts.
            negative_prompt: What to steer away from, one for all prompts or a list; used with guidance only.
            height: In pixels, a multiple of 16.
            width: In pixels, a multiple of 16.
            num_frames: 4k + 1; others are rounded with a warning.
            num_inference_steps: Denoising steps, at least 1.
            guidance_scale: Classifier-free guidance; up to 1 means none.
            guidance_scale_2: The same for the steps of WAN 2.2's low-noise expert; None: as ``guidance_scale``. Without
                guidance (``guidance_scale`` up to 1) it has no effect, as in diffusers.
            num_videos_per_prompt: Videos of each prompt; they come out as p0, p0, p1, p1.
            generator: Where the noise comes from: see `WanPipeline`.
            latents: The noise itself, [batch, channels, latent frames, height / 8, width / 8], instead of a
                generator's.
            prompt_embeds: Embeddings [batch, rows, text_dim] instead of ``prompt``, as `encode_prompt` makes them.
            negative_prompt_embeds: Embeddings instead of ``negative_prompt``.
            image_embeds: Embeddings [images, tokens, image_dim] of the stills, as `encode_image` makes them; then no
                image encoder is needed. With a last frame: those of the first, then those of the last.
            last_image: The last frame, like ``image``. WAN 2.1 needs a checkpoint for first and last frame (FLF2V).
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
            prompt,
            negative_prompt,
            image,
            height,
            width,
            prompt_embeds,
            negative_prompt_embeds,
            image_embeds,
            tensors,
            guidance_scale_2,
        )
        arguments = Arguments(
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
        frames = self._sample(arguments, _source(image, last_image, image_embeds))
        return WanPipelineOutput(frames=frames) if return_dict else (frames,)


def _source(image: Any, last_image: Any, image_embeds: Any) -> StillSource:
    first = parse_stills(image, "image")
    last = None if last_image is None else parse_stills(last_image, "last_image")
    embeds = None if image_embeds is None else to_numpy(image_embeds, "image_embeds").astype(np.float32)
    return StillSource(first, last, embeds)

"""What the pipeline returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wanoffload.outputs import BaseOutput


@dataclass
class WanPipelineOutput(BaseOutput):
    """Output of a WAN pipeline.

    Attributes:
        frames: The videos: for ``output_type="np"`` a float32 array [batch, frames, height, width, 3] in 0..1; for
            ``"pil"`` a list of lists of PIL images; for ``"pt"`` a torch tensor [batch, frames, 3, height, width]; for
            ``"latent"`` the latents, float32 [batch, channels, latent frames, latent height, latent width].
    """

    frames: Any

"""The networks of WAN, each usable alone: called on arrays with diffusers' names and shapes."""

from wanoffload.models.image_encoder import CLIPVisionModel
from wanoffload.models.image_processor import CLIPImageProcessor
from wanoffload.models.text_encoder import UMT5EncoderModel
from wanoffload.models.transformer import WanTransformer3DModel
from wanoffload.models.vae import AutoencoderKLWan

__all__ = [
    "AutoencoderKLWan",
    "CLIPImageProcessor",
    "CLIPVisionModel",
    "UMT5EncoderModel",
    "WanTransformer3DModel",
]

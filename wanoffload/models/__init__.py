"""The networks of WAN text to video, each usable alone: called on arrays with diffusers' names and shapes."""

from wanoffload.models.text_encoder import UMT5EncoderModel
from wanoffload.models.transformer import WanTransformer3DModel
from wanoffload.models.vae import AutoencoderKLWan

__all__ = ["AutoencoderKLWan", "UMT5EncoderModel", "WanTransformer3DModel"]

"""The helpers that diffusers keeps in ``diffusers.utils``."""

from wanoffload.pictures import load_image
from wanoffload.video import export_to_gif, export_to_video, load_video

__all__ = ["export_to_gif", "export_to_video", "load_image", "load_video"]

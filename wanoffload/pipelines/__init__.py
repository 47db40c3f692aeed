"""Pipelines: from a prompt, a still or a film to a video."""

from wanoffload.pipelines.pipeline_output import WanPipelineOutput
from wanoffload.pipelines.pipeline_wan import WanPipeline
from wanoffload.pipelines.pipeline_wan_i2v import WanImageToVideoPipeline
from wanoffload.pipelines.pipeline_wan_video2video import WanVideoToVideoPipeline

__all__ = ["WanImageToVideoPipeline", "WanPipeline", "WanPipelineOutput", "WanVideoToVideoPipeline"]

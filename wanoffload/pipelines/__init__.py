"""Pipelines: from a prompt to a video."""

from wanoffload.pipelines.pipeline_output import WanPipelineOutput
from wanoffload.pipelines.pipeline_wan import WanPipeline

__all__ = ["WanPipeline", "WanPipelineOutput"]

"""Schedulers: the sampling schedules and solver steps that WAN pipelines use, in NumPy, with diffusers' names."""

from wanoffload.schedulers.flow_match_euler import FlowMatchEulerDiscreteScheduler
from wanoffload.schedulers.scheduler import Scheduler, SchedulerOutput
from wanoffload.schedulers.unipc import UniPCMultistepScheduler

SCHEDULERS: dict[str, type[Scheduler]] = {
    "UniPCMultistepScheduler": UniPCMultistepScheduler,
    "FlowMatchEulerDiscreteScheduler": FlowMatchEulerDiscreteScheduler,
}

__all__ = ["SCHEDULERS", "FlowMatchEulerDiscreteScheduler", "Scheduler", "SchedulerOutput", "UniPCMultistepScheduler"]

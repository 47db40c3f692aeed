"""Options that several commands share, and what they mean to a pipeline."""

from __future__ import annotations

import argparse
from typing import Any

from wanoffload.sizes import parse_size

OFFLOAD_KINDS = ("none", "block", "leaf", "model", "sequential", "auto")
SCHEDULER_NAMES = ("unipc", "euler")


def size(text: str) -> int:
    """A size as argparse reads it: ``8GiB``."""
    try:
        found = parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).replace("`size` has", "it has")) from None
    return found or 0


def flow_shift(text: str) -> float | str:
    """A flow shift as argparse reads it: a number, or ``auto``."""
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"it has to be a number or 'auto' but is '{text}'") from None


def add_model(parser: argparse.ArgumentParser) -> None:
    """MODEL, and how it is held."""
    parser.add_argument(
        "model", metavar="MODEL", help="a checkpoint folder in diffusers' layout, or OWNER/NAME on the Hub"
    )
    group = parser.add_argument_group("model")
    group.add_argument(
        "--dtype",
        default="float32",
        help="what the weights of text encoder and transformers are held in: float32, bfloat16, float16, or auto for "
        "that of the files (default: %(default)s)",
    )
    group.add_argument("--vae-dtype", default="float32", help="the same for the VAE (default: %(default)s)")
    add_device(group)
    group.add_argument("--variant", help="take files like model.VARIANT.safetensors")
    group.add_argument(
        "--threads", type=int, metavar="N", help="threads that compute (default: what the machine allows)"
    )


def add_device(group: Any) -> None:
    """Where to compute."""
    group.add_argument(
        "--device",
        metavar="DEVICE",
        help="where to compute: cpu, cuda, cuda:1; to plan for a card that is not there, its name as in cuda:rtx4090 "
        "(default: cpu)",
    )


def add_video(parser: argparse.ArgumentParser, prompt_needed: bool) -> None:
    """What the film shows, and its size."""
    group = parser.add_argument_group("film")
    group.add_argument(
        "--prompt", required=prompt_needed, action="append", help="what to show; repeat it for more films"
    )
    group.add_argument("--negative-prompt", help="what to steer away from")
    group.add_argument(
        "--height", type=int, help="in pixels, a multiple of 16 (default: 480, or what the still or film asks for)"
    )
    group.add_argument("--width", type=int, help="in pixels, a multiple of 16 (default: 832, or as above)")
    group.add_argument("--frames", type=int, help="4k + 1 (default: 81; with --video all that it has)")
    group.add_argument(
        "--guidance",
        type=float,
        default=5.0,
        help="how strictly to follow the prompt; 1 is none (default: %(default)s)",
    )
    group.add_argument(
        "--guidance-2",
        type=float,
        metavar="G",
        help="the same for the steps of the second expert of WAN 2.2 (default: that of --guidance)",
    )
    group.add_argument(
        "--max-sequence-length",
        type=int,
        default=512,
        metavar="N",
        help="tokens a prompt is cut to (default: %(default)s)",
    )


def add_offload(parser: argparse.ArgumentParser) -> None:
    """Where the weights are. None of this changes a bit of the film."""
    group = parser.add_argument_group("offloading (none of this changes a bit of the film)")
    group.add_argument(
        "--vram", type=size, metavar="SIZE", help="bound of the device arena, as 8GiB; means --offload auto"
    )
    group.add_argument(
        "--ram", type=size, metavar="SIZE", help="bound of what is allocated in memory; means --offload auto"
    )
    group.add_argument(
        "--offload",
        choices=OFFLOAD_KINDS,
        help="none: all weights resident. block, leaf: streamed in groups. model: one network at a time. "
        "sequential: each layer copied at use. auto: planned to fit --vram and --ram",
    )
    group.add_argument(
        "--blocks-per-group", type=int, metavar="N", help="with block: blocks that travel together (default: 1)"
    )
    group.add_argument("--stream", action="store_true", help="with block and leaf: copy beside the computation")
    group.add_argument(
        "--disk", action="store_true", help="with block and leaf: stream from the checkpoint's files, not from memory"
    )
    group.add_argument(
        "--vae-tiling", action="store_true", help="VAE in tiles: less memory, a slightly different picture"
    )


def check_offload(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses options that cannot take effect, as argparse refuses a wrong one."""
    budgets = options.vram is not None or options.ram is not None
    kind = options.offload or ("auto" if budgets else "none")
    if budgets and kind != "auto":
        parser.error(
            f"--vram and --ram cannot take effect with --offload {kind}; leave them out, or use --offload auto"
        )
    if kind not in ("block", "leaf"):
        for name in ("stream", "disk"):
            if getattr(options, name):
                parser.error(f"--{name} takes effect with --offload block or leaf only")
    if options.blocks_per_group is not None and kind != "block":
        parser.error("--blocks-per-group takes effect with --offload block only")
    options.offload = kind


def load_pipeline(options: argparse.Namespace) -> Any:
    """Opens the checkpoint with the pipeline that it and the sources ask for, and puts the offload options in force."""
    import wanoffload
    from wanoffload.pipelines.choice import pipeline_class

    if options.threads is not None:
        wanoffload.set_num_threads(options.threads)
    dtype = {"default": options.dtype, "vae": options.vae_dtype, "image_encoder": "float32"}
    chosen = pipeline_class(options.model, bool(options.image), bool(options.video), options.planning)
    pipe = chosen.from_pretrained(options.model, dtype=dtype, variant=options.variant, device=options.device)
    apply_offload(pipe, options)
    return pipe


def apply_offload(pipe: Any, options: argparse.Namespace) -> None:
    """Puts checked offload options in force."""
    kind = options.offload
    if kind in ("block", "leaf"):
        pipe.enable_group_offload(
            onload_device=pipe.device,
            offload_device="disk" if options.disk else "cpu",
            offload_type=f"{kind}_level",
            num_blocks_per_group=(options.blocks_per_group or 1) if kind == "block" else None,
            use_stream=options.stream,
        )
    elif kind == "model":
        pipe.enable_model_cpu_offload(device=pipe.device)
    elif kind == "sequential":
        pipe.enable_sequential_cpu_offload(device=pipe.device)
    elif kind == "auto":
        pipe.enable_auto_offload(vram=options.vram, ram=options.ram)
    if options.vae_tiling:
        pipe.vae.enable_tiling()


def add_scheduler(parser: argparse.ArgumentParser) -> None:
    """How the noise is taken away."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--steps", type=int, default=50, help="denoising steps (default: %(default)s)")
    group.add_argument(
        "--seed", type=int, help="the noise that torch gives for this seed (default: another one each time)"
    )
    group.add_argument("--scheduler", choices=SCHEDULER_NAMES, help="default: that of the checkpoint")
    group.add_argument(
        "--flow-shift",
        type=flow_shift,
        metavar="S",
        help="a number, or auto for the one that the model was published with at this size (default: that of the "
        "checkpoint)",
    )


def apply_scheduler(pipe: Any, options: argparse.Namespace) -> None:
    """Changes the pipeline's scheduler as the options say."""
    from wanoffload.schedulers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    if options.scheduler is None and options.flow_shift is None:
        return
    classes = {"unipc": UniPCMultistepScheduler, "euler": FlowMatchEulerDiscreteScheduler}
    wanted = classes.get(options.scheduler, type(pipe.scheduler))
    config = pipe.scheduler.config
    shift = options.flow_shift
    if shift is None:
        shift = config.get("flow_shift", config.get("shift"))
    name = "flow_shift" if wanted is UniPCMultistepScheduler else "shift"
    changes = {name: shift} if shift is not None else {}
    if wanted is UniPCMultistepScheduler:
        changes |= {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    pipe.scheduler = wanted.from_config(config, **changes)

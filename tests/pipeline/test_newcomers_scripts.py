"""Scripts as a newcomer writes them after diffusers' documentation: run as they are, and with their imports changed."""

import re
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from pipeline.helpers import (
    assert_same_film,
    draw_picture,
    write_expert_pipeline,
    write_image_pipeline,
    write_pipeline,
)

import wanoffload.utils

IMAGE_TO_VIDEO = """
import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline
from diffusers.utils import export_to_video, load_image
from transformers import CLIPVisionModel

model_id = "MODEL"
image_encoder = CLIPVisionModel.from_pretrained(model_id, subfolder="image_encoder", torch_dtype=torch.float32)
vae = AutoencoderKLWan.from_pretrained(model_id, subfolder="vae", torch_dtype=torch.float32)
pipe = WanImageToVideoPipeline.from_pretrained(
    model_id, vae=vae, image_encoder=image_encoder, torch_dtype=torch.bfloat16
)
pipe.to("cuda")

image = load_image("first.png")
max_area = 480 * 832
aspect_ratio = image.height / image.width
mod_value = pipe.vae_scale_factor_spatial * pipe.transformer.config.patch_size[1]
height = round(np.sqrt(max_area * aspect_ratio)) // mod_value * mod_value
width = round(np.sqrt(max_area / aspect_ratio)) // mod_value * mod_value
image = image.resize((width, height))

output = pipe(
    image=image,
    prompt="the red star begins to spin",
    negative_prompt="blurred, static",
    height=height,
    width=width,
    num_frames=81,
    num_inference_steps=50,
    guidance_scale=5.0,
    generator=torch.Generator("cpu").manual_seed(0),
).frames[0]
export_to_video(output, "output.mp4", fps=16)
"""

FIRST_AND_LAST_FRAME = """
import numpy as np
import PIL.ImageOps
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline
from diffusers.utils import export_to_video, load_image
from transformers import CLIPVisionModel

model_id = "MODEL"
image_encoder = CLIPVisionModel.from_pretrained(model_id, subfolder="image_encoder", torch_dtype=torch.float32)
vae = AutoencoderKLWan.from_pretrained(model_id, subfolder="vae", torch_dtype=torch.float32)
pipe = WanImageToVideoPipeline.from_pretrained(
    model_id, vae=vae, image_encoder=image_encoder, torch_dtype=torch.bfloat16
)
pipe.to("cuda")

first_frame = load_image("first.png")
last_frame = load_image("last.png")

def aspect_ratio_resize(image, pipe, max_area=480 * 832):
    aspect_ratio = image.height / image.width
    mod_value = pipe.vae_scale_factor_spatial * pipe.transformer.config.patch_size[1]
    height = round(np.sqrt(max_area * aspect_ratio)) // mod_value * mod_value
    width = round(np.sqrt(max_area / aspect_ratio)) // mod_value * mod_value
    return image.resize((width, height)), height, width

first_frame, height, width = aspect_ratio_resize(first_frame, pipe)
if last_frame.size != first_frame.size:
    last_frame = PIL.ImageOps.fit(last_frame, (width, height))

output = pipe(
    image=first_frame, last_image=last_frame, prompt="the star turns into a ball", height=height, width=width,
    num_frames=81, num_inference_steps=50, guidance_scale=5.5, generator=torch.Generator("cpu").manual_seed(0),
).frames[0]
export_to_video(output, "output.mp4", fps=16)
"""

VIDEO_TO_VIDEO = """
import torch
from diffusers import AutoencoderKLWan, WanVideoToVideoPipeline
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from diffusers.utils import export_to_video, load_video

model_id = "MODEL"
vae = AutoencoderKLWan.from_pretrained(model_id, subfolder="vae", torch_dtype=torch.float32)
pipe = WanVideoToVideoPipeline.from_pretrained(model_id, vae=vae, torch_dtype=torch.bfloat16)
flow_shift = 3.0  # 5.0 for 720P, 3.0 for 480P
pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=flow_shift)
pipe.to("cuda")

video = load_video("in.mp4")
output = pipe(
    video=video,
    prompt="a green star on a mountain top",
    negative_prompt="blurred, static",
    height=480,
    width=832,
    num_inference_steps=50,
    guidance_scale=5.0,
    strength=0.7,
    generator=torch.Generator("cpu").manual_seed(0),
).frames[0]
export_to_video(output, "output.mp4", fps=16)
"""

TWO_EXPERTS = """
import torch
from diffusers import AutoencoderKLWan, WanPipeline
from diffusers.utils import export_to_video

dtype = torch.bfloat16
device = "cuda"
model_id = "MODEL"
vae = AutoencoderKLWan.from_pretrained(model_id, subfolder="vae", torch_dtype=torch.float32)
pipe = WanPipeline.from_pretrained(model_id, vae=vae, torch_dtype=dtype)
pipe.to(device)

output = pipe(
    prompt="two cats box on a lit stage",
    negative_prompt="blurred, static",
    height=480,
    width=832,
    num_frames=81,
    guidance_scale=4.0,
    guidance_scale_2=3.0,
    num_inference_steps=40,
    generator=torch.Generator("cpu").manual_seed(0),
).frames[0]
export_to_video(output, "output.mp4", fps=16)
"""

TWO_EXPERTS_FROM_A_STILL = """
import numpy as np
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.utils import export_to_video, load_image

dtype = torch.bfloat16
device = "cuda"
pipe = WanImageToVideoPipeline.from_pretrained("MODEL", torch_dtype=dtype)
pipe.to(device)

image = load_image("first.png")
max_area = 480 * 832
aspect_ratio = image.height / image.width
mod_value = pipe.vae_scale_factor_spatial * pipe.transformer.config.patch_size[1]
height = round(np.sqrt(max_area * aspect_ratio)) // mod_value * mod_value
width = round(np.sqrt(max_area / aspect_ratio)) // mod_value * mod_value
image = image.resize((width, height))
generator = torch.Generator(device=device).manual_seed(0)
output = pipe(
    image=image,
    prompt="the star rides a wave",
    height=height,
    width=width,
    num_frames=81,
    guidance_scale=3.5,
    num_inference_steps=40,
    generator=generator,
).frames[0]
export_to_video(output, "output.mp4", fps=16)
"""

SCRIPTS = {
    "image to video": IMAGE_TO_VIDEO,
    "first and last frame": FIRST_AND_LAST_FRAME,
    "video to video": VIDEO_TO_VIDEO,
    "two experts": TWO_EXPERTS,
    "two experts from a still": TWO_EXPERTS_FROM_A_STILL,
}
SMALLER = [
    (r"480 \* 832", "48 * 64"),
    ("height=480", "height=32"),
    ("width=832", "width=48"),
    ("num_frames=81", "num_frames=5"),
    (r"num_inference_steps=\d+", "num_inference_steps=4"),
    ('"cuda"', '"cpu"'),
]
IMPORTS = [
    (r"from diffusers\.schedulers\.\w+ import", "from wanoffload.schedulers import"),
    (r"from (diffusers|transformers)\b", "from wanoffload"),
]


@pytest.fixture(scope="module")
def place(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the scripts name, and a checkpoint for each."""
    place = tmp_path_factory.mktemp("newcomer")
    draw_picture(37, 53, 1).save(place / "first.png")
    draw_picture(64, 40, 2).save(place / "last.png")
    film = [draw_picture(37, 53, seed) for seed in range(5)]
    wanoffload.utils.export_to_video(film, place / "in.mp4", fps=8)
    write_image_pipeline(place / "image to video", demo_model, 1)
    write_image_pipeline(place / "first and last frame", demo_model, 2, "both")
    write_pipeline(place / "video to video", demo_model, 3)
    write_expert_pipeline(place / "two experts", demo_model, 4, 0.875)
    write_image_pipeline(place / "two experts from a still", demo_model, 5, "experts", 0.9)
    return place


def run(script: str, changes: list[tuple[str, str]]) -> Any:
    for pattern, replacement in changes:
        script = re.sub(pattern, replacement, script)
    names: dict[str, Any] = {}
    exec(compile(script, "newcomer.py", "exec"), names)
    assert Path("output.mp4").stat().st_size > 500
    Path("output.mp4").unlink()
    return names["output"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_newcomer_s_script_runs_with_its_imports_changed(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for helper in ("export_to_video", "load_video"):  # diffusers' need imageio-ffmpeg
        monkeypatch.setattr(diffusers.utils, helper, getattr(wanoffload.utils, helper))
    changes = [*SMALLER, ("MODEL", name)]
    in_float32 = [*changes, ("bfloat16", "float32")]
    expected = run(SCRIPTS[name], in_float32)
    film = run(SCRIPTS[name], [*IMPORTS, *in_float32])
    assert_same_film(film, np.asarray(expected))
    shorter = run(SCRIPTS[name], [*IMPORTS, *changes])
    assert shorter.shape == film.shape and 1e-5 < np.abs(shorter - film).max() < 0.5

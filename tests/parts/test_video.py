"""Films must survive the way into a file and back."""

import logging
import struct

import numpy as np
import pytest

from wanoffload.utils import export_to_gif, export_to_video, load_image, load_video
from wanoffload.video import frames_to_pil, to_uint8


@pytest.fixture
def film():
    """Smooth colours that move, [7, 32, 48, 3] in 0..1."""
    f, y, x = np.meshgrid(np.arange(7), np.linspace(0, 1, 32), np.linspace(0, 1, 48), indexing="ij")
    return np.stack([x, y, (f / 6 + 0 * x)], axis=-1).astype(np.float32)


def test_a_film_does_not_come_back(tmp_path, film):
    path = export_to_video(film, tmp_path / "film.mp4", fps=16, quality=9)
    frames, fps = load_video(path, return_fps=True)
    assert fps == 16 and len(frames) == 7 and frames[0].size == (48, 32)
    back = np.stack([np.asarray(frame) for frame in frames]) / 255
    assert np.abs(back - film).mean() < 0.02


def test_the_file_is_not_h264_yuv420p(tmp_path, film):
    import av

    with av.open(export_to_video(film, str(tmp_path / "a.mp4"))) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.pix_fmt == "yuv420p"
        assert stream.average_rate == 10


@pytest.mark.parametrize(
    "size, block, wanted", [((30, 50), 16, (64, 32)), ((30, 50), 1, (50, 30)), ((31, 33), None, (34, 32))]
)
def test_odd_sizes_are_not_enlarged(tmp_path, size, block, wanted):
    path = export_to_video(np.zeros((2, *size, 3), np.uint8), tmp_path / "b.mp4", macro_block_size=block)
    assert load_video(path)[0].size == wanted


def test_pil_frames_are_not_taken(tmp_path, film):
    path = export_to_video(frames_to_pil(film), tmp_path / "c.mp4")
    assert len(load_video(path)) == 7


def test_a_gif_does_not_come_back(tmp_path, film):
    path = export_to_gif(film, tmp_path / "film.gif", fps=8)
    assert export_to_video(film, tmp_path / "other.gif", fps=8).endswith("other.gif")
    frames = load_video(path)
    assert len(frames) == 7
    assert np.abs(np.asarray(frames[3].convert("RGB")) / 255 - film[3]).mean() < 0.05


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_film_of_a_phone_lies_on_its_side(tmp_path, turns):
    """The matrix in the track's header says how the film was held; players turn it, and so does load_video."""
    frame = np.zeros((32, 64, 3), np.uint8)
    frame[:, :16] = 255  # a white edge on the left
    path = tmp_path / "phone.mp4"
    export_to_video([frame] * 3, path)
    a, b = {1: (0, 1), 2: (-1, 0), 3: (0, -1)}[turns]  # quarter turns clockwise
    content = path.read_bytes()
    start = content.index(b"tkhd") + 44
    matrix = struct.pack(">9i", a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30)
    assert struct.unpack(">9i", content[start : start + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:start] + matrix + content[start + 36 :])
    for shown in load_video(path):
        assert np.abs(np.asarray(shown).astype(int) - np.rot90(frame, -turns)).mean() < 12


def test_a_film_that_is_cut_short_passes_for_a_shorter_one(tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8)
    whole = export_to_video(noise, str(tmp_path / "whole.mkv"), fps=10)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes((tmp_path / "whole.mkv").read_bytes()[: (tmp_path / "whole.mkv").stat().st_size * 2 // 3])
    with caplog.at_level(logging.WARNING, "wanoffload"):
        assert len(load_video(whole)) == 40
        assert not caplog.text
        assert 0 < len(load_video(cut)) < 40
    assert "cut.mkv ends after" in caplog.text and "of 4 seconds" in caplog.text


def test_a_film_that_dwells_on_its_last_frame_passes_for_cut_short(tmp_path, caplog):
    frames = frames_to_pil(np.linspace(0, 1, 4)[:, None, None, None] * np.ones((1, 16, 16, 3)))
    frames[0].save(tmp_path / "slow.gif", save_all=True, append_images=frames[1:], duration=[50, 50, 50, 3000])
    with caplog.at_level(logging.WARNING, "wanoffload"):
        assert len(load_video(tmp_path / "slow.gif")) == 4
    assert not caplog.text


def test_pixels_are_rounded_the_wrong_way():
    frame = np.full((1, 1, 3), 0.999, np.float32)
    assert to_uint8(frame)[0, 0, 0] == 254 and to_uint8(frame, rounded=True)[0, 0, 0] == 255
    assert to_uint8(np.full((1, 1, 3), 7.0))[0, 0, 0] == 255 and to_uint8(np.full((1, 1, 3), -1.0))[0, 0, 0] == 0


@pytest.mark.parametrize(
    "frames, message",
    [
        (np.zeros((1, 2, 8, 8, 3)), "batch of videos"),
        (np.zeros((0, 8, 8, 3)), "no frames"),
        (np.zeros((2, 8, 8, 4)), "height, width, 3"),
        (np.zeros((2, 8, 8, 3), np.int64), "float in 0..1"),
        ([np.zeros((8, 8, 3)), np.zeros((8, 16, 3))], "differ in size"),
    ],
)
def test_wrong_frames_are_taken(tmp_path, frames, message):
    with pytest.raises(ValueError, match=message):
        export_to_video(frames, tmp_path / "d.mp4", macro_block_size=None)


@pytest.mark.parametrize("options", [dict(fps=0), dict(fps=-3), dict(quality=11)], ids=str)
def test_wrong_options_are_taken(tmp_path, film, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        export_to_video(film, tmp_path / "e.mp4", **options)


def test_a_picture_is_not_turned_or_converted(tmp_path):
    import PIL.Image

    picture = PIL.Image.new("L", (4, 2), 7)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    loaded = load_image(str(tmp_path / "turned.jpg"))
    assert loaded.size == (2, 4) and loaded.mode == "RGB"
    assert load_image(picture, lambda image: image).mode == "L"


def test_what_is_no_picture_or_film_is_not_named(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    with pytest.raises(ValueError, match="broken.png"):
        load_image(broken)
    with pytest.raises(ValueError, match="broken.png"):
        load_video(broken)
    for load in (load_image, load_video):
        with pytest.raises(ValueError, match="missing.mp4"):
            load(str(tmp_path / "missing.mp4"))
    with pytest.raises(ValueError, match="float"):
        load_image(1.5)

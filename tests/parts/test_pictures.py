"""Stills of every kind of file, mode and address must come in as what is to be seen on them."""

import io
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from wanoffload import pictures
from wanoffload.pictures import load_image, parse_stills
from wanoffload.pipelines.films import parse_films

URL = "https://example.org/still.png?size=large"


def plain(value: int, mode: str = "RGB") -> PIL.Image.Image:
    return PIL.Image.new("L", (20, 16), value).convert(mode)


def pixels_of(still: pictures.Still) -> np.ndarray:
    return np.asarray(still.picture())


@pytest.mark.parametrize("name", ["phone.jpg", "pages.tiff"])
def test_a_file_with_a_preview_or_pages_is_refused_as_animated(name: str, tmp_path: Path) -> None:
    """Phones store a second picture in their JPEGs, which Pillow opens as MPO."""
    kind = "MPO" if name.endswith("jpg") else "TIFF"
    plain(200).save(tmp_path / name, format=kind, save_all=True, append_images=[plain(20)])
    with PIL.Image.open(tmp_path / name) as opened:
        assert opened.n_frames == 2
        for given in (tmp_path / name, opened):
            (still,) = parse_stills(given, "image")
            assert np.abs(pixels_of(still).astype(int) - 200).max() < 3


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_taken_for_a_still(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"moving.{kind.lower()}"
    plain(200).save(file, format=kind, save_all=True, append_images=[plain(20)], duration=100)
    with pytest.raises(ValueError, match=r"moving.* \(`image`\) is animated, with 2 frames"):
        parse_stills(file, "image")


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bit_grey_becomes_white(order: str, tmp_path: Path) -> None:
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    mode = "I;16" if order == "<u2" else "I;16B"
    picture = PIL.Image.frombytes(mode, (16, 16), ramp.astype(order).tobytes())
    expected = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert np.array_equal(pixels_of(parse_stills(picture, "image")[0]), expected)
    assert np.array_equal(np.asarray(load_image(picture)), expected)
    picture.save(tmp_path / "deep.png" if order == "<u2" else tmp_path / "deep.tiff")
    for file in tmp_path.iterdir():
        assert np.array_equal(pixels_of(parse_stills(file, "image")[0]), expected)


@pytest.mark.parametrize(
    ("mode", "values", "wanted"),
    [
        ("I", [[0, 99], [254, 255]], [[0, 99], [254, 255]]),
        ("I", [[0, 256], [257 * 99, 65535]], [[0, 1], [99, 255]]),
        ("F", [[0.0, 0.25], [0.5, 1.0]], [[0, 64], [128, 255]]),
        ("F", [[0.0, 1.5], [99.0, 255.0]], [[0, 2], [99, 255]]),
    ],
)
def test_wide_grey_is_cut_off(mode: str, values: list, wanted: list) -> None:
    picture = PIL.Image.fromarray(np.array(values, np.int32 if mode == "I" else np.float32))
    expected = np.repeat(np.array(wanted, np.uint8)[..., None], 3, axis=2)
    assert np.array_equal(pixels_of(parse_stills(picture, "image")[0]), expected)
    assert np.array_equal(np.asarray(load_image(picture)), expected)


@pytest.mark.parametrize(
    ("mode", "values"),
    [("I", [[-1, 5]]), ("I", [[0, 65536]]), ("F", [[-0.5, 1]]), ("F", [[0, 256]]), ("F", [[0, np.nan]])],
)
def test_numbers_that_are_no_brightness_are_cut_off(mode: str, values: list) -> None:
    picture = PIL.Image.fromarray(np.array(values, np.int32 if mode == "I" else np.float32))
    with pytest.raises(ValueError, match=f"`image` is a picture of mode '{mode}' with numbers.*as uint8"):
        parse_stills(picture, "image")
    with pytest.raises(ValueError, match=f"mode '{mode}'"):
        load_image(picture)


def test_premultiplied_grey_is_refused() -> None:
    assert (pixels_of(parse_stills(plain(99, "LA").convert("La"), "image")[0]) == 99).all()


def test_pictures_in_rgb_are_copied() -> None:
    """A film of them would be in memory twice."""
    frames = [plain(value) for value in range(5)]
    assert all(still.picture() is frame for still, frame in zip(parse_films(frames)[0], frames, strict=True))


def refuse(*_: object, **__: object) -> None:
    raise urllib.error.HTTPError(URL, 404, "Not Found", None, None)


class Broken(io.BytesIO):
    """An answer that ends with an error."""

    def read(self, size: int = -1) -> bytes:
        raise TimeoutError("timed out")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (refuse, "could not be downloaded.*404.*local file"),
        (lambda *_, **__: Broken(), "could not be downloaded.*timed out"),
        (lambda *_, **__: io.BytesIO(b"<html>"), "is not a picture that can be read"),
    ],
    ids=["404", "timeout", "a page"],
)
def test_a_failed_download_hides_its_address_or_leaves_a_file(
    answer: object, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", answer)
    for parse in (load_image, lambda url: parse_stills(url, "image")):
        with pytest.raises(ValueError, match=message) as caught:
            parse(URL)
        assert str(caught.value).startswith(URL)
    with pytest.raises(ValueError, match="download" if "download" in message else "not a video") as caught:
        parse_films(URL)
    assert str(caught.value).startswith(URL) and not list(tmp_path.iterdir())

"""Finding a checkpoint in diffusers' folder layout, locally or on the Hub, and saying early and by name what cannot be
used.

    model_index.json      scheduler/scheduler_config.json      tokenizer/tokenizer.json
    text_encoder/config.json + model.safetensors               transformer/, vae/: config.json +
    diffusion_pytorch_model.safetensors

Weights may be sharded (``*.safetensors.index.json``) and carry a variant (``model.fp16.safetensors``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wanoffload.configuration import FrozenDict, read_json
from wanoffload.errors import CheckpointError
from wanoffload.messages import warn_once

WEIGHT_NAMES = ("diffusion_pytorch_model", "model")
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token", "variant")
_ALWAYS = {"low_cpu_mem_usage": (None, True), "use_safetensors": (None, True), "device_map": (None,)}
_WHY_NOT = {
    "low_cpu_mem_usage": "weights are always read straight to where they are used, never twice",
    "use_safetensors": "only safetensors files are ever read",
    "device_map": "weights are placed by plans; use enable_auto_offload(vram=, ram=) or enable_group_offload(...)",
}
_PIPELINES = {
    "WanPipeline": ("text to video", ("WanPipeline", "WanVideoToVideoPipeline")),
    "WanVideoToVideoPipeline": ("video to video", ("WanPipeline", "WanVideoToVideoPipeline")),
    "WanImageToVideoPipeline": ("image to video", ("WanImageToVideoPipeline",)),
}
NOT_YET = {
    "WanVACEPipeline": "VACE",
    "WanVACETransformer3DModel": "VACE",
    "WanAnimatePipeline": "Animate",
    "WanAnimateTransformer3DModel": "Animate",
}


def missing(message: str, path: Path | str) -> FileNotFoundError:
    """The error for a file or folder that is not there; it carries errno and the path as the operating system's own
    do."""
    return FileNotFoundError(errno.ENOENT, message, os.fspath(path))


def take_loading_options(function: str, options: dict[str, Any], known: tuple[str, ...] = ()) -> dict[str, Any]:
    """Checks the keyword arguments that from_pretrained got beyond its own.

    Args:
        function: Name for errors, ``"WanPipeline.from_pretrained"``.
        options: The keyword arguments.
        known: Further names that the function takes, for the error's list.

    Returns:
        Those that go to the Hub.

    Raises:
        TypeError: A keyword is unknown; it is named.
        ValueError: A keyword asks for what cannot be.
    """
    for name, value in options.items():
        if name in _ALWAYS and value not in _ALWAYS[name]:
            raise ValueError(f"{function}: `{name}`={value!r} cannot take effect: {_WHY_NOT[name]}.")
        if name not in _ALWAYS and name not in _HUB_OPTIONS:
            raise TypeError(
                f"{function}() got an unexpected keyword argument '{name}'. "
                f"It takes: {', '.join((*known, *_HUB_OPTIONS, *_ALWAYS))}."
            )
    return {name: value for name, value in options.items() if name in _HUB_OPTIONS}


def locate(path_or_repo: Any, hub: Mapping[str, Any], subfolders: tuple[str, ...]) -> Path:
    """The local folder of a checkpoint; one that is named like a Hub repository and is not there is downloaded.

    Args:
        path_or_repo: A folder, or ``"owner/name"`` on the Hub.
        hub: Options for the Hub, from `take_loading_options`.
        subfolders: What is wanted of a repository.

    Raises:
        OSError: There is no such folder, or the Hub does not give it.
    """
    if not isinstance(path_or_repo, (str, os.PathLike)):
        raise TypeError(f"A checkpoint is given as a folder or a Hub name, but got a {type(path_or_repo).__name__}.")
    path = Path(path_or_repo).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        other = "GGUF is not read yet; give a folder with safetensors" if path.suffix.lower() == ".gguf" else ""
        raise NotADirectoryError(
            errno.ENOTDIR,
            f"A checkpoint is a folder in diffusers' layout; this is a file. {other or 'Give the folder it lies in'}",
            str(path),
        )
    name = os.fspath(path_or_repo)
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or os.sep == "\\" and "\\" in name:
        raise missing("There is no such checkpoint folder; check the path", path)
    return _download(name, hub, subfolders)


def _download(name: str, hub: Mapping[str, Any], subfolders: tuple[str, ...]) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise missing(
            "There is no such folder, and fetching it from the Hub needs `pip install huggingface_hub`", name
        ) from None
    options = {key: value for key, value in hub.items() if key != "variant" and value is not None}
    patterns = ["model_index.json", *(f"{folder}/*" for folder in subfolders)]
    if "" in subfolders:
        patterns = ["*.json", "*.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, **options))
    except Exception as error:  # the Hub's client and the HTTP library below it have many, of no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise missing(
            f"'{name}' is neither a local folder nor could it be had from the Hub ({reason}). Check the name, log in "
            "with `hf auth login` if it is private, or give a local folder",
            name,
        ) from error


def refuse_single_file(name: str, path: Any) -> None:
    """Raises NotImplementedError for a class's ``from_single_file``, which reads one file in another layout."""
    kind = "GGUF" if str(path).lower().endswith(".gguf") else "A single file in the layout of Wan or ComfyUI"
    raise NotImplementedError(
        f"{name}.from_single_file({os.fspath(path)!r}): {kind} is not read yet. Use {name}.from_pretrained with a "
        "folder in diffusers' layout, whose weights are safetensors."
    )


def component_folder(root: Path, subfolder: str | None) -> Path:
    """The folder of one component; a missing one is an error that lists what is there."""
    folder = root / subfolder if subfolder else root
    if not folder.is_dir():
        found = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        raise missing(
            f"There is no folder '{subfolder}' in the checkpoint. It has: {', '.join(found) or 'no folders'}. "
            "Complete the download, or give the right subfolder",
            folder,
        )
    return folder


def read_component_config(
    folder: Path,
    class_name: str,
    defaults: Mapping[str, Any],
    needed: tuple[str, ...] = (),
    also: Mapping[str, str | None] | None = None,
) -> FrozenDict:
    """Reads a component's config.json, checks whose it is, and fills in diffusers' defaults.

    Args:
        folder: The folder it lies in.
        class_name: The class that it has to be of.
        defaults: Entries that need not be there.
        needed: Entries that must be there.
        also: Further classes that will do, and under which of their entries the component's lie (None: at the top).

    Raises:
        OSError: There is no config.json.
        CheckpointError: It is of another class, is no JSON object, or lacks an entry that has no default.
    """
    file = folder / "config.json"
    if not file.is_file():
        hint = (
            " This looks like a whole checkpoint; give `subfolder=`" if (folder / "model_index.json").is_file() else ""
        )
        raise missing(f"Error no file named config.json found in directory {folder}.{hint}", file)
    config = read_config(file)
    architectures = config.get("architectures")
    found = config.get("_class_name") or (
        architectures[0] if isinstance(architectures, list) and architectures else None
    )
    also = also or {}
    if found is not None and found != class_name and found not in also:
        raise CheckpointError(
            f"{file} describes a {found}, not a {class_name}. Load it with the class that it names, or give another "
            "folder."
        )
    part = also.get(found)
    if part is not None:
        config = config.get(part)
        if not isinstance(config, dict):
            raise CheckpointError(f"{file} describes a {found}, but has no entry '{part}' that describes its part.")
    for name in needed:
        if name not in config:
            raise CheckpointError(
                f"{file} has no entry '{name}', which a {class_name} needs. Is this a WAN checkpoint?"
            )
    return FrozenDict({**defaults, **config})


def check_counts(config: FrozenDict, file: Path, names: tuple[str, ...]) -> None:
    """Raises CheckpointError for entries that are no positive whole numbers."""
    for name in names:
        value = config[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise CheckpointError(f"{file}: {name} has to be a positive whole number but is {value!r}.")


def read_config(file: Path) -> dict[str, Any]:
    """Reads a JSON object of a checkpoint; what cannot be read as one is a `CheckpointError`."""
    try:
        return read_json(file)
    except OSError:
        raise
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def weights_path(folder: Path, variant: str | None = None) -> Path:
    """The safetensors file, or the index of the shards, that holds a component's weights.

    Raises:
        OSError: There is none; files in another format are named.
    """
    tag = f".{variant}" if variant else ""
    for name in WEIGHT_NAMES:
        for file in (f"{name}{tag}.safetensors", f"{name}.safetensors.index{tag}.json"):
            if (folder / file).is_file():
                return folder / file
    other = sorted(
        entry.name for entry in folder.iterdir() if entry.suffix in (".bin", ".pth", ".pt", ".ckpt", ".gguf")
    )
    others = sorted(entry.name for entry in folder.glob("*.safetensors"))
    hint = f" It has {', '.join(other)}, but only safetensors are read" if other else ""
    hint = f" It has {', '.join(others)}; pass `variant=` if one of them is meant" if others else hint
    wanted = f"{WEIGHT_NAMES[0]}{tag}.safetensors"
    raise missing(f"Error no file named {wanted} found in directory {folder}.{hint}", folder / wanted)


def read_model_index(root: Path, pipeline: str | None = None) -> dict[str, Any]:
    """Reads model_index.json and refuses what is no WAN checkpoint, or one for another pipeline, by name.

    Args:
        root: The checkpoint's folder.
        pipeline: The class that it is to be opened with; None: any will do.

    Raises:
        OSError: There is none.
        CheckpointError: It is another pipeline's, or has parts that cannot be run yet.
    """
    file = root / "model_index.json"
    if not file.is_file():
        raise missing(
            f"Error no file named model_index.json found in directory {root}. A checkpoint is a folder in diffusers' "
            "layout",
            file,
        )
    index = read_config(file)
    found = str(index.get("_class_name"))
    if found in NOT_YET:
        raise CheckpointError(
            f"{file} describes a {found} ({NOT_YET[found]}), which this version does not run. It runs "
            f"{', '.join(_PIPELINES)}."
        )
    if found not in _PIPELINES:
        raise CheckpointError(
            f"{file} describes a {found}, which is not a WAN checkpoint. Give one whose _class_name is one of "
            f"{', '.join(_PIPELINES)}."
        )
    if index.get("expand_timesteps"):
        raise CheckpointError(
            f"{file} sets expand_timesteps={index['expand_timesteps']!r} (WAN 2.2 TI2V-5B), which this version does "
            "not run. Use a checkpoint of WAN 2.1, or one of 2.2 with two experts (A14B)."
        )
    if pipeline is not None:
        _check_pipeline(file, index, found, pipeline)
    return index


def _check_pipeline(file: Path, index: Mapping[str, Any], found: str, pipeline: str) -> None:
    meaning, classes = _PIPELINES[found]
    if pipeline not in classes:
        raise CheckpointError(
            f"{file} describes a {found} ({meaning}), which {pipeline} cannot run. Open it with "
            f"{' or '.join(classes)}, or give {pipeline} a checkpoint of its own."
        )
    second = index.get("transformer_2")
    two = isinstance(second, list) and any(second)
    if two and pipeline == "WanVideoToVideoPipeline":
        raise CheckpointError(
            f"{file} names a transformer_2 (WAN 2.2, two experts); WanVideoToVideoPipeline runs one transformer only. "
            "Use a text-to-video checkpoint of WAN 2.1."
        )
    if two and index.get("boundary_ratio") is None:
        warn_once(
            f"{file} names a transformer_2 but no boundary_ratio, so no step would be its own; pass boundary_ratio="
            "(0.875 in WAN 2.2 text to video, 0.9 in image to video)."
        )

"""``wanoffload inspect``: what is in a checkpoint, and what of it is used."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from wanoffload.sizes import format_size

_INSPECT = """\
Prints the tensors of a safetensors file, or the networks of a checkpoint folder: which layer claims which tensor, the
bytes of each block, and the tensors that are never used, with the reason.

  wanoffload inspect MODEL                                 its networks, layer by layer
  wanoffload inspect MODEL/transformer                     one of them
  wanoffload inspect MODEL/vae/diffusion_pytorch_model.safetensors    the file's tensors
"""


def add_commands(commands: Any) -> None:
    """Adds the command to the parser."""
    inspect = commands.add_parser("inspect", help="what is in a checkpoint", description=_INSPECT)
    inspect.add_argument("path", metavar="FILE_OR_DIR", help="a .safetensors file, an index, or a folder")
    inspect.add_argument("--dtype", default="float32", help="count layers in this dtype (default: %(default)s)")
    inspect.add_argument("--layers", action="store_true", help="list every layer, not only blocks")
    inspect.add_argument("--tensors", action="store_true", help="list every tensor, and why it is not used")
    inspect.add_argument("--json", action="store_true", help="print everything as JSON")
    inspect.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what was found."""
    path = Path(options.path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}.")
    networks = open_networks(path, options.dtype)
    if not networks:
        found: dict[str, Any] = {"file": describe_store(path)}
        text = store_text(found["file"])
    else:
        found = {name: describe_network(network) for name, network in networks.items()}
        text = "\n\n".join(network_text(name, one, options.layers, options.tensors) for name, one in found.items())
    print(json.dumps(found, indent=2) if options.json else text)
    return 0


def open_networks(path: Path, dtype: str) -> dict[str, Any]:
    """The networks of a folder: all of a checkpoint's, or the one that it holds; none for a file or bare weights."""
    from wanoffload import loading
    from wanoffload.devices import as_device
    from wanoffload.dtypes import as_dtype
    from wanoffload.pipelines.assembly import NETWORKS, named_components

    wanted, device = as_dtype(dtype), as_device(None)
    if (path / "model_index.json").is_file():
        index = loading.read_model_index(path)
        return {
            name: NETWORKS[name].from_folder(loading.component_folder(path, name), wanted, device)
            for name in named_components(index, tuple(NETWORKS))
        }
    if not (path / "config.json").is_file():
        return {}
    config = loading.read_config(path / "config.json")
    architectures = config.get("architectures")
    named = architectures[0] if architectures and isinstance(architectures, list) else None
    class_name = config.get("_class_name") or named
    for name, network in NETWORKS.items():
        if class_name == network.class_name:
            return {name: network.from_folder(path, wanted, device)}
    return {}


def describe_store(path: Path) -> dict[str, Any]:
    """A checkpoint's files and tensors."""
    from wanoffload import _core

    store = _core.Store(str(path))
    return {"path": str(path), "files": store.files, "bytes": store.bytes, "tensors": store.entries()}


def describe_network(network: Any) -> dict[str, Any]:
    """A network's layers, tensors and unused tensors."""
    return {
        "class": network.class_name,
        "config": dict(network.config),
        "dtype": str(network.dtype),
        "bytes": network.core.bytes,
        "bytes_at_rest": network.store.bytes,
        "files": network.store.files,
        "blocks": network.core.blocks(),
        "layers": network.core.layers(),
        "unused": [{"tensor": tensor, "reason": reason} for tensor, reason in network.core.unused()],
        "tensors": network.store.entries(),
    }


def store_text(found: dict[str, Any]) -> str:
    """A file's tensors as lines."""
    lines = [f"{found['path']}: {len(found['tensors'])} tensors, {format_size(found['bytes'])}"]
    lines += [f"  file {file}" for file in found["files"]]
    return "\n".join(lines + tensor_lines(found["tensors"], {}))


def tensor_lines(tensors: list[dict[str, Any]], unused: dict[str, str]) -> list[str]:
    """Tensors as lines; those that are skipped or unused with the reason."""
    width = max((len(entry["name"]) for entry in tensors), default=0)
    lines = []
    for entry in tensors:
        note = f"  skipped: {entry['skipped']}" if entry["skipped"] else ""
        if not note and entry["name"] in unused:
            note = f"  never used: {unused[entry['name']]}"
        shape = "x".join(map(str, entry["shape"])) or "scalar"
        lines.append(
            f"  {entry['name']:<{width}}  {entry['dtype']:<13} {shape:<20} {format_size(entry['bytes']):>10}{note}"
        )
    return lines


def network_text(name: str, found: dict[str, Any], every_layer: bool, every_tensor: bool) -> str:
    """A network as lines: its blocks (or layers), what is not used, and its tensors where they are asked for."""
    layers = found["layers"]
    lines = [
        f"{name}: {found['class']}, {len(found['tensors'])} tensors, {len(layers)} layers, {len(found['blocks'])} "
        "blocks",
        f"  at rest {format_size(found['bytes_at_rest'])} {at_rest_dtypes(found)}, held as {found['dtype']} "
        f"{format_size(found['bytes'])}",
    ]
    rows: list[tuple[str, int, int, bool]] = []
    for layer in layers:
        label = layer["name"] if every_layer or layer["block"] is None else layer["block"]
        if rows and rows[-1][0] == label and not every_layer:
            rows[-1] = (label, rows[-1][1] + layer["bytes"], rows[-1][2] + 1, layer["read_by_row"])
        else:
            rows.append((label, layer["bytes"], 1, layer["read_by_row"]))
    width = max(len(row[0]) for row in rows)
    for label, size, count, by_row in rows:
        note = "  read row by row, never loaded" if by_row else f"  {count} layers" if count > 1 else ""
        lines.append(f"  {label:<{width}}  {format_size(size):>10}{note}")
    if found["unused"]:
        lines.append(f"  never used: {len(found['unused'])} tensors")
        lines += [f"    {one['tensor']}: {one['reason']}" for one in grouped(found["unused"])]
    else:
        lines.append("  every tensor is used")
    if every_tensor:
        lines += tensor_lines(found["tensors"], {one["tensor"]: one["reason"] for one in found["unused"]})
    return "\n".join(lines)


def grouped(unused: list[dict[str, str]]) -> list[dict[str, str]]:
    """Unused tensors of the same reason and the same first name as one line each."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in unused:
        found.setdefault((one["tensor"].split(".")[0], one["reason"]), []).append(one["tensor"])
    return [
        {"tensor": names[0] if len(names) == 1 else f"{head}.* ({len(names)})", "reason": reason}
        for (head, reason), names in found.items()
    ]


def at_rest_dtypes(found: dict[str, Any]) -> str:
    """The dtypes of a network's tensors in its files."""
    return "/".join(sorted({entry["dtype"] for entry in found["tensors"]}))

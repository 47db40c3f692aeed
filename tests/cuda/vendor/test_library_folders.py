"""The core is told of the right folders, in the right order, and finding them imports nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from wanoffload import cuda_libraries


def put(folder: Path, *names: str) -> str:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    return str(folder)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A site with NVIDIA's packages and a torch, and a system with a toolkit. Importing any of them would fail."""
    site = tmp_path / "site"
    found = {
        "cu12": put(site / "nvidia" / "cublas" / "lib", "libcublasLt.so.12"),
        "cu13": put(site / "nvidia" / "cu13" / "lib", "libcublasLt.so.13", "libnvrtc.so.13"),
        "cudnn": put(site / "nvidia" / "cudnn" / "lib", "libcudnn_graph.so.9"),
        "torch": put(site / "torch" / "lib", "libcudnn_graph.so.9"),
        "system": put(tmp_path / "cuda" / "lib64", "libcublasLt.so.13"),
    }
    put(site / "nvidia" / "nccl" / "lib", "libnccl.so.2")
    (site / "torch" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(cuda_libraries, "_SYSTEM", ())
    return found


def test_packages_come_before_the_system_and_that_before_torch(places: dict[str, str]) -> None:
    ours = [folder for folder in cuda_libraries.library_folders() if folder in places.values()]
    assert ours == [places[name] for name in ("cu13", "cu12", "cudnn", "system", "torch")]


def test_folders_without_a_library_are_left_out(places: dict[str, str]) -> None:
    assert [folder for folder in cuda_libraries.library_folders() if "nccl" in folder] == []


def test_a_folder_whose_name_cannot_be_passed_on_is_left_out(
    places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(tmp_path / "a:b" / "lib64", "libcudnn_graph.so.9")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "a:b"))
    assert folder not in cuda_libraries.library_folders()


def test_the_loader_path_counts_as_the_system(
    places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(tmp_path / "elsewhere", "libnvrtc.so.12")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{folder}:relative:")
    ours = [found for found in cuda_libraries.library_folders() if found in (folder, places["torch"])]
    assert ours == [folder, places["torch"]]


def test_finding_imports_nothing() -> None:
    program = (
        "import sys; from wanoffload.cuda_libraries import library_folders; library_folders(); "
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'nvidia')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

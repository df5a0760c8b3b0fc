"""No weights of a network that paints disease, and nothing pickled, is part of the project: by name and by content."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "jachai"
ENDINGS = {
    ".safetensors",
    ".pt",
    ".pth",
    ".ckpt",
    ".bin",
    ".h5",
    ".hdf5",
    ".keras",
    ".pkl",
    ".pickle",
    ".joblib",
    ".npy",
    ".npz",
}
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
TORCH_INSIDE = b"data.pkl"
HEAD = 4096


def looks_like_weights(name: str, head: bytes) -> bool:
    """By its ending, or as safetensors (a length, then JSON), a pickle, an HDF5 or a torch archive."""
    safetensors = head[8:10] in (b'{"', b"{}") and int.from_bytes(head[:8], "little") < 1 << 30
    hdf5 = head.startswith(b"\x89HDF")
    return (
        Path(name).suffix.lower() in ENDINGS or safetensors or hdf5 or head.startswith(PICKLES) or TORCH_INSIDE in head
    )


def found(root: Path, names: list[str]) -> list[str]:
    files = [name for name in names if (root / name).is_file()]
    return [name for name in files if looks_like_weights(name, _head(root / name))]


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEAD)


def test_none_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name]
    assert len(names) > 100
    assert found(ROOT, [name for name in names if name != str(Path(__file__).relative_to(ROOT))]) == []


def test_none_lies_in_the_package_and_so_in_the_wheel() -> None:
    """`test_house` checks that the wheel holds the files of the package."""
    names = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if "__pycache__" not in path.parts]
    assert len(names) > 50
    assert found(PACKAGE, names) == []


def test_git_ignores_them(tmp_path: Path) -> None:
    assert "*.safetensors" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_the_search_finds_them_also_under_another_name(tmp_path: Path) -> None:
    header = b'{"__metadata__":{}}'
    hidden = {
        "notes.txt": len(header).to_bytes(8, "little") + header,
        "a.json": b"\x80\x04K\x01.",
        "b.dat": b"PK\x03\x04" + bytes(26) + b"archive/data.pkl",
        "c.pt": b"",
        "d.md": b"\x89HDF\r\n",
    }
    for name, data in {**hidden, "fine.txt": b"nothing of the kind"}.items():
        (tmp_path / name).write_bytes(data)
    assert found(tmp_path, sorted([*hidden, "fine.txt"])) == sorted(hidden)

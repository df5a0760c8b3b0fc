"""Manifests in this project's own format → their entries, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jachai.core.progress import Progress
from jachai.dataset.manifest import Entry, read_manifest
from jachai.dataset.sources.source import Options, misfit
from jachai.io.discovery import Refusal

ENDING = ".jsonl"


class Manifests:
    """`Source` of what `jachai simulate` and `jachai dataset` write."""

    name = "manifest"
    layout = f"a file {ENDING}, or a folder with such files in it (not below it)."

    def recognises(self, root: Path) -> bool:
        """By the ending."""
        return bool(_files(root))

    def entries(self, root: Path, options: Options, progress: Progress) -> Iterator[Entry | Refusal]:
        """Files in the order of their names; an entry whose image is gone is a Refusal."""
        files = _files(root)
        if not files:
            raise misfit(self, f"there is no file that ends in {ENDING}.")
        for path in files:
            for entry in read_manifest(path):
                yield (
                    entry
                    if Path(entry.path).exists()
                    else Refusal(entry.path, f"{path.name} names it, but it is gone.")
                )


MANIFESTS = Manifests()


def _files(root: Path) -> list[Path]:
    if root.is_dir():
        return sorted(one for one in root.glob(f"*{ENDING}") if one.is_file())
    return [root] if root.suffix == ENDING and root.is_file() else []

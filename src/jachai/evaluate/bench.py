"""Contestants + folds → their answers, each asked for once and kept on disk, so that a long comparison can be continued.

    DIR/work/models/NAME/DIGEST/   what was learnt from just these entries
    DIR/work/answers/SHA.jsonl     a line per scan or place, under the SHA-256 of the model that answered

An answer is kept with the size and time of the files it is about: what changed is asked again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jachai import __version__
from jachai.core.errors import JachaiError, ModelError
from jachai.core.progress import Progress, silent
from jachai.core.volume import Volume
from jachai.dataset.manifest import Entry, digest
from jachai.dataset.voxels import volume_of
from jachai.evaluate.answers import Answer, RegionCase, SearchCase, case_of, searched, unread
from jachai.evaluate.contestants import NONE, Contestant, Families, Fitted
from jachai.evaluate.examples import Example
from jachai.evaluate.scans import Scan
from jachai.tamper.plain import from_plain, to_plain

T = TypeVar("T")
Change = Callable[[Volume, Scan], tuple[Volume, Scan]]
"""What is done to a scan before it is searched: the volume, and the truth on its new grid."""
UNSAFE = re.compile(r"[^A-Za-z0-9.+-]+")
"""Of a contestant's name, in a folder's."""


@dataclass(slots=True)
class Bench:
    """Asks models and keeps what they say. folder: of the comparison's work; progress: (what, share of the whole)."""

    folder: Path
    progress: Progress = silent
    _kept: dict[Path, dict[str, Any]] = field(default_factory=dict)
    _fitted: dict[tuple[str, str], Fitted] = field(default_factory=dict)

    def fit(self, contestant: Contestant, training: Sequence[Entry], without: Families = NONE) -> Fitted:
        """The contestant, having learnt from these entries if it learns. The same entries are learnt from once. without:
        families of attacks that it must not simulate for itself either."""
        key = hashlib.sha256(repr((digest(training), sorted(without))).encode()).hexdigest()
        key = key if contestant.learns else "as-it-is"
        if (contestant.name, key) not in self._fitted:
            folder = self.folder / "models" / UNSAFE.sub("-", contestant.name) / key[:16]
            self._fitted[contestant.name, key] = contestant.fit(training, folder, self.progress, without)
        return self._fitted[contestant.name, key]

    def curves(self) -> dict[str, Path]:
        """Name → a picture of how it learnt, from its first training."""
        found: dict[str, Path] = {}
        for (name, _), fitted in self._fitted.items():
            if fitted.curve is not None:
                found.setdefault(name, fitted.curve)
        return found

    def search(
        self, models: Sequence[Fitted], scans: Sequence[Scan], variant: str = "", change: Change | None = None
    ) -> dict[str, list[SearchCase]]:
        """Name → its case for every scan, in their order. A scan is read once for all models that have not answered yet.

        variant: names what `change` does.
        """
        cases: dict[str, list[SearchCase]] = {model.name: [] for model in models}
        for n, scan in enumerate(scans):
            self.progress(f"searching{' ' + variant if variant else ''}", n / len(scans))
            key = f"search|{scan.key}|{variant}|{stamp(Path(scan.entry.path))}|{scan.places_kji}|{scan.near_kji}"
            missing = [model for model in models if self._get(model, key) is None]
            for model, answer in self._asked(missing, scan, change):
                self._put(model, key, to_plain(answer))
            for model in models:
                cases[model.name].append(case_of(scan, from_plain(Answer, self._get(model, key))))
        return cases

    def _asked(self, models: Sequence[Fitted], scan: Scan, change: Change | None) -> Iterator[tuple[Fitted, Answer]]:
        if not models:
            return
        began = time.perf_counter()
        try:
            volume = volume_of(scan.entry)
            reading = time.perf_counter() - began
            if change is not None:
                volume, scan = change(volume, scan)
        except JachaiError as error:
            yield from ((model, unread(scan, str(error))) for model in models)
            return
        for model in models:
            assert model.search is not None
            yield model, searched(model.search, volume, scan, reading)

    def judge(self, models: Sequence[Fitted], examples: Sequence[Example]) -> dict[str, list[RegionCase]]:
        """Name → its case for every example, in their order. Raises ModelError where a scan of an example cannot be read:
        a given region is there by definition."""
        by_scan: dict[str, list[Example]] = {}
        for example in examples:
            by_scan.setdefault(example.key, []).append(example)
        told: dict[tuple[str, str], list[list[float]]] = {}
        for n, (key, group) in enumerate(by_scan.items()):
            self.progress("judging", n / len(by_scan))
            places = [example.place_kji for example in group]
            name = f"judge|{key}|{places}|{stamp(group[0].path)}"
            missing = [model for model in models if self._get(model, name) is None]
            if missing:
                volume = self._volume(group[0])
                for model in missing:
                    assert model.judge is not None
                    answer = [[float(x) for x in row] for row in model.judge(volume, places)]
                    self._put(model, name, answer)
            told |= {(model.name, key): self._get(model, name) for model in models}
        position = {id(e): n for group in by_scan.values() for n, e in enumerate(group)}
        return {model.name: [_case(e, told[model.name, e.key][position[id(e)]]) for e in examples] for model in models}

    @staticmethod
    def _volume(example: Example) -> Volume:
        try:
            return example.volume()
        except JachaiError as error:
            raise ModelError(f"A scan with a given place cannot be read: {error}", "Leave it out.") from error

    def forget(self) -> None:
        """Forget every answer; what was learnt stays."""
        for file in (self.folder / "answers").glob("*.jsonl"):
            file.unlink()
        self._kept.clear()

    def _file(self, model: Fitted) -> Path:
        return self.folder / "answers" / f"{model.sha256[:32]}.jsonl"

    def _get(self, model: Fitted, key: str) -> Any:
        file = self._file(model)
        if file not in self._kept:
            self._kept[file] = dict(_lines(file))
        return self._kept[file].get(key)

    def _put(self, model: Fitted, key: str, answer: Any) -> None:
        """Kept from now on, whatever happens."""
        file = self._file(model)
        file.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"jachai": __version__, "key": key, "answer": answer}, allow_nan=False)
        with file.open("a", encoding="utf-8", newline="\n") as opened:
            opened.write(line + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        self._kept[file][key] = json.loads(line)["answer"]


def _case(example: Example, probabilities: Sequence[float]) -> RegionCase:
    a, b, c, d = probabilities
    return RegionCase(example.key, example.patient, example.source, example.truth, (a, b, c, d))


def _lines(file: Path) -> Iterator[tuple[str, Any]]:
    """What was kept; an unfinished last line, and what another version kept, are as if they were not there."""
    if not file.exists():
        return
    text = file.read_bytes()
    if not text.endswith(b"\n"):
        text = text[: text.rfind(b"\n") + 1]
        file.write_bytes(text)
    for line in text.decode("utf-8").splitlines():
        kept = json.loads(line)
        if kept["jachai"] == __version__:
            yield kept["key"], kept["answer"]


def stamp(path: Path) -> str:
    """What tells that the files of a scan are still the same: their names, sizes and times."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    facts = [(one.name, stat.st_size, stat.st_mtime_ns) for one in files if one.exists() for stat in [one.stat()]]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

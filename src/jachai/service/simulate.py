"""An order (sources, attacks, number, seed) → altered scans with marks, their recipes and one manifest; resumable.

The same order gives the same bytes. What is complete is checked by its hash and left alone, the rest is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from jachai import __version__
from jachai.core.errors import Unreadable, UsageError
from jachai.core.progress import Progress, silent
from jachai.dataset.manifest import Entry, read_manifest
from jachai.io.marks import SIMULATED
from jachai.service import preview
from jachai.service.altered_files import discard, name_of, read_recipe, write_altered
from jachai.service.delivery import disk_errors
from jachai.service.originals import Library, Loaded, NotDone, Original, take_stock
from jachai.service.recipe import Altered, Recipe, carry_out
from jachai.service.simulation_folder import NOT_DONE, SimulationFolder, check_apart
from jachai.service.simulation_tasks import Drawer, SimulationOrder, Task, tasks_of
from jachai.tamper.attack import Target

REPLAY_SCHEMA = "jachai.simulation-replay/1"
MAX_REASONS = 8
"""Shown on the terminal."""
MAX_FAILURES = 3
"""After so many failures an attack is not tried again on that original: each is drawn by other chance."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What was made. entries: all lines of the manifest. made: altered scans (controls not counted), of `wanted`."""

    manifest: Path
    entries: tuple[Entry, ...]
    made: int
    wanted: int
    not_done: tuple[NotDone, ...] = ()
    previews: tuple[Path, ...] = ()

    def summary(self) -> list[str]:
        """What a person wants to know, line by line."""
        labels = Counter(entry.label.value for entry in self.entries)
        lines = [
            f"{self.made} of {self.wanted} altered scans; in all " + ", ".join(f"{n} {k}" for k, n in labels.items())
        ]
        reasons = Counter(f"{one.attack + ': ' if one.attack else ''}{one.reason}" for one in self.not_done)
        lines += [f"Not done ({count}): {reason}" for reason, count in reasons.most_common(MAX_REASONS)]
        if len(reasons) > MAX_REASONS:
            lines.append(f"… {len(reasons) - MAX_REASONS} more reasons: see {NOT_DONE}")
        return [*lines, f"Written: {self.manifest}", *(f"Written: {sheet}" for sheet in self.previews[-1:])]


def simulate(order: SimulationOrder, progress: Progress = silent) -> Simulated:
    """Make what is ordered, or what is missing of it. Raises UsageError for an order that cannot be carried out."""
    order.check()
    check_apart(order.out, [*order.sources, *([order.donor] if order.donor else [])])
    with disk_errors():
        folder = SimulationFolder(order.out, order.settings())
        originals, donors, not_done = _stock(order, folder, progress)
        run = _Run(order, folder, originals, Drawer(order, donors or originals, Library()), progress, not_done)
        made = run.work()
        folder.write_not_done(run.not_done)
        entries = folder.finish()
        sheets = preview.write_sheets(order.out) if order.preview else ()
    return Simulated(folder.manifest, entries, made, order.n, tuple(run.not_done), sheets)


def replay(manifest: Path, out: Path, progress: Progress = silent) -> Simulated:
    """Make every scan of a simulation's manifest again, from the recipes beside it, in a new folder: the same bytes.

    Raises UsageError if a recipe is missing or an original is not what it was.
    """
    entries = read_manifest(manifest)
    recipes = [read_recipe(name_of(entry), manifest.parent) for entry in entries]
    check_apart(out, [str(manifest.parent), *(recipe.original.path for recipe in recipes)])
    with disk_errors():
        settings = {"schema": REPLAY_SCHEMA, "note": SIMULATED, "jachai": __version__, "of": str(manifest.absolute())}
        folder, originals, donors = SimulationFolder(out, settings), Library(), Library()
        folder.begin([])
        for number, (entry, recipe) in enumerate(zip(entries, recipes, strict=True)):
            progress(f"replaying {number + 1} of {len(entries)}", number / len(entries))
            name = name_of(entry)
            if not folder.has(name):
                donor = None if recipe.donor is None else donors.load(recipe.donor).volume
                altered = carry_out(recipe, originals.load(recipe.original), donor)
                discard(name, out)
                folder.add([write_altered(altered, name, out, "nifti" if entry.path.endswith(".gz") else "dicom")])
        made = folder.finish()
    return Simulated(folder.manifest, made, len(made), len(entries))


def names_of(text: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """'all' or 'NAME,NAME' → names, each once. They are checked by `SimulationOrder.check`."""
    if text.strip() == "all":
        return choices
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def target_of(at: str | None, at_mm: str | None) -> Target | None:
    """'K,J,I' in voxels or 'X,Y,Z' in mm → the target. Raises UsageError for both, or for anything else."""
    if at is not None and at_mm is not None:
        raise UsageError("The target is given twice.", "Give it in voxels or in mm.")
    text = at if at is not None else at_mm
    if text is None:
        return None
    try:
        a, b, c = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is not a place.", "Write three numbers with commas, as 120,256,300.") from None
    if not all(map(isfinite, (a, b, c))):
        raise UsageError(f"{text!r} is not a place.", "Write three numbers with commas, as 120,256,300.")
    return Target((a, b, c), "kji" if at is not None else "mm")


def _stock(
    order: SimulationOrder, folder: SimulationFolder, progress: Progress
) -> tuple[tuple[Original, ...], tuple[Original, ...], list[NotDone]]:
    """Originals, donors, and what of the sources was left out; as they were found when the simulation began.

    Raises UsageError if there is nothing that could be altered.
    """
    if folder.stock is not None:
        originals, donors = folder.stock
        return originals, donors, folder.sources_not_done()
    originals, not_done = take_stock(order.sources, progress)
    donors, no_donors = take_stock([order.donor], progress) if order.donor else ((), ())
    if not originals or (order.donor and not donors):
        reasons = Counter(one.reason for one in (*no_donors, *not_done))
        commonest = reasons.most_common(1)[0][0] if reasons else "There is no file in it."
        raise UsageError(f"{'The donor' if originals else 'None of the sources'} yields no scan. {commonest}")
    check_apart(order.out, [one.path for one in (*originals, *donors)])
    folder.begin(originals, donors)
    folder.write_not_done([*not_done, *no_donors])
    return originals, donors, [*not_done, *no_donors]


@dataclass(slots=True)
class _Run:
    """The state of one run. failures: by original and attack."""

    order: SimulationOrder
    folder: SimulationFolder
    originals: tuple[Original, ...]
    drawer: Drawer
    progress: Progress
    not_done: list[NotDone]
    failures: Counter[tuple[Original, str]] = field(default_factory=Counter)
    library: Library = field(default_factory=Library)

    def work(self) -> int:
        """Batches of what is still missing, until there is enough or nothing more can be done → how many there are."""
        tasks, made = tasks_of(self.order, self.originals), 0
        pairs = [(original, name) for original in self.originals for name in self.order.attacks]
        while made < self.order.n and any(self._can(pair) for pair in pairs):
            for task in self._batch(tasks, self.order.n - made):
                self.progress(f"altering {made + 1} of {self.order.n}", made / self.order.n)
                made += self._do(task)
        return made

    def _can(self, pair: tuple[Original, str]) -> bool:
        return self.failures[pair] < MAX_FAILURES

    def _batch(self, tasks: Iterator[Task], size: int) -> list[Task]:
        """The next tasks that may succeed; those of one original follow each other, so that it is loaded once."""
        batch: list[Task] = []
        while len(batch) < size:
            task = next(tasks)
            if self._can(task.pair):
                batch.append(task)
        place = {original: n for n, original in enumerate(self.originals)}
        return sorted(batch, key=lambda task: (place[task.original], task.number))

    def _do(self, task: Task) -> bool:
        """Make the scan and its control unless they are there. False if it cannot be done."""
        names = [task.name, *([task.control_name] if self.order.controls else [])]
        if all(self.folder.has(name) for name in names):
            if self.order.preview and not preview.strip_path(self.order.out, task.name).exists():
                recipe = read_recipe(task.name, self.order.out)
                self._draw(task, carry_out(recipe, self._load(task), self.drawer.volume_of(recipe.donor)))
            return True
        if not self._can(task.pair):
            return False
        try:
            self._make(task, names)
        except (UsageError, Unreadable) as error:
            self.failures[task.pair] += 1
            self.not_done.append(NotDone(task.original.path, task.original.scan, task.attack, str(error)))
            for name in names:
                discard(name, self.order.out)
            return False
        return True

    def _make(self, task: Task, names: list[str]) -> None:
        """Both or none: an altered scan without its control would tell by its number."""
        loaded = self._load(task)
        recipe = self.drawer.recipe(task, loaded)
        recipes: list[Recipe] = [recipe]
        if self.order.controls:
            recipes.append(self.drawer.control(task, loaded, recipe))
        entries = []
        for name, one in zip(names, recipes, strict=True):
            discard(name, self.order.out)
            altered = carry_out(one, loaded, self.drawer.volume_of(one.donor))
            entries.append(write_altered(altered, name, self.order.out, self.order.form))
            if one is recipe and self.order.preview:
                self._draw(task, altered)
        self.folder.add(entries)

    def _load(self, task: Task) -> Loaded:
        return self.library.load(task.original)

    def _draw(self, task: Task, altered: Altered) -> None:
        preview.write_strip(altered, self._load(task).volume, self.order.out, task.name)

"""Entries of manifests → labelled places (TB, TM, FB, FM), each with places that match it in where they lie.

TB: a real place without cancer; TM: a real nodule or mass; FB: a cancer removed; FM: a cancer injected (CT-GAN). A matched
place lies in the same image, in the same tissue, as far from pleura and vessels, away from everything that was done to the
scan: neither the place nor the scanner says what the class is.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from jachai.core.errors import Unreadable, UsageError
from jachai.core.finding import Kind
from jachai.core.progress import Progress, silent
from jachai.core.volume import AIR_HU, Modality, Volume
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.patches import PatchPlan, Place, matched_places
from jachai.dataset.store import Stored
from jachai.dataset.surroundings import surroundings
from jachai.dataset.voxels import pixel_mm, volume_of
from jachai.detectors.bundle import CLASSES
from jachai.io.discovery import Refusal

LABEL_OF_KIND: Mapping[Kind, str] = {Kind.REMOVED: "FB", Kind.INJECTED: "FM"}
LESIONS = ("nodule", "mass")
CLEAR_MM = 40.0
"""From every altered place to the middle of a region that counts as real: footprint of CT-GAN (± 25 mm) and half a region."""

CHOICE = 20
"""Of so many matching places the one most alike in brightness is taken."""
DISCS_MM = (3.0, 6.0, 10.0)
SIMULATED = "simulated"
"""Source of an example that was simulated, before a colon and its family of attacks."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class RegionExample:
    """One place with its class. entry: the image it lies in; held: that image, where it was made in memory.

    patient: what splits keep together. extra: a place that was drawn, not labelled by anybody. host: collection of the scan that an
    attack was simulated on; empty where none was.
    """

    place_kji: tuple[float, float, float]
    label: str
    patient: str
    scan: str
    source: str
    entry: Entry | None = None
    held: Volume | None = field(default=None, repr=False)
    extra: bool = False
    host: str = ""

    @property
    def collection(self) -> str:
        """Where the image is from."""
        return self.host if self.simulated else self.source

    @property
    def image(self) -> str:
        """The same for places that lie in one image."""
        return str(id(self.held)) if self.entry is None else f"{self.entry.path}\n{self.entry.scan}"

    @property
    def altered(self) -> bool:
        """FB or FM."""
        return self.label in ("FB", "FM")

    @property
    def simulated(self) -> bool:
        """Made, to learn from: not labelled by anybody, and never tested on."""
        return self.source.split(":")[0] == SIMULATED


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """matched: untampered places per labelled one, in the same image. intact: places per intact image, like labelled
    ones of other images (0: none, so that no scanner stands for a class). clear_mm: see CLEAR_MM. seed: of the draw."""

    matched: int = 3
    intact: int = 0
    clear_mm: float = CLEAR_MM
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RegionData:
    """refused: images that could not be read, and labelled places without a class (kind 'altered')."""

    examples: tuple[RegionExample, ...]
    refused: tuple[Refusal, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of what the examples say, whatever their order."""
        lines = sorted(repr((e.place_kji, e.label, e.patient, e.scan, e.source)) for e in self.examples)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def region_data(entries: Sequence[Entry], plan: RegionPlan = RegionPlan(), progress: Progress = silent) -> RegionData:
    """Every labelled place, and the places drawn to match it. CT only. Depends on the entries and the seed alone.

    Raises UsageError where there is no altered place, or no real one.
    """
    entries = [entry for entry in entries if entry.modality in (None, Modality.CT.value)]
    labelled, refused = [], []
    for entry in entries:
        label = label_of(entry)
        if label is not None:
            labelled.append(_labelled(entry, label))
        elif entry.label is Label.TAMPERED:
            refused.append(Refusal(entry.place_in_scan, "It is neither a removal nor an injection at a known place."))
    drawn = list(_drawn(entries, plan, refused, progress))
    gone = {one.path for one in refused}
    examples = tuple(e for e in (*labelled, *drawn) if e.entry is None or e.entry.path not in gone)
    for wanted, what in ((True, "altered"), (False, "real")):
        if not any(e.altered is wanted for e in examples):
            raise UsageError(f"There is no {what} place to learn from.", "See: jachai dataset describe MANIFEST")
    return RegionData(examples, tuple(refused))


def label_of(entry: Entry) -> str | None:
    """The class of a labelled place; None where the entry names none."""
    if entry.place_kji is None:
        return None
    if entry.kind is not None:
        return LABEL_OF_KIND.get(entry.kind)
    if entry.category in CLASSES:
        return entry.category
    return "TM" if entry.finding in LESIONS else "TB" if entry.finding == "non-nodule" else None


def _labelled(entry: Entry, label: str) -> RegionExample:
    assert entry.place_kji is not None
    k, j, i = entry.place_kji
    return RegionExample((float(k), float(j), float(i)), label, entry.patient, entry.scan, entry.source, entry)


def _drawn(
    entries: Sequence[Entry], plan: RegionPlan, refused: list[Refusal], progress: Progress
) -> Iterator[RegionExample]:
    """Image by image, one in memory at a time."""
    by_scan: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_scan[entry.scan].append(entry)
    images: dict[str, list[Entry]] = {}
    for entry in entries:
        images.setdefault(f"{entry.path}\n{entry.scan}", []).append(entry)
    patch_plan = PatchPlan(clear_mm=plan.clear_mm)
    wanted: list[Place] = []
    bare: list[tuple[Entry, Stored]] = []
    for n, same in enumerate(images.values()):
        progress("looking for matching places", n / len(images))
        labelled = [entry for entry in same if label_of(entry) is not None]
        if not labelled and not (plan.intact and same[0].label is not Label.TAMPERED):
            continue
        try:
            volume = volume_of(same[0])
            stored = _stored(volume)
        except Unreadable as error:
            refused.append(Refusal(same[0].path, str(error)))
            continue
        for entry in labelled:
            rng = _rng(plan.seed, entry)
            many = matched_places(entry, by_scan[entry.scan], stored, patch_plan, rng, plan.matched * CHOICE)
            places = _as_bright(many, entry, volume, plan.matched)
            wanted += places[:1]
            yield from (_extra(entry, place) for place in places)
        if not labelled:
            bare.append((same[0], stored))
    for entry, stored in bare:
        yield from _intact(entry, stored, wanted, plan, patch_plan)


def _as_bright(places: Sequence[Place], entry: Entry, volume: Volume, count: int) -> list[Place]:
    """Those whose surroundings are most like those of the labelled place in brightness: a nodule is compared with vessels
    and walls, not with air, or a model learns that what is bright is fake."""
    assert entry.place_kji is not None
    wanted = brightness(volume, entry.place_kji)
    apart = [float(np.abs(brightness(volume, place.kji) - wanted).sum()) for place in places]
    return [places[n] for n in np.argsort(apart, kind="stable")[:count]]


def brightness(volume: Volume, place_kji: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """(3,) mean HU within each of DISCS_MM round a place, in its slice."""
    k, j, i = place_kji
    _, dj, di = pixel_mm(volume)
    reach = [int(DISCS_MM[-1] / mm) + 1 for mm in (dj, di)]
    rows = slice(max(0, j - reach[0]), j + reach[0] + 1)
    columns = slice(max(0, i - reach[1]), i + reach[1] + 1)
    part = np.clip(volume.voxels[k, rows, columns], AIR_HU, 200)
    down = (np.arange(rows.start, rows.start + part.shape[0]) - j) * dj
    across = (np.arange(columns.start, columns.start + part.shape[1]) - i) * di
    apart = np.hypot(down[:, None], across[None, :])
    return np.array([part[apart <= radius].mean() for radius in DISCS_MM])


def _intact(
    entry: Entry, stored: Stored, wanted: Sequence[Place], plan: RegionPlan, patch_plan: PatchPlan
) -> Iterator[RegionExample]:
    """Places of an intact image that lie like labelled ones of other images."""
    rng = _rng(plan.seed, entry)
    for n in rng.permutation(len(wanted))[: plan.intact]:
        like = wanted[int(n)].features
        for place in matched_places(entry, [entry], stored, patch_plan, rng, 1, like):
            yield _extra(entry, place)


def _extra(entry: Entry, place: Place) -> RegionExample:
    k, j, i = place.kji
    at = (float(k), float(j), float(i))
    return RegionExample(at, "TB", entry.patient, entry.scan, entry.source, entry, extra=True)


def _stored(volume: Volume) -> Stored:
    """What is needed to match places, without the voxels."""
    around = surroundings(volume)
    empty = np.broadcast_to(np.int16(0), volume.shape)
    return Stored(empty, 1.0, pixel_mm(volume), around.maps, around.places)


def _rng(seed: int, entry: Entry) -> np.random.Generator:
    """Chance of its own for every entry, whatever stands beside it."""
    name = repr((seed, entry.scan, entry.slice, entry.place_kji)).encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest()[:8], "big"))


def by_image(examples: Sequence[RegionExample]) -> Iterator[tuple[Volume, list[int]]]:
    """(volume, numbers of the examples that lie in it), one volume in memory at a time. Raises Unreadable."""
    groups: dict[str, list[int]] = {}
    for n, example in enumerate(examples):
        groups.setdefault(example.image, []).append(n)
    for numbers in groups.values():
        first = examples[numbers[0]]
        if first.held is not None:
            yield first.held, numbers
        else:
            assert first.entry is not None
            yield volume_of(first.entry), numbers

"""Answers of a search model → pictures of what it found, what it missed, and which intact scans it found most suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jachai.core.errors import JachaiError
from jachai.core.finding import HeatMap
from jachai.core.progress import Progress
from jachai.core.volume import Volume
from jachai.dataset.voxels import volume_of
from jachai.evaluate.answers import SearchCase
from jachai.evaluate.contestants import Fitted
from jachai.evaluate.plots import DPI, Picture, file_name, require_matplotlib
from jachai.metrics.localization import HIT_MM, top_hit
from jachai.report.atomic import replacing
from jachai.report.pictures import HEAT_STOPS, window_for

EACH = 4
"""Pictures of a group."""
GROUPS = (
    ("found", "Altered, and found: the most suspicious place is the altered one. The surest first."),
    ("missed", "Altered, and missed: the most suspicious place is elsewhere. The least suspicious scans first."),
    ("intact", "Intact: the scans that it found most suspicious. Above 0.5 it raises a false alarm."),
)
INCHES = 2.6


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One slice of a case: grey levels 0…1, heat 0…1 on the same grid, and what is marked on it."""

    grey: np.ndarray
    heat: np.ndarray | None
    label_ji: tuple[float, float] | None
    best_ji: tuple[float, float] | None
    radius: tuple[float, float]
    title: str


def groups(cases: Sequence[SearchCase], models: Sequence[Fitted]) -> dict[str, list[tuple[SearchCase, Fitted]]]:
    """The cases to show, by group."""
    pairs = [(case, model) for case, model in zip(cases, models) if case.answer.score is not None]
    altered = [pair for pair in pairs if pair[0].scan.altered and pair[0].search.n_places]
    by_score = sorted(altered, key=lambda pair: pair[0].score)
    intact = sorted((pair for pair in pairs if not pair[0].scan.altered), key=lambda pair: -pair[0].score)
    return {
        "found": [pair for pair in reversed(by_score) if top_hit(pair[0].search, 1)][:EACH],
        "missed": [pair for pair in by_score if not top_hit(pair[0].search, 1)][:EACH],
        "intact": intact[:EACH],
    }


def draw(
    protocol: str,
    model: str,
    cases: Sequence[SearchCase],
    models: Sequence[Fitted],
    folder: Path,
    progress: Progress,
) -> tuple[Picture, ...]:
    """A PNG per group that has a case, in FOLDER/gallery. What is there already for the same cases is kept."""
    require_matplotlib()
    (folder / "gallery").mkdir(parents=True, exist_ok=True)
    chosen = groups(cases, models)
    pictures = []
    for n, (group, caption) in enumerate(GROUPS):
        progress("drawing cases", n / len(GROUPS))
        shots = [shot for case, fitted in chosen[group] if (shot := _shot(case, fitted)) is not None]
        if shots:
            path = f"gallery/{file_name(f'{protocol}-{model}-{group}')}.png"
            _save(shots, folder / path)
            pictures.append(Picture(path, f"{model}. {caption}"))
    return tuple(pictures)


def _shot(case: SearchCase, fitted: Fitted) -> Shot | None:
    """The slice of the label, or of the most suspicious place; None where the scan cannot be read any more."""
    assert fitted.search is not None
    try:
        volume = volume_of(case.scan.entry)
        examination = fitted.search(volume)
    except JachaiError:
        return None
    best = case.answer.candidates[0].center_kji if case.answer.candidates else None
    place = case.answer.places_kji[0] if case.answer.places_kji else best
    if place is None:
        return None
    k = min(max(round(place[0]), 0), volume.shape[0] - 1)
    said = f"score {case.score:.2f}"
    kind = f"{case.scan.kind}, " if case.scan.kind else ""
    return Shot(
        _grey(volume, place, k),
        _heat(examination.heatmap, volume, k),
        (float(place[1]), float(place[2])) if case.answer.places_kji else None,
        None if best is None or abs(best[0] - k) * case.answer.spacing_mm[0] > HIT_MM else (best[1], best[2]),
        (HIT_MM / case.answer.spacing_mm[1], HIT_MM / case.answer.spacing_mm[2]),
        f"{kind}{said}\n{case.scan.entry.source[:26]}",
    )


def _grey(volume: Volume, place: Sequence[float], k: int) -> np.ndarray:
    window = window_for(volume, (float(place[0]), float(place[1]), float(place[2])))
    return np.asarray(np.clip((volume.voxels[k] - window.low) / (window.high - window.low), 0, 1))


def _heat(heatmap: HeatMap | None, volume: Volume, k: int) -> np.ndarray | None:
    if heatmap is None or k >= heatmap.values.shape[0]:
        return None
    return np.asarray(heatmap.slice_on_grid(k, volume.shape[1:]))


def _save(shots: Sequence[Shot], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.patches import Ellipse

    figure = Canvas(figsize=(INCHES * len(shots), 2 * INCHES + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(shots), squeeze=False)
    for n, shot in enumerate(shots):
        for row in (0, 1):
            one = axes[row, n]
            one.imshow(shot.grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            if row and shot.heat is not None:
                one.imshow(_coloured(shot.heat), interpolation="nearest")
            if shot.label_ji is not None:
                j, i = shot.label_ji
                size = (2 * shot.radius[1], 2 * shot.radius[0])
                one.add_patch(Ellipse((i, j), *size, fill=False, edgecolor="#38e1ff", linewidth=1.2))
            if row and shot.best_ji is not None:
                one.plot(
                    shot.best_ji[1], shot.best_ji[0], marker="+", color="#7CFC00", markersize=9, markeredgewidth=1.6
                )
            one.set_axis_off()
        axes[0, n].set_title(shot.title, fontsize=8)
    with replacing(path) as part:
        figure.savefig(part, dpi=DPI, format="png", metadata={"Software": None})


def _coloured(heat: np.ndarray) -> np.ndarray:
    """Heat as in the report: uint8 (rows, columns, 4)."""
    stops = [stop for stop, _ in HEAT_STOPS]
    channels = [np.interp(heat, stops, [colour[n] for _, colour in HEAT_STOPS]) for n in range(4)]
    return np.stack(channels, axis=-1).astype(np.uint8)

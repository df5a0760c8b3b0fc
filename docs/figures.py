"""The phantoms → the pictures (docs/images) and example results (docs/reference/examples) of the documentation.

    python docs/figures.py [--only images|examples]

Made from phantoms only, never from a patient. Run it again when the engine, the demo or its calibration changes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from PIL import Image

from jachai.core.volume import Volume
from jachai.detectors import load
from jachai.detectors.selfreference import load as load_selfreference
from jachai.forensics import residual
from jachai.io.files import Refusal, read
from jachai.io.writer import DicomHeader, write_dicom
from jachai.phantom import KERNELS, BrainPhantom, ChestPhantom, brain, chest
from jachai.scan.scanner import examine
from jachai.service.demo import MARK
from jachai.tamper import ATTACKS
from jachai.tamper.attack import perform

plt.switch_backend("Agg")
HERE = Path(__file__).resolve().parent
IMAGES, EXAMPLES = HERE / "images", HERE / "reference" / "examples"
LUNG = {"cmap": "gray", "vmin": -1350, "vmax": 150}
"""Lung window: centre −600, width 1500 HU."""
BRAIN = BrainPhantom(seed=1)
FOUND_SEED, MISSED_SEED = 2, 1
"""Two of the attacks in `mr_table`: one that the engine finds, one that it misses."""


def saved(figure: plt.Figure, name: str, dpi: int = 80, colours: int = 32) -> None:
    path = IMAGES / f"{name}.png"
    figure.savefig(path, dpi=dpi, bbox_inches="tight", facecolor="white", pil_kwargs={"optimize": True})
    plt.close(figure)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def panels(count: int, width: float = 3.2, height: float = 3.0) -> tuple[plt.Figure, list[plt.Axes]]:
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), layout="constrained")
    for axis in np.atleast_1d(axes):
        axis.set_axis_off()
    return figure, list(np.atleast_1d(axes))


def only_volume(path: Path) -> Volume:
    [item] = read(path)
    assert not isinstance(item, Refusal)
    return item


def demo_images(folder: Path) -> None:
    intact, tampered = (only_volume(folder / name) for name in ("intact", "tampered"))
    record = json.loads((folder / "tampered.tampering.json").read_text())
    k, j, i = record["target_kji"]
    (_, (j0, j1), (i0, i1)) = record["box_kji"]

    figure, axes = panels(3, 3.3)
    window = slice(j - 40, j + 40), slice(i - 40, i + 40)
    axes[0].imshow(tampered.voxels[k][:, 20:300], **LUNG)
    axes[0].set_title(f"slice {k + 1}; red: the altered box")
    axes[0].add_patch(Rectangle((i0 - 20, j0), i1 - i0, j1 - j0, fill=False, edgecolor="tab:red"))
    for axis, volume, name in ((axes[1], intact, "intact, close"), (axes[2], tampered, "nodule removed, close")):
        axis.imshow(volume.voxels[k][window], **LUNG)
        axis.set_title(name)
    saved(figure, "intact-tampered", 72)

    figure, grid = plt.subplots(2, 3, figsize=(7.2, 5.2), layout="constrained")
    window = slice(j - 28, j + 28), slice(i - 28, i + 28)
    for row, volume, name in zip(grid, (intact, tampered), ("intact", "nodule removed"), strict=True):
        for axis, (title, filter_) in zip(row, residual.IN_PLANE.items(), strict=True):
            spread = 4 * float(np.median(np.abs(filter_(intact.voxels[k])[window])))
            axis.imshow(filter_(volume.voxels[k])[window], cmap="gray", vmin=-spread, vmax=spread)
            axis.set_title(f"{title}: {name}", fontsize=10)
            box = Rectangle((i0 - i + 28, j0 - j + 28), i1 - i0, j1 - j0, fill=False, edgecolor="red", lw=1)
            axis.add_patch(box)
            axis.set_axis_off()
    saved(figure, "residuals", 72, 10)

    seen = examine(tampered, load())
    assert seen.heatmap is not None
    figure, axes = panels(2, 3.6, 3.1)
    place = seen.result.findings[0]
    shown, (_, (y0, y1), (x0, x1)) = round(place.center_kji[0]), place.box_kji
    heat = seen.heatmap.slice_on_grid(shown, tampered.shape[1:])
    axes[0].imshow(tampered.voxels[shown][:, 20:300], **LUNG)
    axes[0].add_patch(Rectangle((x0 - 20, y0), x1 - x0, y1 - y0, fill=False, edgecolor="cyan"))
    axes[0].set_title(f"{seen.result.verdict.value}, score {seen.result.score:.2f}: slice {shown + 1}")
    axes[1].imshow(tampered.voxels[shown][window], **LUNG)
    shades = mpl.colormaps["inferno"].resampled(10)
    over = axes[1].imshow(np.ma.masked_less(heat, 0.2)[window], cmap=shades, vmin=0, vmax=1, alpha=0.6)
    box = Rectangle((x0 - i + 28, y0 - j + 28), x1 - x0, y1 - y0, fill=False, edgecolor="cyan")
    axes[1].add_patch(box)
    axes[1].set_title("the heat map over it, close")
    figure.colorbar(over, ax=axes[1], label="0.5 is the threshold")
    saved(figure, "heat-map", 80, 40)


def physics_images() -> None:
    figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    frequency = np.linspace(0, 1.2, 400)
    for kernel in KERNELS.values():
        power = kernel.nps(frequency)
        axis.plot(frequency, power / power.max(), label=kernel.name)
    axis.axvline(0.5 / 0.7, color="grey", ls=":")
    axis.text(0.5 / 0.7 + 0.01, 0.8, "Nyquist frequency\nof 0.7 mm pixels", fontsize=9, color="grey")
    axis.set(xlabel="frequency, cycles per mm", ylabel="noise power (peak = 1)")
    axis.legend(frameon=False)
    saved(figure, "noise-power", 80, 24)

    figure, axes = panels(3, 3.0, 3.0)
    volume, nodules = chest(ChestPhantom(shape_kji=(5, 320, 320), spacing_mm=(2.0, 1.1, 1.1), noise_hu=14, nodules=0))
    axes[0].imshow(volume.voxels[2], **LUNG)
    axes[0].set_title("chest phantom, CT")
    for axis, weighting in zip(axes[1:], ("T1", "T2"), strict=True):
        head = brain(replace(BRAIN, shape_kji=(1, 192, 192), weighting=weighting))
        axis.imshow(head.voxels[0], cmap="gray", vmin=0, vmax=np.percentile(head.voxels, 99.5))
        axis.set_title(f"brain phantom, MRI {weighting}")
    saved(figure, "phantoms", 72, 24)
    assert not nodules


def write_mr(volume: Volume, folder: Path, mark: str) -> None:
    header = DicomHeader(
        uid_seed=f"docs {mark} {folder.name}",
        series_description=mark or "JACHAI PHANTOM",
        image_comments=mark or "MADE BY CODE, NOT A PATIENT",
        body_part="HEAD",
    )
    write_dicom(volume, folder, header=header)


def mr_table() -> str:
    """Twelve attacks on the brain phantom, and what the engine says: a Markdown table."""
    intact, detector = brain(BRAIN), load()
    lines = ["| attack | seed | verdict | score | best place to target, mm |", "|---|---|---|---|---|"]
    for name in ("ctgan-injection", "ctgan-removal", "inpaint-harmonic", "nodule"):
        for seed in (1, 2, 3):
            altered, record = perform(ATTACKS[name], intact, np.random.default_rng(seed))
            result = examine(altered, detector).result
            assert record.target_mm is not None and result.candidates[0].center_mm is not None
            away = float(np.linalg.norm(np.subtract(record.target_mm, result.candidates[0].center_mm)))
            lines.append(f"| `{name}` | {seed} | {result.verdict.value} | {result.score:.2f} | {away:.0f} |")
    return "\n".join(lines) + "\n"


def calibration_rows() -> str:
    """Rows of the table of calibrations in reference/detectors/selfreference.md."""
    lines = []
    for (modality, basis), used in load_selfreference().bases.items():
        reference = used.reference
        p, upper = f"{reference.p_floor:.3f}", f"below {100 * reference.false_alarm_upper:.0f} %"
        shown = (p, upper, "yes") if reference.calibrated else ("–", "–", "uncalibrated")
        lines.append(f"| {modality} | {basis} | {len(reference.scores)} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def examples(folder: Path) -> None:
    """What `jachai scan --json -` prints for the four cases, candidates and nodules cut to the first, and the MR table."""
    intact = brain(BRAIN)
    write_mr(intact, folder / "brain", "")
    for name, seed in (("brain-tampered", FOUND_SEED), ("brain-missed", MISSED_SEED)):
        altered, _ = perform(ATTACKS["inpaint-harmonic"], intact, np.random.default_rng(seed))
        write_mr(altered, folder / name, MARK)
    for name, path in (
        ("ct-no", "intact"), ("ct-yes", "tampered"), ("mr-no", "brain"), ("mr-yes", "brain-tampered"),
        ("mr-missed", "brain-missed"),
    ):  # fmt: skip
        command = [sys.executable, "-m", "jachai.cli", "scan", path, "--json", "-"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        result = json.loads(done.stdout)
        result["candidates"] = result["candidates"][:1]
        result["nodules"] = result["nodules"] and result["nodules"][:1]
        (EXAMPLES / f"{name}.json").write_text(pretty(result), encoding="utf-8")
    (EXAMPLES / "calibration.md").write_text(calibration_rows(), encoding="utf-8")
    (EXAMPLES / "mr-attacks.md").write_text(mr_table(), encoding="utf-8")


def pretty(value: object, indent: int = 0) -> str:
    """JSON with small lists and objects on one line."""
    plain = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(plain) + indent <= 100:
        return plain + ("\n" if not indent else "")
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key)}: {pretty(item, indent + 2)}" for key, item in value.items()]
        text = "{\n" + ",\n".join(parts) + "\n" + " " * indent + "}"
    else:
        text = "[\n" + ",\n".join(inner + pretty(item, indent + 2) for item in value) + "\n" + " " * indent + "]"
    return text + ("\n" if not indent else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("images", "examples"))
    only = parser.parse_args().only
    IMAGES.mkdir(exist_ok=True)
    EXAMPLES.mkdir(exist_ok=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "jachai.cli", "demo", "--out", name], check=True)
        if only != "images":
            examples(folder)
        if only != "examples":
            demo_images(folder)
            physics_images()


if __name__ == "__main__":
    main()

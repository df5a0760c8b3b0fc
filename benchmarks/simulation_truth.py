"""Is the simulated attack true? A fixed small network, trained on simulation only, tested on the real tampered slices.

    python benchmarks/simulation_truth.py --samples DIR [--data ../shared/data] [--painter unet-gan:NAME …]
        [--mix all …] [--held-out ATTACK …] [--repeats 3] [--spectra out.png] [--json out.json]

The network never changes: eight 3 × 3 layers of 32 channels, dilations 1 1 2 2 4 4 8 8 (75,000 parameters), on three
high-pass channels and clipped HU, 96² crops, 700 steps of 12. It sees simulated attacks on intact series, and the same places
unaltered; of the 64 real slices it sees nothing, and no step, weight or threshold is chosen on them. So its hits on them
measure the simulation, not the network. `--mix` names rows of MIXES (the ablation); `--held-out` tests on simulated attacks
that were left out of training, which is what choices are made on. Each row is trained `--repeats` times with other seeds; figures are
means, with the 95 % interval by scan of that mean, and the lowest and highest of the repeats. `--spectra` draws how strong the noise inside altered places
is against its surroundings, simulated beside real. The samples are made once, in DIR, and used by every row.
Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from jachai.core.volume import Volume
from jachai.forensics import residual
from jachai.forensics.channels import noise_place
from jachai.forensics.tissue import COARSE, coarse_body, coarse_lung
from jachai.io.files import read
from jachai.tamper import ATTACKS
from jachai.training.dense import untouched
from jachai.training.search_data import ALTERED, SIDE, Samples
from jachai.training.simulation import Plan, Series, simulated

CROP, BATCH = 96, 12
HU_RANGE = (-1000.0, 400.0)
HIT_MM, FAR_MM, NEAR_MM = 16.0, 30.0, 10.0
PUBLISHED = ("ctgan-removal", "ctgan-injection")
VARIED = ("ctgan-removal-varied", "ctgan-injection-varied")
OTHERS = tuple(name for name in ATTACKS if name not in (*PUBLISHED, *VARIED, "control", "splice"))
MIXES: dict[str, tuple[str, ...]] = {
    "all": (*PUBLISHED, *VARIED, *OTHERS),
    "CT-GAN's pipeline": (*PUBLISHED, *VARIED),
    "published settings only": PUBLISHED,
    "varied settings only": VARIED,
    "without CT-GAN's pipeline": OTHERS,
}
"""Name → attacks whose samples are used: the rows of the ablation."""


class Small(nn.Sequential):
    """The fixed network: (n, 4, j, i) → (n, 1, j, i) logits."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        width = 4
        for dilation in (1, 1, 2, 2, 4, 4, 8, 8):
            layers += [nn.Conv2d(width, 32, 3, padding=dilation, dilation=dilation), nn.ReLU()]
            width = 32
        super().__init__(*layers, nn.Conv2d(32, 1, 1))


def high_pass(slice_: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(j, i) HU → (4, j, i): residuals over the slice's own noise (measured at `place`), and clipped HU."""
    channels = []
    for filter_ in residual.IN_PLANE.values():
        r = filter_(slice_)
        scale = 1.48 * (float(np.median(np.abs(r[place]))) + 0.05)
        channels.append(np.clip(r / scale, -8, 8) / 4)
    hu = (np.clip(slice_, *HU_RANGE) - HU_RANGE[0]) / (HU_RANGE[1] - HU_RANGE[0])
    return np.stack([*channels, hu]).astype(np.float32)


def train(samples: Samples, steps: int, seed: int) -> Small:
    """700 steps of 12 crops, two thirds of them altered and drawn evenly over the attacks, Adam, one-cycle rate."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Small().to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    loss_of = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0))
    groups: dict[str, list[int]] = defaultdict(list)
    for n, origin in enumerate(samples.origins):
        groups[origin.attack].append(n)
    altered = [name for name in groups if name != "intact"]
    began = time.perf_counter()
    for step in range(steps):
        names = [altered[int(rng.integers(len(altered)))] if n < 8 else "intact" for n in range(BATCH)]
        crops = [crop(samples, groups[name][int(rng.integers(len(groups[name])))], rng) for name in names]
        x = torch.from_numpy(np.stack([c for c, _ in crops])).to(memory_format=torch.channels_last)
        y = torch.from_numpy(np.stack([m for _, m in crops]).astype(np.float32))[:, None]
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(x)
        loss = loss_of(logits.float(), y)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    return net.eval()


def crop(samples: Samples, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """CROP² of a sample, mirrored by chance → (channels, altered)."""
    slice_, target = samples.slices[number][1].astype(np.float32), samples.targets[number]
    x = high_pass(slice_, untouched(slice_, target))
    j, i = rng.integers(0, SIDE - CROP + 1, size=2)
    x, y = x[:, j : j + CROP, i : i + CROP], target[j : j + CROP, i : i + CROP] == ALTERED
    if rng.random() < 0.5:
        x, y = x[..., ::-1], y[..., ::-1]
    if rng.random() < 0.5:
        x, y = x[:, ::-1], y[::-1]
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def tamper_map(net: Small, slice_: np.ndarray) -> np.ndarray:
    """(j, i) HU → smoothed logits."""
    with torch.inference_mode():
        logits = net(torch.from_numpy(high_pass(slice_, noise_place(slice_)))[None])[0, 0].numpy()
    return ndimage.gaussian_filter(logits, 4.0)


def searched(volume: Volume) -> np.ndarray:
    """(j, i) where an attacker of lungs would act: the lungs and 8 mm round them."""
    body = coarse_body(volume)
    lung = ndimage.binary_dilation(coarse_lung(volume, body)[0], iterations=3) & body[0]
    fine = (lung if lung.any() else body[0]).repeat(COARSE, 0).repeat(COARSE, 1)
    return fine[: volume.shape[1], : volume.shape[2]]


def single(path: Path) -> Volume:
    """The one volume of a file or folder."""
    (volume,) = (item for item in read(path) if isinstance(item, Volume))
    return volume


def real_slices(data: Path) -> list[tuple[str, Volume, list[tuple[str, float, float]]]]:
    """(scan, slice, [(kind, row, column)]) of every really tampered slice."""
    by_file: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in csv.DictReader((data / "ct-gan" / "labels.csv").read_text().splitlines()):
        by_file[row["uuid"], row["slice"]].append(row)
    names = {"FB": "removed", "FM": "injected"}
    return [
        (
            uuid,
            single(data / "ct-gan" / uuid / f"{number}.dcm"),
            [(names[r["type"]], float(r["y"]), float(r["x"])) for r in rows],
        )
        for (uuid, number), rows in by_file.items()
    ]


def away_mm(volume: Volume, row: float, column: float) -> np.ndarray:
    """(j, i) distance from a place."""
    dj, di = volume.geometry.pixel_mm
    j, i = np.indices(volume.shape[1:], dtype=np.float32)
    return np.hypot((j - row) * dj, (i - column) * di)


Rows = dict[str, list[tuple[str, float]]]
"""Figure → (scan or patient, value) of every place, in the same order for every network."""


def test_on_real(net: Small, data: Path, every: int = 6) -> Rows:
    """Top-1 hits by the labels of the slice, and by all labels of the scan; pixel AUC (within 16 mm against beyond 30 mm),
    slice AUC against intact slices."""
    intact = []
    for folder in sorted((data / "ct").iterdir()):
        for file in sorted(folder.glob("*.dcm"))[::every]:
            volume = single(file)
            area = searched(volume)
            if area.any():
                intact.append(float(tamper_map(net, volume.voxels[0])[area].max()))
    rows: Rows = defaultdict(list)
    slices = real_slices(data)
    marks: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for scan, _, labels in slices:
        marks[scan] += [(row, column) for _, row, column in labels]
    for scan, volume, labels in slices:
        field, area = tamper_map(net, volume.voxels[0]), searched(volume)
        top = np.unravel_index(int(np.argmax(np.where(area, field, -np.inf))), field.shape)
        away = [away_mm(volume, row, column) for _, row, column in labels]
        far = np.min(away, axis=0) > FAR_MM
        anywhere = min(float(away_mm(volume, row, column)[top]) for row, column in marks[scan]) <= HIT_MM
        for (kind, *_), distance in zip(labels, away):
            rows[f"{kind}: top-1"].append((scan, float(distance[top] <= HIT_MM)))
            rows[f"{kind}: top-1 by all labels of the scan"].append((scan, float(anywhere)))
            rows[f"{kind}: pixel AUC"].append((scan, _auc(field[(distance <= HIT_MM) & area], field[far & area])))
            rows[f"{kind}: slice AUC"].append((scan, float(np.mean(np.array(intact) < field[area].max()))))
    return dict(sorted(rows.items()))


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    if not positive.size or not negative.size:
        return math.nan
    return float(np.searchsorted(np.sort(negative), positive).mean() / negative.size)


def summary(repeats: Sequence[Rows], draws: int = 2000) -> dict[str, list[float]]:
    """Figure → mean over places and repeats, its 95 % interval (bootstrap over scans), lowest and highest repeat."""
    told = {}
    for name in repeats[0]:
        values = np.array([[value for _, value in rows[name]] for rows in repeats])
        places: dict[str, list[float]] = defaultdict(list)
        for (scan, _), value in zip(repeats[0][name], np.nanmean(values, axis=0)):
            places[scan].append(value)
        scans = list(places.values())
        rng = np.random.default_rng(0)
        drawn = (rng.integers(len(scans), size=len(scans)) for _ in range(draws))
        means = [np.nanmean([value for n in chosen for value in scans[n]]) for chosen in drawn]
        each = np.nanmean(values, axis=1)
        told[name] = [float(v) for v in (each.mean(), *np.percentile(means, (2.5, 97.5)), each.min(), each.max())]
    return told


def test_on_simulated(net: Small, samples: Samples) -> Rows:
    """Whether the best point of an altered sample lies on the altered place, by attack."""
    hits: Rows = defaultdict(list)
    for n, origin in enumerate(samples.origins):
        if origin.attack != "intact":
            field = tamper_map(net, samples.slices[n][1].astype(np.float32))
            near = ndimage.binary_dilation(samples.targets[n] == ALTERED, iterations=6)
            name = f"held out, {origin.attack}: top-1"
            hits[name].append((origin.patient, float(near.flat[int(np.argmax(field))])))
    return dict(sorted(hits.items()))


def samples_of(options: argparse.Namespace, only: Callable[[int], bool] = lambda _: True) -> Samples:
    """Simulated attacks on the intact series; what lies in the folder already is taken from it."""
    manifest = csv.DictReader((options.data / "manifest.csv").read_text().splitlines())
    series = [
        Series(row["patient"], row["folder"].removeprefix("ct/"), partial(single, options.data / row["folder"]))
        for row in manifest
        if row["folder"].startswith("ct/") and row["folder"] != "ct/covid-ny"
    ]
    weights = tuple((name, 2 if name in (*PUBLISHED, *VARIED) else 1) for name in MIXES["all"])
    return simulated(series, Plan(weights, tuple(options.painter), options.count), options.samples, only=only)


def made(part: int, options: argparse.Namespace) -> int:
    """Make a share of the samples; how many."""
    return len(samples_of(options, lambda number: number % options.threads == part))


def learnt_and_asked(job: tuple[str, int], options: argparse.Namespace) -> Rows:
    """job: (mix, seed) → the figures of one network."""
    torch.set_num_threads(1)
    mix, seed = job
    attacks = samples_of(options)
    names = ("intact", *(name for name in MIXES[mix] if name not in options.held_out))
    net = train(attacks.where(lambda origin: origin.attack in names), options.steps, seed)
    rows = test_on_real(net, options.data)
    if options.held_out:
        rows |= test_on_simulated(net, attacks.where(lambda origin: origin.attack in options.held_out))
    return rows


def strengths(slice_: np.ndarray, near: np.ndarray, far: np.ndarray) -> list[float]:
    """Standard deviation of each residual in aerated lung, near over far."""
    lung = ndimage.uniform_filter((slice_ < -700).astype(np.float32), 5) > 0.7
    near, far = near & lung, far & lung
    if near.sum() < 40 or far.sum() < 300:
        return []
    bands = (filter_(slice_) for filter_ in residual.IN_PLANE.values())
    return [float(band[near].std() / max(band[far].std(), 1e-3)) for band in bands]


def spectra(samples: Samples, data: Path, out: Path | None) -> dict[str, list[float]]:
    """Median and quartiles of `strengths`, real and simulated (published settings), as figures and, with `out`, a picture."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for _, volume, labels in real_slices(data):
        away = [away_mm(volume, row, column) for _, row, column in labels]
        for (kind, *_), distance in zip(labels, away):
            rows[f"real, {kind}"].append(strengths(volume.voxels[0], distance < NEAR_MM, np.min(away, axis=0) > 35))
    for n, origin in enumerate(samples.origins):
        if origin.attack in PUBLISHED:
            altered = samples.targets[n] == ALTERED
            centre = np.array(ndimage.center_of_mass(altered))[:, None, None]
            distance = np.hypot(*(np.indices(altered.shape) - centre)) * origin.pixel_mm
            slice_ = samples.slices[n][1].astype(np.float32)
            rows[f"simulated, {origin.effect}"].append(strengths(slice_, distance < NEAR_MM, distance > 35))
    figures = {}
    for name, found in sorted(rows.items()):
        values = np.array([row for row in found if row])
        for band, column in zip(residual.IN_PLANE, values.T):
            figures[f"noise near over far, {band}: {name}"] = [float(v) for v in np.percentile(column, (50, 25, 75))]
    if out:
        _draw(figures, out)
    return figures


def _draw(figures: dict[str, list[float]], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axis, kind in zip(axes, ("removed", "injected")):
        for offset, source in ((-0.12, "real"), (0.12, "simulated")):
            values = np.array([figures[f"noise near over far, {band}: {source}, {kind}"] for band in residual.IN_PLANE])
            x = np.arange(len(values)) + offset
            axis.errorbar(x, values[:, 0], np.abs(values[:, 1:] - values[:, :1]).T, fmt="o", capsize=4, label=source)
        axis.set_xticks(range(len(residual.IN_PLANE)), residual.IN_PLANE)
        axis.axhline(1, color="grey", linewidth=0.8)
        axis.set_title(kind)
        axis.set_yscale("log")
    axes[0].set_ylabel("noise inside / far away\n(median, quartiles)")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def main() -> None:
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "data")
    parser.add_argument("--samples", type=Path, required=True, help="folder for the simulated samples; used again")
    parser.add_argument("--mix", nargs="*", choices=MIXES, default=["all"])
    parser.add_argument("--held-out", nargs="*", default=[], choices=ATTACKS, help="kept out of training, tested on")
    parser.add_argument(
        "--painter", nargs="*", default=[], metavar="KIND:NAME", help="trained painters; NAME says the task"
    )
    parser.add_argument("--count", type=int, default=300, help="attacks for each patient")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--spectra", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.threads, mp_context=get_context("spawn")) as pool:
        count = sum(pool.map(partial(made, options=options), range(options.threads)))
        print(f"{count} samples", file=sys.stderr, flush=True)
        jobs = [(mix, seed) for mix in options.mix for seed in range(options.repeats)]
        rows = dict(zip(jobs, pool.map(partial(learnt_and_asked, options=options), jobs)))
    out = {"spectra": spectra(samples_of(options), options.data, options.spectra)}
    for mix in options.mix:
        out[mix] = summary([rows[mix, seed] for seed in range(options.repeats)])
    for mix, figures in out.items():
        print(f"\n{mix}")
        for name, values in figures.items():
            print(f"{name:60s} " + " ".join(f"{value:.2f}" for value in values))
    if options.json:
        options.json.write_text(
            json.dumps({"steps": options.steps, "repeats": options.repeats, "figures": out}, indent=1)
        )


if __name__ == "__main__":
    main()

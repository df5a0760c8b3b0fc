"""Is the simulated attack true? A fixed small network, trained on simulation only, tested on the real tampered slices.

    python benchmarks/simulation_truth.py [--data ../shared/data] [--mix all] [--steps 700] [--attacks 1500] [--painter removal=NAME …]

The network never changes: eight 3 × 3 layers of 32 channels, dilations 1 1 2 2 4 4 8 8 (75,000 parameters), on three
high-pass channels and clipped HU, 96² crops, 700 steps of 12. It sees simulated attacks on intact series, and intact crops;
of the 64 real slices it sees nothing, and nothing is chosen on them. So its hits on them measure the simulation, not the
network. `--mix` names a row of MIXES (the ablation); `--held-out FAMILY` tests on a simulated family that was left out,
which is what choices are made on. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from jachai.core.errors import JachaiError
from jachai.core.volume import Volume
from jachai.forensics import residual
from jachai.forensics.tissue import COARSE, coarse_body, coarse_lung
from jachai.io.files import read
from jachai.tamper import ATTACKS
from jachai.tamper.attack import Attack, Effect
from jachai.tamper.ctgan import CtGan

SIDE, CROP, BATCH = 160, 96, 12
"""Pixels kept round a target, pixels of a training crop, crops of a step."""
HU_RANGE = (-1000.0, 400.0)
CHANGED_HU = 2.0
HIT_MM, FAR_MM = 16.0, 30.0

MIXES: dict[str, tuple[str, ...]] = {
    "all": ("ctgan-removal", "ctgan-injection", "ctgan-removal-varied", "ctgan-injection-varied"),
    "published settings only": ("ctgan-removal", "ctgan-injection"),
    "varied settings only": ("ctgan-removal-varied", "ctgan-injection-varied"),
    "without CT-GAN's pipeline": (
        "nodule",
        "inpaint-patches",
        "inpaint-harmonic",
        "copy-move",
        "mirrored-lung",
        "nodule-copied",
    ),
    "everything": tuple(name for name in ATTACKS if name not in ("control", "splice")),
}
"""Name → attacks that are drawn evenly: the rows of the ablation."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A slice's part round a target: channels float16 (4, SIDE, SIDE), mask bool of what was altered (all False: intact)."""

    channels: np.ndarray
    mask: np.ndarray
    attack: str


class Small(nn.Sequential):
    """The fixed network: (n, 4, j, i) → (n, 1, j, i) logits."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        width = 4
        for dilation in (1, 1, 2, 2, 4, 4, 8, 8):
            layers += [nn.Conv2d(width, 32, 3, padding=dilation, dilation=dilation), nn.ReLU()]
            width = 32
        super().__init__(*layers, nn.Conv2d(32, 1, 1))


def high_pass(slice_: np.ndarray, scales: tuple[float, ...] | None = None) -> tuple[np.ndarray, tuple[float, ...]]:
    """(j, i) HU → (4, j, i) channels, and the slice's own noise in each, by which they are divided."""
    residuals = [filter_(slice_) for filter_ in residual.IN_PLANE.values()]
    if scales is None:
        inner = slice_[slice_ < -500]
        lung = (slice_ < -500) & (slice_ > -980) if inner.size > 500 else np.ones_like(slice_, bool)
        scales = tuple(float(np.median(np.abs(r[lung]))) + 0.05 for r in residuals)
    channels = [np.clip(r / (1.48 * s), -8, 8) / 4 for r, s in zip(residuals, scales)]
    hu = (np.clip(slice_, *HU_RANGE) - HU_RANGE[0]) / (HU_RANGE[1] - HU_RANGE[0])
    return np.stack([*channels, hu]).astype(np.float16), scales


def with_networks(painters: list[str]) -> dict[str, Attack]:
    """The attacks; CT-GAN's own with the trained painters (`removal=KIND:NAME`, `injection=KIND:NAME`) in place of plain ones."""
    attacks = dict(ATTACKS)
    chosen: dict[str, list[str]] = defaultdict(list)
    for item in painters:
        task, _, name = item.partition("=")
        chosen[task].append(name)
    for task, effect in (("removal", Effect.REMOVED), ("injection", Effect.INJECTED)):
        for varied in (False, True) if chosen[task] else ():
            attack = CtGan(effect, varied=varied, painters=tuple(chosen[task]))
            attacks[attack.name] = attack
    return attacks


def intact_volumes(data: Path) -> list[Volume]:
    folders = [folder for folder in sorted((data / "ct").iterdir()) if folder.name != "covid-ny"]
    return [item for folder in folders for item in read(folder) if isinstance(item, Volume)]


def cut(slice_: np.ndarray, j: int, i: int) -> tuple[slice, slice]:
    """The window of SIDE pixels round (j, i), moved inside the slice."""
    low = [min(max(0, c - SIDE // 2), n - SIDE) for c, n in zip((j, i), slice_.shape)]
    return slice(low[0], low[0] + SIDE), slice(low[1], low[1] + SIDE)


def simulate(volumes: list[Volume], attacks: list[Attack], count: int, seed: int) -> list[Sample]:
    """Attacks drawn evenly over attacks and scans; for each, two altered slices and the same two intact."""
    rng = np.random.default_rng(seed)
    samples: list[Sample] = []
    failed: dict[str, int] = defaultdict(int)
    for n in range(count):
        attack = attacks[n % len(attacks)]
        volume = volumes[int(rng.integers(len(volumes)))]
        try:
            record = attack.sample(volume, rng)
            forged = attack.forged(volume, record)
        except JachaiError:
            failed[attack.name] += 1
            continue
        samples += _slices(volume, record.box_kji, record.target_kji, forged, attack.name, rng)
    if failed:
        print("not possible there:", dict(failed), flush=True)
    return samples


def _slices(volume, box, target, forged, name, rng) -> list[Sample]:
    (k0, k1), (j0, j1), (i0, i1) = box
    step = volume.geometry.slice_step_mm or 1.0
    near = [k for k in range(k0, k1) if abs(k - target[0]) * step <= 10.0]
    out = []
    for k in rng.choice(near, size=min(2, len(near)), replace=False):
        before = volume.voxels[k]
        after = before.copy()
        after[j0:j1, i0:i1] = forged[k - k0]
        window = cut(before, target[1], target[2])
        changed = (np.abs(after - before)[window] > CHANGED_HU).astype(np.float32)
        mask = ndimage.gaussian_filter(changed, 2.0) > 0.3
        if not mask.any():
            continue
        channels, scales = high_pass(after)
        out.append(Sample(channels[:, *window].copy(), mask, name))
        out.append(Sample(high_pass(before, scales)[0][:, *window].copy(), np.zeros_like(mask), "intact"))
    return out


def train(samples: list[Sample], steps: int, seed: int) -> Small:
    """700 steps of 12 crops, half of them with a target, Adam with a one-cycle rate."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Small()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    loss_of = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0))
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.attack].append(sample)
    altered = [name for name in groups if name != "intact"]
    began = time.perf_counter()
    for step in range(steps):
        names = [altered[int(rng.integers(len(altered)))] if n < 8 else "intact" for n in range(BATCH)]
        crops = [_crop(groups[name][int(rng.integers(len(groups[name])))], rng) for name in names]
        x = torch.from_numpy(np.stack([c for c, _ in crops]).astype(np.float32))
        y = torch.from_numpy(np.stack([m for _, m in crops]).astype(np.float32))[:, None]
        optimiser.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    return net.eval()


def _crop(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    j, i = rng.integers(0, SIDE - CROP + 1, size=2)
    x, y = sample.channels[:, j : j + CROP, i : i + CROP], sample.mask[j : j + CROP, i : i + CROP]
    if rng.random() < 0.5:
        x, y = x[..., ::-1], y[..., ::-1]
    if rng.random() < 0.5:
        x, y = x[:, ::-1], y[::-1]
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def tamper_map(net: Small, slice_: np.ndarray) -> np.ndarray:
    """(j, i) HU → smoothed logits."""
    channels, _ = high_pass(slice_)
    with torch.no_grad():
        logits = net(torch.from_numpy(channels.astype(np.float32))[None])[0, 0].numpy()
    return ndimage.gaussian_filter(logits, 4.0)


def searched(volume: Volume) -> np.ndarray:
    """(j, i) where an attacker of lungs would act: the lungs and 8 mm round them."""
    body = coarse_body(volume)
    lung = ndimage.binary_dilation(coarse_lung(volume, body)[0], iterations=3) & body[0]
    fine = (lung if lung.any() else body[0]).repeat(COARSE, 0).repeat(COARSE, 1)
    return fine[: volume.shape[1], : volume.shape[2]]


def test_on_real(net: Small, data: Path, every: int = 6) -> dict[str, float]:
    """Top-1 hits by the labels of the slice, pixel AUC (within 16 mm against beyond 30 mm), slice AUC against intact slices."""
    by_file: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in csv.DictReader((data / "ct-gan" / "labels.csv").read_text().splitlines()):
        by_file[row["uuid"], row["slice"]].append(row)
    intact = []
    for folder in sorted((data / "ct").iterdir()):
        for file in sorted(folder.glob("*.dcm"))[::every]:
            (volume,) = (v for v in read(file) if isinstance(v, Volume))
            area = searched(volume)
            if area.any():
                intact.append(float(tamper_map(net, volume.voxels[0])[area].max()))
    figures: dict[str, list[float]] = defaultdict(list)
    for (uuid, number), rows in by_file.items():
        (volume,) = (v for v in read(data / "ct-gan" / uuid / f"{number}.dcm") if isinstance(v, Volume))
        field, area = tamper_map(net, volume.voxels[0]), searched(volume)
        dj, di = volume.geometry.pixel_mm
        j, i = np.mgrid[: field.shape[0], : field.shape[1]]
        top = np.unravel_index(int(np.argmax(np.where(area, field, -np.inf))), field.shape)
        away = [np.hypot((j - float(r["y"])) * dj, (i - float(r["x"])) * di) for r in rows]
        far = np.min(away, axis=0) > FAR_MM
        for row, distance in zip(rows, away):
            kind = {"FB": "removed", "FM": "injected"}[row["type"]]
            figures[f"{kind}: top-1"].append(float(distance[top] <= HIT_MM))
            figures[f"{kind}: pixel AUC"].append(_auc(field[(distance <= HIT_MM) & area], field[far & area]))
            figures[f"{kind}: slice AUC"].append(float(np.mean(np.array(intact) < field[area].max())))
    return {name: float(np.nanmean(values)) for name, values in sorted(figures.items())}


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    if not positive.size or not negative.size:
        return math.nan
    ranks = np.searchsorted(np.sort(negative), positive)
    return float(ranks.mean() / negative.size)


def test_on_simulated(net: Small, samples: list[Sample]) -> dict[str, float]:
    """Share of held-out altered slices whose best point lies on the altered place, by attack."""
    hits: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        if sample.mask.any():
            with torch.no_grad():
                logits = net(torch.from_numpy(sample.channels.astype(np.float32))[None])[0, 0].numpy()
            top = np.unravel_index(int(np.argmax(ndimage.gaussian_filter(logits, 4.0))), logits.shape)
            hits[sample.attack].append(bool(ndimage.binary_dilation(sample.mask, iterations=6)[top]))
    return {f"held out, {name}: top-1": float(np.mean(h)) for name, h in hits.items()}


def main() -> None:
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "data")
    parser.add_argument("--mix", choices=MIXES, default="all")
    parser.add_argument(
        "--held-out", nargs="*", default=[], choices=ATTACKS, help="attacks kept out of training and tested on"
    )
    parser.add_argument(
        "--painter", nargs="*", default=[], metavar="TASK=KIND:NAME", help="trained painters for removal, injection"
    )
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--attacks", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    volumes = intact_volumes(options.data)
    names = tuple(name for name in MIXES[options.mix] if name not in options.held_out)
    attacks = with_networks(options.painter)
    samples = simulate(volumes, [attacks[name] for name in names], options.attacks, options.seed)
    print(f"{options.mix}: {len(samples)} slices of {len(names)} attacks", flush=True)
    net = train(samples, options.steps, options.seed)
    figures = test_on_real(net, options.data)
    if options.held_out:
        figures |= test_on_simulated(
            net, simulate(volumes, [attacks[name] for name in options.held_out], 120, options.seed + 1)
        )
    for name, value in figures.items():
        print(f"{name:40s} {value:.3f}")
    if options.json:
        options.json.write_text(json.dumps({"mix": options.mix, "steps": options.steps, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()

"""Weights of a trained painter → a 3D network that paints the hole of a cube. Needs torch (extra `train`).

Sources: CT-GAN (Mirsky et al. 2019) and pix2pix (Isola et al. 2017) for `unet-gan`; context encoders (Pathak et al. 2016)
for `autoencoder`; DDPM, DDIM and velocity prediction (Ho et al. 2020, Song et al. 2021, Salimans and Ho 2022) for
`diffusion`; CycleGAN (Zhu et al. 2017) for `cycle-gan`. No code was taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import gcd
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from jachai.core.errors import ModelError
from jachai.core.volume import Box, Mask, Voxels
from jachai.tamper.attack import slices
from jachai.tamper.canvas import Canvas, Painter
from jachai.tamper.shelf import Card, Kind, Task, Weights

Upsampling = Literal["nearest", "trilinear"]
CHANNELS: dict[Kind, tuple[int, ...]] = {
    "unet-gan": (16, 32, 64, 96, 96),
    "autoencoder": (16, 32, 64, 96),
    "diffusion": (12, 32, 64, 64),
    "cycle-gan": (16, 32, 64, 96),
}
"""Default channels of each level: 1 to 3 million weights."""
LEAK = 0.2
SAMPLING_STEPS = 6
"""DDIM steps of `diffusion`."""
OFFSET = 0.008
"""Of the cosine schedule (Nichol and Dhariwal 2021)."""
DIFFUSION_GAIN = 2.0
"""Normalised values −0.5…0.5 stand as −1…1 in the diffusion, as its noise has standard deviation 1."""
MARGIN = 6
"""Voxels round the hole that a diffusion sees: 32 for a hole of 20."""
GROUPS = 8
"""Of group normalisation, as far as the channels can be divided."""
MOST_CHANNELS, MOST_LEVELS = 512, 7
"""What a card may ask for: more would fill the memory."""
TIMES = 16
"""Frequencies of the time embedding."""


def planes(kind: Kind, task: Task) -> int:
    """Channels of what a network sees: cube with the hole at 0 (`cycle-gan`: all of the cube), hole, and for injection the
    guide (see `guide`; a `cycle-gan` has none)."""
    return 3 if task == "injection" and kind != "cycle-gan" else 2


class UNet(nn.Module):
    """(n, planes, 32, 32, 32) → (n, 1, 32, 32, 32), any multiple of 2^levels: CT-GAN's generator with fewer channels.

    Strided 4³ convolutions down to 1³; ×2 upsampling, 4³ convolution and skip up again; tanh. skips False: an
    autoencoder, all that it knows goes through its narrowest level.
    """

    def __init__(self, seen: int, channels: tuple[int, ...], upsampling: Upsampling, skips: bool = True) -> None:
        super().__init__()
        self.skips = skips
        self.down = nn.ModuleList()
        for level, (inside, outside) in enumerate(zip((seen, *channels), channels)):
            norm = nn.BatchNorm3d(outside) if level else nn.Identity()
            self.down.append(nn.Sequential(nn.Conv3d(inside, outside, 4, 2, 1), norm, nn.LeakyReLU(LEAK)))
        self.up = nn.ModuleList()
        inside = channels[-1]
        for outside in channels[-2::-1]:
            self.up.append(nn.Sequential(*_enlarging(inside, outside, upsampling), nn.BatchNorm3d(outside), nn.ReLU()))
            inside = outside * 2 if skips else outside
        self.last = nn.Sequential(*_enlarging(inside, 1, upsampling), nn.Tanh())

    @property
    def factor(self) -> int:
        """Sides must be multiples of this."""
        return 1 << len(self.down)

    def forward(self, seen: Tensor) -> Tensor:
        """See the class."""
        kept = []
        x = seen
        for layer in self.down:
            x = layer(x)
            kept.append(x)
        for layer, skip in zip(self.up, kept[-2::-1]):
            x = layer(x)
            x = torch.cat([x, skip], dim=1) if self.skips else x
        painted: Tensor = self.last(x)
        return painted


class Changer(UNet):
    """(n, 2, …) cube and hole → (n, 1, …): the cube and a change of it, so that what is to stay need not be painted."""

    def forward(self, seen: Tensor) -> Tensor:
        """See the class."""
        changed: Tensor = seen[:, :1] + super().forward(seen)
        return changed


def _enlarging(inside: int, outside: int, upsampling: Upsampling) -> tuple[nn.Module, ...]:
    """×2, then a 4³ convolution that keeps the size."""
    return (
        nn.Upsample(scale_factor=2, mode=upsampling),
        nn.ConstantPad3d((1, 2, 1, 2, 1, 2), 0),
        nn.Conv3d(inside, outside, 4),
    )


class _Residual(nn.Module):
    """Two 3³ convolutions, told the time, added to what came in."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.before = nn.Sequential(
            nn.GroupNorm(gcd(GROUPS, inside), inside), nn.SiLU(), nn.Conv3d(inside, outside, 3, 1, 1)
        )
        self.time = nn.Linear(2 * TIMES, 2 * outside)
        self.norm = nn.GroupNorm(gcd(GROUPS, outside), outside)
        self.after = nn.Sequential(nn.SiLU(), nn.Conv3d(outside, outside, 3, 1, 1))
        self.past = nn.Conv3d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x: (n, inside, …); time: (n, 2·TIMES)."""
        scale, shift = self.time(time)[:, :, None, None, None].chunk(2, dim=1)
        out: Tensor = self.past(x) + self.after(self.norm(self.before(x)) * (1 + scale) + shift)
        return out


class Denoiser(nn.Module):
    """Noisy cube, what is seen, and the time 0…1 → the velocity: a U-Net of residual blocks at full resolution."""

    def __init__(self, seen: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Conv3d(1 + seen, channels[0], 3, 1, 1)
        self.down = nn.ModuleList(_Residual(a, b) for a, b in pairwise(channels))
        self.middle = _Residual(channels[-1], channels[-1])
        self.up = nn.ModuleList(_Residual(b + a, a) for a, b in zip(channels[-2::-1], channels[:0:-1]))
        self.last = nn.Conv3d(channels[0], 1, 3, 1, 1)

    @property
    def factor(self) -> int:
        """Sides must be multiples of this."""
        return 1 << len(self.down)

    def forward(self, noisy: Tensor, seen: Tensor, time: Tensor) -> Tensor:
        """noisy: (n, 1, …). seen: (n, planes, …). time: (n,)."""
        angle = time[:, None] * torch.exp(torch.linspace(0, 6, TIMES, device=time.device))
        told = torch.cat([angle.sin(), angle.cos()], dim=1)
        x = self.first(torch.cat([noisy, seen], dim=1))
        kept = [x]
        for layer in self.down:
            x = layer(functional.avg_pool3d(x, 2), told)
            kept.append(x)
        x = self.middle(x, told)
        for layer, skip in zip(self.up, kept[-2::-1]):
            x = layer(torch.cat([functional.interpolate(x, scale_factor=2), skip], dim=1), told)
        velocity: Tensor = self.last(x)
        return velocity


def signal_and_noise(time: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the clean cube and of the noise at each time (n,) → (n, 1, 1, 1, 1) each; their squares add up to 1."""
    angle = (time + OFFSET) / (1 + OFFSET) * (torch.pi / 2)
    return angle.cos()[:, None, None, None, None], angle.sin()[:, None, None, None, None]


def network(card: Card) -> nn.Module:
    """The card's network, its weights by chance. Raises ModelError where the card asks for an impossible one."""
    if not 2 <= len(card.channels) <= MOST_LEVELS or not all(1 <= n <= MOST_CHANNELS for n in card.channels):
        raise ModelError("The card of the painter describes no network that Jachai knows.")
    seen = planes(card.kind, card.task)
    if card.kind == "diffusion":
        return Denoiser(seen, card.channels)
    if card.kind == "cycle-gan":
        return Changer(seen, card.channels, card.upsampling)
    return UNet(seen, card.channels, card.upsampling, skips=card.kind == "unet-gan")


def guide(canvas: Canvas) -> Voxels:
    """Where the canvas's nodule should lie and how dense it is: 0…1, float32 of the cube; 0 without a nodule."""
    if canvas.nodule is None:
        return np.zeros_like(canvas.cube)
    k, j, i = ((n - 1) / 2 for n in canvas.cube.shape)
    alpha, value = canvas.nodule.rendered(canvas.cube.shape, canvas.spacing_mm, (k, j, i))  # type: ignore[arg-type]
    return guide_of(alpha, canvas.encode(value))


def guide_of(alpha: Voxels, normal: Voxels) -> Voxels:
    """Share of the nodule and its normalised value → the guide."""
    return np.asarray(alpha * (normal + np.float32(0.5)), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class OneStep:
    """A U-Net, an autoencoder or a changer: one pass, the whole cube is the network's. A hole may have any size: the cube is
    continued to the sides the network needs."""

    model: UNet
    task: Task

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        told = _changed(canvas) if isinstance(self.model, Changer) else _seen(canvas, self.task)
        seen, inside = _padded(told, self.model.factor)
        with _one_thread():
            painted = self.model(seen)[0, 0].numpy()
        return np.asarray(np.clip(painted[inside], -0.5, 0.5), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Diffusion:
    """In-painting from noise in `steps` DDIM steps; what stands outside the hole stays. Every rng paints otherwise."""

    model: Denoiser
    task: Task
    steps: int = SAMPLING_STEPS

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        near = slices(_near(canvas.hole))
        seen, inside = _padded(_seen(canvas, self.task)[(slice(None), *near)], self.model.factor)
        noise = torch.from_numpy(canvas.rng.standard_normal((1, 1, *seen.shape[2:]), dtype=np.float32))
        with _one_thread():
            clean = denoised(self.model, seen, noise, self.steps)[0, 0].numpy()
        out = canvas.cube.copy()
        out[near] = np.where(canvas.hole[near], np.clip(clean[inside], -0.5, 0.5), out[near])
        return out


def denoised(model: Denoiser, seen: Tensor, noise: Tensor, steps: int) -> Tensor:
    """DDIM without new noise (η = 0): (n, 1, …) normal noise → normalised cubes."""
    times = torch.linspace(1, 0, steps + 1, device=noise.device)
    x = noise
    for now, then in pairwise(times):
        signal, spread = signal_and_noise(now[None])
        velocity = model(x, seen, now.expand(len(x)))
        clean = torch.clamp(signal * x - spread * velocity, -1, 1)
        error = (x - signal * clean) / spread
        signal, spread = signal_and_noise(then[None])
        x = signal * clean + spread * error
    return clean / DIFFUSION_GAIN


def loaded(weights: Weights) -> Painter:
    """The painter of checked weights. Raises ModelError where they do not fit the card."""
    return _loaded(weights.sha256, weights)


@lru_cache(maxsize=8)
def _loaded(sha256: str, weights: Weights) -> Painter:
    model = network(weights.card)
    fill(model, tensors_in(weights.data))
    model.eval()
    task = weights.card.task
    return Diffusion(model, task) if isinstance(model, Denoiser) else OneStep(model, task)  # type: ignore[arg-type]


def tensors_in(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises ModelError."""
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError("The file of weights is damaged.", "Train the painter again.") from error


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors into the model: exactly its own, all finite. Raises ModelError."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:  # what torch raises for names and shapes that do not fit
        raise ModelError("The weights do not fit the network their card describes.") from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ModelError("Some weights are not finite numbers.")


def _seen(canvas: Canvas, task: Task) -> Voxels:
    """(planes, k, j, i) of the canvas."""
    parts = [canvas.masked, canvas.hole.astype(np.float32)]
    return np.stack([*parts, guide(canvas)] if task == "injection" else parts)


def _changed(canvas: Canvas) -> Voxels:
    """(2, k, j, i): all of the cube, and the hole, which is where it shall change."""
    return np.stack([canvas.cube, canvas.hole.astype(np.float32)])


def _padded(seen: Voxels, factor: int) -> tuple[Tensor, tuple[slice, ...]]:
    """(planes, k, j, i) → a batch of one whose sides are multiples of `factor`, and where the cube lies in it."""
    room = [-n % factor for n in seen.shape[1:]]
    inside = tuple(slice(r // 2, r // 2 + n) for r, n in zip(room, seen.shape[1:]))
    wide = np.pad(seen, [(0, 0), *((r // 2, r - r // 2) for r in room)], mode="edge")
    return torch.from_numpy(wide[None].astype(np.float32)), inside


def _near(hole: Mask) -> Box:
    """The box of the hole and MARGIN voxels round it, within the cube."""
    where = [np.flatnonzero(hole.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    k, j, i = (
        (max(0, int(w[0]) - MARGIN), min(n, int(w[-1]) + 1 + MARGIN)) if w.size else (0, n)
        for w, n in zip(where, hole.shape)
    )
    return k, j, i


@contextmanager
def _one_thread() -> Iterator[None]:
    """No gradients, one thread: the same bits on a machine with any number of cores, and attacks that run side by side
    do not fight for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)

"""A batch of cubes → one step of training: the losses and optimisers of every kind of painter. Needs torch.

Sources: see `tamper.generators`; the adversarial loss is that of least squares (Mao et al. 2017), as in CT-GAN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from jachai.core.errors import UsageError
from jachai.tamper.generators import (
    DIFFUSION_GAIN,
    LEAK,
    SAMPLING_STEPS,
    Denoiser,
    UNet,
    denoised,
    network,
    planes,
    signal_and_noise,
)
from jachai.tamper.shelf import Card

MAE_WEIGHT = 100.0
"""Of the mean absolute error against the adversarial loss (CT-GAN, pix2pix)."""
GAN_RATE, GAN_BETAS = 2e-4, (0.5, 0.999)
"""Learning rate and moments of Adam in CT-GAN and pix2pix."""
PLAIN_RATE = 1e-3
CYCLE_WEIGHT, SAME_WEIGHT = 10.0, 5.0
"""Of the way there and back, and of cubes that are right already (CycleGAN)."""
TEXTURE_WEIGHT = 300.0
"""Of the difference in local strength of the finest two bands: mean absolute error alone rewards lung without grain, and a small
critic, trained for minutes, does not make up for it (painted lung then has two thirds of the grain of real lung)."""
TEXTURE_WINDOW = 8
"""Voxels of the side of the places whose strengths are compared; they overlap by half."""
CRITIC_CHANNELS = (16, 32, 64)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """cubes: (n, 1, 32, 32, 32), what is wanted. seen: (n, planes, 32, 32, 32). On the device of the training."""

    cubes: Tensor
    seen: Tensor


class Recipe(Protocol):
    """How one kind of painter learns.

    modules: what is trained; 'painter' is what becomes of it. optimisers: of the modules, by the same names. All chance
    is drawn from torch's own generator, which the caller seeds before every step.
    """

    @property
    def modules(self) -> dict[str, nn.Module]: ...
    @property
    def optimisers(self) -> dict[str, torch.optim.Adam]: ...

    def step(self, batch: Seen) -> dict[str, float]:
        """Learn from one batch; the losses by name, 'mae' or 'error' first."""

    def painted(self, seen: Tensor) -> Tensor:
        """(n, planes, …) → (n, 1, …) normalised, for the samples; modules are in evaluation mode."""


class Critic(nn.Module):
    """PatchGAN in 3D: (cube, what the painter saw) → a score for each patch: 1 real, 0 painted."""

    def __init__(self, seen: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level, (a, b) in enumerate(zip((1 + seen, *CRITIC_CHANNELS), CRITIC_CHANNELS)):
            layers += [nn.Conv3d(a, b, 4, 2, 1), nn.BatchNorm3d(b) if level else nn.Identity(), nn.LeakyReLU(LEAK)]
        self.layers = nn.Sequential(*layers, nn.Conv3d(CRITIC_CHANNELS[-1], 1, 3, 1, 1))

    def forward(self, cube: Tensor, seen: Tensor) -> Tensor:
        """(n, 1, …) and (n, planes, …) → (n, 1, 4, 4, 4)."""
        scores: Tensor = self.layers(torch.cat([cube, seen], dim=1))
        return scores


def texture(cubes: Tensor) -> Tensor:
    """(n, 1, k, j, i) → (n, 2, …) root mean square of the finest two bands in overlapping places."""
    once = _averaged(cubes)
    bands = torch.cat([cubes - once, once - _averaged(once)], dim=1)
    power = functional.avg_pool3d(bands**2, TEXTURE_WINDOW, TEXTURE_WINDOW // 2)
    strength: Tensor = (power + 1e-6).sqrt()
    return strength


def _averaged(cubes: Tensor) -> Tensor:
    """Means of 3³ voxels, the edge continued."""
    return functional.avg_pool3d(functional.pad(cubes, (1,) * 6, mode="replicate"), 3, 1)


class Adversarial:
    """`unet-gan`: least-squares adversarial loss + 100 · mean absolute error over the whole cube, as in CT-GAN, + 300 ·
    mean absolute error of the local `texture`, which is ours."""

    def __init__(self, card: Card, device: torch.device) -> None:
        painter, critic = network(card), Critic(planes(card.kind, card.task))
        self.modules: dict[str, nn.Module] = {"painter": _placed(painter, device), "critic": _placed(critic, device)}
        self.optimisers = {
            name: torch.optim.Adam(m.parameters(), GAN_RATE, GAN_BETAS) for name, m in self.modules.items()
        }

    def step(self, batch: Seen) -> dict[str, float]:
        """See Recipe."""
        painter, critic = self.modules["painter"], self.modules["critic"]
        painted = painter(batch.seen)
        real, fake = critic(batch.cubes, batch.seen), critic(painted.detach(), batch.seen)
        judged = (
            functional.mse_loss(real, torch.ones_like(real)) + functional.mse_loss(fake, torch.zeros_like(fake))
        ) / 2
        _learn(self.optimisers["critic"], judged)
        scores = critic(painted, batch.seen)
        fooled = functional.mse_loss(scores, torch.ones_like(scores))
        mae = functional.l1_loss(painted, batch.cubes)
        rough = (texture(painted) - texture(batch.cubes)).abs().mean()
        _learn(self.optimisers["painter"], fooled + MAE_WEIGHT * mae + TEXTURE_WEIGHT * rough)
        return {"mae": mae.item(), "fooled": fooled.item(), "critic": judged.item(), "texture": rough.item()}

    def painted(self, seen: Tensor) -> Tensor:
        """See Recipe."""
        out: Tensor = self.modules["painter"](seen)
        return out


class Cycle:
    """`cycle-gan`: cubes of one kind become those of the other, and back, learnt from cubes that do not belong together."""

    def __init__(self, card: Card, device: torch.device) -> None:
        hole = 1
        made = {"painter": network(card), "back": network(card), "critic": Critic(hole), "critic_back": Critic(hole)}
        self.modules: dict[str, nn.Module] = {name: _placed(module, device) for name, module in made.items()}
        self.optimisers = {
            name: torch.optim.Adam(m.parameters(), GAN_RATE, GAN_BETAS) for name, m in self.modules.items()
        }

    def step(self, batch: Seen) -> dict[str, float]:
        """See Recipe."""
        wanted, other, hole = batch.cubes, batch.seen[:, :1], batch.seen[:, 1:]
        ways = (("painter", "back", "critic", other, wanted), ("back", "painter", "critic_back", wanted, other))
        told = {"cycle": 0.0, "fooled": 0.0, "critic": 0.0}
        loss = torch.zeros((), device=wanted.device)
        for there, back, judge, start, aim in ways:
            made = self._through(there, start, hole)
            real, fake = self.modules[judge](aim, hole), self.modules[judge](made.detach(), hole)
            judged = (
                functional.mse_loss(real, torch.ones_like(real)) + functional.mse_loss(fake, torch.zeros_like(fake))
            ) / 2
            _learn(self.optimisers[judge], judged)
            scores = self.modules[judge](made, hole)
            fooled = functional.mse_loss(scores, torch.ones_like(scores))
            cycle = functional.l1_loss(self._through(back, made, hole), start)
            same = functional.l1_loss(self._through(there, aim, hole), aim)
            loss = loss + fooled + CYCLE_WEIGHT * cycle + SAME_WEIGHT * same
            for name, value in (("cycle", cycle), ("fooled", fooled), ("critic", judged)):
                told[name] += value.item()
        for name in ("painter", "back"):
            self.optimisers[name].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for name in ("painter", "back"):
            self.optimisers[name].step()
        return told

    def _through(self, name: str, cubes: Tensor, hole: Tensor) -> Tensor:
        out: Tensor = self.modules[name](torch.cat([cubes, hole], dim=1))
        return out

    def painted(self, seen: Tensor) -> Tensor:
        """See Recipe."""
        out: Tensor = self.modules["painter"](seen)
        return out


class Plain:
    """`autoencoder`: mean absolute error alone."""

    def __init__(self, card: Card, device: torch.device) -> None:
        self.modules: dict[str, nn.Module] = {"painter": _placed(network(card), device)}
        self.optimisers = {"painter": torch.optim.Adam(self.modules["painter"].parameters(), PLAIN_RATE)}

    def step(self, batch: Seen) -> dict[str, float]:
        """See Recipe."""
        mae = functional.l1_loss(self.modules["painter"](batch.seen), batch.cubes)
        _learn(self.optimisers["painter"], mae)
        return {"mae": mae.item()}

    def painted(self, seen: Tensor) -> Tensor:
        """See Recipe."""
        out: Tensor = self.modules["painter"](seen)
        return out


class Denoising:
    """`diffusion`: squared error of the velocity at a time drawn for every cube, counted inside the hole."""

    def __init__(self, card: Card, device: torch.device) -> None:
        self.modules: dict[str, nn.Module] = {"painter": _placed(network(card), device)}
        self.optimisers = {"painter": torch.optim.Adam(self.modules["painter"].parameters(), PLAIN_RATE)}

    def step(self, batch: Seen) -> dict[str, float]:
        """See Recipe."""
        clean = batch.cubes * DIFFUSION_GAIN
        time = torch.rand(len(clean), device=clean.device)
        noise = torch.randn_like(clean)
        signal, spread = signal_and_noise(time)
        velocity = self.modules["painter"](signal * clean + spread * noise, batch.seen, time)
        hole = batch.seen[:, 1:2]
        error = ((velocity - (signal * noise - spread * clean)) ** 2 * hole).sum() / hole.sum()
        _learn(self.optimisers["painter"], error)
        return {"error": error.item()}

    def painted(self, seen: Tensor) -> Tensor:
        """See Recipe."""
        model = self.modules["painter"]
        assert isinstance(model, Denoiser)
        inside = denoised(model, seen, torch.randn_like(seen[:, :1]), SAMPLING_STEPS)
        return torch.where(seen[:, 1:2] > 0, inside, seen[:, :1])


RECIPES: dict[str, type[Adversarial] | type[Plain] | type[Denoising] | type[Cycle]] = {
    "unet-gan": Adversarial,
    "autoencoder": Plain,
    "diffusion": Denoising,
    "cycle-gan": Cycle,
}
"""How each kind of `tamper.shelf.KINDS` learns."""


def chosen_device(wanted: str) -> torch.device:
    """'auto', 'cpu' or 'cuda'. Raises UsageError where there is no such device."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UsageError("There is no CUDA device that torch can use.", "Use --device cpu.")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    """On the device, in the memory layout in which 3D convolutions are fastest. A U-Net's first weights are small, as in
    pix2pix."""
    if isinstance(module, UNet | Critic):
        for part in module.modules():
            if isinstance(part, nn.Conv3d):
                nn.init.normal_(part.weight, 0, 0.02)
    return module.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]


def _learn(optimiser: torch.optim.Adam, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()

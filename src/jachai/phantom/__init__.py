"""Seed and size → a chest CT or brain MRI made by code, with the noise of a real scanner."""

from jachai.phantom.brain import BrainPhantom, brain
from jachai.phantom.chest import ChestPhantom, Nodule, chest
from jachai.phantom.head import Lesion
from jachai.phantom.noise import KERNELS, Kernel, ct_noise, rician

__all__ = [
    "KERNELS",
    "BrainPhantom",
    "ChestPhantom",
    "Kernel",
    "Lesion",
    "Nodule",
    "brain",
    "chest",
    "ct_noise",
    "rician",
]

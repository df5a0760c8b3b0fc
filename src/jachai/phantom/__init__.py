"""Seed and size → a chest CT or brain MRI made by code, with the noise of a real scanner."""

from jachai.phantom.chest import ChestPhantom, Nodule, chest
from jachai.phantom.noise import KERNELS, Kernel, ct_noise, rician

__all__ = ["KERNELS", "ChestPhantom", "Kernel", "Nodule", "chest", "ct_noise", "rician"]

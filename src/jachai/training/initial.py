"""A local file of weights in torchvision's layout → the body of a network. Needs torch.

Only tensors are read: safetensors, or torch's format with `weights_only=True`, which runs no code of the file.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from jachai.core.errors import ModelError
from jachai.training.region_networks import IMAGENET_INPUT

FETCH = "Give the file that torchvision publishes for this network (state_dict, .pth or .safetensors)."


def weights_of(file: Path) -> dict[str, Tensor]:
    """Name → tensor. Raises ModelError where the file is none of tensors."""
    try:
        if file.suffix == ".safetensors":
            return load_safetensors(file.read_bytes())
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(
            f"{file.name} holds no weights that can be read safely ({type(error).__name__}).", FETCH
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(one, Tensor) for one in loaded.values()):
        raise ModelError(f"{file.name} is no state_dict of tensors.", FETCH)
    return loaded


def fill_body(network: nn.Module, weights: Mapping[str, Tensor], body: str) -> int:
    """Fill every parameter whose name begins with `body` → how many were filled. The first filters, made for three
    colours, are averaged and shared among our channels. Raises ModelError where something is missing or of another shape."""
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(body)}
    first = next(name for name, tensor in own.items() if tensor.ndim == 4)
    for name, tensor in own.items():
        given = weights.get(name)
        if given is None:
            if name.endswith("num_batches_tracked"):
                continue
            raise ModelError(f"The weights lack {name!r}.", FETCH)
        if name == first and given.ndim == 4 and given.shape[1] == IMAGENET_INPUT:
            given = given.mean(dim=1, keepdim=True).expand(tensor.shape) * (IMAGENET_INPUT / tensor.shape[1])
        if given.shape != tensor.shape:
            raise ModelError(
                f"The weights {name!r} have the shape {tuple(given.shape)}, not {tuple(tensor.shape)}.", FETCH
            )
        if not torch.isfinite(given.float()).all():
            raise ModelError(f"The weights {name!r} hold numbers that are not finite.", FETCH)
        tensor.copy_(given)
    return len(own)

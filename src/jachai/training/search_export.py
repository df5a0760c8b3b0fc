"""A search network in torch → ONNX bytes for slices of any size, checked against torch. Needs torch, onnx and onnxscript."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from jachai.core.errors import ModelError
from jachai.forensics.channels import CHANNELS
from jachai.training.export import OPSET, quiet, without_traces

TOLERANCE = 1e-3
"""Largest difference of an output between torch and onnxruntime, relative where the output is larger than 1."""
CHECKED = ((96, 132), (203, 160))
"""Sizes, in pixels, at which both are compared."""
LARGEST = 4096
"""Pixels of a side that the graph is made for, at most."""


def exported(net: nn.Module, input_name: str, outputs: Sequence[str], smallest: int = 64) -> bytes:
    """(1, 7, j, i) → the outputs, for sides of `smallest` pixels and more. Raises ModelError if onnxruntime computes something else than torch."""
    net = net.cpu().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    sides = {axis: torch.export.Dim(name, min=smallest, max=LARGEST) for axis, name in ((2, "rows"), (3, "columns"))}
    with quiet(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        program = torch.onnx.export(
            net,
            (torch.zeros(1, len(CHANNELS), 128, 160),),
            dynamo=True,
            input_names=[input_name],
            output_names=list(outputs),
            dynamic_shapes=(sides,),
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        program.save(str(file), external_data=False)
        data = without_traces(file.read_bytes())
    _check(net, data, input_name, outputs)
    return data


def _check(net: nn.Module, data: bytes, input_name: str, outputs: Sequence[str]) -> None:
    from onnxruntime import InferenceSession

    run = InferenceSession(data, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for rows, columns in CHECKED:
        x = rng.standard_normal((1, len(CHANNELS), rows, columns), dtype=np.float32)
        with torch.inference_mode():
            said = net(torch.from_numpy(x))
        wanted = [said] if isinstance(said, torch.Tensor) else list(said)
        for one, told in zip(wanted, run.run(list(outputs), {input_name: x}), strict=True):
            apart = float((np.abs(told - one.numpy()) / np.maximum(1, np.abs(one.numpy()))).max())
            if not apart <= TOLERANCE:
                raise ModelError(
                    f"The exported network differs from the trained one by {apart:.2g}.", "Report this as a bug."
                )

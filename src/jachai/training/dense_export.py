"""The dense network in torch → ONNX bytes for slices of any size, checked against torch. Needs torch, onnx and onnxscript."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from jachai.core.errors import ModelError
from jachai.detectors.dense import INPUT, OUTPUT
from jachai.forensics.channels import CHANNELS
from jachai.training.dense import Dense
from jachai.training.export import OPSET, quiet, without_traces

TOLERANCE = 1e-3
"""Largest difference of a logit between torch and onnxruntime."""
CHECKED = ((96, 132), (203, 160))
"""Sizes, in pixels, at which both are compared."""


def exported(net: Dense) -> bytes:
    """INPUT (1, 7, j, i) → OUTPUT (1, 2, ⌈j/4⌉, ⌈i/4⌉). Raises ModelError if onnxruntime computes something else."""
    net = net.cpu().eval()
    with quiet(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        program = torch.onnx.export(
            net,
            (torch.zeros(1, len(CHANNELS), 128, 160),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(
                {2: torch.export.Dim("rows", min=16, max=4096), 3: torch.export.Dim("columns", min=16, max=4096)},
            ),
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        program.save(str(file), external_data=False)
        data = without_traces(file.read_bytes())
    _check(net, data)
    return data


def _check(net: Dense, data: bytes) -> None:
    from onnxruntime import InferenceSession

    run = InferenceSession(data, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for rows, columns in CHECKED:
        x = rng.standard_normal((1, len(CHANNELS), rows, columns), dtype=np.float32)
        with torch.inference_mode():
            wanted = net(torch.from_numpy(x)).numpy()
        apart = float(np.abs(run.run([OUTPUT], {INPUT: x})[0] - wanted).max())
        if apart > TOLERANCE:
            raise ModelError(
                f"The exported network differs from the trained one by {apart:.2g}.", "Report this as a bug."
            )

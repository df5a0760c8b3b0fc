"""A torch network → ONNX bytes with its weights inside, checked against torch. Needs torch, onnx and onnxscript.

Nothing of the machine that trained it is left in the file: no names of modules, no traces, no paths.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from jachai.core.errors import ModelError
from jachai.detectors.bundle import Bundle, session
from jachai.detectors.region import INPUT, OUTPUT

OPSET = 18
TOLERANCE = 1e-3
"""Largest difference of a probability between torch and onnxruntime."""


class Averaged(nn.Module):
    """Logits → probabilities, averaged over mirrored and transposed views: the grid has no preferred direction."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, seen: Tensor) -> Tensor:
        """(n, channels, …, j, i) → (n, classes) probabilities."""
        turned = seen.transpose(-1, -2)
        views = (seen, seen.flip(-1), turned, turned.flip(-1))
        said = [torch.softmax(self.network(view), dim=1) for view in views]
        return cast(Tensor, sum(said) / len(said))


def exported(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    """`Averaged(network)` as ONNX: INPUT (n, *shape) → OUTPUT (n, classes), any n."""
    module = Averaged(network).cpu().eval()
    with quiet(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        program = torch.onnx.export(
            module,
            (torch.zeros(2, *shape),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("n", min=1, max=1 << 16)},),
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        program.save(str(file), external_data=False)
        return without_traces(file.read_bytes())


def without_traces(data: bytes) -> bytes:
    """The same network without what the exporter noted about the source code and the machine."""
    model = onnx.load_model_from_string(data)
    model.doc_string = ""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        graph.doc_string = ""
        for part in (*graph.node, *graph.value_info, *getattr(graph, "initializer", ())):
            part.doc_string = ""
            if hasattr(part, "metadata_props"):
                del part.metadata_props[:]
    for part in (*model.graph.input, *model.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    del model.graph.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))


def check(bundle: Bundle, network: nn.Module, seen: np.ndarray) -> None:
    """Raises ModelError unless onnxruntime says what torch says of `seen`."""
    with torch.inference_mode():
        wanted = Averaged(network).cpu().eval()(torch.from_numpy(seen)).numpy()
    [said] = session(bundle).run([OUTPUT], {INPUT: seen})
    if not np.abs(said - wanted).max() < TOLERANCE:
        raise ModelError(f"The export of '{bundle.card.name}' does not say what was trained.", "Please report this.")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter talks a great deal; what it would say of a failure comes as an exception."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before):
                logger.setLevel(level)

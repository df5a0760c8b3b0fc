"""Tiny networks in ONNX, made on the spot, and cards to go with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from jachai.detectors.bundle import Bundle, Card, digest_of
from jachai.detectors.region import INPUT, OUTPUT

SQUARE = {"kind": "square", "side": 32, "channels": ["hu", "corner"], "grid": "native"}


def mean_network(weights: np.ndarray, shape: tuple[int | str, ...] = ("n", 2, 32, 32)) -> bytes:
    """softmax(mean of each channel · weights): weights (channels, classes)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    axes = list(range(2, len(shape)))
    nodes = [
        helper.make_node("ReduceMean", [INPUT], ["mean"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def sample_card(network: bytes, **changes: Any) -> Card:
    card = Card(
        name="sample",
        role="region",
        architecture="cnn",
        version="0",
        model_sha256=digest_of(network),
        inputs=SQUARE,
        classes=("real", "altered"),
        threshold=0.5,
        threshold_from="made up for a test",
    )
    return replace(card, **changes)


def sample_bundle(**changes: Any) -> Bundle:
    classes = len(changes.get("classes", (0, 0)))
    network = mean_network(np.random.default_rng(0).normal(size=(2, classes)))
    return Bundle(sample_card(network, **changes), network)

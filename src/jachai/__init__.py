"""Jachai (যাচাই, "to verify"): medical scan in → was it tampered with, where, what kind, how surely."""

import os

__version__ = "0.1.0"

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
"""Since 1.29 onnxruntime reports each session to its maker, and marks the computer for it, unless this is set before it is imported.
Nothing leaves a computer on which Jachai runs; so it is set here, before anything else, and in every process it starts."""

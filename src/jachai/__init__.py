"""Jachai (যাচাই, "to verify"): medical scan in → was it tampered with, where, what kind, how surely."""

__version__ = "0.1.0"

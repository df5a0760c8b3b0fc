"""Where a network may be trained in half precision: only where that is faster. Needs torch."""

from __future__ import annotations

import torch


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 on GPUs and on CPUs with AVX-512, as a context. Other CPUs emulate it, and take ten times as long as in single precision."""
    fast = device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)

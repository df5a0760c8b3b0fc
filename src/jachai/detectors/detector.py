"""What a detector is: Volume → how suspicious every place is, and why."""

from __future__ import annotations

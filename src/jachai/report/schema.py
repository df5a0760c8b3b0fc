"""Nothing in → the JSON Schema (draft 2020-12) of the object that `jachai scan --json` prints."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

FILE_NAME = "scan.schema.json"


def scan_schema() -> dict[str, Any]:
    """The schema as a dictionary; the file is `jachai/report/scan.schema.json`."""
    text = (files("jachai.report") / FILE_NAME).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema

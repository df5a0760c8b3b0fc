"""The operating system → the folder where Jachai keeps what belongs to this user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HOME_VARIABLE = "JACHAI_HOME"


def home() -> Path:
    """JACHAI_HOME, or the place the system reserves for such data. It need not exist yet.

    Linux: XDG Base Directory Specification 0.8; macOS: File System Programming Guide; Windows: known folder
    FOLDERID_LocalAppData.
    """
    if given := os.environ.get(HOME_VARIABLE):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "Jachai"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Jachai"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "jachai"

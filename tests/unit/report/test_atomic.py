"""Files are replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from jachai.report.atomic import replacing


def test_success_replaces_and_failure_leaves_no_trace(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("before")
    with pytest.raises(RuntimeError), replacing(target) as part:
        part.write_text("half")
        assert target.read_text() == "before"
        raise RuntimeError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.json", "before")]
    with replacing(target) as part:
        part.write_text("after")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.json", "after")]

"""The plan of the house, as far as import-linter does not check it: docstrings, quick start, every system, the wheel."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "jachai"
MODULES = sorted(PACKAGE.rglob("*.py"))

POSIX_ONLY = frozenset({"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"})
HEAVY = ("torch", "matplotlib", "onnxruntime", "scipy", "sklearn", "pydicom", "numpy", "nibabel", "PIL", "jinja2")
MAX_CPU_SECONDS = 0.5
FORBIDDEN_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"})


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_first_line_of_every_module_says_what_it_is(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert doc, f"{name_of(path)} has no docstring"
    first = doc.splitlines()[0]
    assert len(first.split()) >= 5, f"the first line of {name_of(path)} says too little: {first!r}"
    assert first.rstrip()[-1] in ".:)?", f"the first line of {name_of(path)} is no sentence: {first!r}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_posix_only_module_is_imported_at_import_time(path: Path) -> None:
    found = set(imported_at_once(ast.parse(path.read_text(encoding="utf-8")))) & POSIX_ONLY
    assert not found, f"{name_of(path)} would not import on Windows: {found}"


def imported_at_once(tree: ast.AST) -> Iterator[str]:
    """Top-level names of what is imported when the module is, not inside functions or under `sys.platform`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and any(
            word in ast.unparse(node.test) for word in ("sys.platform", "os.name", "TYPE_CHECKING")
        ):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
        else:
            yield from imported_at_once(node)


def test_the_search_for_imports_finds_them() -> None:
    source = (
        "try:\n    import fcntl\nexcept ImportError:\n    pass\nclass A:\n    import pwd\ndef f():\n    import grp\n"
    )
    assert set(imported_at_once(ast.parse(source))) == {"fcntl", "pwd"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_has_a_name_that_says_nothing(path: Path) -> None:
    assert not FORBIDDEN_NAMES & {path.stem, path.parent.name}


def test_the_command_line_starts_quickly_and_light() -> None:
    code = (
        "import json, sys, time; before = time.process_time(); import jachai.cli; "
        f"print(json.dumps([time.process_time() - before, [m for m in {HEAVY!r} if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = json.loads(done.stdout)
    assert loaded == []
    assert seconds < MAX_CPU_SECONDS


def test_scanning_loads_no_torch_matplotlib_or_onnxruntime() -> None:
    code = (
        "import sys; import jachai.service.delivery, jachai.service.demo, jachai.service.doctor; "
        "print([m for m in ('torch', 'matplotlib', 'onnxruntime', 'sklearn', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_wheel_holds_everything_it_needs(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    [wheel] = tmp_path.glob("jachai-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    in_source = {
        str(path.relative_to(ROOT / "src")).replace("\\", "/")
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert in_source <= names, f"missing in the wheel: {sorted(in_source - names)}"
    assert {"jachai/report/report.html.j2", "jachai/report/report.css", "jachai/report/scan.schema.json"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)

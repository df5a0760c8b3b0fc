"""How long does an examination take, and where does the time go? → a Markdown table on standard output.

    python benchmarks/speed.py [--data ../shared/data] [--runs 3]

The yardstick is the time in which pydicom alone decodes the same files in one process, measured in turn with the command
(A B A B …): machines differ and are noisy, ratios less so. Whole processes, from start to exit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

DECODE = "import sys, pathlib, pydicom\nfor f in sorted(pathlib.Path(sys.argv[1]).glob('*.dcm')): pydicom.dcmread(f).pixel_array"
STAGES = """
import sys, time
t = [time.perf_counter()]
from jachai.detectors import load
from jachai.io.files import read
from jachai.scan import candidates
detector = load()
t.append(time.perf_counter())
volume = next(iter(read(sys.argv[1])))
t.append(time.perf_counter())
found = detector.examine(volume)
t.append(time.perf_counter())
candidates.find(volume, found)
t.append(time.perf_counter())
print(*(b - a for a, b in zip(t, t[1:])))
"""
IMPORT = "import time; t = time.process_time(); import jachai.cli; print(time.process_time() - t)"


def timed(*command: str) -> tuple[float, str]:
    """Wall seconds and standard output of a process; its exit status may be any verdict."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1, 3):
        sys.exit(done.stderr)
    return time.perf_counter() - start, done.stdout


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def main() -> None:
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "data")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    python, study = sys.executable, options.data / "ct" / "lidc-0314"
    scan = (python, "-m", "jachai", "scan")
    decode, whole, peak = [], [], []
    for _ in range(options.runs):
        decode.append(timed(python, "-c", DECODE, str(study))[0])
        seconds, out = timed(*scan, str(study), "--json", "-")
        whole.append(seconds)
        peak.append(json.loads(out)["peak_mb"])
    stages = [float(value) for value in timed(python, "-c", STAGES, str(study))[1].split()]
    slices = sorted((options.data / "ct-gan").glob("*/*.dcm"))
    many = [timed(*scan, *map(str, slices), "--json", "-")[0] / len(slices) for _ in range(options.runs)]
    imports = [float(timed(python, "-c", IMPORT)[1]) for _ in range(options.runs)]
    ratios = [b / a for a, b in zip(decode, whole)]
    rows = (
        ("lidc-0314, 275 slices: pydicom alone decodes, s", spread(decode), ""),
        ("the same from command to JSON, s", spread(whole), ""),
        ("ratio of the two, in turn", spread(ratios), "≤ 8"),
        ("peak memory, MB (command and its reading child)", spread(peak, 0), "≤ 1500"),
        (
            "of which: imports and calibration / reading / measuring / candidates, s",
            " / ".join(f"{s:.1f}" for s in stages),
            "",
        ),
        (f"{len(slices)} single slices in one command, s each", spread(many), "≤ 0.5"),
        ("import jachai.cli, CPU s", spread(imports), "≤ 0.5"),
    )
    print(f"Median (least–most) of {options.runs} runs.\n\n| figure | measured | asked |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()

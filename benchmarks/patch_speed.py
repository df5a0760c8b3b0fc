"""How many patches a second do worker processes draw, and how much memory do they hold? → a line of figures.

    python benchmarks/patch_speed.py [--data ../shared/data] [--store FOLDER] [--workers 2] [--patches 4000]

Patches of 96 × 96 × 3 from the real tampered slices and the pristine series together.
Memory is that of the workers: resident without the mapped files (which the system may drop), the largest of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

import psutil

from jachai.core.progress import silent
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.patches import Patches, PatchPlan, batches
from jachai.dataset.sources import Options, detect
from jachai.dataset.store import Store

BATCH = 32


def entries_of(data: Path) -> list[Entry]:
    items = detect(data).entries(data, Options(), silent)
    return [item for item in items if isinstance(item, Entry) and item.modality == "CT"]


def watch(peak: list[float], stop: threading.Event) -> None:
    """Keep the largest unshared memory (MB) of a child process in peak[0]."""
    while not stop.wait(0.2):
        for child in multiprocessing.active_children():
            try:
                memory = psutil.Process(child.pid).memory_info()
            except psutil.Error:
                continue
            peak[0] = max(peak[0], (memory.rss - getattr(memory, "shared", 0)) / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--patches", type=int, default=4000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as spare:
        entries = entries_of(options.data)
        store = Store(options.store or Path(spare))
        start = time.perf_counter()
        store.prepare(entries)
        print(f"stored {len({e.path for e in entries})} volumes in {time.perf_counter() - start:.1f} s")
        pristine = any(e.label is Label.PRISTINE for e in entries)
        patches = Patches(entries, store, PatchPlan((3, 96, 96), pristine_share=0.5 if pristine else 0.0))
        peak, stop = [0.0], threading.Event()
        watcher = threading.Thread(target=watch, args=(peak, stop))
        watcher.start()
        drawn, start = 0, 0.0
        for one in batches(patches, range(options.patches), BATCH, options.workers):
            start = start or time.perf_counter()  # the workers have started
            drawn += len(one.labels)
        seconds = time.perf_counter() - start
        stop.set()
        watcher.join()
        rate = (drawn - BATCH) / seconds
        print(f"{rate:.0f} patches of 96 × 96 × 3 a second, {options.workers} workers, {peak[0]:.0f} MB each at most")


if __name__ == "__main__":
    main()

"""How does the engine do on real attacks? The yardstick's table, and the same with every attack of a scan counted.

    python benchmarks/real_attacks.py [--model selfreference] [--folds RUN] [--data ../shared/data] [--json FILE]

Runs `tools/ctgan_protocol.py`, which lies beside the data, on `jachai scan`. The networks that ship have learnt from these very
slices, so they must not be asked here. With --folds, RUN is the folder of a training (`jachai train dense --out RUN`): each
fifth of the scans and intact patients is asked of the network that never saw it (`RUN/part-K/bundle`), alone and, as the
default engine does, together with self-reference. The yardstick's labels are those of one slice. But an
attacked cube reaches several slices, and many of these scans were attacked at several places: a slice often shows the
trace of an attack that is labelled in a neighbouring slice. The yardstick counts that as a miss, and as evidence that
pristine slices differ. So each figure is given twice: by the labels of the slice, and by all labels of the scan.
Choices of the engine's design were made on the scans of part 0 (of 2, by SHA-256 of the scan's name); parts are shown apart.
"""

from __future__ import annotations

import argparse
import collections
import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

Row = dict[str, Any]
THRESHOLD = 0.5


def yardstick(data: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("ctgan_protocol", data.parent / "tools" / "ctgan_protocol.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_all_labels(module: ModuleType, data: Path, answers: dict[str, Row]) -> list[Row]:
    """The yardstick's rows of tampered slices, judged by all labels of their scan."""
    by_scan: dict[str, list[Row]] = collections.defaultdict(list)
    labels = list(csv.DictReader((data / "ct-gan" / "labels.csv").open()))
    for label in labels:
        by_scan[label["uuid"]].append(label)
    rows = []
    for label in labels:
        answer = answers[str(data / "ct-gan" / label["uuid"] / f"{label['slice']}.dcm")]
        _, dj, di = answer["spacing_mm"]
        marks = [(float(m["y"]), float(m["x"])) for m in by_scan[label["uuid"]]]
        away = [
            (min(((j - y) * dj) ** 2 + ((i - x) * di) ** 2 for y, x in marks) ** 0.5, c["score"])
            for c in answer["candidates"]
            for _, j, i in [c["center_kji"]]
        ]
        rows.append(
            {
                "scan": label["uuid"],
                "type": label["type"],
                "score": answer["score"],
                "top1": bool(away and away[0][0] <= module.HIT_MM),
                "top3": any(d <= module.HIT_MM for d, _ in away[:3]),
                "elsewhere": max((s for d, s in away if d > module.FAR_MM), default=None),
            }
        )
    return rows


def show(title: str, figures: dict[str, Any]) -> None:
    print(f"\n**{title}**\n\n| figure | value | 95 % interval |\n|---|---|---|")
    for name, value in figures.items():
        if isinstance(value, int):
            print(f"| {name} | {value} | |")
        else:
            print(f"| {name} | {value[0]:.2f} | {value[1]:.2f}–{value[2]:.2f} |")


def alarms(tampered: list[Row], clean: list[Row]) -> str:
    """What is called tampered at the engine's own threshold."""
    sides = [
        ("removed", [r for r in tampered if r["type"] == "FB"]),
        ("injected", [r for r in tampered if r["type"] == "FM"]),
    ]
    told = [(name, rows) for name, rows in (*sides, ("intact", clean)) if rows]
    return ", ".join(f"{sum((r['score'] or 0) > THRESHOLD for r in rows)} of {len(rows)} {name}" for name, rows in told)


def never_seen(run: Path, basis: str) -> str:
    """Intact patients whose highest place, by the network trained without them, lies above the threshold that the other parts set."""
    above = count = 0
    for part in range(PARTS):
        scores = json.loads((run / f"part-{part}" / "scores.json").read_text())[basis]
        card = json.loads((run / f"part-{part}" / "bundle" / "card.json").read_text())
        above += sum(score > card["calibration"][basis]["threshold"] for score in scores.values())
        count += len(scores)
    return f"{above} of {count} patients"


def main() -> None:
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", default="selfreference", help="an engine that was not trained on these slices")
    parser.add_argument("--folds", type=Path, metavar="RUN", help="the folder of a dense training")
    options = parser.parse_args()
    if options.folds:
        for ending, title in (
            ("", "network alone"),
            ("+selfreference", "network and self-reference, as the default engine"),
        ):
            models = [(f"{n}/{PARTS}", f"{options.folds}/part-{n}/bundle{ending}") for n in range(PARTS)]
            measure(options, models, f"{title}, five folds")
        seen = [f"{basis} {never_seen(options.folds, basis)}" for basis in ("volume", "slice")]
        print(f"\nAlarms on intact patients that the network never saw: {', '.join(seen)}.")
    else:
        measure(options, [(None, options.model)], options.model)


PARTS = 5


def measure(options: argparse.Namespace, models: list[tuple[str | None, str]], title: str) -> None:
    """models: (fold of the yardstick, engine that may be asked there)."""
    module = yardstick(options.data)
    kept: dict[str, Row] = {}
    plain = module.run

    def run(command: str, files: list[Path]) -> dict[str, Row]:
        kept.update(plain(command, files))
        return kept

    module.run = run
    tampered: list[Row] = []
    clean: list[Row] = []
    for fold, model in models:
        command = f"{sys.executable} -m jachai scan --model {model}"
        found = module.collect(argparse.Namespace(data=options.data, every=6, fold=fold, pixel_mm=0.7, command=command))
        tampered += found[0]
        clean += found[1]
    everywhere = with_all_labels(module, options.data, kept)
    show(f"{title}: labels of the slice (the yardstick)", module.figures(tampered, clean))
    show(f"{title}: all labels of the scan", module.figures(everywhere, clean))
    print(f"\nCalled tampered at its own threshold: {alarms(tampered, clean)}.")
    for part in (0, 1) if len(models) == 1 else ():
        half = [row for row in everywhere if module.part(row["scan"], 2) == part]
        role = "choices were made here" if part == 0 else "in sight while designing, not chosen on"
        show(f"All labels, part {part} ({role})", module.figures(half, clean))
    if options.json:
        options.json.write_text(json.dumps({"slice": [tampered, clean], "scan": [everywhere, clean]}, indent=1))


if __name__ == "__main__":
    main()

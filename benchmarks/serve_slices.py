"""How long does a slice take when twenty people look at a study at once, and how long the page?

    python benchmarks/serve_slices.py [--data ../shared/data] [--viewers 20] [--seconds 30]

Each viewer asks for two slices a second of lidc-0314, in step with nobody: mostly the next axial slice, now and then
another plane, each fourth time the heat too. The viewers are one process beside the server, on the same cores. The page: a
cold cache, all that `/` loads, one after the other over loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import psutil
from serving import Server

PER_SECOND = 2.0
PLANES = ("axial", "axial", "axial", "coronal", "sagittal")


async def viewer(
    client: httpx2.AsyncClient, base: str, counts: dict[str, int], until: float, times: dict[str, list[float]]
) -> None:
    """One person scrolling."""
    rng = random.Random(id(client) + len(times))
    at = {name: rng.randrange(count) for name, count in counts.items()}
    await asyncio.sleep(rng.random() / PER_SECOND)
    while (now := time.perf_counter()) < until:
        plane = rng.choice(PLANES)
        at[plane] = (at[plane] + 1) % counts[plane]
        kind = "heat" if rng.random() < 0.25 else "slices"
        answer = await client.get(f"{base}/{kind}/{plane}/{at[plane]}.png")
        took = time.perf_counter() - now
        assert answer.status_code == 200, answer.text
        times.setdefault(f"{kind} {plane}", []).append(took)
        await asyncio.sleep(max(0.0, 1 / PER_SECOND - took))


async def watch(
    address: str, base: str, counts: dict[str, int], viewers: int, seconds: float
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    until = time.perf_counter() + seconds
    clients = [httpx2.AsyncClient(base_url=address) for _ in range(viewers)]
    await asyncio.gather(*(viewer(client, base, counts, until, times) for client in clients))
    for client in clients:
        await client.aclose()
    return times


def page_seconds(address: str) -> tuple[float, int]:
    """Seconds and bytes of the page and everything it names."""
    started = time.perf_counter()
    with httpx2.Client(base_url=address) as client:
        waiting, seen, size = ["/"], {"/"}, 0
        while waiting:
            answer = client.get(waiting.pop())
            size += len(answer.content)
            if "text" in answer.headers["content-type"] or "javascript" in answer.headers["content-type"]:
                for name in re.findall(r"""["'(](/static/[^"')]+)["')]""", answer.text):
                    if name not in seen:
                        seen.add(name)
                        waiting.append(name)
    return time.perf_counter() - started, size


def per_mille(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1000


def main() -> None:
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "data")
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    files = [
        ("files", (path.name, path.read_bytes())) for path in sorted((options.data / "ct" / "lidc-0314").glob("*.dcm"))
    ]
    with TemporaryDirectory() as folder, Server(Path(folder)) as server:
        pages = [page_seconds(server.address) for _ in range(5)]
        scan_id = server.client.post("/scans", files=files).json()["id"]
        while server.client.get(f"/scans/{scan_id}").json()["state"] != "done":
            time.sleep(0.5)
        base = f"/api/v1/scans/{scan_id}/results/0"
        first = time.perf_counter()
        server.client.get(f"/scans/{scan_id}/results/0/volume")
        server.client.get(f"/scans/{scan_id}/results/0/slices/axial/137.png")
        first = time.perf_counter() - first
        planes = server.client.get(f"/scans/{scan_id}/results/0/volume").json()["planes"]
        counts = {name: plane["count"] for name, plane in planes.items()}
        process = psutil.Process(server.process.pid)
        before = sum(process.cpu_times()[:2])
        times = asyncio.run(watch(server.address, base, counts, options.viewers, options.seconds))
        spent = sum(process.cpu_times()[:2]) - before
    every = [t for some in times.values() for t in some]
    print(f"{len(every)} pictures in {options.seconds:.0f} s, {options.viewers} viewers\n")
    print("| picture | n | median, ms | 95th percentile, ms | longest, ms |\n|---|---|---|---|---|")
    for name, some in [*sorted(times.items()), ("all", every)]:
        print(
            f"| {name} | {len(some)} | {statistics.median(some) * 1000:.1f} | {per_mille(some, 0.95):.1f} | {max(some) * 1000:.1f} |"
        )
    print(
        f"\nCPU time of the server: {spent / len(every) * 1000:.1f} ms a picture; load average {psutil.getloadavg()[0]:.1f}"
    )
    print(f"first slice after the result, volume included: {first * 1000:.0f} ms (asked ≤ 300)")
    print(
        f"page over loopback: {statistics.median(s for s, _ in pages) * 1000:.0f} ms, {pages[0][1] / 1000:.0f} kB (asked ≤ 1 s)"
    )


if __name__ == "__main__":
    main()

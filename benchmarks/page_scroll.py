"""A folder of DICOM files → how soon the viewer shows its first slice, and how evenly it scrolls. Chromium, two cores.

Run: python benchmarks/page_scroll.py ../shared/data/ct/lidc-0314
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import os

from playwright.sync_api import sync_playwright
from tests.browser.conftest import ARGUMENTS
from tests.browser.served import Served

FIRST = """() => new Promise((resolve) => { const began = performance.now(); const look = () => {
  const verdict = document.querySelector("#verdict"); const canvas = document.querySelector("canvas.slice");
  if (verdict && !window.verdictAt) window.verdictAt = performance.now();
  if (canvas?.dataset.loaded === "true") resolve({result_to_slice: performance.now() - window.verdictAt});
  else requestAnimationFrame(look); }; look(); })"""
SCROLL = """(steps) => new Promise((resolve) => { const canvas = document.querySelector("canvas.slice"); const frames = []; let shown = 0, n = 0,
  last = performance.now();
  const frame = (now) => { frames.push(now - last); last = now; if (canvas.dataset.loaded === "true") shown += 1;
    if (n++ < steps) { canvas.dispatchEvent(new WheelEvent("wheel", {deltaY: 60, cancelable: true, bubbles: true})); requestAnimationFrame(frame); }
    else resolve({frames, shown}); }; requestAnimationFrame(frame); })"""


def main(folder: Path) -> None:
    """Measure and print one JSON object."""
    with TemporaryDirectory() as data, sync_playwright() as playwright:
        served = Served(Path(data))
        served.start()
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1400, "height": 950})
        page.set_default_timeout(580_000)
        page.goto(served.url)
        page.set_input_files("input[multiple]", sorted(folder.glob("*.dcm")))
        page.click("#examine")
        page.wait_for_selector("#verdict")
        address = page.url
        page.goto(f"{served.url}/#/history")
        page.wait_for_selector(".entry")
        page.evaluate("location.hash = " + json.dumps(address[address.index("#") :]))
        first = page.evaluate(FIRST)
        page.evaluate("document.querySelector('#viewer').scrollIntoView()")
        canvas = page.locator("canvas.slice").first
        canvas.focus()
        page.keyboard.press("Home")
        page.wait_for_timeout(3000)
        slices = int(page.get_attribute("[data-plane] input", "max") or 0) + 1
        scrolled = page.evaluate(SCROLL, slices - 5)
        browser.close()
        served.stop()
    frames = sorted(scrolled["frames"][1:])
    print(
        json.dumps(
            {
                "slices": slices,
                "verdict_to_first_slice_ms": round(first["result_to_slice"]),
                "frame_ms_median": round(frames[len(frames) // 2], 1),
                "frame_ms_p95": round(frames[int(0.95 * len(frames))], 1),
                "frames_with_their_slice": round(scrolled["shown"] / len(scrolled["frames"]), 3),
                "load_1_minute": round(os.getloadavg()[0], 1),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

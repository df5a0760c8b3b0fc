"""A running server with the tampered sample → the four pictures of the page in docs/images. Run: python docs/page_pictures.py ADDRESS"""

from __future__ import annotations

import json
import sys
import urllib.request
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).with_name("images")
COLOURS = 128
SHOTS = (
    ("page-start", "", "en", "light", (1000, 640), ".drop", None, 620),
    ("page-result", "#/scan/{id}", "en", "light", (1360, 900), ".cue-row", None, 660),
    ("page-bangla-phone", "#/scan/{id}", "bn", "dark", (390, 900), ".cue-row", None, 300),
    ("page-evidence", "#/scan/{id}", "bn", "light", (1180, 900), ".before-after", ".before-after", 520),
)
"""name, view, language, colours, size, wait for, element (None: the window), width of the picture."""


def main(address: str) -> None:
    """Photograph all of them."""
    request = urllib.request.Request(f"{address}/api/v1/samples/tampered", method="POST")
    scan = json.load(urllib.request.urlopen(request))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        for name, view, language, scheme, (width, height), sign, element, wide in SHOTS:
            locale = {"en": "en-GB", "bn": "bn-BD"}[language]
            context = browser.new_context(
                viewport={"width": width, "height": height}, locale=locale, color_scheme=scheme, has_touch=width < 600
            )
            page = context.new_page()
            page.set_default_timeout(120_000)
            page.goto(f"{address}/{view.format(id=scan['id'])}")
            page.wait_for_selector(sign)
            page.wait_for_timeout(4000)
            shot = page.locator(element).screenshot() if element else page.screenshot()
            picture = Image.open(BytesIO(shot)).convert("RGB")
            small = picture.resize((wide, round(picture.height * wide / picture.width)), Image.Resampling.LANCZOS)
            small.quantize(COLOURS, Image.Quantize.FASTOCTREE, kmeans=3, dither=Image.Dither.NONE).save(
                IMAGES / f"{name}.png", optimize=True
            )
            context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))

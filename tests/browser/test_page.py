"""What a person does with the page, from the drop to the report, against a real server."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jachai.io.writer import DicomHeader, write_dicom
from tests.browser.conftest import PHONE, NewPage
from tests.browser.served import Served
from tests.unit.forensics.test_repeats import copied
from tests.unit.synthetic_chest import synthetic_chest, with_white_noise

AXE = Path(__file__).with_name("axe.min.js")
FIRST_VIEW_BYTES = 300_000
BENGALI, LATIN_DIGIT = re.compile(r"[\u0980-\u09ff]"), re.compile(r"[0-9]")
SERIOUS = ("serious", "critical")

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
def nothing_examined(tmp_path: Path) -> Iterator[Served]:
    """A server of its own: what the others have examined would be shown at once, and must not be deleted."""
    served = Served(tmp_path / "served")
    served.start()
    yield served
    served.stop()


def test_from_the_sample_over_verdict_and_finding_to_the_pdf(
    new_page: NewPage, nothing_examined: Served, tmp_path: Path
) -> None:
    page = new_page(at=nothing_examined.url)
    page.click("#sample-tampered")
    page.wait_for_selector(".steps [aria-current=step]")
    page.wait_for_selector("#verdict[data-verdict=tampered]")
    assert page.inner_text("#verdict h2").startswith("Signs of tampering found in")
    assert "Of 100 intact scans, fewer than" in page.inner_text("#sure")
    assert "Research use only, not a diagnosis." in page.inner_text("body")
    page.wait_for_selector("canvas.slice[data-loaded=true]")
    page.focus("[data-plane=axial] canvas")
    page.keyboard.press("Home")
    page.wait_for_selector("[data-plane=axial] canvas[data-index='0']")
    finding = page.locator("#findings button").first
    finding.click()
    page.wait_for_selector(
        f"[data-plane=axial] canvas[data-index='{finding.get_attribute('data-slice')}'][data-loaded=true]"
    )
    assert heat_is_shown(page)
    page.locator("#opacity").fill("0")
    assert not heat_is_shown(page)
    assert "Before the tampering" in page.inner_text("#evidence")
    with page.expect_download() as coming:
        page.click("#report-pdf")
    coming.value.save_as(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for it. (Playwright's own waiting evaluates text, which the page's policy forbids.)"""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def heat_is_shown(page: Any) -> bool:
    """Is a tenth of the middle third of the axial canvas coloured (red well above blue: red, orange, pale yellow)? Cross hairs are less."""
    page.wait_for_timeout(300)
    return bool(
        page.evaluate(
            """() => { const c = document.querySelector("[data-plane=axial] canvas"); const n = c.width / 3 | 0, m = c.height / 3 | 0;
            const d = c.getContext("2d").getImageData(n, m, n, m).data; let odd = 0;
            for (let k = 0; k < d.length; k += 4) if (d[k] > d[k + 2] + 20) odd += 1; return odd > n * m / 10; }"""
        )
    )


def called_tampered(page: Any, folder: Path) -> Any:
    """The page after it has examined a folder of which it says so."""
    page.set_input_files("input[multiple]", sorted(folder.iterdir()))
    page.wait_for_selector("#examine")
    page.click("#examine")
    page.wait_for_selector("#verdict[data-verdict=tampered]")
    return page


def test_tissue_that_stands_in_the_scan_twice_is_said_at_both_places(new_page: NewPage, tmp_path: Path) -> None:
    write_dicom(copied(synthetic_chest(10)), tmp_path / "copied", header=DicomHeader("copied"))
    page = called_tampered(new_page(), tmp_path / "copied")
    findings = page.locator("#findings button").all_inner_texts()
    assert len(findings) == 2 and all("once more in this scan: slice" in text for text in findings)


def test_what_the_network_goes_by_is_said_at_its_finding(new_page: NewPage, tmp_path: Path) -> None:
    write_dicom(with_white_noise(synthetic_chest(1)), tmp_path / "noisy", header=DicomHeader("noisy"))
    page = called_tampered(new_page(), tmp_path / "noisy")
    assert (
        "the network goes by: noise outside the scanner's band" in page.locator("#findings button").first.inner_text()
    )


def test_a_study_is_understood_examined_and_what_is_left_out_is_said(new_page: NewPage, study: Path) -> None:
    page = new_page()
    page.set_input_files("input[multiple]", sorted(study.iterdir()))
    page.wait_for_selector("#examine")
    chosen = page.inner_text(".chosen")
    assert "A CT series of 25 images" in chosen
    assert "2 files are left out" in chosen
    page.click("#examine")
    page.wait_for_selector("#verdict")
    assert page.get_attribute("#verdict", "data-verdict") in ("no-sign", "inconclusive")
    refused = page.inner_text("#not-examined")
    assert "cut.dcm" in refused and "1 file was left out" in refused
    assert "may be part of the scan" in refused
    page.wait_for_selector("canvas.slice[data-loaded=true]")


def test_what_is_no_scan_is_never_called_fine(new_page: NewPage, tmp_path: Path) -> None:
    (tmp_path / "letter.dat").write_bytes(b"not a scan " * 40)
    page = new_page()
    page.set_input_files("input[multiple]", tmp_path / "letter.dat")
    page.click("#examine")
    page.wait_for_selector("#verdict[data-verdict=unreadable]")
    assert "Not examined" in page.inner_text("#verdict")
    assert "letter.dat" in page.inner_text("#not-examined")
    page.goto(f"{page.url.split('#')[0]}#/")
    page.set_input_files("input[multiple]", {"name": "empty.dcm", "mimeType": "", "buffer": b""})
    page.wait_for_selector(".problem[role=alert]")
    assert not page.locator("#examine").count()


def test_a_folder_with_a_photograph_says_that_it_cannot_be_sure(new_page: NewPage, tmp_path: Path) -> None:
    from PIL import Image

    Image.effect_noise((256, 256), 60).save(tmp_path / "phone.jpg")
    page = new_page()
    page.set_input_files("input[webkitdirectory]", tmp_path)
    page.wait_for_selector("#examine")
    assert "can only be “inconclusive”" in page.inner_text(".chosen")
    page.select_option("#modality", "CT")
    page.click("#examine")
    page.wait_for_selector("#verdict[data-verdict=inconclusive]")
    assert "nothing can be said about it" in page.inner_text("#sure")


def test_the_viewer_scrolls_windows_links_and_tells_values(new_page: NewPage, server: Served, tampered: Any) -> None:
    page = new_page(at=f"{server.url}/#/scan/{tampered['id']}")
    axial = page.locator("[data-plane=axial] canvas")
    page.wait_for_selector("[data-plane=axial] canvas[data-loaded=true]")
    axial.hover()
    before = int(axial.get_attribute("data-index"))
    page.mouse.wheel(0, 100)
    until(lambda: int(axial.get_attribute("data-index")) in (before + 1, before + 2))
    box = axial.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    assert page.inner_text("[data-plane=axial] .readout").endswith("HU")
    coronal = page.get_attribute("[data-plane=coronal] canvas", "data-index")
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.3)
    until(lambda: page.get_attribute("[data-plane=coronal] canvas", "data-index") != coronal)
    page.click("[data-preset=bone]")
    assert page.get_attribute("[data-preset=bone]", "aria-pressed") == "true"
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 140, steps=4)
    page.mouse.up()
    assert page.get_attribute("[data-preset=bone]", "aria-pressed") == "false"
    page.click(".thumbnail >> nth=0")
    jumped = page.get_attribute(".thumbnail >> nth=0", "data-slice")
    page.wait_for_selector(f"[data-plane=axial] canvas[data-index='{jumped}']")


def test_the_value_under_the_pointer_is_that_of_the_voxel(new_page: NewPage, server: Served, tampered: Any) -> None:
    page = new_page(at=f"{server.url}/#/scan/{tampered['id']}")
    page.wait_for_selector("[data-plane=axial] canvas[data-loaded=true]")
    axial = page.locator("[data-plane=axial] canvas")
    box = axial.bounding_box()
    rows, columns = tampered["results"][0]["shape_kji"][1:]
    scale = min(box["width"] / columns, box["height"] / rows)
    row, column = 200, 90
    page.mouse.move(
        box["x"] + (box["width"] - columns * scale) / 2 + (column + 0.5) * scale,
        box["y"] + (box["height"] - rows * scale) / 2 + (row + 0.5) * scale,
    )
    shown = float(page.get_attribute("[data-plane=axial] .readout", "data-value"))
    index = axial.get_attribute("data-index")
    expected = page.evaluate(
        """async ([id, index, at]) => { const r = await fetch(`/api/v1/scans/${id}/results/0/slices/axial/${index}.raw`);
        return new Int16Array(await r.arrayBuffer())[at] * Number(r.headers.get("X-Slope")) + Number(r.headers.get("X-Intercept")); }""",
        [tampered["id"], index, row * columns + column],
    )
    assert shown == expected


def test_bangla_from_the_first_view_to_the_report(
    new_page: NewPage, server: Served, tampered: Any, tmp_path: Path
) -> None:
    page = new_page(language="bn")
    page.wait_for_selector(".drop")
    assert page.get_attribute("html", "lang") == "bn"
    assert BENGALI.search(page.inner_text("h1")) and not re.search(r"[A-Za-z]{4,}", page.inner_text("h1"))
    page.goto(f"{server.url}/#/scan/{tampered['id']}")
    page.wait_for_selector(".cue-row")
    for part in ("#verdict", "#sure", "#findings"):
        words = page.inner_text(part)
        assert BENGALI.search(words) and not LATIN_DIGIT.search(words), words
        assert not re.search(r"[A-Za-z]{4,}", words), words
    with page.expect_download() as coming:
        page.click("#report-pdf")
    coming.value.save_as(tmp_path / "bn.pdf")
    assert b"NotoSansBengali" in (tmp_path / "bn.pdf").read_bytes()
    page.click("#language")
    page.wait_for_selector("html[lang=en]")
    page.wait_for_selector("#verdict h2")
    assert "Signs of tampering" in page.inner_text("#verdict")
    page.reload()
    page.wait_for_selector("html[lang=en]")


def test_by_keyboard_alone(new_page: NewPage, server: Served, tampered: Any) -> None:
    page = new_page()
    page.wait_for_selector("#sample-tampered")
    press_until(page, "sample-tampered")
    page.keyboard.press("Enter")
    page.wait_for_selector("#verdict")
    page.wait_for_selector("[data-plane=axial] canvas[data-loaded=true]")
    press_until(page, "place", attribute="className")
    page.keyboard.press("Enter")
    press_until(page, "slice", attribute="className")
    before = int(page.get_attribute("[data-plane=axial] canvas", "data-index"))
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(f"[data-plane=axial] canvas[data-index='{before + 1}']")
    page.keyboard.press("h")
    assert page.input_value("#opacity") == "0"


def press_until(page: Any, wanted: str, attribute: str = "id", most: int = 60) -> None:
    """Tab until the focus is there."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement.{attribute}") == wanted:
            return
    raise AssertionError(f"Tab does not reach {wanted}")


def test_on_a_phone_nothing_is_wider_than_the_screen(new_page: NewPage, server: Served, tampered: Any) -> None:
    for language in ("en", "bn"):
        page = new_page(PHONE, language)
        for view, sign in (("", ".drop"), (f"scan/{tampered['id']}", ".cue-row"), ("history", ".entry")):
            page.goto(f"{server.url}/#/{view}")
            page.wait_for_selector(sign)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0], (language, view)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "bn"])
def test_axe_finds_nothing_serious(
    new_page: NewPage, server: Served, tampered: Any, language: str, scheme: str
) -> None:
    page = new_page(language=language, scheme=scheme, bypass_csp=True)
    for view, sign in (("", ".drop"), (f"scan/{tampered['id']}", ".cue-row"), ("history", ".entry")):
        page.goto(f"{server.url}/#/{view}")
        page.wait_for_selector(sign)
        assert violations(page) == [], (view, language, scheme)


def violations(page: Any) -> list[str]:
    """What axe-core calls serious or critical, with the elements."""
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{v['id']}: {node['html'][:160]} {node['failureSummary']}"
        for v in found
        if v["impact"] in SERIOUS
        for node in v["nodes"]
    ]


def test_axe_would_find_something(new_page: NewPage) -> None:
    page = new_page(bypass_csp=True)
    page.wait_for_selector(".drop")
    page.evaluate(
        "document.querySelector('main').append(Object.assign(document.createElement('img'), {src: '/static/icon.svg'}))"
    )
    assert any(v.startswith("image-alt") for v in violations(page))


@pytest.mark.parametrize("language", ["en", "bn"])
def test_the_first_view_is_small(browser: Any, server: Served, language: str) -> None:
    context = browser.new_context(locale={"en": "en-GB", "bn": "bn-BD"}[language])
    page = context.new_page()
    sizes: dict[str, int] = {}
    page.on("response", lambda answer: sizes.update({answer.url: len(answer.body())}) if answer.ok else None)
    page.goto(server.url)
    page.wait_for_selector("#version:not(:empty)")
    page.wait_for_timeout(300)
    context.close()
    assert len(sizes) > 10
    assert sum(sizes.values()) < FIRST_VIEW_BYTES, sizes


def test_history_searches_and_deletes(new_page: NewPage, server: Served, tmp_path: Path) -> None:
    (tmp_path / "to be deleted.dat").write_bytes(b"nothing of the kind " * 40)
    page = new_page()
    page.set_input_files("input[multiple]", tmp_path / "to be deleted.dat")
    page.click("#examine")
    page.wait_for_selector("#verdict")
    page.click("[data-nav=history]")
    page.fill("#search", "to be deleted")
    until(lambda: page.locator(".entry").count() == 1)
    page.click(".entry button.quiet")
    page.click(".entry .danger")
    until(lambda: page.locator(".entry").count() == 0)
    assert server.ask("/scans?search=to%20be%20deleted")["items"] == []


def test_text_of_files_is_never_markup(new_page: NewPage) -> None:
    page = new_page()
    name = "<img src=x onerror=alert(1)>.dat"
    page.set_input_files("input[multiple]", {"name": name, "mimeType": "", "buffer": b"no scan at all " * 30})
    page.click("#examine")
    page.wait_for_selector("#verdict")
    assert page.locator("main img[src=x]").count() == 0
    assert "onerror" in page.inner_text("main")

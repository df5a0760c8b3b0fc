"""The paper of a PDF report: an A4 document with fonts for Latin and Bangla, and what is put on a page (text, labels, bars)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jachai import __version__
from jachai.core.errors import UsageError
from jachai.report.catalogue import Catalogue, catalogue

if TYPE_CHECKING:
    from fpdf import FPDF

MARGIN = 16.0
WIDTH = 210.0 - 2 * MARGIN
"""mm of an A4 page between its margins."""
FONTS = (("Latin", "NotoSans"), ("Bengali", "NotoSansBengali"))
INK, SOFT, LINE = (27, 31, 36), (87, 96, 106), (196, 204, 212)
SIZES = {"title": 16.0, "headline": 15.0, "heading": 11.5, "text": 9.5, "small": 8.0}
LINE_HEIGHT = 0.53
"""mm per point of size."""


def close(document: FPDF) -> None:
    """Close the files of its fonts, which fpdf leaves open."""
    for font in document.fonts.values():
        if (opened := getattr(font, "ttfont", None)) is not None:
            opened.close()


def check_available() -> None:
    """Raises UsageError if the libraries of the extra `pdf` are not installed."""
    try:
        import fpdf
        import uharfbuzz  # noqa: F401 - without it fpdf writes wrong Bangla and says nothing
    except ImportError as error:
        raise UsageError("PDF needs two more libraries.", "Install them: pip install 'jachai[pdf]'.") from error
    del fpdf


def new_document(language: str) -> FPDF:
    """An empty one. Raises UsageError as check_available does."""
    check_available()
    from fpdf import FPDF

    words = catalogue(language)

    class Document(FPDF):
        def footer(self) -> None:
            self.set_y(-13)
            self.set_font(size=SIZES["small"], style="")
            self.set_text_color(*SOFT)
            self.cell(WIDTH * 0.75, 5, words.say("report.research"))
            self.cell(WIDTH * 0.25, 5, words.say("report.page", n=self.page_no()), align="R")

    pdf = Document(format="A4")
    pdf.set_margins(MARGIN, MARGIN)
    pdf.set_auto_page_break(True, 18)
    for family, name in FONTS:
        for style, weight in (("", "Regular"), ("B", "Bold")):
            pdf.add_font(family, style, str(files("jachai.report") / "fonts" / f"{name}-{weight}.ttf"))
    first, other = ("Bengali", "Latin") if language == "bn" else ("Latin", "Bengali")
    pdf.set_font(first, size=SIZES["text"])
    pdf.set_fallback_fonts([other], exact_match=False)
    pdf.set_text_shaping(True)
    pdf.set_lang(language)
    pdf.set_title(words.say("report.title"))
    pdf.set_creator(f"Jachai {__version__}")
    return pdf


class Paper:
    """Puts text and bars where `pdf` stands, in mm, and goes on to the next page in time."""

    def __init__(self, pdf: FPDF, words: Catalogue) -> None:
        self.pdf, self.words, self.say = pdf, words, words.say

    def heading(self, text: str, room: float = 22) -> None:
        """A heading that never stands alone at the foot of a page."""
        self.room(room)
        self.pdf.ln(2.5)
        self.text(text, "heading", bold=True)

    def text(
        self,
        text: str,
        size: str = "text",
        ink: Any = INK,
        *,
        bold: bool = False,
        left: float = 0,
        right: float = 0,
        border: bool = False,
    ) -> None:
        """A paragraph over the width of the page, within `left` and `right`."""
        self.pdf.set_x(MARGIN + left)
        self.put(text, size, ink, bold=bold, width=WIDTH - left - right, border=border)
        self.pdf.set_x(MARGIN)

    def put(
        self,
        text: str,
        size: str,
        ink: Any,
        *,
        width: float,
        bold: bool = False,
        align: str = "L",
        border: bool = False,
    ) -> None:
        """Wrapped text from the present place on; goes to the next line."""
        self.font(size, bold)
        self.pdf.set_text_color(*ink)
        self.pdf.set_draw_color(*INK)
        self.pdf.set_line_width(0.4)
        self.pdf.multi_cell(
            width,
            SIZES[size] * LINE_HEIGHT,
            text.replace("−", "–"),
            align=align,
            border=1 if border else 0,
            new_x="LMARGIN",
            new_y="NEXT",
            padding=2 if border else 0,
        )

    def height(self, text: str, size: str, width: float, bold: bool) -> float:
        """Height in mm that a paragraph will take."""
        self.font(size, bold)
        made = self.pdf.multi_cell(width, SIZES[size] * LINE_HEIGHT, text, align="L", dry_run=True, output="HEIGHT")
        assert isinstance(made, float)
        return made

    def font(self, size: str, bold: bool) -> None:
        """Set the font in the page too: fpdf does not where it believes that nothing changed since a fallback font."""
        self.pdf.set_font(size=SIZES[size] + 1)
        self.pdf.set_font(size=SIZES[size], style="B" if bold else "")

    def label(self, text: str, x: float, y: float, *, bold: bool = False) -> None:
        """Small text centred at x."""
        self.pdf.set_xy(x - 20, y)
        self.put(text, "small", INK, width=40, bold=bold, align="C")

    def bar(self, x: float, y: float, width: float, height: float, colour: Any) -> None:
        """A filled rectangle."""
        self.pdf.set_fill_color(*colour)
        self.pdf.rect(x, y, width, height, style="F")

    def room(self, height: float) -> None:
        """Begin a new page if less than `height` mm is left."""
        if self.pdf.will_page_break(height):
            self.pdf.add_page()


def shown(text: str) -> str:
    """Text of a file made printable: control characters and lone surrogates become U+FFFD."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)

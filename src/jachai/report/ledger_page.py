"""Answers of the ledger with pictures of what differs → one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from jachai.report.atomic import replacing

FILE_NAME = "ledger.html"
TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>What the ledger says</title><style>
:root { --line: #d5dbdf; --soft: #5b6770; --bad: #b3261e; --good: #1b6e3c; --open: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --line: #39434a; --soft: #a5b1b9; --bad: #ff8a80; --good: #7fd39b; --open: #ffc766 } }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem }
section { border-top: 1px solid var(--line); padding: 0.6rem 0 1rem } h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 0.3rem 0 }
.answer { font-weight: 700 } .alarm { color: var(--bad) } .same { color: var(--good) } .open { color: var(--open) }
p { margin: 0.2rem 0 } img { width: 100%; image-rendering: pixelated; margin-top: 0.5rem } figcaption, .soft { color: var(--soft); font-size: 0.9rem }
figure { margin: 0 }
</style></head><body><h1>What the ledger says</h1>
<p class="soft">Research use only. Not a medical device, not a diagnosis.</p>
{% for c in chapters %}<section><h2>{{ c.title }}</h2>
<p class="answer {{ c.tone }}">{{ c.answer }}</p>
{% for sentence in c.sentences %}<p>{{ sentence }}.</p>{% endfor %}
{% for picture in c.uris %}<figure><img src="{{ picture }}" alt="the slice before, after, and the difference">
<figcaption>Before, after, difference (orange: larger, blue: smaller); below, the marked place close up</figcaption></figure>{% endfor %}
</section>{% endfor %}
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One answer. sentences: without full stops. pictures: PNG files."""

    title: str
    answer: str
    sentences: Sequence[str]
    pictures: Sequence[bytes]

    @property
    def tone(self) -> str:
        """How it is coloured: 'alarm', 'same' or 'open'."""
        if self.answer.endswith("-changed"):
            return "alarm"
        return "same" if self.answer in ("identical", "same-pixels") else "open"

    @property
    def uris(self) -> list[str]:
        """The pictures as data URIs."""
        return ["data:image/png;base64," + base64.b64encode(picture).decode("ascii") for picture in self.pictures]


def write_ledger_page(chapters: Sequence[Chapter], folder: Path) -> Path:
    """`ledger.html` in an existing folder, replaced whole if it is there."""
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE).render(chapters=chapters)
    target = folder / FILE_NAME
    with replacing(target) as part:
        part.write_text(page, encoding="utf-8", errors="replace")
    return target

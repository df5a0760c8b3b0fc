"""A language + the key of a text → the words, with that language's digits: one catalogue for page, report and errors.

`text/en.json` and `text/bn.json` hold the same keys. Keys that begin with `engine.` are sentences that readers and engines
say in English: their English text is a pattern, so that what an engine said can be said in the other language too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files

from jachai.core.errors import UsageError

LANGUAGES = ("en", "bn")
DEFAULT = "en"
ENGINE = "engine."
_BENGALI = str.maketrans("0123456789", "০১২৩৪৫৬৭৮৯")
_GAP = re.compile(r"\{(\w+)\}")
_SENTENCE_END = re.compile(r"[.!?](\s|$)")


@dataclass(frozen=True, slots=True)
class Pattern:
    """An English sentence of an engine with gaps, and the key of its translation."""

    key: str
    expression: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The words of one language. patterns: longest first; empty for English, in which engines speak."""

    language: str
    words: Mapping[str, str]
    patterns: tuple[Pattern, ...]

    def say(self, key: str, **values: object) -> str:
        """The text of a key with its gaps filled. `n` chooses between KEY.one and KEY.other. Raises KeyError."""
        text = self.words.get(key)
        if text is None:
            text = self.words[f"{key}.{'one' if values.get('n') == 1 else 'other'}"]
        return _GAP.sub(lambda gap: self._value(values[gap[1]]), text)

    def named(self, prefix: str, name: str) -> str:
        """The text of PREFIX.NAME, or the name itself where the catalogue does not know it yet."""
        return self.words.get(f"{prefix}.{name}", name)

    def number(self, value: float, digits: int = 0) -> str:
        """A number with so many decimals, in the language's digits."""
        return self.digits(f"{value:.{digits}f}")

    def digits(self, text: str) -> str:
        """Text with its digits written as the language writes them."""
        return text.translate(_BENGALI) if self.language == "bn" else text

    def moment(self, when: datetime) -> str:
        """Day and time, as the language writes them."""
        return self.say(
            "date.moment",
            day=when.day,
            month=self.say(f"month.{when.month}"),
            year=when.year,
            time=self.digits(when.strftime("%H:%M")),
            zone=when.strftime("%Z"),
        )

    def sentence(self, english: str) -> str:
        """What an engine or reader said, sentence by sentence; a sentence that is not in the catalogue stays English."""
        if not self.patterns:
            return english
        said, rest = [], english.strip()
        while rest:
            piece, length = self._first(rest)
            said.append(piece)
            rest = rest[length:].strip()
        return " ".join(said)

    def _first(self, rest: str) -> tuple[str, int]:
        for pattern in self.patterns:
            if match := pattern.expression.match(rest):
                values = {name: self.digits(value) for name, value in match.groupdict().items()}
                return _filled(self.words[pattern.key], values), match.end()
        end = _SENTENCE_END.search(rest)
        length = len(rest) if end is None else end.start() + 1
        return rest[:length], length

    def _value(self, value: object) -> str:
        if isinstance(value, float):
            return self.number(value, 2)
        return self.digits(str(value)) if isinstance(value, int) else str(value)


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _GAP.sub(lambda gap: values[gap[1]], text)


@lru_cache(maxsize=len(LANGUAGES))
def catalogue(language: str = DEFAULT) -> Catalogue:
    """The catalogue of a language. Raises UsageError for a language that there is none of."""
    if language not in LANGUAGES:
        raise UsageError(f"There is no language {language!r}.", f"Known: {', '.join(LANGUAGES)}.")
    words = _load(language)
    return Catalogue(language, words, () if language == DEFAULT else _patterns(_load(DEFAULT)))


def _load(language: str) -> dict[str, str]:
    read: dict[str, str] = json.loads(
        (files("jachai.report") / "text" / f"{language}.json").read_text(encoding="utf-8")
    )
    return read


def _patterns(english: Mapping[str, str]) -> tuple[Pattern, ...]:
    templates = sorted(
        ((key, text) for key, text in english.items() if key.startswith(ENGINE)), key=lambda t: -len(t[1])
    )
    return tuple(Pattern(key, re.compile(_expression(text))) for key, text in templates)


def _expression(template: str) -> str:
    parts = _GAP.split(template)
    return "".join(f"(?P<{part}>.+?)" if n % 2 else re.escape(part) for n, part in enumerate(parts)) + r"(?=\s|$)"

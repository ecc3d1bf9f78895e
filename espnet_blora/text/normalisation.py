"""One treatment of text: a record of flags, and a function.

The steps, in this order: the Unicode form; tags; digits spelled; case; characters one by one
(punctuation, Arabic, digits to ASCII) by one table that fills itself; the form again, where a
deletion has brought a letter and a mark together; SEAME's breath marks;
apostrophes; blanks; simplified characters. A second time changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal

from espnet_blora.text import arabic, digits, punctuation, tags
from espnet_blora.text.chinese import simplifier

ASCII, FULL, TURKISH = "ascii", "full", "turkish"

_ASCII_CAPITALS = re.compile("[A-Z]+")
_TURKISH_I = str.maketrans({"I": "ı", "İ": "i"})

Step = Callable[[str], str]


@dataclass(frozen=True)
class Normalisation:
    """One treatment of text, applied alike to reference and hypothesis: a pure function.

    Equal treatments are equal objects, whatever they are called. A lone surrogate, which no text
    read as UTF-8 has, is left as it is.

    Attributes:
        name: What reports print; `espnet_blora.text.presets.get_normalisation` sets it.
        form: Unicode normalisation form, `"NFC"` or `"NFKC"` (wide letters, ligatures,
            presentation forms become plain ones); "" leaves the text as it is.
        case: `"full"` Unicode case folding (`ß` = `ss`), `"turkish"` the same with dotted
            and dotless i kept apart, `"ascii"` A to Z alone (what sclite does), "" none.
        punctuation: False removes punctuation and symbols (`text.punctuation`).
        tags: `"removed"` or `"seame"` (`text.tags`); "" keeps them.
        arabic_marks: False removes vowel signs and Quranic marks (`text.arabic`).
        tatweel: False removes the stroke that lengthens a word.
        alef, alef_maksura, teh_marbuta, hamza: True writes these forms as the plain letter.
        ascii_digits: True writes decimal digits of any script as 0 to 9.
        simplified: True turns traditional Chinese characters into simplified ones (OpenCC).
        spell_digits: The language in which digits are spelled out (`text.digits`); "" is none.
    """

    name: str = field(default="", compare=False)
    form: Literal["", "NFC", "NFKC"] = ""
    tags: str = ""
    case: str = ""
    punctuation: bool = True
    arabic_marks: bool = True
    tatweel: bool = True
    alef: bool = False
    alef_maksura: bool = False
    teh_marbuta: bool = False
    hamza: bool = False
    ascii_digits: bool = False
    simplified: bool = False
    spell_digits: str = ""

    def __call__(self, text: str) -> str:
        """Return the treated text; unless nothing at all is done, blanks are single.

        Raises:
            ValueError: A treatment needs a library that is not installed.
        """
        return self._treat(text)

    def __getstate__(self) -> dict:
        """Leave the functions out when the treatment is sent to another process."""
        return {key: value for key, value in self.__dict__.items() if key != "_treat"}

    def describe(self) -> str:
        """Say in one line what the treatment does."""
        return f"{self.name} ({', '.join(self._parts()) or 'text as it is'})"

    def _parts(self) -> Iterator[str]:
        for attribute, words in _WORDS.items():
            value = getattr(self, attribute)
            if value in words:
                yield words[value]
        if self.spell_digits:
            yield f"digits spelled out in {self.spell_digits!r}"

    @cached_property
    def _treat(self) -> Step:
        if self == NOTHING:
            return str
        steps = tuple(self._steps())

        def treat(text: str) -> str:
            for step in steps:
                text = step(text)
            return text

        return treat

    def _steps(self) -> Iterator[Step]:
        renormalise = partial(unicodedata.normalize, self.form) if self.form else str
        if self.form and not self.punctuation:
            yield lambda text: text if text.isascii() else punctuation.ACUTES.sub("'", text)
        if self.form:
            yield renormalise
        if self.tags:
            yield _TAG_STEPS[self.tags]
        if self.spell_digits:
            yield digits.speller(self.spell_digits)
        if self.case:
            yield _CASES[self.case]
            yield renormalise
        if (table := self._table()) is not None:
            yield partial(_by_character, table, renormalise)
        if self.tags == tags.SEAME:  # only now: a format sign inside one hides it until here
            yield tags.without_breath_marks
        if not self.punctuation:
            yield punctuation.settle_apostrophes
        yield _single_blanks
        if self.simplified:
            yield simplifier()

    def _table(self) -> _Table | None:
        letters: dict[str, str] = {}
        if self.tags == tags.SEAME:
            letters |= tags.SEAME_LETTERS
        for name, table in _LETTERS.items():
            if getattr(self, name) != getattr(Normalisation, name):
                letters |= table
        others: list[Step] = [digits.ascii_digit] if self.ascii_digits else []
        others += [] if self.punctuation else [punctuation.plain]
        return _Table(letters, others) if letters or others else None


class _Table(dict):
    """What each code point becomes, found out when it is first met."""

    def __init__(self, letters: dict[str, str], others: list[Step]) -> None:
        super().__init__((ord(char), to) for char, to in letters.items())
        self._others = others

    def __missing__(self, code: int) -> str:
        char = chr(code)
        for step in self._others:
            char = step(char)
        self[code] = char
        return char


def _by_character(table: _Table, renormalise: Step, text: str) -> str:
    text = text.translate(table)
    # A deletion may have brought a letter and a mark together that are one character.
    while not text.isascii() and (composed := renormalise(text)) != text:
        text = composed.translate(table)
    return text


def _single_blanks(text: str) -> str:
    return " ".join(text.split())


def _fold_turkish(text: str) -> str:
    return text.translate(_TURKISH_I).casefold()


def _fold_ascii(text: str) -> str:
    return _ASCII_CAPITALS.sub(lambda match: match[0].lower(), text)


NOTHING = Normalisation()
_CASES: dict[str, Step] = {ASCII: _fold_ascii, FULL: str.casefold, TURKISH: _fold_turkish}
_TAG_STEPS: dict[str, Step] = {
    tags.REMOVED: tags.without_tags,
    tags.SEAME: tags.without_angle_tags,
}
_LETTERS: dict[str, dict[str, str]] = {
    "arabic_marks": dict.fromkeys(arabic.MARKS, ""),
    "tatweel": {arabic.TATWEEL: ""},
    "alef": arabic.ALEF,
    "alef_maksura": arabic.ALEF_MAKSURA,
    "teh_marbuta": arabic.TEH_MARBUTA,
    "hamza": arabic.HAMZA,
}
_WORDS: dict[str, dict[object, str]] = {
    "form": {"NFC": "NFC", "NFKC": "NFKC"},
    "case": {
        FULL: "case folded",
        ASCII: "case of A to Z folded",
        TURKISH: "case folded, dotted and dotless i apart",
    },
    "punctuation": {False: "punctuation and symbols removed, combining marks kept"},
    "tags": {
        tags.REMOVED: "<tags> and [tags] removed",
        tags.SEAME: "<tags> and ppl ppb ppc ppo removed, bracketed words kept, é as e",
    },
    "arabic_marks": {False: "Arabic vowel and Quranic marks removed"},
    "tatweel": {False: "tatweel removed"},
    "alef": {True: "alef forms as bare alef"},
    "alef_maksura": {True: "alef maksura as yeh"},
    "teh_marbuta": {True: "teh marbuta as heh"},
    "hamza": {True: "hamza on waw or yeh as waw or yeh"},
    "ascii_digits": {True: "digits of any script as 0 to 9"},
    "simplified": {True: "traditional Chinese as simplified"},
}

"""Named normalisations: what is done to both sides before they are compared.

The name goes beside every figure, so two figures with the same name were treated the same way.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# Signs written for an apostrophe; between two letters all of them become "'" and stay.
_APOSTROPHES = "'\u2018\u2019\u02bc\uff07\u0060\u00b4\u2032"
_APOSTROPHE = re.compile(f"[{_APOSTROPHES}]")
_TAG = re.compile(r"<[^<>\s][^<>]*>|\[[^\[\]]*\]")
_ZERO_WIDTH_SPACE = (
    "\u200b"  # separates words in Thai, Khmer, ...: a blank, unlike the other format signs
)


@dataclass(frozen=True)
class Normalisation:
    """One treatment of text, applied alike to reference and hypothesis.

    Attributes:
        name: what reports print.
        form: Unicode normalisation form, ``"NFC"`` or ``"NFKC"`` (wide letters, ligatures,
            presentation forms become plain ones); "" leaves the text as it is.
        casefold: full Unicode case folding (``ß`` = ``ss``). Not right for Turkish dotted and
            dotless i.
        punctuation: False turns punctuation and symbols (categories P and S) into blanks, except an
            apostrophe between two letters, and deletes format signs (category Cf: soft hyphen, byte
            order mark, joiners). Combining marks (category M) stay, so no Indic or Arabic word is
            cut.
        tags: False removes ``<noise>`` and ``[laugh]`` whole, before anything else.
    """

    name: str
    form: str = ""
    casefold: bool = False
    punctuation: bool = True
    tags: bool = True

    def __call__(self, text: str) -> str:
        """Return the treated text; unless the treatment is ``none``, blanks are single."""
        if not self.tags:
            text = _TAG.sub(" ", text)
        if not self.punctuation:
            # before NFKC, which takes a spacing accent apart into a blank and a combining one
            text = _APOSTROPHE.sub("'", text)
        if self.form:
            text = unicodedata.normalize(self.form, text)
        if self.casefold:
            text = text.casefold()
            if self.form:
                text = unicodedata.normalize(self.form, text)
        if not self.punctuation:
            text = _without_punctuation(text)
        return text if self == NONE else " ".join(text.split())

    def describe(self) -> str:
        """Say in one line what the treatment does."""
        parts = [self.form] if self.form else []
        parts += ["case folded"] if self.casefold else []
        parts += (
            [] if self.punctuation else ["punctuation and symbols removed, combining marks kept"]
        )
        parts += [] if self.tags else ["<tags> and [tags] removed"]
        return f"{self.name} ({', '.join(parts) or 'text as it is'})"


def _without_punctuation(text: str) -> str:
    out = []
    for i, char in enumerate(text):
        category = unicodedata.category(char)
        if char == "'":
            inside = 0 < i < len(text) - 1 and _in_word(text[i - 1]) and _in_word(text[i + 1])
            out.append(char if inside else " ")
        elif char == _ZERO_WIDTH_SPACE or category[0] in "PS":
            out.append(" ")
        elif category != "Cf":
            out.append(char)
    return "".join(out)


def _in_word(char: str) -> bool:
    return unicodedata.category(char)[0] in "LM"


NONE = Normalisation("none")
BASIC = Normalisation("basic", form="NFKC", casefold=True, punctuation=False)
BASIC_WITHOUT_TAGS = Normalisation(
    "basic_without_tags", form="NFKC", casefold=True, punctuation=False, tags=False
)

NORMALISATIONS: dict[str, Normalisation] = {n.name: n for n in (NONE, BASIC, BASIC_WITHOUT_TAGS)}


def get_normalisation(name: str) -> Normalisation:
    """Return the normalisation of that name.

    Raises: ValueError naming those there are.
    """
    if name not in NORMALISATIONS:
        raise ValueError(
            f"normalisation {name!r} is unknown; there are: {', '.join(NORMALISATIONS)}"
        )
    return NORMALISATIONS[name]

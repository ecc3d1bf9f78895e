"""ArzEn's transcription marks, and the text without them.

The order is what matters: whole marks go first (`[HES]`, `(LAUGHTER)`, `%word`), then the
signs that marks are made of (`// = # @ $ + *`), then, if asked for, punctuation. The other way
round `[HES]` becomes a word. `c++`, `c#` and `f#` are words and survive every step.
"""

from __future__ import annotations

import re
import unicodedata

from espnet_blora.data.corpora.letters import single_blanks
from espnet_blora.text import Normalisation

_NAMES = "HES|LAUGHTER|LAUGH|COUGH|NOISE|HUM|BREATH"
# In upper case one bracket may be missing; a name without any is a word ("noise").
_NOISE = re.compile(
    rf"[\[(]\s*(?i:{_NAMES})\s*[\])]|[\[(]\s*(?:{_NAMES})\b|(?<!\w)(?:{_NAMES})\s*[\])]"
)
_UNKNOWN = re.compile(r"\[[^\[\]]*\]")
_FILLER = re.compile(r"%#?(\w*)")
_SIGNS = re.compile(r"//+|\(\(|\)\)|[=#@$+*%\u2026\[\]]")
_WORDS_WITH_SIGNS = re.compile(r"(?<![A-Za-z])(?:c\+\+|[cf]#(?!\w))", re.IGNORECASE)
_KEPT = {"+": "\ue000", "#": "\ue001"}  # private use characters: no step below touches them
_BACK = str.maketrans({v: k for k, v in _KEPT.items()})
# Short vowels, shadda, sukun, tanween, dagger alef: what CAMeL's dediac_ar deletes; and tatweel,
# which some of its releases count among them.
_DIACRITICS = re.compile("[\u064b-\u0652\u0670\u0640]")
_NO_PUNCTUATION = Normalisation("no punctuation", punctuation=False)
_STRAY_BLANK = re.compile(r"\s+([.,?!:;\u060c\u061b\u061f])(?=\s|$)")


def unknown_marks(text: str) -> list[str]:
    """Marks in square brackets that are none of the known ones; `clean` deletes them too."""
    return _UNKNOWN.findall(_NOISE.sub(" ", text))


def clean(
    text: str, *, punctuation: bool = True, diacritics: bool = False, fillers: bool = False
) -> str:
    """Return what was said, without the marks of the transcription.

    Args:
        punctuation: keep Arabic and Latin punctuation; else all punctuation and symbols go, but for
            an apostrophe between two letters and for `c++`, `c#`, `f#`.
        diacritics: keep short vowels and tatweel; else they go, as the corpus's own systems and
            those of BLoRA's authors were trained ("الـ project" becomes "ال project").
        fillers: keep the word of `%word` and `%#word`; else it goes, as `[HES]` does.

    Words in `(( ))` stay; the text comes back in NFC with single blanks. Scoring can undo
    punctuation and diacritics kept, not noise or fillers left out.
    """
    text = text.translate({ord(v): None for v in _KEPT.values()})
    text = single_blanks(unicodedata.normalize("NFC", text))
    if not diacritics:
        text = _DIACRITICS.sub("", text)
    text = _NOISE.sub(" ", text)
    text = _UNKNOWN.sub(" ", text)
    text = _FILLER.sub(r" \1 " if fillers else " ", text)
    text = _WORDS_WITH_SIGNS.sub(lambda word: word[0].translate(str.maketrans(_KEPT)), text)
    text = _SIGNS.sub(" ", text)
    if not punctuation:
        text = _NO_PUNCTUATION(text)
    text = " ".join(text.translate(_BACK).split())
    # what stood before a full stop may just have gone
    text = _STRAY_BLANK.sub(r"\1", text)
    return text if any(char.isalnum() for char in text) else ""

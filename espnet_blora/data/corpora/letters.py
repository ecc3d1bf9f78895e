"""Letters of ids and of texts: what several corpora need done to them."""

from __future__ import annotations

import re

# Zero-width space: a blank, as scoring has it. Joiners (200C, 200D) belong to words and stay.
_BLANKS = re.compile("[\\s\u200b]+")
# Marks that are seen in no script: direction (200E, 200F, 202A-202E, 2066-2069), byte order mark.
_UNSEEN = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\x00-\x08\x0e-\x1b\x7f]")
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9._\-]+")
_NOT_IN_SPEAKER = re.compile(r"[^A-Za-z0-9._]+")
# Full-width digits and letters -> ASCII. Full-width punctuation is how Chinese is written.
_FULL_WIDTH = {
    code: code - 0xFEE0
    for first, last in ("０９", "ＡＺ", "ａｚ")
    for code in range(ord(first), ord(last) + 1)
}


def single_blanks(text: str) -> str:
    """Make each stretch of white space (no-break, zero-width, ideographic, ...) one blank.

    Direction marks, byte order marks and control characters go; the joiners that Persian and Indic
    words are written with stay. Kaldi's tools refuse text that holds other blanks.
    """
    return _BLANKS.sub(" ", _UNSEEN.sub("", text)).strip()


def half_width(text: str) -> str:
    """Turn full-width letters and digits (`Ｔ恤`) into ASCII (`T恤`); punctuation stays."""
    return text.translate(_FULL_WIDTH)


def speaker_name(*parts: str) -> str:
    """Join a speaker's name from ASCII letters, digits and `._`; anything else becomes `_`.

    A name without `-` is what makes ids sort as speakers do, for `-` sorts before all of these:
    `a-9` before `a_b-1`, as `a` before `a_b`.
    """
    return "_".join(_NOT_IN_SPEAKER.sub("_", part) for part in parts)


def utterance_id(speaker: str, rest: str) -> str:
    """Join an utterance's id from its speaker's name and the rest (ASCII, `-` allowed)."""
    return f"{speaker}-{_NOT_IN_ID.sub('_', rest)}"

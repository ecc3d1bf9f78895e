"""SEAME's transcripts as Whisper writes text: without the corpus's marks.

The marks, their meaning, and what becomes of them:

=====================================  ===================================================
`[lah]`, `(er)`                    particles and hesitations: kept as words, as ESPnet does
`(ppl)`, `<ppb>`, `ppo`          laughter and other noise: a tag, or removed
`<v-noise>`                          the same in the split repository
`<unk>`, `<unl>`, `<unk place>`  not understood: a tag, or removed
`#nasi-lemak#`                       other languages and dialects: kept as words
`= ~ * - × —— · 【】 {}`, …           removed; a hyphen separates words
`ＫＴＶ`, `é`                      `ktv`, `e`
U+3000, U+00A0, control characters     a blank, a blank, nothing
=====================================  ===================================================

With `noise="keep"` the tags are `<noise>` and `<unk>`, repeated `<noise>` written once, as ESPnet's
recipe trains and scores (its README's 16.6 and 23.3). The default removes them, because Whisper was
not trained to write tags: one is several tokens in an order that it never met, and work on Whisper
trains and scores without them. Text is lower case, as in the split repository.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from espnet_blora.text.tokens import unspaced

NOISE_STYLES = ("remove", "keep")

# They stand for the tags while all other characters but letters are removed. The input cannot hold
# them: its own private-use characters are removed first.
_NOISE, _UNK = "\ue000", "\ue001"
_TAGS = {_NOISE: "<noise>", _UNK: "<unk>"}
_PAIRS = {")": "(", "]": "[", "}": "{", ">": "<", "】": "【"}
_APOSTROPHES = dict.fromkeys(map(ord, "‘’ʼ`´′"), "'")
_E_ACUTE = re.compile("é[\u0300-\u036f]*")
_LOOSE_APOSTROPHE = re.compile(r"(?<![^\W\d_])'|'(?![^\W\d_])")  # not between two letters
# Characters that must not stand beside a bare tag (Han may); U+00D7 and U+00F7 are not letters.
_WORD = r"[a-z0-9'\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0300-\u036f]"
# (ppl) <ppo> (ppx); with a bracket missing or a 0 typed for it: (ppl0 (ppl ppb) ppl
_NOISE_MARK = re.compile(
    rf"<?\s*(?<!{_WORD})v-noise(?!{_WORD})\s*>?|<\s*noise\s*>"
    rf"|[(<]\s*pp[a-z0-9]+(?!{_WORD})\s*[)>]?"
    rf"|[\[{{【]?\s*(?<!{_WORD})pp[lcbo]0?(?!{_WORD})\s*[)\]>}}】]?"
)
# <unk> < unk > <unl> <unk movie title>; with a bracket missing or another kind of bracket
_UNK_MARK = re.compile(
    r"<\s*un[kl](?:\s[a-z0-9 _-]*)?>"
    rf"|[<(\[{{【]\s*un[kl](?!{_WORD})\s*[)\]}}】]?"
    rf"|(?<!{_WORD})un[kl]\s*>"
    rf"|(?<!{_WORD})unk(?!{_WORD})"
)
_OTHER_TAG = re.compile(r"<[^<>]*[^\W_][^<>]*>")


class Cleaned(NamedTuple):
    """A cleaned text and what was odd about the raw one (fixed phrases, for the ledger)."""

    text: str
    notes: tuple[str, ...]


class _Plain(dict):
    """Code point -> its plain form; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if 0xFF01 <= code <= 0xFF5E:  # full-width forms of ASCII
            plain = chr(code - 0xFEE0)
        elif char.isspace() or unicodedata.category(char)[0] == "Z":
            plain = " "
        elif unicodedata.category(char)[0] == "C":
            plain = ""
        else:
            plain = char
        self[code] = plain
        return plain


class _Letters(dict):
    """Code point -> itself for letters, marks, digits, apostrophes and tags; else a blank."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        keep = unicodedata.category(char)[0] in "LMN" or char in ("'", _NOISE, _UNK)
        self[code] = char if keep else " "
        return self[code]


_PLAIN = _Plain({ord("\t"): " ", ord("\n"): " ", ord("\r"): " ", **_APOSTROPHES})
_LETTERS = _Letters()


def _odd_brackets(text: str) -> bool:
    """Tell whether brackets do not pair up: `(ppl0`, `loh]`, `(huh]`, `[[ah]`, one `#`."""
    open_: list[str] = []
    for char in text:
        if char in "([{<【":
            open_.append(char)
        elif char in _PAIRS and (not open_ or open_.pop() != _PAIRS[char]):
            return True
    return bool(open_) or text.count("#") % 2 == 1


def clean(raw: str, noise: str = "remove") -> Cleaned:
    """Remove the corpus's marks from a transcript (table: this module's docstring).

    >>> clean("[lah] 我 要 <v-noise> ＫＴＶ (ppl)").text
    'lah我要 ktv'

    Args:
        raw: A transcript of the corpus or of the split repository.
        noise: `"remove"`, or `"keep"` for `<noise>` and `<unk>` as ESPnet writes them.

    Returns:
        The text (lower case, Han unspaced) and notes on repairs. Cleaning a cleaned text changes
        nothing.

    Raises:
        ValueError: `noise` is neither.
    """
    if noise not in NOISE_STYLES:
        raise ValueError(f"noise={noise!r}: allowed are {' and '.join(NOISE_STYLES)}")
    # One form of every character.
    text = unicodedata.normalize("NFC", raw.translate(_PLAIN)).lower()
    text = unicodedata.normalize("NFC", text).translate(_PLAIN)
    text = _LOOSE_APOSTROPHE.sub(" ", _E_ACUTE.sub("e", text))
    text = " ".join(text.split())
    # Marks become tags, everything but letters and tags a blank.
    notes = ["malformed bracket repaired"] if _odd_brackets(text) else []
    text = _UNK_MARK.sub(f" {_UNK} ", _NOISE_MARK.sub(f" {_NOISE} ", text))
    if _OTHER_TAG.search(text):
        notes.append("unknown tag kept as words")
    words: list[str] = []
    for word in text.translate(_LETTERS).split():
        again = word == _NOISE and words[-1:] == [_NOISE]
        if not again and (noise == "keep" or word not in _TAGS):
            words.append(word)
    text = unspaced(" ".join(words))
    for sign, tag in _TAGS.items():
        text = text.replace(sign, tag)
    return Cleaned(text, tuple(notes))

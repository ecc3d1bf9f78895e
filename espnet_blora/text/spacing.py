"""Blanks in text of mixed scripts, as Whisper writes it."""

from __future__ import annotations

import unicodedata

from espnet_blora.text.scripts import INHERITED, is_han_kana, script_of

# Punctuation that Chinese and Japanese set without blanks.
_WIDE = frozenset("、。〃〈〉《》「」『』【】〔〕〖〗〝〞〟・，．：；？！（）［］｛｝～…—“”‘’")


def unspaced(text: str) -> str:
    """Write Han and Kana without blanks between them, as Whisper does.

    * No blank before a Han or Kana character: there it would be a token of its own, which a model
      trained on unspaced Chinese has never met.
    * One blank between a Han or Kana character and a word that begins with a letter of another
      script, whether there was one or not: `我们want 咖啡` becomes `我们 want咖啡`.
    * Between Han or Kana and digits, signs or ASCII punctuation a blank stays if it was there, and
      between them and wide punctuation it goes.
    * Every other stretch of white space becomes one blank; none stay at the ends.

    The tokens of the mixed error rate (`espnet_blora.text.mixed_tokens`) stay the same, and a
    second call changes nothing.
    """
    if text.isascii():
        return " ".join(text.split())
    out: list[str] = []
    after_han = False  # what was written last is Han or Kana, with its marks
    for chunk in text.split():
        if out and not is_han_kana(chunk[0]) and not (after_han and chunk[0] in _WIDE):
            out.append(" ")
            after_han = False
        for char in chunk:
            if is_han_kana(char):
                after_han = True
            elif not (after_han and script_of(char) == INHERITED):
                if after_han and unicodedata.category(char)[0] == "L":
                    out.append(" ")
                after_han = False
            out.append(char)
    return "".join(out)

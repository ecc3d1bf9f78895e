"""Which tokens make which word, by byte offsets: for times, probabilities and scores of words.

Whisper's tokens are byte strings: one may hold several words (two Han characters), a part of a
word, or a part of a character; where words begin is for the caller's `split` to say.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from espnet_blora.whisper.vocabulary import Vocabulary

Split = Callable[[str], list[str]]
"""Text -> its words in order, each a piece of the text (in NFC): `str.split`, for example."""


def _characters(raw: bytes) -> list[tuple[str, int]]:
    """Characters of UTF-8 with the bytes each takes; a broken sequence is U+FFFD, as in Python."""
    characters: list[tuple[str, int]] = []
    while raw:
        try:
            good, end = raw.decode(), len(raw)
        except UnicodeDecodeError as error:
            good, end = raw[: error.start].decode(), error.end
        characters.extend((char, len(char.encode())) for char in good)
        if bad := end - len(good.encode()):
            characters.append(("\ufffd", bad))
        raw = raw[end:]
    return characters


def _composed(characters: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Neighbours that NFC makes one (a letter and its accent) joined, with their bytes together."""
    joined: list[tuple[str, int]] = []
    for char, size in characters:
        if joined:
            before, taken = joined[-1]
            both = unicodedata.normalize("NFC", before + char)
            if unicodedata.combining(char) or both != before + unicodedata.normalize("NFC", char):
                joined[-1] = both, taken + size
                continue
        joined.append((unicodedata.normalize("NFC", char), size))
    return joined


def word_spans(
    vocabulary: Vocabulary, ids: Sequence[int], split: Split
) -> list[tuple[str, int, int]]:
    """Return the tokens of each word of a text.

    A token counts for every word that has a byte of it, so spans of neighbours may overlap by one
    token. Control tokens and timestamps have no bytes: inside a word they lie in its span, outside
    they belong to none, and nor does a token of blanks alone. Broken UTF-8 becomes U+FFFD, as in
    `Vocabulary.decode`.

    Args:
        vocabulary: the vocabulary.
        ids: token ids after the prompt.
        split: the text (NFC) to its words.

    Returns:
        (word, first token, last token + 1) of each word, in order.

    Raises:
        ValueError: a word of `split` that is empty or does not stand in the text behind the one
            before it (a `split` must not change what it cuts).
    """
    encoding = vocabulary.tokenizer.encoding
    pieces = [
        encoding.decode_single_token_bytes(i) if 0 <= i < vocabulary.eot else b"" for i in ids
    ]
    token_ends = list(accumulate(map(len, pieces)))
    characters = _characters(b"".join(pieces))
    if not unicodedata.is_normalized("NFC", "".join(char for char, _ in characters)):
        characters = _composed(characters)
    text = "".join(char for char, _ in characters)
    # a composed entry may hold several characters: all of them begin where it begins
    begins, ends, byte = [], [], 0
    for char, size in characters:
        begins.extend([byte] * len(char))
        byte += size
        ends.extend([byte] * len(char))
    spans, position = [], 0
    for word in split(text):
        at = text.find(word, position) if word else -1
        if at < 0:
            raise ValueError(
                f"word {word!r} does not stand in {text!r} behind character {position}: words must "
                "be non-empty pieces of the text, in order and unchanged"
            )
        position = at + len(word)
        first = bisect_right(token_ends, begins[at])
        last = bisect_left(token_ends, ends[position - 1])
        spans.append((word, first, last + 1))
    return spans

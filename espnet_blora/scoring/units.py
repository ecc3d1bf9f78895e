"""What a token is: the units that error rates are counted in."""

from __future__ import annotations

import re
from collections.abc import Callable

from espnet_blora.text import characters, mixed_tokens, words

_RUN = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")


def espnet_tokens(text: str) -> list[str]:
    """Split a text as ESPnet's stage 13 and `sclite -e utf-8 -c NOASCII` do.

    White space separates, and every character outside ASCII is a token (so `über` is two: `ü
    ber`). Right for Chinese beside English, and meant for comparison with what ESPnet's recipes
    publish; elsewhere `mer` is the better unit. sclite also folds A-Z to a-z: that is the
    normalisation `espnet_compatible`.
    """
    if text.isascii():
        return text.split()
    return [token for word in text.split() for token in _RUN.findall(word)]


UNITS: dict[str, Callable[[str], list[str]]] = {
    "mer": mixed_tokens,  # Han and Kana by character, other scripts by word
    "wer": words,  # by white space only
    "cer": characters,  # by character, white space not counted
    "espnet": espnet_tokens,  # as ESPnet and sclite -c NOASCII cut: not for other languages
}

"""Text: scripts of characters, tokens for scoring, named normalisations."""

from espnet_blora.text.normalisation import Normalisation
from espnet_blora.text.presets import FLAGS, NORMALISATIONS, get_normalisation
from espnet_blora.text.scripts import is_han_kana, script_of
from espnet_blora.text.tokens import characters, mixed_tokens, script_of_token, words

__all__ = [
    "FLAGS",
    "NORMALISATIONS",
    "Normalisation",
    "characters",
    "get_normalisation",
    "is_han_kana",
    "mixed_tokens",
    "script_of",
    "script_of_token",
    "words",
]

"""Buckwalter's transliteration of Arabic, in which MGB-2's evaluation sets are written."""

from __future__ import annotations

# Tim Buckwalter's table, with the letters for g, p, ch and v that MGB's makers use.
BUCKWALTER = {
    "'": "\u0621",  # hamza
    "|": "\u0622",  # alef with madda
    ">": "\u0623",  # alef with hamza above
    "&": "\u0624",  # waw with hamza
    "<": "\u0625",  # alef with hamza below
    "}": "\u0626",  # yeh with hamza
    "A": "\u0627",
    "b": "\u0628",
    "p": "\u0629",  # teh marbuta
    "t": "\u062a",
    "v": "\u062b",
    "j": "\u062c",
    "H": "\u062d",
    "x": "\u062e",
    "d": "\u062f",
    "*": "\u0630",
    "r": "\u0631",
    "z": "\u0632",
    "s": "\u0633",
    "$": "\u0634",
    "S": "\u0635",
    "D": "\u0636",
    "T": "\u0637",
    "Z": "\u0638",
    "E": "\u0639",
    "g": "\u063a",
    "_": "\u0640",  # tatweel
    "f": "\u0641",
    "q": "\u0642",
    "k": "\u0643",
    "l": "\u0644",
    "m": "\u0645",
    "n": "\u0646",
    "h": "\u0647",
    "w": "\u0648",
    "Y": "\u0649",  # alef maksura
    "y": "\u064a",
    "F": "\u064b",  # fathatan
    "N": "\u064c",  # dammatan
    "K": "\u064d",  # kasratan
    "a": "\u064e",  # fatha
    "u": "\u064f",  # damma
    "i": "\u0650",  # kasra
    "~": "\u0651",  # shadda
    "o": "\u0652",  # sukun
    "`": "\u0670",  # dagger alef
    "{": "\u0671",  # alef wasla
    "P": "\u067e",
    "J": "\u0686",
    "V": "\u06a4",
    "G": "\u06af",
}
_TO_ARABIC = str.maketrans(BUCKWALTER)


def to_arabic(text: str) -> tuple[str, list[str]]:
    """Return the text in Arabic letters, and the words that were left as they are.

    A word with a Latin letter that the table lacks (`facebook`: c and e) cannot be Arabic and is
    left; what the table lacks otherwise (digits, punctuation) stays where it is.
    """
    words, left = [], []
    for word in text.split(" "):
        if any(c.isascii() and c.isalpha() and c not in BUCKWALTER for c in word):
            left.append(word)
            words.append(word)
        else:
            words.append(word.translate(_TO_ARABIC))
    return " ".join(words), left

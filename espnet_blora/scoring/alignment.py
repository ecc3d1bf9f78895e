"""One optimal alignment of two token sequences, to count with and to look at."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rapidfuzz.distance import Levenshtein

Row = tuple[str, str | None, str | None]

_MOST_CODES = 200_000  # tokens kept at a time; below the number of characters there are
_SIGNS = {"hit": "", "sub": "S", "del": "D", "ins": "I"}
_GAP = "*"


class Codes(dict):
    """Token -> a character that stands for it, so that sequences are compared as strings.

    `codes.spell(tokens)` is a string of one character a token; strings spelt between two calls of
    `forget` can be compared.
    """

    def __missing__(self, token: str) -> str:
        self[token] = code = chr(len(self))
        return code

    def spell(self, tokens: Iterable[str]) -> str:
        """Return the tokens as one string."""
        return "".join(map(self.__getitem__, tokens))

    def forget(self) -> None:
        """Start anew where the vocabulary has grown large, so that memory stays bounded."""
        if len(self) > _MOST_CODES:
            self.clear()


def align(ref: Sequence[str], hyp: Sequence[str]) -> list[Row]:
    """Return one optimal alignment as `(operation, reference token or None, hypothesis token or
    None)`.

    Operations: `hit`, `sub`, `del`, `ins`, in order.
    """
    codes = Codes()
    rows: list[Row] = []
    for tag, i1, i2, j1, j2 in Levenshtein.opcodes(codes.spell(ref), codes.spell(hyp)):
        if tag == "delete":
            rows += [("del", token, None) for token in ref[i1:i2]]
        elif tag == "insert":
            rows += [("ins", None, token) for token in hyp[j1:j2]]
        else:
            name = "hit" if tag == "equal" else "sub"
            rows += [(name, a, b) for a, b in zip(ref[i1:i2], hyp[j1:j2], strict=True)]
    return rows


def columns(text: str) -> int:
    """Return how many columns a text takes on a terminal.

    Wide and fullwidth characters (Han, Kana, Hangul) take 2, combining marks and format signs 0,
    control characters, which `view` spells out, 1, all others 1.
    """
    if text.isascii():
        return len(text)
    width = 0
    for char in text:
        if unicodedata.category(char) in ("Mn", "Me", "Cf"):
            continue
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return width


def view(rows: Sequence[Row], width: int = 100) -> str:
    """Write an alignment as lines `REF:`, `HYP:` and, where there is an error, `ERR:`.

    A token heard wrong stands above or below the one it is (S, D, I below them), `*` stands for
    none, every pair is padded to the same columns (`columns`). Blocks are wrapped before
    `width` columns; a token wider than that has a block of its own.
    """
    blocks: list[list[tuple[str, str, str, int]]] = [[]]
    used = 4
    for name, ref, hyp in rows:
        pair = [_plain(t) if t is not None else _GAP for t in (ref, hyp)]
        wide = max(*map(columns, pair), 1)
        if blocks[-1] and used + 1 + wide > width:
            blocks.append([])
            used = 4
        used += 1 + wide
        blocks[-1].append((pair[0], pair[1], _SIGNS[name], wide))
    out = []
    for block in blocks:
        for head, place in (("REF:", 0), ("HYP:", 1), ("ERR:", 2)):
            cells = (f"{cell[place]}{' ' * (cell[3] - columns(cell[place]))}" for cell in block)
            line = f"{head} {' '.join(cells)}".rstrip()
            if place < 2 or line != head:
                out.append(line)
        out.append("")
    return "\n".join(out[:-1])


def confusions(
    pairs: Iterable[Sequence[Row]], most: int = 20
) -> Mapping[str, list[tuple[int, str, str]]]:
    """Return the most frequent substitutions, deletions and insertions of many alignments.

    Keys `sub`, `del`, `ins`; values (times, reference token, hypothesis token), "" for none,
    most frequent first, then by token. Of tokens that occur once or are tied the alignment chosen
    decides.
    """
    found: dict[str, Counter[tuple[str, str]]] = {n: Counter() for n in ("sub", "del", "ins")}
    for rows in pairs:
        for name, ref, hyp in rows:
            if name != "hit":
                found[name][ref or "", hyp or ""] += 1
    return {
        name: [(n, *pair) for pair, n in sorted(c.items(), key=lambda i: (-i[1], i[0]))[:most]]
        for name, c in found.items()
    }


def _plain(token: str) -> str:
    """A token whose control characters are spelt out: nothing moves the cursor."""
    return "".join(f"<u{ord(c):04x}>" if unicodedata.category(c) == "Cc" else c for c in token)

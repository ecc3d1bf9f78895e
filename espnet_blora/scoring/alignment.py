"""Alignments of two token sequences, and how they are shown."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import overload

from espnet_blora.scoring.shortest import Side, choose
from espnet_blora.text import script_of_token

Row = tuple[str, str | None, str | None]

_MOST_CODES = 200_000  # tokens kept at a time; below the number of characters there are
_NAMES = {"replace": "sub", "delete": "del", "insert": "ins"}
_SIGNS = {"hit": "", "sub": "S", "del": "D", "ins": "I"}
_GAP = "*"


class Codes(dict):
    """Token -> a character that stands for it, so that sequences are compared as strings.

    `codes.spell(tokens)` is a string of one character per token; strings spelled between two calls
    of `forget` can be compared.
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


class Scripts(Sequence[str]):
    """The scripts of tokens, looked up where one is asked for: few of a recognised text are."""

    def __init__(self, tokens: Sequence[str]):
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return list(map(script_of_token, self._tokens[at]))
        return script_of_token(self._tokens[at])


def align(ref: Sequence[str], hyp: Sequence[str]) -> list[Row]:
    """Return the chosen alignment as rows (operation, reference token, hypothesis token).

    It is one of the shortest (`shortest.choose`). Operations are `hit`, `sub`, `del` and `ins`, in
    order; a missing token is None.

    >>> align(["go", "to", "bed"], ["go", "bed"])
    [('hit', 'go', 'go'), ('del', 'to', None), ('hit', 'bed', 'bed')]
    """
    codes = Codes()
    sides = (Side(codes.spell(side), Scripts(side)) for side in (ref, hyp))
    rows: list[Row] = []
    at = to = 0
    for tag, i, j in [*choose(*sides), ("", len(ref), len(hyp))]:
        rows += [("hit", a, b) for a, b in zip(ref[at:i], hyp[to:j], strict=True)]
        at, to = i + (tag != "insert"), j + (tag != "delete")
        if tag:
            left, right = (ref[i] if at > i else None), (hyp[j] if to > j else None)
            rows.append((_NAMES[tag], left, right))
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

    Paired tokens stand above each other (S, D, I below them), `*` stands for none, every pair is
    padded to the same columns (`columns`). Blocks are wrapped before `width` columns; a token wider
    than that has a block of its own.
    """
    # pairs of tokens, in blocks that fit the width
    blocks: list[list[tuple[tuple[str, str, str], int]]] = [[]]
    used = 4
    for name, *tokens in rows:
        ref, hyp = (_GAP if token is None else _plain(token) for token in tokens)
        wide = max(columns(ref), columns(hyp), 1)
        if blocks[-1] and used + 1 + wide > width:
            blocks.append([])
            used = 4
        used += 1 + wide
        blocks[-1].append(((ref, hyp, _SIGNS[name]), wide))
    # three lines per block, every pair padded to the same columns
    lines = []
    for block in blocks:
        for number, head in enumerate(("REF:", "HYP:", "ERR:")):
            cells = ((texts[number], wide) for texts, wide in block)
            padded = (cell + " " * (wide - columns(cell)) for cell, wide in cells)
            line = f"{head} {' '.join(padded)}".rstrip()
            if line != "ERR:":
                lines.append(line)
        lines.append("")
    return "\n".join(lines[:-1])


def confusions(
    pairs: Iterable[Sequence[Row]], most: int = 20
) -> Mapping[str, list[tuple[int, str, str]]]:
    """Return the most frequent substitutions, deletions and insertions of many alignments.

    Keys `sub`, `del`, `ins`; values (times, reference token, hypothesis token), "" for none,
    most frequent first, then by token. Of tokens that occur once or are tied the alignment chosen
    decides.
    """
    times: dict[str, Counter[tuple[str, str]]] = {n: Counter() for n in ("sub", "del", "ins")}
    for rows in pairs:
        for name, ref, hyp in rows:
            if name != "hit":
                times[name][ref or "", hyp or ""] += 1
    return {
        name: [(n, *pair) for pair, n in sorted(c.items(), key=lambda i: (-i[1], i[0]))[:most]]
        for name, c in times.items()
    }


def _plain(token: str) -> str:
    """Return a token with its control characters spelled out: nothing moves the cursor."""
    return "".join(f"<u{ord(c):04x}>" if unicodedata.category(c) == "Cc" else c for c in token)

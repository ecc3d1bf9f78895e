"""The alignment that is chosen of all shortest ones, and the range of what depends on the choice.

Two token sequences have as a rule several alignments with the least number of edits (costs 1/1/1).
That number is unique; where the errors stand is not, and with it not the errors by script, nor
those at points of interest (PIER). The rule:

1. of the shortest alignments those with the fewest substitutions of a token by one of another
   script;
2. of these the first, walking from the left: a hit or a substitution where one can stand, else a
   deletion, else an insertion.

Where both sides are of one script, nothing but the split into S, D and I depends on the choice, and
the alignment is that of `rapidfuzz`, as in `jiwer`.

The lowest and highest number of errors at points are over *all* shortest alignments, whatever the
rule, and exact. `D(i, j)` being the least number of edits between the first i reference tokens and
the first j recognised ones, an alignment is shortest if its every step raises `D` by the step's
cost; all such steps are followed from the end (`_walk`). `D` comes from the furthest row that k
edits reach on each diagonal j - i (Ukkonen, "Algorithms for approximate string matching",
Information and Control 64, 1985), within the band of diagonals that e edits cannot leave. Time and
memory grow with e^2 and the number of cells on shortest alignments, not with n times m.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple, cast

from rapidfuzz.distance import Editops, Hamming, Levenshtein, MatchingBlock

MOST_EDITS = 2000
"""In one utterance: with more the alignment is rapidfuzz's, the range from none to all of them."""

Edit = tuple[str, int, int]
"""`replace`, `delete` or `insert`; the places in the reference and in the hypothesis."""

_FEW_OTHERS = 20  # pairs of equal tokens: with more, all shortest alignments are followed at once
_DIAGONAL, _DELETION, _INSERTION = range(3)  # steps, in the order of the rule
_Gap = tuple[int, int, int, int]  # from, to in the reference; from, to in the hypothesis
_Cell = tuple[int, int, int, int, int]
"""A place (i, j) on shortest alignments: the edits D(i, j) before it; the fewest substitutions
across scripts from there to the end; the step that the rule takes; fewest and most errors at
points, from there to the end."""


class Side(NamedTuple):
    """One side of an alignment.

    Attributes:
        codes: Its tokens, one character each (`alignment.Codes`).
        scripts: Their scripts.
    """

    codes: str
    scripts: Sequence[str]


class Choice(NamedTuple):
    """The chosen alignment, and the errors at points over all shortest ones.

    Attributes:
        edits: Of the chosen alignment; of `count`, in any order.
        low: Fewest errors at points.
        high: Most errors at points.
    """

    edits: list[Edit]
    low: int
    high: int


def choose(ref: Side, hyp: Side) -> list[Edit]:
    """Return the edits of the alignment that the rule of this module chooses."""
    edits = Levenshtein.editops(ref.codes, hyp.codes)
    if _of_one_script(ref, hyp) or len(edits) > MOST_EDITS:
        return cast("list[Edit]", edits.as_list())
    return _walk(ref, hyp, [0] * (len(ref.codes) + 1), len(edits)).edits


def count(ref: Side, hyp: Side, weights: Sequence[int]) -> Choice:
    """Return edits that count as the chosen ones do, and the errors at points over all alignments.

    They are others than the chosen ones where nothing depends on them: that spares most work.

    Args:
        ref: n reference tokens.
        hyp: m recognised tokens.
        weights: (n + 1,) 1 where an error is one at a point, else 0: a substitution or deletion at
            its token, an insertion at the token it stands before, or at the end.
    """
    shortest = Levenshtein.editops(ref.codes, hyp.codes)
    edits = cast("list[Edit]", shortest.as_list())
    if _of_one_script(ref, hyp):
        gaps: list[_Gap] | None = []
    elif len(edits) > MOST_EDITS:
        return Choice(edits, 0, len(edits) * max(weights))
    else:
        gaps = _gaps_with_a_choice(ref, hyp, weights, shortest)
    if gaps is None:
        return _walk(ref, hyp, weights, len(edits))
    # what is not in these gaps counts alike in all shortest alignments
    chosen: list[Edit] = []
    low = high = 0
    for i, i_end, j, j_end in gaps:
        edits = [edit for edit in edits if not (i <= edit[1] <= i_end and j <= edit[2] <= j_end)]
        scripts = tuple(ref.scripts[i:i_end]), tuple(hyp.scripts[j:j_end])
        part = _walk_gap(*scripts, tuple(weights[i : i_end + 1]))
        chosen += [(tag, i + a, j + b) for tag, a, b in part.edits]
        low, high = low + part.low, high + part.high
    errors = sum([weights[i] for _, i, _ in edits])
    if chosen:
        edits = sorted(edits + chosen, key=itemgetter(1, 2))
    return Choice(edits, errors + low, errors + high)


def _of_one_script(ref: Side, hyp: Side) -> bool:
    scripts = {*ref.scripts[:]}
    return len(scripts) < 2 and len({*scripts, *hyp.scripts[:]}) < 2


def _gaps_with_a_choice(
    ref: Side, hyp: Side, weights: Sequence[int], shortest: Editops
) -> list[_Gap] | None:
    """Return the gaps of an alignment in which others may count otherwise; None: anywhere.

    A gap is a stretch without a hit. Alignments with the same hits differ inside gaps that have
    both substitutions and others, and count alike if all is of one kind there. All have the same
    hits, if there are no other equal tokens in the band that a shortest alignment can pair, and
    none can be done without: that would join gaps, and save an edit for each deletion and insertion
    that become a substitution (`joined` at most), but cost one for each hit that is lost.
    """
    a, b = ref.codes, hyp.codes
    blocks = shortest.as_matching_blocks()
    found: list[_Gap] = []
    fewest_hits = before = len(a)  # of the stretches between gaps
    more = hits = i = j = 0
    for i_end, j_end, size in blocks:
        rows, columns = i_end - i, j_end - j
        if rows or columns:
            if rows != columns:
                more += rows - columns if rows > columns else 0
                if rows and columns:
                    scripts = {*ref.scripts[i:i_end], *hyp.scripts[j:j_end]}
                    if len(scripts) > 1 or len({*weights[i : i_end + 1]}) > 1:
                        found.append((i, i_end, j, j_end))
            if before < fewest_hits:
                fewest_hits = before
            before = size
        hits += size
        i, j = i_end + size, j_end + size
    if more and fewest_hits <= min(more, more - len(a) + len(b)):
        return None
    # equal tokens that this alignment does not pair
    band, similarity = range(*_band(a, b, len(shortest))), Hamming.similarity
    others = sum([similarity(a, b[d:]) if d >= 0 else similarity(a[-d:], b) for d in band]) - hits
    if others and (others > _FEW_OTHERS or _another_hit(a, b, blocks, band, len(shortest))):
        return None
    return found


def _another_hit(a: str, b: str, blocks: Sequence[MatchingBlock], band: range, errors: int) -> bool:
    """Tell whether a shortest alignment has a hit that is not among these blocks of hits."""
    for d in band:
        hits = {
            i
            for block in blocks
            if block.b - block.a == d
            for i in range(block.a, block.a + block.size)
        }
        for i in range(max(0, -d), min(len(a), len(b) - d)):
            if a[i] == b[i + d] and i not in hits:
                before = Levenshtein.distance(a[:i], b[: i + d])
                if before + Levenshtein.distance(a[i + 1 :], b[i + d + 1 :]) == errors:
                    return True
    return False


def _band(ref: str, hyp: str, errors: int) -> tuple[int, int]:
    """Return the lowest diagonal j - i of shortest alignments, and the one after the highest."""
    longer = len(ref) - len(hyp)
    return -((errors + longer) // 2), (errors - longer) // 2 + 1


@lru_cache(maxsize=4096)
def _walk_gap(scripts: tuple[str, ...], heard: tuple[str, ...], weights: tuple[int, ...]) -> Choice:
    """Follow the alignments of a gap, in which no two tokens are equal: few gaps differ."""
    n, m = len(scripts), len(heard)
    codes = "".join(map(chr, range(n + m)))
    return _walk(Side(codes[:n], scripts), Side(codes[n:], heard), weights, max(n, m))


def _furthest(ref: str, hyp: str, errors: int) -> list[dict[int, int]]:
    """Return, for 0 .. errors - 1 edits, diagonal -> the furthest row they reach on it."""
    n, m, (lowest, end) = len(ref), len(hyp), _band(ref, hyp, errors)
    rows: list[dict[int, int]] = []
    before: dict[int, int] = {0: -1}
    for k in range(errors):
        row, at = {}, before.get
        for d in range(max(-k, lowest), min(k + 1, end)):
            # one edit more, a substitution, deletion or insertion; then hits
            last = min(n, m - d)
            i = min(last, max(at(d, -2) + 1, at(d + 1, -2) + 1, at(d - 1, -2)))
            while i < last and ref[i] == hyp[i + d]:
                i += 1
            row[d] = i
        rows.append(row)
        before = row
    return rows


def _walk(ref: Side, hyp: Side, weights: Sequence[int], errors: int) -> Choice:
    """Follow all shortest alignments from the end to the start, then the chosen one back."""
    (a, scripts), (b, heard_scripts) = ref, hyp
    furthest = [*_furthest(a, b, errors), {}]  # the last one: of -1 edits
    steps: dict[tuple[int, int], int] = {}
    row: dict[int, _Cell] = {len(b): (errors, 0, _DIAGONAL, 0, 0)}
    for i in range(len(a), -1, -1):
        above: dict[int, _Cell] = {}
        up, todo = i - 1, sorted(row)
        while todo:
            j = todo.pop()
            edits, across, steps[i, j], low, high = row[j]
            reached, d, left = furthest[edits - 1].get, j - i, j - 1
            # a hit or a substitution, then a deletion: from the row above
            if i:
                if j and a[up] == b[left]:
                    _add(above, left, (edits, across, _DIAGONAL, low, high))
                elif j and reached(d, -1) >= up:
                    more, other = weights[up], across + (scripts[up] != heard_scripts[left])
                    _add(above, left, (edits - 1, other, _DIAGONAL, low + more, high + more))
                if reached(d + 1, -1) >= up:
                    more = weights[up]
                    _add(above, j, (edits - 1, across, _DELETION, low + more, high + more))
            # an insertion: from the left
            if j and reached(d - 1, -1) >= i:
                if left not in row:
                    todo.append(left)
                more = weights[i]
                _add(row, left, (edits - 1, across, _INSERTION, low + more, high + more))
        if i:
            row = above
    return Choice(_edits(a, b, steps), *row[0][3:])


def _add(row: dict[int, _Cell], j: int, cell: _Cell) -> None:
    """Add one more way to the end to those from a cell."""
    if j in row:
        old = row[j]
        edits, across, step, low, high = min(old, cell)
        cell = edits, across, step, min(low, old[3], cell[3]), max(high, old[4], cell[4])
    row[j] = cell


def _edits(ref: str, hyp: str, steps: Mapping[tuple[int, int], int]) -> list[Edit]:
    """Return the edits of the alignment that takes these steps."""
    edits: list[Edit] = []
    i = j = 0
    while i < len(ref) or j < len(hyp):
        step = steps[i, j]
        if step == _DELETION:
            edits.append(("delete", i, j))
        elif step == _INSERTION:
            edits.append(("insert", i, j))
        elif ref[i] != hyp[j]:
            edits.append(("replace", i, j))
        i, j = i + (step != _INSERTION), j + (step != _DELETION)
    return edits

"""The chosen alignment and PIER's range, against all alignments there are."""

import hashlib
import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from espnet_blora.scoring import score, shortest
from espnet_blora.scoring.shortest import Side, choose, count

TEXT = st.text("abcxyz", max_size=5)
PLACES = {"replace": (1, 1), "delete": (1, 0), "insert": (0, 1)}


def script(token):
    return "Han" if token in "xyz" else "Latin"


def side(text):
    return Side(text, [script(token) for token in text])


def weights(ref):
    """An insertion counts at the token it stands before, the last one's at the end."""
    points = [int(script(token) == "Han") for token in ref]
    return [*points, *(points[-1:] or [0])]


def all_alignments(ref, hyp):
    """Yield (edits, substitutions across scripts, errors at points, steps), of all there are."""
    counted = weights(ref)

    def ways(i, j, edits, across, errors, steps):
        if i == len(ref) and j == len(hyp):
            yield edits, across, errors, steps
        if i < len(ref) and j < len(hyp):
            if ref[i] == hyp[j]:
                yield from ways(i + 1, j + 1, edits, across, errors, [*steps, (0, "hit", i, j)])
            else:
                cost = edits + 1, across + (script(ref[i]) != script(hyp[j])), errors + counted[i]
                yield from ways(i + 1, j + 1, *cost, [*steps, (0, "replace", i, j)])
        more = edits + 1, across, errors + counted[i]
        if i < len(ref):
            yield from ways(i + 1, j, *more, [*steps, (1, "delete", i, j)])
        if j < len(hyp):
            yield from ways(i, j + 1, *more, [*steps, (2, "insert", i, j)])

    yield from ways(0, 0, 0, 0, 0, [])


def kinds(ref, hyp, edits):
    """Count edits as a score does: by script, insertions under their own, and kind."""
    places = [(tag, script(hyp[j] if tag == "insert" else ref[i])) for tag, i, j in edits]
    return Counter(places)


@settings(max_examples=300)
@given(TEXT, TEXT)
def test_choice_and_range_are_those_over_all_alignments(ref, hyp):
    ways = list(all_alignments(ref, hyp))
    least = min(way[0] for way in ways)
    short = [way for way in ways if way[0] == least]
    edits = choose(side(ref), side(hyp))
    counted = count(side(ref), side(hyp), weights(ref))
    assert len(edits) == len(counted.edits) == least
    if len({*map(script, ref + hyp)}) > 1:
        assert counted[1:] == tuple(f(way[2] for way in short) for f in (min, max))
        fewest = min(way[1] for way in short)
        # the rule's order of steps is that of their numbers
        first = min(way[3] for way in short if way[1] == fewest)
        assert edits == [step[1:] for step in first if step[1] != "hit"]
        assert kinds(ref, hyp, edits) == kinds(ref, hyp, counted.edits)
        for chosen in (edits, counted.edits):
            points = sum(weights(ref)[i] for _, i, _ in chosen)
            assert counted.low <= points <= counted.high
    else:
        assert edits == counted.edits


def textbook(ref, hyp, weight):
    """The least of 2^20 per edit + `weight` per error at points, by the full table."""
    counted, big = weights(ref), 1 << 20
    row = [j * (big + weight * counted[0]) for j in range(len(hyp) + 1)]
    for i, left in enumerate(ref, 1):
        above, row = row, [row[0] + big + weight * counted[i - 1]]
        for j, right in enumerate(hyp, 1):
            changed = above[j - 1] + (left != right) * (big + weight * counted[i - 1])
            lost, put_in = above[j] + big + weight * counted[i - 1], row[-1] + big
            row.append(min(changed, lost, put_in + weight * counted[i]))
    return row[-1]


def test_counted_edits_are_in_order():
    """Those of a gap that was walked stand where the gap is, and not after all others."""
    edits = count(side("bdxb"), side("ax"), weights("bdxb")).edits
    assert edits == [("replace", 0, 0), ("delete", 1, 1), ("delete", 3, 2)]


@settings(max_examples=30)
@given(st.integers(20, 80), st.floats(0, 0.9), st.randoms(use_true_random=False))
def test_range_of_long_texts_is_that_of_the_full_table(length, errors, generator):
    ref = "".join(generator.choices("abcdexyz", k=length))
    heard = [
        generator.choice(["", "a", "x", c + "b"]) if generator.random() < errors else c for c in ref
    ]
    hyp = "".join(heard)
    least = textbook(ref, hyp, 0)
    found = count(side(ref), side(hyp), weights(ref))
    assert found.low == textbook(ref, hyp, 1) - least
    assert found.high == least - textbook(ref, hyp, -1)
    # the edits turn one into the other
    at, out = 0, ""
    for tag, i, j in found.edits:
        out += ref[at:i] + (hyp[j] if tag != "delete" else "")
        at = i + PLACES[tag][0]
    assert out + ref[at:] == hyp and len(found.edits) == least >> 20


def test_a_long_recording_in_one_piece():
    """4,000 tokens: not a table of 16 million cells."""
    generator = random.Random(1)
    ref = "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=4000))
    heard = ["", "a", "x", "bx", "xb"]
    hyp = "".join(generator.choice(heard) if generator.random() < 0.1 else c for c in ref)
    start = time.process_time()
    found = count(side(ref), side(hyp), weights(ref))
    assert time.process_time() - start < 5  # 0.2 s
    assert len(found.edits) == Levenshtein.distance(ref, hyp) > 400
    assert 20 < found.low < found.high < 400


def test_too_many_errors_for_the_rule(monkeypatch):
    monkeypatch.setattr(shortest, "MOST_EDITS", 2)
    found = count(side("abcxy"), side("zzz"), weights("abcxy"))
    assert found.edits == choose(side("abcxy"), side("zzz"))
    assert (found.low, found.high) == (0, len(found.edits)) == (0, 5)


@pytest.mark.parametrize(("ref", "hyp"), [("", ""), ("", "ax"), ("ax", ""), ("ax", "ax")])
def test_empty_sides(ref, hyp):
    found = count(side(ref), side(hyp), weights(ref))
    assert len(found.edits) == (0 if ref == hyp else 2)


def random_texts(utterances):
    """Seeded pairs of mixed texts with few different tokens: most have several alignments."""
    generator = random.Random(7)
    vocabulary = [*"我你他们是的", "a", "b", "go", "home", "да", "7"]
    for n in range(utterances):
        said = generator.choices(vocabulary, k=generator.randrange(16))
        heard = []
        for token in said:
            kind = generator.random()
            heard += (
                [] if kind < 0.1 else [generator.choice(vocabulary)] if kind < 0.25 else [token]
            )
            heard += generator.choices(vocabulary, k=kind > 0.85)
        yield f"u{n:05d}", " ".join(said), " ".join(heard)


@pytest.mark.parametrize(
    ("poi", "digest"),
    [("rest", "d200bf9558965e58"), ("Cyrillic", "f05204578306f25c")],
)
def test_scores_are_those_of_the_first_release_of_the_rule(poi, digest):
    """Counts by script, at points, and ranges: the digest was taken when every way was walked."""
    texts = list(random_texts(4000))
    ref, hyp = ({key: text[side] for key, *text in texts} for side in (0, 1))
    utterances = score(ref, hyp, "mer", "none", poi=poi).utterances
    assert sum(u.pier_range is not None for u in utterances) > 150
    assert hashlib.sha256(repr(utterances).encode()).hexdigest()[:16] == digest

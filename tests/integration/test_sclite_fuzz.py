"""Our totals and sclite's on thousands of texts: realistic, random and hostile ones."""

import random
import re

import pytest

from espnet_blora.scoring import score
from espnet_blora.scoring.modes import tokeniser
from espnet_blora.scoring.sclite import cross_check, parse_totals
from tests.scoring.real import HAZARDS, SCLITE, not_scored, real_sclite, report, stage
from tests.scoring.textbook import distance

pytestmark = real_sclite


def zipf(words):
    return words, [1 / (n + 2) for n in range(len(words))]


def latin(generator, size, letters="abdefgiklmnoprstu"):
    return ["".join(generator.choices(letters, k=generator.randrange(2, 9))) for _ in range(size)]


HAN = [chr(0x4E00 + 37 * n) for n in range(500)]
ARABIC = "ابتثجحخدذرزسشصضطظعغفقكلمنهوي"
# name -> (vocabulary of a generator, longest utterance, text instead of words between blanks)
REALISTIC = {
    "20 words": (lambda g: latin(g, 20), 15),
    "2,000 words": (lambda g: latin(g, 2000), 15),
    "utterances of 40 words": (lambda g: latin(g, 2000), 80),
    "Mandarin and English": (lambda g: sorted(HAN + latin(g, 500), key=lambda w: g.random()), 20),
    "accents": (lambda g: latin(g, 800, "aeiouñçüéèßøåłšğıœ'"), 15),
    "Arabic, some of it vowelled": (lambda g: latin(g, 800, ARABIC + "\u064e\u0650\u0640"), 15),
    "cased, with signs": (lambda g: latin(g, 300, "aAbBeE.,?!-'%<>()[]/\"&#"), 15),
}


def misheard(generator, words, vocabulary, weights, longest=1):
    """Return the words with some 15 % of errors, each a run of up to `longest` words."""
    heard, n = [], 0
    while n < len(words):
        kind = generator.random()
        run = generator.randrange(1, longest + 1)
        if kind < 0.85:
            heard.append(words[n])
            n += 1
            continue
        if kind < 0.97:
            heard += generator.choices(vocabulary, weights, k=generator.randrange(1, longest + 1))
        n += run if kind < 0.94 or kind > 0.97 else 0
    return heard


def recognised(generator, name, utterances=3000, longest=1):
    make, length = REALISTIC[name]
    vocabulary, weights = zipf(make(generator))
    ref, hyp = {}, {}
    for n in range(utterances):
        said = generator.choices(vocabulary, weights, k=generator.randrange(length + 1))
        key = f"speaker{n % 9}-{n}"
        ref[key] = " ".join(said)
        hyp[key] = " ".join(misheard(generator, said, vocabulary, weights, longest))
    return ref, hyp


def compared(ref, hyp, unit="mer", normalisation="none"):
    """Return our counts, sclite's totals, and the problems between them."""
    ours, cut = score(ref, hyp, unit, normalisation), tokeniser(unit, normalisation)
    pairs = ((cut(text), cut(hyp[key])) for key, text in ref.items())
    return (ours.total, *cross_check(SCLITE, pairs, ours.total))


@pytest.mark.parametrize("normalisation", ["none", "basic"])
@pytest.mark.parametrize("name", REALISTIC)
def test_no_total_differs_on_realistic_text(name, normalisation):
    ours, theirs, problems = compared(
        *recognised(random.Random(f"{name} 1"), name), normalisation=normalisation
    )
    assert not problems
    assert ours.errors == theirs.counts.errors and theirs.utterances == 3000
    assert 0.08 < ours.rate < 0.25


def test_where_neighbours_are_wrong_at_once_few_more_errors_are_all_explained():
    generator = random.Random(2)
    ref, hyp = recognised(generator, "2,000 words", utterances=5000, longest=4)
    ours, theirs, problems = compared(ref, hyp)
    assert not problems and 0 < theirs.counts.errors - ours.errors < ours.tokens / 1000


@pytest.mark.parametrize(("vocabulary", "longest"), [(2, 20), (5, 12), (30, 40), (500, 25)])
def test_random_text_differs_only_as_costs_explain(vocabulary, longest):
    generator = random.Random(vocabulary)
    words = [f"w{n}" for n in range(vocabulary)]
    ref, hyp = (
        {
            f"u{n}": " ".join(generator.choices(words, k=generator.randrange(longest)))
            for n in range(3000)
        }
        for _ in range(2)
    )
    ours, theirs, problems = compared(ref, hyp, "wer")
    assert not problems
    more = theirs.counts.errors - ours.errors
    assert 0 < more <= ours.errors / 100  # of none this would check nothing


def test_error_rates_above_100_percent():
    generator = random.Random(3)
    words = [f"w{n}" for n in range(9)]
    ref = {f"u{n}": " ".join(generator.choices(words, k=n % 4)) for n in range(3000)}
    hyp = {key: " ".join(generator.choices(words, k=generator.randrange(5, 40))) for key in ref}
    ours, _, problems = compared(ref, hyp, "wer")
    assert ours.rate > 10 and not problems


# ---- hostile text --------------------------------------------------------------------------------

PIECES = [
    *"{};@*\\/%<>()[]#~-_'\"`&|$^=+:,.?!aBÉé我去😀Kıÿ",
    *["{ a / b }", ";;", "**", "***", "(x)", "<lbrace>", "<AT>", "<at>", "<lt>", "<u00a0>", "%hes"],
    *["\u00a0", "\u3000", "\u2028", "\u200b", "\x85", "\x00", "\x01", "\x1b", "\x1c", "\x7f"],
    *[
        "x" * 600,
        "é" * 300,
        "e\u0301",
        "\U0010ffff",
        "Sum",
        "Avg",
        "SPKR",
        "REF:",
        "NULL",
        "| Sum |",
    ],
]
IDS = [*"aA-_()é1{;*\\@</|%.# ", "Sum", "sum", "avg", "\u00a0", "\x01", "\udcff", "x" * 60]
STAGE_IDS = [*"aA-_()é1{;*\\@</|%.#", "Sum", "sum", "avg", "x" * 60]  # what Kaldi's files can hold


def hostile(generator, pieces):
    words = range(generator.randrange(7))
    return " ".join(
        "".join(generator.choices(pieces, k=generator.choice((1, 1, 2, 3)))) for _ in words
    )


def hostile_sides(generator, utterances, pieces, ids=IDS):
    ref = {}
    while len(ref) < utterances:
        key = "".join(generator.choices(ids, k=generator.randrange(1, 5)))
        key = f"s{generator.randrange(3)}-{key}" if generator.random() < 0.5 else key
        if key == key.strip():
            ref[key] = hostile(generator, pieces)
    hyp = {k: t if generator.random() < 0.4 else hostile(generator, pieces) for k, t in ref.items()}
    return ref, hyp


@pytest.mark.parametrize("unit", ["mer", "wer", "cer"])
def test_hostile_text_is_scored_exactly(unit):
    """Nothing is told apart that is the same, nothing is lost, and no id stops the comparison."""
    for seed in range(8):
        generator = random.Random(seed)
        ours, theirs, problems = compared(*hostile_sides(generator, 250, PIECES), unit)
        assert not problems, seed
        assert theirs.counts.tokens == ours.tokens > 500


@pytest.mark.parametrize("tokens", HAZARDS, ids=lambda t: " ".join(t)[:20].encode("unicode_escape"))
def test_every_known_hazard_is_scored_exactly(tokens):
    text = " ".join(tokens)
    ref = {"s-1": text, "(s-2)": f"p {text} q", "S-1": f"p{text}q", "s 4": text}
    hyp = {**ref, "s-1": f"{text} more", "S-1": f"p{text} q", "s 4": text.replace("a", "b")}
    for unit in ("mer", "wer"):
        assert not compared(ref, hyp, unit)[2]


SPLIT = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")
FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def words_of(text, opts):
    """What sclite would read if nothing had a meaning of its own."""
    words = text.split()
    if opts == "-e utf-8 -c NOASCII":
        words = [piece for word in words for piece in SPLIT.findall(word)]
    return words if "-s" in opts.split() else [word.translate(FOLD) for word in words]


def is_right(report, ref, hyp, opts):
    """Whether a report's figures are those of these texts, by a count that shares no code."""
    totals = parse_totals(report)
    sides = [[words_of(text, opts) for text in side.values()] for side in (ref, hyp)]
    counts = totals.counts
    return (
        totals.utterances == len(ref)
        and totals.wrong_utterances == sum(a != b for a, b in zip(*sides, strict=True))
        and counts.tokens == sum(map(len, sides[0]))
        and counts.hits + counts.substitutions + counts.insertions == sum(map(len, sides[1]))
        and 4 * counts.substitutions + 3 * counts.deletions + 3 * counts.insertions
        == sum(distance(a, b, 3, 3, 4) for a, b in zip(*sides, strict=True))
    )


OPTIONS = ["", "-e utf-8", "-e utf-8 -c NOASCII", "-s", "-e utf-8 -s", "-c NOASCII"]


@pytest.mark.parametrize("opts", OPTIONS)
def test_hostile_text_in_espnets_table_is_right(tmp_path, opts):
    for seed in range(10):
        generator = random.Random(f"{opts} {seed}")
        ref, hyp = hostile_sides(generator, 12, PIECES, STAGE_IDS)
        outcome = stage(tmp_path, ref, hyp, opts)
        assert not outcome.mistake and not outcome.problems, (seed, outcome)
        assert is_right(report(tmp_path), ref, hyp, opts), seed


@pytest.mark.parametrize("opts", OPTIONS)
def test_every_known_hazard_in_espnets_table_is_right(tmp_path, opts):
    hazards = [tokens for tokens in HAZARDS if "\udcff" not in "".join(tokens)]
    ref = {f"s-{n}": " ".join(tokens) for n, tokens in enumerate(hazards)}
    ref |= {f"t-{n}": f"x{text}y" for n, text in enumerate(ref.values())}
    hyp = {key: text if n % 2 else f"{text} more" for n, (key, text) in enumerate(ref.items())}
    assert not stage(tmp_path, ref, hyp, opts).problems
    assert is_right(report(tmp_path), ref, hyp, opts)


@pytest.mark.parametrize("kind", ["missing", "double", "unknown"])
def test_utterances_that_do_not_match_are_never_scored(tmp_path, kind):
    for seed in range(5):
        generator = random.Random(f"{kind} {seed}")
        ref = {f"s{n % 3}-u{n}": hostile(generator, ["a", "b", "我"]) for n in range(20)}
        hyp = dict(ref)
        key = generator.choice(list(hyp))
        stage(tmp_path, ref, hyp)
        assert not not_scored(report(tmp_path))
        if kind == "unknown":
            hyp["s-new"] = "a b"
        elif kind == "missing":
            del hyp[key]
        else:
            hyp[f"{key} a\n{key}"] = "b"  # two lines
        assert stage(tmp_path, ref, hyp).mistake
        assert not_scored(report(tmp_path)), seed


def test_long_utterances_and_many_of_them(tmp_path):
    """Two of 3,000 words and 4,000 short ones, as they stand and in ESPnet's table."""
    generator = random.Random(4)
    vocabulary, weights = zipf(latin(generator, 3000))
    ref, hyp = {}, {}
    for n, size in enumerate([3000] * 2 + [3] * 4000):
        said = generator.choices(vocabulary, weights, k=size)
        ref[f"s-{n}"] = " ".join(said)
        hyp[f"s-{n}"] = " ".join(misheard(generator, said, vocabulary, weights))
    ours, theirs, problems = compared(ref, hyp, "wer")
    assert not problems and theirs.counts.tokens == 18_000
    stage(tmp_path, ref, hyp)
    totals = parse_totals(report(tmp_path))
    assert totals.counts == theirs.counts and ours.errors == theirs.counts.errors

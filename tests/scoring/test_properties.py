"""What must hold for every text: an edit distance of the plainest kind, and sums that add up."""

import jiwer
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_blora.scoring import UNITS, Counts, align, score
from espnet_blora.scoring.sclite import Expected
from espnet_blora.scoring.set_score import SetScore
from espnet_blora.text import script_of_token
from tests.scoring.textbook import distance

# Few different tokens, so that alignments have ties; then whatever Unicode holds, of any script.
FEW = st.sampled_from(["a", "b", "ab", "A", "我", "去", "か", "über", "السلام", "42", "नमस्ते", "'"])
ANY = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=4)
TOKENS = st.lists(st.one_of(FEW, FEW, ANY), max_size=12)
TEXTS = TOKENS.map(" ".join)


@st.composite
def misheard(draw):
    """Return tokens, and the same with some dropped, replaced or put in between."""
    ref = draw(TOKENS)
    hyp = []
    for token in [*ref, None]:
        edit = draw(st.sampled_from(["keep", "keep", "drop", "replace", "insert"]))
        hyp += [draw(FEW)] if edit in ("replace", "insert") else []
        hyp += [token] if edit in ("keep", "insert") and token is not None else []
    return ref, hyp


TOKEN_PAIRS = st.one_of(misheard(), misheard(), st.tuples(TOKENS, TOKENS))
TEXT_PAIRS = TOKEN_PAIRS.map(lambda pair: (" ".join(pair[0]), " ".join(pair[1])))
SETS = st.dictionaries(st.text("ab12-", min_size=1, max_size=3), TEXT_PAIRS, min_size=1, max_size=6)
UNIT = st.sampled_from(["mer", "wer", "cer"])


def sides(pairs):
    return {k: ref for k, (ref, _) in pairs.items()}, {k: hyp for k, (_, hyp) in pairs.items()}


def counted(pairs, unit="mer", normalisation="none", **options):
    return score(*sides(pairs), unit, normalisation, **options)


def one(ref, hyp, unit="wer"):
    return counted({"u": (ref, hyp)}, unit).total


@given(TEXT_PAIRS, UNIT)
def test_errors_are_the_edit_distance(pair, unit):
    ref, hyp = pair
    left, right = UNITS[unit](ref), UNITS[unit](hyp)
    counts = one(ref, hyp, unit)
    assert counts.errors == distance(left, right)
    assert counts.tokens == counts.hits + counts.substitutions + counts.deletions == len(left)
    assert counts.hits + counts.substitutions + counts.insertions == len(right)
    assert min(counts.hits, counts.substitutions, counts.deletions, counts.insertions) >= 0


@settings(max_examples=30)
@given(st.integers(0, 3), st.integers(60, 200), st.randoms(use_true_random=False))
def test_errors_are_the_edit_distance_of_long_texts_too(start, length, generator):
    """Beyond the 64 tokens of a machine word, at which the engine takes another way."""
    ref = generator.choices("abcdefg", k=length)
    hyp = [c if generator.random() < 0.7 else generator.choice("abcdefg") for c in ref[start:]]
    assert one(" ".join(ref), " ".join(hyp)).errors == distance(ref, hyp)


@given(TOKEN_PAIRS)
def test_the_cost_that_sclite_must_reach_is_the_least_there_is(pair):
    ref, hyp = pair
    expected = Expected()
    expected.add(ref, hyp)
    assert expected.cost == distance(ref, hyp, insertion=3, deletion=3, substitution=4)
    assert expected.wrong_utterances == (ref != hyp)


@given(SETS, UNIT)
def test_parts_add_up_to_the_whole(pairs, unit):
    result = counted(pairs, unit)
    assert [u.id for u in result.utterances] == sorted(pairs)
    assert sum(result.by_script.values(), Counts()) == result.total == result.han_kana + result.rest
    assert sum((u.counts for u in result.utterances), Counts()) == result.total
    for u in result.utterances:
        assert sum((counts for _, counts in u.scripts), Counts()) == u.counts
        assert (u.errors, u.tokens) == (u.counts.errors, u.counts.tokens)
        assert u.counts == one(*pairs[u.id], unit)
    assert result.wrong_utterances == sum(u.errors > 0 for u in result.utterances)


def by_the_book(ref, hyp):
    """Count an alignment by script, and at the points not in Han or Kana, row by row."""
    by_script, at_points, position = {}, Counts(), 0
    scripts = [script_of_token(token) for token in ref]
    points = [script not in ("Han", "Hiragana", "Katakana") for script in scripts]
    mixed = any(points) and not all(points)
    for operation, left, right in align(ref, hyp):
        one_more = Counts(*(operation == name for name in ("hit", "sub", "del", "ins")))
        script = script_of_token(right if left is None else left)
        by_script[script] = by_script.get(script, Counts()) + one_more
        # an insertion stands before the next reference token, at the end after the last
        if mixed and points[min(position, len(ref) - 1)]:
            at_points += one_more
        position += operation != "ins"
    return by_script, at_points


@given(TEXT_PAIRS)
def test_scripts_and_points_are_those_of_the_alignment(pair):
    result = counted({"u": pair})
    ref, hyp = map(UNITS["mer"], pair)
    assert (result.by_script, result.pier) == by_the_book(ref, hyp)
    for script, counts in result.by_script.items():
        assert counts.tokens == sum(script_of_token(token) == script for token in ref)


def test_a_vocabulary_may_be_of_any_size():
    """Tokens are told apart beyond any table: 300,000 different ones, each heard in its place."""
    ref = {f"{n:03d}": " ".join(map(str, range(1000 * n, 1000 * n + 1000))) for n in range(300)}
    hyp = {key: f"{text} {key}x" for key, text in ref.items()}
    assert score(ref, hyp, "wer", "none").total == Counts(300_000, 0, 0, 300)


@given(SETS, SETS)
def test_disjoint_sets_add_up(left, right):
    right = {f"{key}'": pair for key, pair in right.items()}
    parts, whole = (counted(left), counted(right)), counted(left | right)
    assert {*parts[0].utterances, *parts[1].utterances} == {*whole.utterances}
    assert parts[0].total + parts[1].total == whole.total
    assert parts[0].pier + parts[1].pier == whole.pier


@given(SETS, st.randoms(use_true_random=False))
def test_the_order_of_utterances_does_not_matter(pairs, generator):
    shuffled = list(pairs.items())
    generator.shuffle(shuffled)
    assert counted(dict(shuffled)) == counted(pairs)


@given(SETS)
def test_a_score_comes_back_from_its_file(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("score", numbered=True) / "score.json"
    result = counted(pairs)
    result.save(path)
    assert SetScore.load(path) == result


@given(TEXT_PAIRS, UNIT)
def test_swapped_sides_have_the_same_errors(pair, unit):
    ref, hyp = pair
    there, back = one(ref, hyp, unit), one(hyp, ref, unit)
    assert there.errors == back.errors
    assert there.deletions - there.insertions == back.insertions - back.deletions


@given(SETS, UNIT, st.sampled_from(["none", "basic"]))
def test_a_text_has_no_errors_against_itself(pairs, unit, normalisation):
    same = {key: (ref, ref) for key, (ref, _) in pairs.items()}
    result = counted(same, unit, normalisation)
    assert result.total == Counts(hits=result.total.tokens)
    assert result.wrong_utterances == result.pier.errors == 0


@given(TEXTS, TEXTS, TEXTS)
def test_errors_are_a_distance(a, b, c):
    assert one(a, c).errors <= one(a, b).errors + one(b, c).errors
    assert (one(a, b).errors == 0) == (UNITS["wer"](a) == UNITS["wer"](b))


@given(TEXT_PAIRS, UNIT)
def test_errors_lie_within_the_lengths(pair, unit):
    ref, hyp = pair
    long, short = (f(len(UNITS[unit](t)) for t in (ref, hyp)) for f in (max, min))
    assert long - short <= one(ref, hyp, unit).errors <= long


@given(TEXTS, TEXTS, TEXTS)
def test_what_both_sides_begin_with_costs_nothing(before, ref, hyp):
    assert one(f"{before} {ref}", f"{before} {hyp}").errors == one(ref, hyp).errors


@given(SETS, st.sampled_from(["rest", "han_kana", "Latin", "Arabic"]))
def test_points_of_interest_are_some_of_the_tokens(pairs, poi):
    result = counted(pairs, poi=poi)
    for name in ("hits", "substitutions", "deletions", "insertions"):
        assert 0 <= getattr(result.pier, name) <= getattr(result.total, name)
    for u in result.utterances:
        assert u.pier.errors <= u.errors and u.pier.tokens <= u.tokens
        assert u.pier == counted({u.id: pairs[u.id]}, poi=poi).pier


@given(SETS)
def test_points_and_the_others_make_up_what_mixed_utterances_hold(pairs):
    """Insertions too: each stands before one reference token, which is a point or is not."""
    points, others = counted(pairs, poi="rest"), counted(pairs, poi="han_kana")
    mixed = [u.counts for u in points.utterances if u.pier.tokens]
    assert points.pier + others.pier == sum(mixed, Counts())


@settings(max_examples=60)
@given(st.lists(TEXT_PAIRS, min_size=1, max_size=5))
def test_jiwer_finds_the_same_totals(pairs):
    # jiwer wants a reference word; it cuts at " " alone, so tokens come ready
    pairs = {str(n): pair for n, pair in enumerate(pairs) if UNITS["wer"](pair[0])}
    if not pairs:
        return
    for unit, tokenise in UNITS.items():
        tokens = ([" ".join(tokenise(text)) for text in side.values()] for side in sides(pairs))
        out = jiwer.process_words(*tokens)
        total = counted(pairs, unit).total
        assert total.errors == out.substitutions + out.deletions + out.insertions
        assert total.tokens == out.hits + out.substitutions + out.deletions
    letters = (["".join(UNITS["cer"](text)) for text in side.values()] for side in sides(pairs))
    out = jiwer.process_characters(*letters)
    assert counted(pairs, "cer").total.errors == out.substitutions + out.deletions + out.insertions


def test_the_plain_distance_is_right():
    """The judge, judged: by hand, and by all alignments of short texts."""
    assert distance("kitten", "sitting") == 3 and distance("", "ab") == 2
    assert distance("abcd", "xyzw", 3, 3, 4) == 16 and distance("ab", "ba", 3, 3, 4) == 6

    def exhaustive(a, b):
        if not a or not b:
            return len(a) + len(b)
        ways = exhaustive(a[1:], b[1:]) + (a[0] != b[0]), exhaustive(a[1:], b), exhaustive(a, b[1:])
        return min(ways[0], 1 + ways[1], 1 + ways[2])

    for a, b in [("abca", "bcaa"), ("aab", "baba"), ("abab", "ba"), ("", "a")]:
        assert distance(a, b) == exhaustive(a, b)

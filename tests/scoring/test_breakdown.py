"""Parts of a score, and that they add up to it."""

from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring import grouped, score
from espnet_blora.scoring.breakdown import as_json

TEXT = st.lists(st.sampled_from(["a", "b", "好", "你"]), max_size=4).map(" ".join)
ROWS = st.dictionaries(
    st.text("uvw", min_size=1),
    st.tuples(TEXT, st.none() | TEXT, st.sampled_from("xyz")),
    min_size=1,
)


@given(ROWS)
def test_parts_add_up_to_the_whole(rows):
    ref = {k: r for k, (r, _, _) in rows.items()}
    hyp = {k: h for k, (_, h, _) in rows.items() if h is not None}
    whole = score(ref, hyp, missing_as_empty=True)
    parts = grouped(whole, {k: g for k, (_, _, g) in rows.items()})
    assert list(parts) == sorted({g for _, _, g in rows.values()})
    assert reduce(add, parts.values()) == whole
    found = as_json(parts)
    assert sum(row["errors"] for row in found.values()) == whole.total.errors
    assert sum(row["utterances"] for row in found.values()) == len(rows)


def test_utterances_without_a_group_are_named():
    made = score({"a": "x", "b": "y", "c": "z"}, {"a": "x", "b": "y", "c": "z"})
    with pytest.raises(ValueError, match=r"^no group .* for 2 of 3 utterances: b, c"):
        grouped(made, {"a": "s1", "c": "", "d": "s2"})

"""retention.csv: every figure in long form."""

import csv

import pytest

from espnet_blora.report.by_experiment import COLUMNS


@pytest.fixture(scope="module")
def rows(finished_tree):
    with (finished_tree / "retention.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_decoding_and_every_scale_has_a_row(rows):
    assert tuple(rows[0]) == COLUMNS
    kinds = [(r["experiment"], r["decoded"]) for r in rows]
    assert kinds.count(("asr_none", "recipe")) == 3 and kinds.count(("asr_lora", "sweep")) == 9
    assert len(rows) == 3 * 3 + 2 * 9
    assert {(r["set"], r["kind"]) for r in rows} == {
        *(("test_cs", "new"), ("ret_en", "retention"), ("ret_zh", "retention")),
    }


def test_a_row_adds_up(rows):
    for row in rows:
        h, s, d, i = (int(row[k]) for k in ("hits", "substitutions", "deletions", "insertions"))
        assert (int(row["tokens"]), int(row["errors"])) == (h + s + d, s + d + i)
        assert float(row["rate"]) == pytest.approx((s + d + i) / (h + s + d))
        assert row["unit"] == "mer" and row["normalisation"] == "basic"
        assert row["utterances"] == "60" and row["compared"] == "yes"
        if row["decoded"] == "recipe":
            assert float(row["low"]) < float(row["rate"]) < float(row["high"])
            assert row["units"] == "60 utt."
            assert row["scale"] == ("0" if row["role"] == "base" else "1")
        else:
            assert row["low"] == "" and row["scale"] in ("0.5", "0.6", "0.7", "0.9")
    mixed = next(r for r in rows if r["set"] == "test_cs" and r["decoded"] == "recipe")
    assert 0 < float(mixed["wer_rest"]) < 1 and 0 < float(mixed["cer_han_kana"]) < 1

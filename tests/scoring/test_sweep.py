"""The file of a sweep, and its counts by utterance."""

import json

import numpy as np
import pytest

from espnet_blora.scoring import score
from espnet_blora.scoring.sweep import load_sweep, save_sweep

REF = {f"u{n:02d}": "one two three four" for n in range(30)}


def scored(wrong):
    return score(REF, {k: "x y three four" if n < wrong else REF[k] for n, k in enumerate(REF)})


def rows_of(points):
    return [({"scale": s, "set": n}, scored(wrong)) for s, wrong in points for n in ("new", "old")]


@pytest.fixture
def path(tmp_path):
    save_sweep(tmp_path / "scale_sweep.json", rows_of(((1.0, 9), (0.5, 3))))
    return tmp_path / "scale_sweep.json"


def test_what_was_written_is_read(path):
    rows = load_sweep(path)
    assert [(r.scale, r.set, r.counts.errors) for r in rows] == [
        (0.5, "new", 6), (0.5, "old", 6), (1.0, "new", 18), (1.0, "old", 18)
    ]  # fmt: skip
    detail = rows[2].detail
    assert detail.shape == tuple((key, 4) for key in sorted(REF))
    assert detail.errors.dtype == np.int16 and detail.errors.tolist() == [2] * 9 + [0] * 21
    row = json.loads(path.read_text())[0]
    assert len(row.pop("counts_sha256")) == 64
    assert row == {"scale": 1.0, "set": "new", **scored(9).summary()}
    assert path.with_suffix(".npz").stat().st_size < 3000


def test_counts_beyond_sixteen_bits_are_whole(tmp_path):
    save_sweep(
        tmp_path / "s.json", [({"scale": 1.0, "set": "x"}, score({"u": "a " * 40000}, {"u": ""}))]
    )
    (row,) = load_sweep(tmp_path / "s.json")
    assert row.detail.shape == (("u", 40000),) and row.detail.errors.tolist() == [40000]


def test_a_sweep_of_an_older_release_has_no_counts(path):
    old = [
        {k: v for k, v in row.items() if k != "counts_sha256"}
        for row in json.loads(path.read_text())
    ]
    path.write_text(json.dumps(old))
    rows = load_sweep(path)
    assert len(rows) == 4 and all(row.detail is None for row in rows)


def test_counts_that_are_gone_or_of_another_sweep_are_refused(path):
    counts, other = path.with_suffix(".npz"), path.parent / "other.json"
    save_sweep(other, rows_of(((1.0, 5), (0.5, 5))))
    other.with_suffix(".npz").rename(counts)
    with pytest.raises(ValueError, match=r"scale_sweep.npz, .* is damaged or of another sweep"):
        load_sweep(path)
    counts.unlink()
    with pytest.raises(ValueError, match=r"scale_sweep.npz, .* is not there.*: decode it anew"):
        load_sweep(path)


def test_rows_that_were_taken_out_by_hand_are_noticed(path):
    path.write_text(json.dumps(json.loads(path.read_text())[2:]))
    with pytest.raises(ValueError, match=r"new at scale 0.5: its counts by utterance are others"):
        load_sweep(path)


def test_no_flipped_bit_is_silent(path):
    counts = path.with_suffix(".npz")
    whole = counts.read_bytes()
    for place in range(len(whole)):
        counts.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="is damaged"):
            load_sweep(path)


@pytest.mark.parametrize("text", ["[{}]", "{", "[1]", '[{"scale": 1}]'])
def test_what_is_no_sweep_is_one_clear_line(path, text):
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"scale_sweep.json cannot be read .*: decode it anew"
    ) as e:
        load_sweep(path)
    assert "\n" not in str(e.value)
    with pytest.raises(FileNotFoundError):
        load_sweep(path.parent / "nothing.json")

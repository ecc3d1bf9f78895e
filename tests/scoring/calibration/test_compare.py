"""Systems on the same utterances: intervals, paired differences, the file."""

import json
from dataclasses import replace

import numpy as np
import pytest

from espnet_blora.scoring.calibration.compare import MEASURES, Examined, examine, resampled
from espnet_blora.scoring.calibration.words import Recognised, label_tokens


def simulated(seed=0, utterances=80, power=1.0):
    """Return references and hypotheses of 8 words, right with probability confidence ** power."""
    generator = np.random.default_rng(seed)
    ref, hyp = {}, {}
    for n in range(utterances):
        key = f"u{n:03d}"
        words = [f"w{k}" for k in range(8)]
        p = generator.beta(5, 1, 8)
        heard = [w if generator.random() < q**power else "x" for w, q in zip(words, p, strict=True)]
        ref[key] = " ".join(words)
        pairs = tuple(zip(heard, map(float, p), strict=True))
        uncertain = {"total": float(-np.log(p).mean()), "model": 0.0}
        hyp[key] = Recognised(" ".join(heard), pairs, float(p.prod()), uncertain)
    return ref, hyp


def test_a_calibrated_system_and_an_overconfident_one():
    fair, over = label_tokens(*simulated(1)), label_tokens(*simulated(1, power=3.0))
    found = examine([("fair", fair), ("over", over)], samples=200)
    one, other = found.systems
    assert (one.name, one.utterances, one.words) == ("fair", 80, 640)
    assert one.wrong == int((~fair.right).sum()) and one.deletions == 0
    assert one.estimates["ece"].value < one.chance[1] < other.estimates["ece"].interval.low
    gap = one.estimates["gap"]
    assert gap.interval.low < 0 < gap.interval.high and gap.sign == 0
    assert other.estimates["gap"].sign == 1
    (difference,) = found.differences
    assert (difference.a, difference.b) == ("over", "fair")
    assert difference.estimates["nll"].sign == 1
    assert set(one.estimates) <= set(MEASURES)
    assert "ratio_model" in one.estimates and "ratio_data" not in one.estimates
    assert one.estimates["area_model"].value == pytest.approx(one.estimates["mer"].value)
    assert list(one.curves) == ["oracle", "confidence", "total", "model"]


def test_differences_are_paired():
    marked = label_tokens(*simulated(2))
    more = replace(marked, confidence=np.clip(marked.confidence + 0.001, 0, 1))
    found = examine([("a", marked), ("b", more)], samples=200)
    alone = found.systems[0].estimates["gap"].interval
    together = found.differences[0].estimates["gap"].interval
    assert together.high - together.low < 0.02 * (alone.high - alone.low)
    assert found.differences[0].estimates["auroc"].value == pytest.approx(0, abs=0.01)


def test_a_system_against_itself_differs_by_nothing():
    marked = label_tokens(*simulated(3))
    found = examine([("a", marked), ("b", marked)], samples=50)
    for name, one in found.differences[0].estimates.items():
        assert one.value == 0 and one.interval.low == one.interval.high == 0, name


def test_whole_speakers_are_drawn():
    ids = [f"u{n}" for n in range(6)]
    speakers = dict(zip(ids, "aabbbc", strict=True))
    (block,) = resampled(ids, speakers, 100, 0)
    assert block.shape == (100, 6) and (block.max(axis=1) >= 1).all()
    assert (block[:, 0] == block[:, 1]).all() and (block[:, 2] == block[:, 4]).all()
    assert (block[:, 0] + block[:, 2] + block[:, 5] == 3).all()
    (alone,) = resampled(ids, None, 100, 0)
    assert (alone.sum(axis=1) == 6).all() and (alone[:, 0] != alone[:, 1]).any()
    assert resampled(ids[:1], None, 100, 0) == []
    with pytest.raises(ValueError, match="1 utterances have no speaker: u5"):
        resampled(ids, dict.fromkeys(ids[:5], "a"), 100, 0)


def test_one_utterance_or_no_word_has_figures_without_intervals():
    found = examine(
        [("a", label_tokens({"u": "a b"}, {"u": Recognised("a", (("a", 0.8),), 0.8, {})}))]
    )
    one = found.systems[0]
    assert one.estimates["ece"].value == pytest.approx(0.2) and one.deletions == 1
    assert one.estimates["ece"].interval is None and one.estimates["auroc"].value is None
    silent = examine([("a", label_tokens({"u": "a"}, {"u": Recognised("", (), 1.0, {})}))]).systems[
        0
    ]
    assert silent.words == 0 and silent.chance is None and silent.estimates["mer"].value == 1
    assert silent.estimates["brier"].value is None


def test_what_cannot_be_compared_is_refused():
    marked = label_tokens(*simulated(4, 5))
    with pytest.raises(ValueError, match="no system"):
        examine([])
    with pytest.raises(ValueError, match="twice among a, a"):
        examine([("a", marked), ("a", marked)])
    with pytest.raises(ValueError, match="a and b differ in unit"):
        examine([("a", marked), ("b", replace(marked, unit="cer"))])
    with pytest.raises(ValueError, match="different references"):
        examine([("a", marked), ("b", replace(marked, tokens=marked.tokens + 1))])


def test_a_file_gives_the_same_again(tmp_path):
    marked = label_tokens(*simulated(5, 20))
    found = examine([("a", marked), ("b", marked)], samples=50, notes={"b": "nothing done"})
    path = tmp_path / "calibration.json"
    found.save(path, set="test")
    again = Examined.load(path)
    assert again.differences == found.differences and again.resampled == "utterance"
    assert again.systems[1].note == "nothing done" and again.systems[0].chance is not None
    for name in ("estimates", "bins", "chance", "words"):
        assert getattr(again.systems[0], name) == getattr(found.systems[0], name)
    assert json.loads(path.read_text("utf-8"))["set"] == "test"


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', '{"format": 1}'])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="not what espnet-blora calibrate writes"):
        Examined.load(path)
    with pytest.raises(FileNotFoundError, match="espnet-blora calibrate"):
        Examined.load(tmp_path / "none.json")

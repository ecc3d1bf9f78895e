"""Recognition with draws from a posterior: averaged, scored, and the same in any company."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from espnet_blora.adapters.context import sample_seeds
from espnet_blora.decoding.batch import decode_posterior
from espnet_blora.text.tokens import mixed_tokens
from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.encoder import encode
from tests.decoding.small import LAYOUT, recogniser, search_options, utterances

OPTIONS = search_options(beam_size=3, maxlenratio=-8)
WAVES, PROMPTS = utterances()


@pytest.fixture(scope="module")
def small():
    return recogniser()


def found(small, samples=0, waves=WAVES, options=OPTIONS, **more):
    named = {name: more.pop(name) for name in ("temperatures", "filters") if name in more}
    changed = dataclasses.replace(options, samples=samples, **more)
    return decode_posterior(small, waves, PROMPTS, changed, **named)


def assert_same(one, other, atol=1e-4):
    assert list(one) == list(other) and any(expected.hypothesis.ids for expected in one.values())
    for uid, expected in one.items():
        assert other[uid].hypothesis.ids == expected.hypothesis.ids
        for name in ("log_prob", "total", "data"):
            values = getattr(other[uid].scores, name), getattr(expected.scores, name)
            np.testing.assert_allclose(*values, atol=atol)


@pytest.mark.parametrize("samples", [0, 3])
def test_neither_order_nor_batches_change_anything(small, samples):
    (whole,) = found(small, samples).values()
    assert list(whole) == list(WAVES)
    for size in (1, 3):
        assert_same(whole, *found(small, samples, batch_size=size).values())
    (reverse,) = found(small, samples, dict(reversed(WAVES.items()))).values()
    assert_same(whole, {uid: reverse[uid] for uid in WAVES})


def test_each_step_takes_the_mean_of_the_draws(small):
    """Greedy search over averaged probabilities by its definition, one utterance, one draw."""
    samples, wave, prompt = 3, WAVES["d"], PROMPTS["d"]
    options = search_options(maxlenratio=-8)
    (recognised,) = found(small, samples, {"d": wave}, options, seed=7).values()
    memories = []
    for seed in sample_seeds(7, samples):
        with small.adapter.sampling(seed):
            memories.append(encode(small.encoder, wave[None], torch.tensor([len(wave)]))[0])
    ids, score = list(prompt), 0.0
    for _ in recognised["d"].scores.ids:
        draws = []
        for seed, memory in zip(sample_seeds(7, samples), memories, strict=True):
            with small.adapter.sampling(seed):
                draws.append(forward(small.decoder, torch.tensor([ids]), memory)[0, -1].softmax(-1))
        mean = torch.stack(draws).mean(0)
        score += float(mean.max().log())
        ids.append(int(mean.argmax()))
    scores = recognised["d"].scores
    assert tuple(ids[len(prompt) :]) == scores.ids
    assert scores.log_prob.sum() == pytest.approx(score, abs=1e-3)
    assert recognised["d"].hypothesis.score == pytest.approx(score, abs=1e-3)


def test_seeds_and_spread_decide_the_draws(small):
    (mean,) = found(small).values()
    (one,), (same,), (other,), (none,) = (
        found(small, samples=2, **more).values()
        for more in ({"seed": 1}, {"seed": 1}, {"seed": 2}, {"spread": 0.0})
    )
    assert_same(one, same, atol=0)
    assert any(one[u].scores.log_prob[0] != other[u].scores.log_prob[0] for u in WAVES)
    assert_same(mean, none)
    for uid in WAVES:
        assert (mean[uid].scores.model == 0.0).all() and none[uid].scores.model.max() < 1e-5
        assert one[uid].scores.model.min() > 1e-3
    assert small.adapter.state.context.draws is None


def test_temperatures_score_the_same_texts(small):
    by = found(small, temperatures=(1.0, 4.0))
    assert list(by) == [1.0, 4.0]
    for uid in WAVES:
        plain, mild = by[1.0][uid], by[4.0][uid]
        assert plain.text == mild.text and mild.scores.total.min() > plain.scores.total.max()


def test_a_line_of_json(small):
    (recognised,) = found(small, samples=2).values()
    for uid, one in recognised.items():
        line = json.loads(json.dumps(one.as_json(uid)))
        assert line["utterance"] == uid and line["text"] == one.text == one.text.strip()
        assert [word["word"] for word in line["words"]] == mixed_tokens(one.text)
        assert all(0 <= word["confidence"] <= 1 for word in line["words"])
        assert line["total"] == pytest.approx(line["data"] + line["model"], abs=1e-4)
        assert 0 < line["confidence"] < 1
        assert line["tokens"] == len(one.hypothesis.ids) + one.hypothesis.ended
    assert any(one.hypothesis.ended and LAYOUT.eot == one.scores.ids[-1] for one in
               recognised.values())  # fmt: skip


def test_models_without_draws(small):
    plain = recogniser(None)
    (whole,) = found(plain).values()
    assert list(whole) == list(WAVES)
    with pytest.raises(ValueError, match="small: 2 samples of a posterior, but this model has no"):
        found(plain, 2)
    with pytest.raises(ValueError, match="2 samples of a posterior"):
        found(recogniser("lora"), 2)
    with pytest.raises(ValueError, match="samples is -1"):
        found(small, -1)
    small.adapter.merge()
    try:
        with pytest.raises(ValueError, match="unmerge"):
            found(small, 2)
    finally:
        small.adapter.unmerge()

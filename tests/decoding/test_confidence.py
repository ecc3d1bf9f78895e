"""Scores of given texts: log probabilities, the two parts of doubt, words from tokens."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_blora import add_adapter
from espnet_blora.adapters.context import sample_seeds
from espnet_blora.decoding import confidence
from espnet_blora.decoding.confidence import TokenScores, token_scores, word_confidences
from espnet_blora.decoding.search import search
from espnet_blora.text.tokens import mixed_tokens
from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.decoding.small import search_options
from tests.whispers import random_whisper

LAYOUT = Vocabulary.of(51865)
EOT = LAYOUT.eot
TEXTS = [[10, 20, 30, EOT], [40, EOT], [50, 60, 7, 7, 7]]  # the last one was cut off
PROMPTS = [LAYOUT.prompt(code) for code in ("zh", "en", "zh")]


@pytest.fixture(scope="module")
def adapted():
    """A decoder with a wide posterior, memories of three utterances, and their lengths."""
    decoder = random_whisper(16, (1, 2), context=24).decoder
    decoder.token_embedding.weight.data[EOT] *= 4
    adapter = add_adapter(decoder, "blora", rank=4, alpha=64, rho_init_A=-1.0)
    for layer in adapter.layers.values():
        torch.nn.init.normal_(layer.lora_B, std=0.3)
    decoder.requires_grad_(False)
    return decoder, adapter, torch.randn(3, 9, 16), torch.tensor([9, 4, 7])


def batch_of(adapted, samples, temperature=1.0, seed=5, rows=(0, 1, 2)):
    decoder, adapter, memory, lengths = adapted
    rows = list(rows)
    given = memory[rows].repeat(samples, 1, 1), lengths[rows].repeat(samples)
    texts = [PROMPTS[r] for r in rows], [TEXTS[r] for r in rows]
    if samples == 1:
        return token_scores(decoder, *given, *texts, temperature=temperature)
    with adapter.sampling_batch(samples, seed):
        return token_scores(decoder, *given, *texts, samples, temperature)


def reference(adapted, samples, temperature, row, seed=5):
    """Log p of the tokens, total, data and model part, in plain numpy with double precision."""
    decoder, adapter, memory, lengths = adapted
    prompt, text = PROMPTS[row], TEXTS[row]
    read, draws = torch.tensor([[*prompt, *text[:-1]]]), []
    kept = memory[row : row + 1, : lengths[row]]
    for one in sample_seeds(seed, samples) if samples > 1 else [None]:
        if one is None:
            logits = forward(decoder, read, kept)
        else:
            with adapter.sampling(one):
                logits = forward(decoder, read, kept)
        raw = logits[0, len(prompt) - 1 :].double().numpy() / temperature
        raw = np.exp(raw - raw.max(-1, keepdims=True))
        draws.append(raw / raw.sum(-1, keepdims=True))
    draws = np.stack(draws)
    mean = draws.mean(0)
    total = -(mean * np.log(mean)).sum(-1)
    data = -(draws * np.log(draws)).sum(-1).mean(0)
    divergence = (draws * np.log(draws / mean)).sum(-1).mean(0)  # the mutual information itself
    return np.log(mean[np.arange(len(text)), text]), total, data, divergence


@pytest.mark.parametrize("temperature", [1.0, 0.4, 3.0])
@pytest.mark.parametrize("samples", [1, 2, 5])
def test_against_plain_numpy(adapted, samples, temperature):
    found = batch_of(adapted, samples, temperature)
    assert [scores.ids for scores in found] == [tuple(text) for text in TEXTS]
    for row, scores in enumerate(found):
        names = ("log_prob", "total", "data", "model")
        for name, value in zip(names, reference(adapted, samples, temperature, row), strict=True):
            np.testing.assert_allclose(getattr(scores, name), value, rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(scores.total, scores.data + scores.model, rtol=0, atol=2e-5)
        assert scores.confidence == pytest.approx(math.exp(scores.log_prob.mean()))
        assert scores.mean_uncertainty()["data"] == pytest.approx(scores.data.mean())
        if samples == 1:
            assert (scores.model == 0.0).all()
        elif temperature == 1.0:
            assert (scores.model > 1e-3).all()


@pytest.mark.parametrize("samples", [1, 3])
def test_neither_company_nor_chunks_change_a_score(adapted, samples, monkeypatch):
    together = batch_of(adapted, samples)
    for row, scores in enumerate(together):
        (alone,) = batch_of(adapted, samples, rows=[row])
        for name in ("log_prob", "total", "data"):
            np.testing.assert_allclose(getattr(alone, name), getattr(scores, name), atol=2e-5)
    for chunk in (1, 51865 * samples * 4):
        monkeypatch.setattr(confidence, "CHUNK", chunk)
        for scores, before in zip(batch_of(adapted, samples), together, strict=True):
            np.testing.assert_allclose(scores.log_prob, before.log_prob, atol=2e-5)
            np.testing.assert_allclose(scores.model, before.model, atol=2e-5)


def test_draws_come_from_the_seed(adapted):
    one, same, other = (batch_of(adapted, 2, seed=seed)[0].log_prob for seed in (5, 5, 6))
    assert (one == same).all() and (one != other).any()


@pytest.mark.parametrize("samples", [1, 3])
def test_log_probabilities_sum_to_the_score_of_a_search(adapted, samples):
    decoder, adapter, memory, lengths = adapted
    memory, lengths = memory.repeat(samples, 1, 1), lengths.repeat(samples)
    options = search_options(beam_size=4, nbest=4, maxlenratio=-12)
    kinds = set()
    with adapter.sampling_batch(samples, 3):
        found = search(decoder, memory, lengths, PROMPTS, EOT, options, (), samples)
        for best in zip(*found, strict=True):
            said = [(*h.ids, EOT) if h.ended else h.ids for h in best]
            each = token_scores(decoder, memory, lengths, PROMPTS, said, samples)
            for hypothesis, scores in zip(best, each, strict=True):
                assert scores.log_prob.sum() == pytest.approx(hypothesis.score, abs=1e-3)
                kinds.add((hypothesis.ended, len(hypothesis.ids) > 1))
    assert (True, True) in kinds


def test_an_empty_batch_and_what_is_refused(adapted):
    decoder, _, memory, lengths = adapted
    assert token_scores(decoder, memory[:0], lengths[:0], [], []) == []
    for change, message in (
        ({"texts": [[1] * 30, [1], [2]]}, "this Whisper has 24 positions"),
        ({"memory": memory * math.nan}, "not finite"),
    ):
        given = {"memory": memory, "prompts": PROMPTS, "texts": TEXTS, **change}
        with pytest.raises(ValueError, match=message):
            token_scores(decoder, memory_lengths=lengths, **given)


def scored(ids, values):
    zeros = np.zeros(len(ids))
    return TokenScores(tuple(ids), np.asarray(values, dtype=float), zeros, zeros)


def test_words_take_the_probabilities_of_their_tokens():
    ids = [*LAYOUT.encode("我们 unbelievabilities"), EOT]  # the first token is two words
    values = -0.1 * np.arange(1, len(ids) + 1)
    inner = values[1:-1]
    assert len(inner) > 1
    expected = {"product": inner.sum(), "min": inner.min(), "mean": inner.mean()}
    for rule, last in expected.items():
        words = word_confidences(LAYOUT, scored(ids, values), mixed_tokens, rule)
        assert [w.word for w in words] == ["我", "们", "unbelievabilities"]
        assert [w.confidence for w in words] == pytest.approx(np.exp([-0.1, -0.1, last]))
    assert word_confidences(LAYOUT, scored([EOT], [-1.0]), mixed_tokens) == []


PIECES = st.sampled_from(
    ["我们", "学", "龘", " hello", "wifi", " ", "é", "e\u0301", "😀", "が", "."]
)
IDS = st.one_of(
    st.lists(PIECES, max_size=8).map(lambda texts: LAYOUT.encode("".join(texts))),
    st.lists(st.integers(0, EOT - 1), max_size=12),  # broken UTF-8 among them
)


def test_a_token_without_bytes_inside_a_word_counts_for_it():
    empty = next(
        i for i in range(EOT) if not LAYOUT.tokenizer.encoding.decode_single_token_bytes(i)
    )
    ids = [*LAYOUT.encode("wi"), empty, *LAYOUT.encode("fi")]
    values = np.full(len(ids), -0.5)
    (word,) = word_confidences(LAYOUT, scored(ids, values), mixed_tokens)
    assert word.word == "wifi"
    assert word.confidence == pytest.approx(math.exp(-0.5 * len(ids)))


@settings(max_examples=150, deadline=None)
@given(ids=IDS, data=st.data())
def test_every_byte_of_a_word_is_paid_for_and_no_other(ids, data):
    """A word has the product of the tokens that share a byte with it, found by changing one."""
    values = np.full(len(ids), -0.5)
    words = word_confidences(LAYOUT, scored(ids, values), mixed_tokens)
    assert [word.word for word in words] == mixed_tokens(LAYOUT.decode(ids))
    assert all(0.0 < word.confidence <= math.exp(-0.5) + 1e-12 for word in words)
    if not ids:
        return
    place = data.draw(st.integers(0, len(ids) - 1))
    values[place] = -40.0
    hit = [
        number
        for number, word in enumerate(word_confidences(LAYOUT, scored(ids, values), mixed_tokens))
        if word.confidence < 1e-15
    ]
    assert hit == list(range(hit[0], hit[-1] + 1)) if hit else True  # neighbours
    piece = LAYOUT.tokenizer.encoding.decode_single_token_bytes(ids[place])
    if piece:  # one token has no bytes: inside a word it lies in its span, as control tokens do
        assert bool(hit) == bool(piece.decode("utf-8", "replace").strip())

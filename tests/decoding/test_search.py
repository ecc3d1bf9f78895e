"""Our search: against its definition, in any company, with rows that leave and rows that move."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_blora.decoding.batch import pad
from espnet_blora.decoding.beam import Hypothesis
from espnet_blora.decoding.search import search, top
from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.encoder import encode
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.decoding.small import search_options
from tests.whispers import ending, lively

LAYOUT = Vocabulary.of(51865)
LENGTHS = (16000, 9000, 4000, 700, 12000, 6000)
CODES = ("zh", "en", "zh", "en", "de", "en")


@pytest.fixture(scope="module")
def setting():
    model = ending(lively(n_text_ctx=64), LAYOUT.eot)
    torch.manual_seed(5)
    model.requires_grad_(False)
    waves = [0.1 * torch.randn(n) for n in LENGTHS]
    memory, lengths = encode(model.encoder, *pad(waves))
    return model, memory, lengths, [LAYOUT.prompt(code) for code in CODES]


def alone(setting, row, options, **more):
    """One utterance by itself, its memory cut to its length."""
    model, memory, lengths, prompts = setting
    n = int(lengths[row])
    one = memory[row : row + 1, :n], lengths[row : row + 1]
    return search(model.decoder, *one, [prompts[row]], LAYOUT.eot, options, **more)[0]


def log_probabilities(setting, row, ids):
    """By the definition, without a cache: log p of each token of `ids` and of end of text."""
    model, memory, lengths, prompts = setting
    tokens = torch.tensor([[*prompts[row], *ids]])
    logits = forward(model.decoder, tokens, memory[row : row + 1], lengths[row : row + 1])[0]
    scores = logits[len(prompts[row]) - 1 :].log_softmax(-1)
    return [float(scores[t, i]) for t, i in enumerate([*ids, LAYOUT.eot])], scores


@pytest.mark.parametrize("rule", ["espnet", "whisper"])
def test_greedy_takes_the_most_probable_token_again_and_again(setting, rule):
    model, memory, lengths, prompts = setting
    options = search_options(rule=rule, max_tokens=20, maxlenratio=-20)
    found = search(model.decoder, memory, lengths, prompts, LAYOUT.eot, options)
    for row, nbest in enumerate(found):
        assert len(nbest) == 1
        values, scores = log_probabilities(setting, row, nbest[0].ids)
        best = scores.argmax(-1).tolist()
        assert list(nbest[0].ids) == best[: len(nbest[0].ids)]
        if nbest[0].ended:
            assert best[len(nbest[0].ids)] == LAYOUT.eot
        else:
            assert len(nbest[0].ids) == 20
            values.pop()
        assert nbest[0].score == pytest.approx(sum(values), abs=1e-3)
    assert {nbest[0].ended for nbest in found} == {True, False}


@pytest.mark.parametrize("rule", ["espnet", "whisper"])
def test_company_and_order_change_nothing(setting, rule):
    model, memory, lengths, prompts = setting
    options = search_options(4, 3, rule, maxlenratio=0.6, max_tokens=18)
    together = search(model.decoder, memory, lengths, prompts, LAYOUT.eot, options)
    for row, nbest in enumerate(together):
        one = alone(setting, row, options)
        assert [h.ids for h in one] == [h.ids for h in nbest]
        assert [h.ended for h in one] == [h.ended for h in nbest]
        assert [h.score for h in one] == pytest.approx([h.score for h in nbest], abs=1e-3)
    order = [3, 5, 0, 2, 4, 1]
    back = search(
        model.decoder, memory[order], lengths[order], [prompts[i] for i in order], LAYOUT.eot,
        options,
    )  # fmt: skip
    assert [[h.ids for h in nbest] for nbest in back] == [
        [h.ids for h in together[i]] for i in order
    ]
    assert len({len(nbest[0].ids) for nbest in together}) >= 4  # they leave at different steps


def test_a_wider_beam_finds_nothing_less_probable(setting):
    model, memory, lengths, prompts = setting
    scores = [
        [nbest[0].score for nbest in search(
            model.decoder, memory, lengths, prompts, LAYOUT.eot,
            search_options(beam, maxlenratio=-12),
        )]
        for beam in (1, 6)
    ]  # fmt: skip
    assert sum(scores[1]) > sum(scores[0])


def test_samples_are_averaged_at_every_step(setting):
    model, memory, lengths, prompts = setting
    options = search_options(3, 2, maxlenratio=-8)
    once = search(model.decoder, memory, lengths, prompts, LAYOUT.eot, options)
    same = search(
        model.decoder, memory.repeat(2, 1, 1), lengths.repeat(2), prompts, LAYOUT.eot, options,
        n_samples=2,
    )  # fmt: skip
    assert [[h.ids for h in n] for n in same] == [[h.ids for h in n] for n in once]
    torch.manual_seed(0)
    other = memory + 0.3 * torch.randn_like(memory)
    mixed = search(
        model.decoder, torch.cat([memory, other]), lengths.repeat(2), prompts, LAYOUT.eot, options,
        n_samples=2,
    )  # fmt: skip
    settings_of = (setting, (model, other, lengths, prompts))
    for row, nbest in enumerate(mixed):
        for hypothesis in nbest:
            steps = [log_probabilities(one, row, hypothesis.ids)[0] for one in settings_of]
            mean = torch.tensor(steps).logsumexp(0) - torch.tensor(2.0).log()
            wanted = mean if hypothesis.ended else mean[:-1]
            assert hypothesis.score == pytest.approx(float(wanted.sum()), abs=2e-3)
    assert [[h.ids for h in n] for n in mixed] != [[h.ids for h in n] for n in once]


def test_filters_see_the_text_so_far_of_their_row(setting):
    model, memory, lengths, prompts = setting
    seen = []

    def no_repeats(logits, texts):
        seen.append(texts.shape)
        for row, ids in enumerate(texts.tolist()):
            logits[row, ids] = -torch.inf

    options = search_options(3, rule="whisper", max_tokens=10)
    found = search(
        model.decoder, memory, lengths, prompts, LAYOUT.eot, options, filters=[no_repeats]
    )
    for nbest in found:
        assert len(set(nbest[0].ids)) == len(nbest[0].ids)
    assert [shape[1] for shape in seen] == list(range(len(seen)))
    assert seen[0][0] == len(prompts)
    assert seen[1][0] == 3 * len(prompts)


def test_the_end_of_the_positions(setting):
    model, memory, lengths, prompts = setting

    def never_ends(logits, texts):
        logits[:, LAYOUT.eot] -= 100.0

    filters = [never_ends]
    for options, longest in (
        (search_options(2, maxlenratio=-500), 60),
        (search_options(2, rule="whisper", max_tokens=500), 61),
    ):
        found = search(
            model.decoder, memory[:2], lengths[:2], prompts[:2], LAYOUT.eot, options, filters
        )
        assert [len(nbest[0].ids) for nbest in found] == [longest] * 2


def test_what_cannot_be_searched(setting):
    model, memory, lengths, prompts = setting
    assert search(model.decoder, memory[:0], lengths[:0], [], LAYOUT.eot) == []
    with pytest.raises(ValueError, match="no token has a probability"):
        search(model.decoder, memory * torch.nan, lengths, prompts, LAYOUT.eot)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(12, 4000),
    k=st.integers(1, 12),
    seed=st.integers(0, 2**16),
    hidden=st.booleans(),
)
def test_top_is_topk(rows, columns, k, seed, hidden):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randperm(rows * columns, generator=generator).reshape(rows, columns).float()
    if hidden:
        scores[:, torch.randperm(columns, generator=generator)[: columns // 2]] = -torch.inf
    k = min(k, columns - columns // 2)
    values, index = top(scores, k)
    wanted, places = scores.topk(k)
    assert torch.equal(values, wanted)
    assert torch.equal(index, places)


def test_a_hypothesis_is_what_it_says():
    hypothesis = Hypothesis((1, 2), -3.0, True)
    with pytest.raises(AttributeError):
        hypothesis.score = 0.0

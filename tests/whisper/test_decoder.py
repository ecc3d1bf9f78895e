"""The masked, cached decoder: the same logits whole, step by step, alone and in any batch."""

import pytest
import torch
from whisper.model import Whisper

from espnet_blora.whisper.decoder import KVCache, forward
from espnet_blora.whisper.encoder import encode
from tests.whispers import dims, random_whisper

LENGTHS = torch.tensor([48000, 21234, 30000, 50])
DIMS = dims(64, (2, 2))


@pytest.fixture(scope="module")
def model() -> Whisper:
    model = random_whisper(64, (2, 2), positions=0.5)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(1.5)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def waves() -> torch.Tensor:
    torch.manual_seed(1)
    return 0.1 * torch.randn(len(LENGTHS), int(LENGTHS.max()))


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randint(0, DIMS.n_vocab, (len(LENGTHS), 12))


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() <= 1e-6 * other.abs().max())


def test_logits_of_an_utterance_do_not_depend_on_its_batch(model, waves, tokens):
    memory, lengths = encode(model.encoder, waves, LENGTHS)
    batch = forward(model.decoder, tokens, memory, lengths)
    for row, samples in enumerate(LENGTHS.tolist()):
        alone, _ = encode(model.encoder, waves[row : row + 1, :samples], LENGTHS[row : row + 1])
        logits = forward(model.decoder, tokens[row : row + 1], alone)[0]
        assert close(batch[row], logits), row
        pairs = [row, (row + 1) % len(LENGTHS)]
        pair, its = encode(model.encoder, waves[pairs], LENGTHS[pairs])
        assert close(forward(model.decoder, tokens[pairs], pair, its)[0], logits), row


def test_without_the_mask_padding_does_leak(model, waves, tokens):
    memory, lengths = encode(model.encoder, waves, LENGTHS)
    right = forward(model.decoder, tokens, memory, lengths)
    leaky = forward(model.decoder, tokens, memory)
    assert torch.equal(leaky[0], right[0])  # the longest has no padding
    assert (leaky[1] - right[1]).abs().max() > 1e-3 * right.abs().max()


def test_whole_forward_is_whispers_own(model, waves, tokens):
    memory, _ = encode(model.encoder, waves[:1], LENGTHS[:1])
    torch.testing.assert_close(
        forward(model.decoder, tokens[:1], memory),
        model.decoder(tokens[:1], memory),
        rtol=0,
        atol=1e-4,
    )


@pytest.mark.parametrize("first", [1, 4, 12])
def test_steps_equal_the_whole(model, waves, tokens, first):
    memory, lengths = encode(model.encoder, waves, LENGTHS)
    whole = forward(model.decoder, tokens, memory, lengths)
    cache = KVCache(model.decoder, memory, lengths)
    assert close(cache.step(tokens[:, :first]), whole[:, first - 1])
    for end in range(first + 2, tokens.shape[1] + 1, 2):  # two at a time: needs the mask
        assert close(cache.step(tokens[:, end - 2 : end]), whole[:, end - 1])
    if cache.length < tokens.shape[1]:
        assert close(cache.step(tokens[:, cache.length :]), whole[:, -1])


def test_rows_follow_their_utterance_and_their_selection(model, waves, tokens):
    memory, lengths = encode(model.encoder, waves[:2], LENGTHS[:2])
    prefixes = torch.stack([tokens[i % 4, :6] for i in (0, 1, 2, 3, 1, 0)])  # 2 utterances x 3
    owner = torch.tensor([0, 0, 0, 1, 1, 1])
    cache = KVCache(model.decoder, memory, lengths)
    cache.step(prefixes[:, :4])
    order = [2, 0, 0, 5, 4, 5]
    cache.select(order)
    left = cache.fork()
    logits = cache.step(prefixes[order][:, 4:6])
    whole = forward(model.decoder, prefixes[order], memory[owner], lengths[owner])
    assert close(logits, whole[:, -1])
    assert left.length == 4
    assert close(left.step(prefixes[order][:, 4:5]), whole[:, -2])  # the fork is untouched
    shrunk = KVCache(model.decoder, memory[1:], lengths[1:])
    shrunk.step(prefixes[3:, :4])
    shrunk.select([1])
    one = forward(model.decoder, prefixes[4:5, :5], memory[1:], lengths[1:])
    assert close(shrunk.step(prefixes[4:5, 4:5]), one[:, -1])


def test_cross_attention_keys_are_projected_once(model, waves, tokens):
    memory, lengths = encode(model.encoder, waves, LENGTHS)
    calls = []
    hook = model.decoder.blocks[0].cross_attn.key.register_forward_hook(
        lambda *args: calls.append(args[1][0].shape)
    )
    try:
        cache = KVCache(model.decoder, memory, lengths)
        for position in range(5):
            cache.step(tokens[:, position : position + 1])
    finally:
        hook.remove()
    assert calls == [memory.shape]


def test_too_many_tokens_and_wrong_rows(model, waves):
    memory, lengths = encode(model.encoder, waves[:2], LENGTHS[:2])
    long = torch.zeros(2, DIMS.n_text_ctx + 1, dtype=torch.long)
    with pytest.raises(ValueError, match="449 tokens .* has 448 positions"):
        forward(model.decoder, long, memory, lengths)
    cache = KVCache(model.decoder, memory, lengths)
    with pytest.raises(ValueError, match="3 rows of tokens"):
        cache.step(torch.zeros(3, 1, dtype=torch.long))
    cache.step(torch.zeros(2, DIMS.n_text_ctx, dtype=torch.long))
    with pytest.raises(ValueError, match="449 tokens"):
        cache.step(torch.zeros(2, 1, dtype=torch.long))


def test_gradients_reach_both_halves(model, waves, tokens):
    model.requires_grad_(True)
    try:
        memory, lengths = encode(model.encoder, waves[:2, :8000], torch.tensor([8000, 5000]))
        forward(model.decoder, tokens[:2], memory, lengths).sum().backward()
        for name in ("encoder.blocks.0.attn.query", "decoder.blocks.1.cross_attn.value"):
            gradient = model.get_submodule(name).weight.grad
            assert torch.isfinite(gradient).all()
            assert gradient.abs().max() > 0
    finally:
        model.zero_grad()
        model.requires_grad_(False)

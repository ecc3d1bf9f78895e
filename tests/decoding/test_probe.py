"""Probes: the right states, averaged over what is real, and a probe that finds what is there."""

import pytest
import torch
from torch import nn

from espnet_blora import add_adapter
from espnet_blora.decoding.probe import Probe, accuracies, divide, fit, layer_means, watched
from espnet_blora.whisper.decoder import states
from espnet_blora.whisper.encoder import encode
from tests.decoding.small import opened
from tests.whispers import random_whisper


def whisper(encoder_layers):
    model = random_whisper(16, (encoder_layers, 2), vocab=300, context=16)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    return whisper(encoder_layers=3)


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    waves = {f"u{n}": 0.1 * torch.randn(n, generator=generator) for n in (4000, 900, 2500, 1600)}
    return waves, {"u4000": [1, 2, 3], "u900": [7], "u2500": [4, 5, 6, 8, 9], "u1600": [2, 2]}


def test_states_are_those_behind_each_block(model, data):
    """Checked against openai-whisper's own blocks, one after the other."""
    wave, ids = data[0]["u4000"], torch.tensor([data[1]["u4000"]])
    memory, _ = encode(model.encoder, wave.unsqueeze(0), torch.tensor([len(wave)]))
    with watched(model.decoder, model.decoder.ln) as found:
        states(model.decoder, ids, memory)
    x = model.decoder.token_embedding(ids) + model.decoder.positional_embedding[: ids.shape[1]]
    for block, layer in zip(model.decoder.blocks, found, strict=True):
        x = block(x, memory, mask=model.decoder.mask)
        torch.testing.assert_close(layer, x, rtol=1e-4, atol=1e-5)
    with watched(model.encoder, model.encoder.ln_post) as found:
        encode(model.encoder, wave.unsqueeze(0), torch.tensor([len(wave)]))
    assert len(found) == 3
    for before, block, after in zip(found, model.encoder.blocks[1:], found[1:], strict=False):
        torch.testing.assert_close(block(before), after, rtol=1e-4, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_means_ignore_padding_and_keep_the_order(model, data):
    waves, read = data
    together = layer_means(opened(model), waves, read, batch_size=3)
    assert {side: tuple(m.shape) for side, m in together.items()} == {
        "encoder": (4, 3, 16), "decoder": (4, 2, 16),
    }  # fmt: skip
    for row, uid in enumerate(waves):
        one = {uid: waves[uid]}
        alone = layer_means(opened(model), one, read, sides=["decoder"])
        assert list(alone) == ["decoder"]
        torch.testing.assert_close(together["decoder"][row], alone["decoder"][0])
        with watched(model.encoder, model.encoder.ln_post) as layers:
            encode(model.encoder, waves[uid].unsqueeze(0), torch.tensor([len(waves[uid])]))
        mean = torch.stack([layer[0].mean(0) for layer in layers])
        torch.testing.assert_close(together["encoder"][row], mean)
    assert not together["decoder"].requires_grad


def test_an_adapted_model_is_probed_with_its_adapter(data):
    model = whisper(encoder_layers=1)
    waves, read = data
    base = layer_means(opened(model), waves, read)
    adapter = add_adapter(model, "lora", rank=2, target_modules=["decoder.blocks.1.mlp.0"])
    for layer in adapter.layers.values():
        nn.init.normal_(layer.lora_B)
    moved = layer_means(opened(model), waves, read)
    assert torch.equal(base["encoder"], moved["encoder"])
    assert torch.equal(base["decoder"][:, 0], moved["decoder"][:, 0])
    assert (base["decoder"][:, 1] - moved["decoder"][:, 1]).abs().max() > 1e-3


def spoken(count=60, layers=3, width=8, seed=0):
    """Two languages: layer 0 knows nothing of them, layer 1 half of the time, layer 2 all."""
    generator = torch.Generator().manual_seed(seed)
    vectors, labels = {}, {}
    for number in range(count):
        uid = f"s{seed}-{number:03d}"
        labels[uid] = "en" if number % 2 else "zh"
        sign = 1.0 if number % 2 else -1.0
        vectors[uid] = torch.randn(layers, width, generator=generator)
        vectors[uid][1, 0] += sign * (3.0 if number % 4 < 2 else 0.0)
        vectors[uid][2, 0] += sign * 6.0
    return vectors, labels


def test_a_probe_finds_what_is_there_and_nothing_else():
    train, labels = spoken(200)
    test, more = spoken(200, seed=1)
    how = Probe(lr=0.02, batch_size=20, epochs=8)
    found = accuracies(train, test, labels | more, how, range(2))
    means = [sum(row) / 2 for row in found]
    assert [len(row) for row in found] == [2, 2, 2]
    assert abs(means[0] - 0.5) < 0.1 and 0.65 < means[1] < 0.9 and means[2] > 0.97
    assert found == accuracies(train, test, labels | more, how, range(2))
    shuffled = dict(sorted(train.items(), reverse=True))
    assert found == accuracies(shuffled, test, more | labels, how, range(2))


def test_the_best_held_out_epoch_counts():
    """Held-out labels are the wrong way round: every step makes it worse, so the first is kept."""
    train, labels = spoken()
    x = torch.stack([train[uid][2] for uid in labels])
    y = torch.tensor([label == "en" for label in labels.values()]).long()
    kept = [
        fit((x, y), (x, 1 - y), 2, Probe(0.05, 10, epochs), torch.Generator().manual_seed(0))
        for epochs in (1, 8)
    ]
    assert torch.equal(kept[0].weight, kept[1].weight)
    good = fit((x, y), (x, y), 2, Probe(0.05, 10, 8), torch.Generator().manual_seed(0))
    assert not torch.equal(good.weight, kept[0].weight)


def test_the_division_is_of_ids_and_seed_alone():
    labels = {f"u{n}": "en" if n < 30 else "zh" for n in range(40)}
    kept, held = divide(labels, 0.2, seed=1)
    assert sorted([*kept, *held]) == sorted(labels)
    assert [sum(labels[uid] == code for uid in held) for code in ("en", "zh")] == [6, 2]
    assert divide(dict(reversed(labels.items())), 0.2, seed=1) == (kept, held)
    assert divide(labels, 0.2, seed=2)[1] != held
    few = {"a": "en", "b": "en", "c": "zh", "d": "zh"}
    assert [len(part) for part in divide(few, 0.9, seed=0)] == [2, 2]


def test_what_cannot_be_probed_is_refused():
    train, labels = spoken(8)
    test, more = spoken(4, seed=1)
    both = labels | more
    with pytest.raises(ValueError, match="utterances to train on: en 4; needed: two languages"):
        divide({uid: label for uid, label in labels.items() if label == "en"}, 0.2, 0)
    with pytest.raises(ValueError, match="en 2, zh 1"):
        divide({"a": "en", "b": "en", "c": "zh"}, 0.2, 0)
    with pytest.raises(ValueError, match="languages to test: ar; trained on are en, zh"):
        accuracies(train, test, {**both, **dict.fromkeys(more, "ar")}, Probe(), [0])
    with pytest.raises(ValueError, match="languages to test: none"):
        accuracies(train, {}, both, Probe(), [0])
    with pytest.raises(ValueError, match="1 utterances are trained on and tested, first s0-000"):
        accuracies(train, test | {"s0-000": train["s0-000"]}, both, Probe(), [0])
    for wrong in ({"lr": 0.0}, {"batch_size": 0}, {"epochs": 0}, {"held_out": 1.0}):
        with pytest.raises(ValueError, match=f"probe: {next(iter(wrong))} is"):
            Probe(**wrong)

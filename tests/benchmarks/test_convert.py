"""The peers of benchmarks/decode.py read the network that we read: logits, not only shapes."""

import pytest
import torch

from benchmarks.peers import convert
from espnet_blora.export import hf
from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.encoder import encode_features
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.whispers import dims

LAYOUT = Vocabulary.of(51865)


@pytest.fixture(scope="module")
def whisper():
    model = convert.random_whisper(dims(64, (2, 3)))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # so that a bias or a norm in the wrong place shows
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@torch.no_grad()
def test_hf_gives_our_logits(whisper):
    mel = torch.randn(2, 80, 3000)
    tokens = torch.tensor([[*LAYOUT.prompt("zh"), 17, 4242], [*LAYOUT.prompt("en"), 99, 7]])
    memory, lengths = encode_features(whisper.encoder, mel, torch.tensor([3000, 3000]))
    ours = forward(whisper.decoder, tokens, memory, lengths)
    theirs = convert.to_hf(whisper)(input_features=mel, decoder_input_ids=tokens).logits
    assert ours.std() > 0.5
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_hf_has_a_place_for_every_tensor(whisper):
    names = set(hf.hf_state(whisper.state_dict()))
    assert names == set(convert.to_hf(whisper).state_dict()) - {"proj_out.weight"}


def test_a_name_that_hf_lacks_is_an_error(whisper, monkeypatch):
    monkeypatch.delitem(hf.NAMES, r"\.mlp\.2\.")
    with pytest.raises(ValueError, match=r"fc2.*mlp\.2"):
        convert.to_hf(whisper)


@torch.no_grad()
def test_hf_generates_from_our_prompt_and_as_many_tokens_as_asked(whisper):
    model = convert.to_hf(whisper)
    found = model.generate(
        torch.randn(2, 80, 3000), language=["zh", "en"], task="transcribe", do_sample=False,
        num_beams=2, max_new_tokens=3, min_new_tokens=3,
    )  # fmt: skip
    assert found.shape == (2, 3)


def test_random_weights_are_those_of_their_seed():
    one, same, other = (convert.random_whisper(dims(), seed) for seed in (0, 0, 1))
    weights = [model.decoder.token_embedding.weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx(0.02, rel=0.01)
    assert one.encoder.ln_post.weight.eq(1).all() and one.encoder.ln_post.bias.eq(0).all()

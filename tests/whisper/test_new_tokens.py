"""Embeddings of new languages: prompts that can be read and trained, and never be said."""

import pytest
import torch
from whisper.model import TextDecoder

from espnet_blora.whisper import decoder as whisper_decoder
from espnet_blora.whisper import new_tokens
from espnet_blora.whisper.decoder import KVCache
from espnet_blora.whisper.vocabulary import Vocabulary

N, WIDTH = 51865, 16
LAYOUT = Vocabulary.of(N, ["rw", "kab"])


def decoder(start=new_tokens.MEAN, codes=LAYOUT.new_languages):
    torch.manual_seed(0)
    plain = TextDecoder(N, 12, WIDTH, 2, 1)
    with torch.no_grad():
        plain.positional_embedding.normal_(std=0.1)
    new_tokens.extend(plain, codes, start)
    return plain.eval()


@pytest.fixture(scope="module")
def memory():
    torch.manual_seed(1)
    return torch.randn(2, 5, WIDTH)


def test_the_table_starts_from_the_mean_of_all_languages_or_from_one():
    made = decoder()
    known = list(Vocabulary.of(N).languages.values())
    wanted = made.token_embedding.weight[known].mean(0)
    assert made.token_embedding.new_weight.shape == (2, WIDTH)
    torch.testing.assert_close(made.token_embedding.new_weight, wanted.repeat(2, 1))
    swahili = decoder("sw").token_embedding
    assert torch.equal(swahili.new_weight[1], swahili.weight[LAYOUT.languages["sw"]])
    with pytest.raises(ValueError, match="new_language_init: 'rw'; allowed: mean, or a language"):
        decoder("rw")


def test_without_new_languages_nothing_is_put_in():
    plain = decoder(codes=())
    assert type(plain.token_embedding) is torch.nn.Embedding
    assert new_tokens.find(plain) is None


def test_the_checkpoints_own_names_and_values_stay():
    torch.manual_seed(0)
    before = TextDecoder(N, 12, WIDTH, 2, 1).state_dict()
    after = decoder().state_dict()
    added = {"token_embedding.new_weight", "token_embedding.new_codes"}
    assert after.keys() == before.keys() | added
    assert torch.equal(after["token_embedding.weight"], before["token_embedding.weight"])
    assert new_tokens.unpack_codes(after["token_embedding.new_codes"]) == ("rw", "kab")


def test_a_prompt_of_known_languages_is_read_bit_for_bit_as_before(memory):
    tokens = torch.tensor([LAYOUT.prompt("zh"), LAYOUT.prompt("en")])
    before = whisper_decoder.forward(decoder(codes=()), tokens, memory)
    assert torch.equal(whisper_decoder.forward(decoder(), tokens, memory), before)


def test_a_new_language_is_read_as_its_row_and_no_logit_is_its_own(memory):
    made = decoder("sw")
    swahili = torch.tensor([LAYOUT.prompt("sw")] * 2)
    new = torch.tensor([LAYOUT.prompt("rw"), LAYOUT.prompt("kab")])
    assert new[0, 1] == N and new[1, 1] == N + 1
    logits = whisper_decoder.forward(made, new, memory)
    assert logits.shape == (2, 4, N)
    assert torch.equal(logits, whisper_decoder.forward(made, swahili, memory))
    with torch.no_grad():
        made.token_embedding.new_weight[1] += 1.0
    changed = whisper_decoder.forward(made, new, memory)
    assert torch.equal(changed[0], logits[0]) and not torch.allclose(changed[1], logits[1])
    step = KVCache(made, memory).step(new)
    torch.testing.assert_close(step, changed[:, -1], rtol=1e-5, atol=1e-4)


def test_the_gradient_reaches_its_own_row_and_nothing_frozen(memory):
    made = decoder().requires_grad_(False)
    made.token_embedding.new_weight.requires_grad_(True)
    tokens = torch.tensor([LAYOUT.prompt("kab"), LAYOUT.prompt("en")])
    whisper_decoder.forward(made, tokens, memory).logsumexp(-1).sum().backward()
    gradient = made.token_embedding.new_weight.grad
    assert gradient[1].abs().sum() > 0 and not gradient[0].any()
    assert made.token_embedding.weight.grad is None


def test_on_the_meta_device_shapes_are_right():
    with torch.device("meta"):
        plain = TextDecoder(N, 12, WIDTH, 2, 1)
    new_tokens.extend(plain, ["rw"])
    assert plain.token_embedding.new_weight.is_meta
    assert plain.token_embedding.new_weight.shape == (1, WIDTH)
    assert plain.token_embedding.languages == ("rw",)

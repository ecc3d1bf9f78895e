"""The forward on a device that is not here: tensors that only claim to be on it."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from espnet_blora import add_adapter
from espnet_blora.adapters.methods import blora
from espnet_blora.adapters.sampling import SAMPLERS
from espnet_blora.whisper.decoder import KVCache, forward
from espnet_blora.whisper.encoder import encode_features
from espnet_blora.whisper.sizes import empty_modules
from tests.whispers import dims

METHODS = {"lora": {}} | {f"blora, {sampling}": {"sampling": sampling} for sampling in SAMPLERS}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("autocast", [False, True])
def test_nothing_of_a_forward_stays_behind(monkeypatch, name, autocast):
    """An operation on two devices fails, and so does one that needs a figure from the device."""
    monkeypatch.setattr(blora, "noise_generator", lambda *_: None)  # CUDA's own cannot be made here
    with FakeTensorMode(allow_non_fake_inputs=True):
        frames, heard = torch.tensor([10]), torch.tensor([5])  # of both utterances
        encoder, decoder = empty_modules(dims(16, (1, 1)), "cuda")
        parts = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})
        adapter = add_adapter(parts, name.partition(",")[0], rank=2, **METHODS[name])
        adapter.advance()
        parts.train()
        mel = torch.zeros(2, 80, 25, device="cuda")
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            memory, kept = encode_features(encoder, mel, frames)
            tokens = torch.zeros(2, 4, dtype=torch.int64, device="cuda")
            logits = forward(decoder, tokens, memory, heard)
            loss = logits.float().logsumexp(-1).mean()
            if adapter.has_loss_term:
                loss = loss + adapter.loss_terms()[0]
        with torch.no_grad():
            cache = KVCache(decoder, memory, heard)
            cache.step(tokens)
            cache.select([0, 0])
            step = cache.step(tokens[:, :1])
        found = {one.device.type for one in (memory, kept, logits, loss, step)}
    assert found == {"cuda"}

"""Frozen weights in bfloat16: under autocast every bit is the same, and the base is not lost."""

import copy

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from espnet_blora.adapters import METHODS, add_adapter, get_adapter
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.encoder import encode
from tests.experiments import options, whisper_file

READS_THE_BASE = {"dora"}
NEEDS_A_FILE = {"lora_ewc", "lora_keep"}  # below, with one


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return whisper_file(tmp_path_factory.mktemp("narrow") / "whisper.safetensors")


def adapted(whisper, method, **more):
    """A fresh model, its factors moved off their start."""
    model = load_whisper(whisper)
    torch.manual_seed(1)
    conf = {"total_steps": 10, "target_rank": 2} if method == "adalora" else {}
    adapter = add_adapter(model, method, **{**options(method), **conf, **more})
    adapter.prepare()
    with torch.no_grad():
        for parameter in adapter.trainable_parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.train(), adapter


def steps(model, adapter, count=2):
    """Losses and gradients of training steps under autocast."""
    torch.manual_seed(2)
    waves, lengths = torch.randn(2, 8000), torch.tensor([8000, 5000])
    ids = torch.randint(0, 50000, (2, 6))
    trained = adapter.trainable_parameters()
    optimiser = torch.optim.AdamW(trained, lr=1e-2)
    adapter.follow(optimiser)
    found = []
    for _ in range(count):
        adapter.advance()
        with torch.autocast("cpu", torch.bfloat16):
            memory, heard = encode(model.encoder, waves, lengths)
            logits = forward(model.decoder, ids, memory, heard)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
            if adapter.has_loss_term:
                term, logs = adapter.loss_terms()
                loss = loss + term
                found += [logs[name] for name in sorted(logs) if name != "update_ratio"]
        loss.backward()
        found += [loss.detach(), *(p.grad.clone() for p in trained if p.grad is not None)]
        optimiser.step()
        optimiser.zero_grad()
    return [*found, *(p.detach() for p in trained)]


@pytest.mark.parametrize("method", sorted(METHODS.keys() - READS_THE_BASE - NEEDS_A_FILE))
def test_losses_and_gradients_are_the_same_bits(whisper, method):
    model, adapter = adapted(whisper, method)
    other = copy.deepcopy(model)
    narrowed = get_adapter(other)
    before = {name: p.clone() for name, p in other.named_parameters() if not p.requires_grad}
    count = narrowed.narrow_base()
    assert count == 2 * 6 + 2 * 10  # all Linears of two blocks a half
    half = [n for n, p in other.named_parameters() if p.dtype == torch.bfloat16]
    assert len(half) == count and not any("conv" in n or "embedding" in n for n in half)
    assert all(torch.equal(other.get_parameter(n), before[n].bfloat16()) for n in half)
    one, two = steps(model, adapter), steps(other, narrowed)
    assert len(one) == len(two) > 4
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_method_that_reads_the_base_is_refused(whisper):
    model, adapter = adapted(whisper, "dora")
    with pytest.raises(ValueError, match="adapter 'dora' computes with the base weights"):
        adapter.narrow_base()
    assert not any(p.dtype == torch.bfloat16 for p in model.parameters())


@pytest.mark.parametrize("method", ["blora", "dama", "pissa", "sumra"])
def test_bases_and_fingerprint_are_those_of_the_base(whisper, method, tmp_path):
    """Fresh, so that the bases are still to be computed; saved, it loads on the fp32 base."""
    plain, narrow = (load_whisper(whisper) for _ in range(2))
    for model in (plain, narrow):
        torch.manual_seed(1)
        add_adapter(model, method, **options(method))
    get_adapter(plain).prepare()
    get_adapter(narrow).narrow_base()
    states = plain.state_dict(), narrow.state_dict()
    kept = [
        name for name in states[0] if not name.startswith(("encoder", "decoder")) or "lora" in name
    ]
    assert "adapter_state.fingerprint" in kept and len(kept) > 10
    assert all(torch.equal(states[0][name], states[1][name]) for name in kept)
    # What a checkpoint holds (no frozen parameter) loads on the base's own file, and on itself.
    frozen = {name for name, p in narrow.named_parameters() if not p.requires_grad}
    saved = {name: value for name, value in states[1].items() if name not in frozen}
    for model in (plain, narrow):
        model.load_state_dict(saved, strict=False)
    get_adapter(plain).save(tmp_path / "plain.safetensors")
    get_adapter(narrow).save(tmp_path / "narrow.safetensors")
    files = []
    for name in ("plain", "narrow"):
        path = tmp_path / f"{name}.safetensors"
        with safe_open(path, "pt") as file:
            files.append((file.metadata(), load_file(path)))
    (about, tensors), (other_about, others) = files
    assert about == other_about and tensors.keys() == others.keys()
    assert all(torch.equal(value, others[name]) for name, value in tensors.items())


def test_nothing_is_merged_with_a_rounded_base(whisper):
    _, adapter = adapted(whisper, "lora")
    adapter.narrow_base()
    for merge in (adapter.merge, adapter.merge_and_unload):
        with pytest.raises(ValueError, match="open the checkpoint anew"):
            merge()

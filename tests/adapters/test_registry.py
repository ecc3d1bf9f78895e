"""The hooks of a method, on one made up for it."""

from dataclasses import replace

import pytest
import torch

import espnet_blora
from espnet_blora.adapters import METHODS
from espnet_blora.adapters.methods.lora import LoraConfig, LoraLayer
from espnet_blora.adapters.registry import Method


@pytest.fixture
def registered(monkeypatch):
    def register(config=LoraConfig, **hooks):
        monkeypatch.setitem(METHODS, "made_up", Method(config, LoraLayer, **hooks))

    return register


def test_a_plan_gives_each_linear_its_own_options_or_none(registered, build, x, tmp_path):
    class Planned(LoraConfig):
        def plan(self, model, linears):
            ranks = dict(zip(linears, (1, 2, 3), strict=False))
            return {name: replace(self, rank=rank) for name, rank in ranks.items()}

    registered(Planned)
    model = build()
    adapter = espnet_blora.add_adapter(model, "made_up", alpha=6, rank=9)
    assert [layer.rank for layer in adapter.layers.values()] == [1, 2, 3]
    assert [layer.scaling for layer in adapter.layers.values()] == [6.0, 3.0, 2.0]
    assert not hasattr(model.blocks[1].attn.value, "lora_A")  # the fourth target
    report = adapter.report()
    assert report["trainable"] == (1 + 2 + 3) * 24 and report["ranks"] == (1, 3)
    assert "ranks 1 to 3" in str(report)
    adapter.save(tmp_path / "adapter")
    loaded = espnet_blora.load_adapter(build(), tmp_path / "adapter")
    assert [layer.rank for layer in loaded.layers.values()] == [1, 2, 3]
    registered()
    with pytest.raises(ValueError, match="factors for 3 Linears, this model has 4 targets"):
        espnet_blora.load_adapter(build(), tmp_path / "adapter")


def test_after_step_follows_the_optimiser_and_its_count_is_saved(registered, build, x):
    seen = []

    def after_step(layers, config, step):
        assert layers["blocks.0.attn.query"].lora_B.grad is not None
        seen.append(step)

    registered(after_step=after_step)

    def start():
        model = build()
        adapter = espnet_blora.add_adapter(model, "made_up", rank=2)
        optimiser = torch.optim.SGD(adapter.trainable_parameters(), lr=0.1)
        adapter.follow(optimiser)
        return model, adapter, optimiser

    def steps(model, optimiser):
        for _ in range(4):
            model.train()(x).sum().backward()
            model(x).sum().backward()  # two micro-batches a step
            optimiser.step()
            optimiser.zero_grad()

    model, adapter, optimiser = start()
    steps(model, optimiser)
    assert seen == [1, 2, 3, 4] and adapter.step == 8
    again, _, optimiser = start()
    again.load_state_dict(model.state_dict())
    steps(again, optimiser)
    assert seen[4:] == [5, 6, 7, 8]


def test_without_after_step_nothing_is_hooked_or_saved(build):
    adapter = espnet_blora.add_adapter(build(), "lora", rank=2)
    optimiser = torch.optim.SGD(adapter.trainable_parameters(), lr=0.1)
    adapter.follow(optimiser)
    assert not optimiser._optimizer_step_post_hooks
    assert "adapter_state.updates" not in adapter.model.state_dict()


def test_a_method_s_own_term_of_the_loss(registered, build):
    def decay(model, layers, config, step):
        term = sum(layer.lora_B.square().sum() for layer in layers.values())
        return term, {"decay": term.detach()}

    registered(loss_term=decay)
    adapter = espnet_blora.add_adapter(build(), "made_up", rank=2)
    assert adapter.has_loss_term and not adapter.bayesian
    term, logs = adapter.loss_terms()
    assert term.requires_grad and logs["decay"] == 0.0


def test_beta_kl_is_the_term_of_a_bayesian_method(build):
    blora = espnet_blora.add_adapter(build(), "blora", rank=2)
    assert blora.has_loss_term
    term, logs = blora.loss_terms()
    assert torch.equal(term, blora.beta() * blora.kl()) and {"kl_A", "beta"} <= set(logs)
    assert not espnet_blora.add_adapter(build(), "lora", rank=2).has_loss_term


def test_what_cannot_be_merged_says_so(registered, build):
    registered(merges=False)
    adapter = espnet_blora.add_adapter(build(), "made_up", rank=2)
    with pytest.raises(ValueError, match="'made_up' cannot be merged"):
        adapter.merge()
    assert not adapter.merged

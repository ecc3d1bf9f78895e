import logging

import pytest
import torch

import espnet_blora


def test_loss_terms(build, shake):
    model = build()
    conf = {"rank": 4, "beta": 0.5, "schedule": "linear", "warmup_steps": 4, "log_every": 10}
    adapter = shake(espnet_blora.add_adapter(model, "blora", **conf))
    model.train()
    seen = []
    for _ in range(11):
        model(torch.randn(2, 12))
        term, logs = adapter.loss_terms()
        seen.append(set(logs))
        assert term.requires_grad and term.dim() == 0
        assert not any(value.requires_grad for value in logs.values())
        assert all(value.shape == () for value in logs.values())
        assert torch.allclose(logs["kl_term"], logs["beta"] * (logs["kl_A"] + logs["kl_B"]))
    always = {"kl_A", "kl_B", "beta", "kl_term"}
    statistics = {"sigma_A_q05", "sigma_A_q50", "sigma_A_q95", "mean_norm_A", "small_share_B"}
    assert seen[0] == seen[10] >= always | statistics
    assert all(keys == always for keys in seen[1:10])
    assert adapter.beta() == 0.5


def test_beta_follows_the_step(build):
    model = build()
    adapter = espnet_blora.add_adapter(
        model, "blora", rank=4, schedule="linear", warmup_steps=4, beta=1.0
    )
    model.train()
    values = []
    for _ in range(5):
        model(torch.randn(2, 12))
        values.append(adapter.beta())
    assert values == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_lora_has_no_kl(build):
    adapter = espnet_blora.add_adapter(build(), "lora", rank=4)
    assert not adapter.bayesian
    assert not adapter.has_loss_term
    with pytest.raises(ValueError, match="'lora' adds nothing to the loss.*has_loss_term"):
        adapter.loss_terms()
    for call in (adapter.kl, adapter.kl_terms, adapter.beta):
        with pytest.raises(ValueError, match="'lora' has no posterior.*use blora"):
            call()
    with pytest.raises(ValueError, match="'lora' has no posterior"), adapter.sampling():
        pass


def test_sampling_outside_training(build, shake, x):
    model = build().eval()
    adapter = shake(espnet_blora.add_adapter(model, "blora", rank=4, rho_init_A=-2))
    mean = model(x)
    with adapter.sampling(seed=3):
        drawn = model(x)
        assert torch.equal(model(x), drawn)  # one draw as long as the context lasts
        assert torch.equal(model(x[:, 2:4]), drawn[:, 2:4]) or torch.allclose(
            model(x[:, 2:4]), drawn[:, 2:4], atol=1e-6
        )  # and for every position
    with adapter.sampling(seed=4):
        assert not torch.equal(model(x), drawn)
    with adapter.sampling(seed=3):
        assert torch.equal(model(x), drawn)
    with adapter.sampling() as one:
        first = one.model(x)
    with adapter.sampling():
        assert not torch.equal(model(x), first)
    assert not torch.equal(drawn, mean) and torch.equal(model(x), mean)
    with pytest.raises(KeyError), adapter.sampling():
        raise KeyError
    assert torch.equal(model(x), mean)


def test_scale_and_disable(adapted, build, x):
    model, adapter = adapted
    model.eval()
    base, full = build().eval()(x), model(x)
    with adapter.disabled():
        assert torch.equal(model(x), base)
    with adapter.scaled(0.0):
        assert torch.equal(model(x), base)
    layer = adapter.layers["blocks.0.attn.query"]
    with adapter.scaled(1.0):
        assert torch.equal(model(x), full)
    delta = layer.delta_weight()
    with adapter.scaled(0.5):
        assert adapter.scale == 0.5 and torch.allclose(layer.delta_weight(), 0.5 * delta)
        half = layer(x)
    with adapter.disabled():
        plain = layer(x)
    assert torch.allclose(half, plain + 0.5 * (layer(x) - plain), atol=1e-6)
    adapter.set_scale(-1.0)
    assert adapter.scale == -1.0
    with pytest.raises(ValueError, match="factor is nan"):
        adapter.set_scale(float("nan"))
    with pytest.raises(ValueError, match="factor is '1'"), adapter.scaled("1"):
        pass
    assert adapter.scale == -1.0


def test_collapse_is_warned_of_once(build, caplog):
    """At lr 1e-3, entries go on jittering at 0.001 and more: the largest says nothing."""
    adapter = espnet_blora.add_adapter(build(), "blora", rank=4)
    adapter.state.context.step = 101
    adapter.statistics()
    assert "collapsed" not in caplog.text  # a warm-up of the learning rate: lora_A has not moved
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_A.normal_(0, 3e-4)
            layer.lora_B.normal_(0, 3e-4)[0] = 2e-3
    adapter.state.context.step = 50
    assert adapter.statistics()["largest_mean"] > 1e-3
    assert "collapsed" not in caplog.text
    adapter.state.context.step = 101
    with caplog.at_level(logging.WARNING):
        adapter.statistics()
        adapter.statistics()
    assert caplog.text.count("collapsed") == 1 and "any_size" in caplog.text


@pytest.mark.parametrize(("size_A", "size_B"), [(0.05, 9e-4), (1e-5, 2e-3)])
def test_either_sign_of_a_collapse_is_enough(build, caplog, size_A, size_B):
    """Nearly all of lora_B is small, or the update is against the base; not both."""
    adapter = espnet_blora.add_adapter(build(), "blora", rank=4)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_A.normal_(0, size_A)
            layer.lora_B.fill_(size_B)
    adapter.state.context.step = 101
    values = adapter.statistics()
    assert (values["small_share_B"] > 0.95) != (values["update_ratio"] < 1e-4)
    assert caplog.text.count("collapsed") == 1


def test_update_ratio(build, shake):
    adapter = shake(espnet_blora.add_adapter(build(), "blora", rank=4))
    layers = adapter.layers.values()
    update = torch.cat([layer.delta_weight().detach() for layer in layers]).norm()
    base = torch.cat([layer.weight for layer in layers]).norm()
    assert torch.allclose(adapter.statistics()["update_ratio"], update / base)


@pytest.mark.parametrize(("conf", "warns"), [({"preset": "paper"}, 1), ({"preset": "any_size"}, 0)])
def test_a_posterior_that_trains_to_zero_is_warned_of(build, caplog, conf, warns):
    model = build()
    conf = {"rank": 4, "target_modules": ["query", "key"], **conf}
    adapter = espnet_blora.add_adapter(model, "blora", **conf)
    optimizer = torch.optim.Adam(adapter.trainable_parameters(), lr=1e-3)
    model.train()
    for _ in range(301):
        optimizer.zero_grad()
        x = torch.randn(4, 12)
        ((model(x) - 3 * x[:, :5]).square().mean() + adapter.loss_terms()[0]).backward()
        optimizer.step()
    assert caplog.text.count("collapsed") == warns


def test_a_step_that_stands_still_is_warned_of_once(build, caplog):
    model = build()
    adapter = espnet_blora.add_adapter(model, "blora", rank=4)
    model.train()
    for _ in range(3):
        model(torch.randn(2, 12))
        adapter.loss_terms()
    assert "stands still" not in caplog.text
    for _ in range(3):
        model.blocks(torch.randn(2, 12))  # the model itself is never called
        adapter.loss_terms()
    assert caplog.text.count("stands still") == 1
    before = adapter.step
    adapter.advance()
    assert adapter.step == before + 1

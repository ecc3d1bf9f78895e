import pytest
import torch

import espnet_blora
from espnet_blora.adapters.report import statistics


def test_counts(build):
    model = build()
    base = sum(p.numel() for p in model.parameters())
    adapter = espnet_blora.add_adapter(model, "lora", rank=4, target_modules=["query", "mlp.0"])
    report = adapter.report()
    query, mlp = 2 * 4 * (12 + 12), 2 * 4 * (12 + 24)
    assert report["trainable"] == query + mlp and report["total"] == base + query + mlp
    assert report["share"] == pytest.approx(report["trainable"] / report["total"])
    assert report["targets"] == {
        "query": {"layers": 2, "trainable": query},
        "mlp.0": {"layers": 2, "trainable": mlp},
    }
    text = str(report)
    assert f"trainable parameters {query + mlp:,} of" in text and "%" in text
    assert "mlp.0: 2 Linears" in text


def test_blora_trains_rho_A_too(build):
    lora = espnet_blora.add_adapter(build(), "lora", rank=4).report()
    blora = espnet_blora.add_adapter(build(), "blora", rank=4).report()
    assert blora["trainable"] == lora["trainable"] + 4 * 4 * 12


def test_statistics(build):
    adapter = espnet_blora.add_adapter(build(), "blora", rank=4, rho_init_A=-5.0)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_A.fill_(0.5)
            layer.lora_A[0].fill_(1e-4)
            layer.lora_B.fill_(-2.0)
    values = {name: float(value) for name, value in adapter.statistics().items()}
    assert values["small_share_A"] == pytest.approx(0.25) and values["small_share_B"] == 0.0
    assert values["mean_norm_A"] == pytest.approx((0.75 * 0.25) ** 0.5, rel=1e-4)
    assert values["mean_norm_B"] == pytest.approx(2.0) == values["largest_mean"]
    sigma = 0.006715348
    for name in ("sigma_A_q05", "sigma_A_q50", "sigma_A_q95"):
        assert values[name] == pytest.approx(sigma, rel=1e-4)
    assert not any(name.startswith("sigma_B") for name in values)


def test_statistics_of_lora_and_of_a_trained_sigma_B(build):
    lora = espnet_blora.add_adapter(build(), "lora", rank=4)
    assert not any("sigma" in name for name in lora.statistics())
    both = espnet_blora.add_adapter(build(), "blora", rank=4, train_sigma_B=True)
    assert "sigma_B_q50" in statistics(list(both.layers.values()))

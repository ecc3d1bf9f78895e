"""Sparsity measures against definitions worked out by hand."""

import pytest
import torch

from espnet_blora.report import sparsity as s


def test_by_hand():
    w = torch.zeros(10, 10)
    w[0, 0], w[1, 1] = 3.0, -4.0
    below, by_mean, by_std, energy, hoyer = s.of_matrix(w)
    assert (below, by_mean, by_std) == (0.98, 0.98, 0.98)
    assert energy == pytest.approx(16 / 25)
    assert hoyer == pytest.approx((10 - 7 / 5) / 9)


def test_ends_of_hoyer():
    one = torch.zeros(64)
    one[3] = -2.0
    assert s.of_matrix(one)[4] == pytest.approx(1.0)
    assert s.of_matrix(torch.full((8, 8), 0.5))[4] == pytest.approx(0.0, abs=1e-9)


def test_the_threshold_is_strict_and_absolute():
    assert s.of_matrix(torch.tensor([1e-3, -9e-4, 2.0, 0.0], dtype=torch.float64))[0] == 0.5


def test_a_random_lora_product_is_as_the_literature_has_it():
    """d 1280, r 32: Hoyer 0.205 and 8.7 % of the energy in the top 1 % (simulated elsewhere)."""
    generator = torch.Generator().manual_seed(0)
    product = torch.randn(1280, 32, generator=generator) @ torch.randn(
        32, 1280, generator=generator
    )
    _, _, _, energy, hoyer = s.of_matrix(product)
    assert hoyer == pytest.approx(0.205, abs=0.005)
    assert energy == pytest.approx(0.087, abs=0.006)


def test_zeros_empty_and_nan():
    assert s.of_matrix(torch.zeros(5)) == (1.0, 1.0, 1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="empty"):
        s.of_matrix(torch.zeros(0))
    with pytest.raises(ValueError, match="NaN"):
        s.of_matrix(torch.tensor([1.0, float("nan")]))
    with pytest.raises(ValueError, match="no matrix"):
        s.of_matrices([])


def test_many_matrices():
    small, large = torch.zeros(2), torch.ones(8)
    both = s.of_matrices([small, large])
    assert both.below == pytest.approx(0.2)  # over entries
    assert both.adaptive_mean == pytest.approx(0.5)  # over matrices


def checkpoint(path, rank=2, **more):
    torch.manual_seed(0)
    down, up = 1e-3 * torch.randn(rank, 6), torch.randn(5, rank)
    state = {"x.query.lora_A": down, "x.query.lora_B": up}
    torch.save({**state, **more}, path)
    return state


def test_a_checkpoint(tmp_path):
    state = checkpoint(
        tmp_path / "c.pth", **{"x.query.rho_A": torch.ones(2, 6), "step": torch.ones(())}
    )
    layers = s.read_factors(tmp_path / "c.pth")
    found = s.of_factors(layers, "lora", {"rank": 2, "alpha": 8})
    # entries about the threshold, so that the scale alpha / rank shows
    delta = 4.0 * state["x.query.lora_B"] @ state["x.query.lora_A"]
    assert found["delta W"] == s.of_matrices([delta])
    assert set(found) == {"delta W", "lora_A", "lora_B"}
    assert s.sizes(layers) == (4 * (12 + 10 + 12), 4 * (12 + 10))


def test_presets_give_the_scale():
    assert s.scaling_of("blora", {"preset": "code"}, 32) == 2.0
    assert s.scaling_of("houlsby", {"alpha": 8, "rank": 4}, 4) == 2.0


def test_each_layer_has_the_scale_of_its_own_rank(tmp_path):
    low, high = (checkpoint(tmp_path / f"{r}.pth", rank=r) for r in (2, 4))
    both = {f"a.{k}": v for k, v in low.items()} | {f"b.{k}": v for k, v in high.items()}
    torch.save(both, tmp_path / "c.pth")
    layers = s.read_factors(tmp_path / "c.pth")
    found = s.of_factors(layers, "dama", {"alpha": 8, "r_high": 4, "r_low": 2})
    wanted = [
        8 / r * one["x.query.lora_B"] @ one["x.query.lora_A"] for r, one in ((2, low), (4, high))
    ]
    assert found["delta W"] == s.of_matrices(wanted)
    with pytest.raises(ValueError, match="the update of pissa is not a multiple"):
        s.of_factors(layers, "pissa", {})


def test_files_that_hold_no_factors(tmp_path):
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "base.pth")
    with pytest.raises(ValueError, match="holds no lora_A"):
        s.read_factors(tmp_path / "base.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match=r"cut\.pth: cannot be read"):
        s.read_factors(tmp_path / "cut.pth")

import pytest
import torch

import espnet_blora
from espnet_blora.adapters.methods.svd_layer import svd


def matrix(rows, columns, dtype=torch.float32):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (9, 4), (4, 9)])
@pytest.mark.parametrize("full", [False, True])
def test_the_factors_give_the_matrix_back(rows, columns, full):
    weight = matrix(rows, columns, torch.float64)
    u, s, vh = svd(weight, full)
    count = min(rows, columns)
    assert u.shape == (rows, count) and s.shape == (count,)
    assert vh.shape == (columns if full else count, columns)
    assert torch.allclose(u * s @ vh[:count], weight)
    assert torch.allclose(vh @ vh.T, torch.eye(len(vh), dtype=torch.float64))
    assert (s.diff() <= 0).all()


def test_signs_do_not_depend_on_the_machine(monkeypatch):
    weight = matrix(5, 8)
    u, s, vh = svd(weight)
    real = torch.linalg.svd

    def flipped(wide, **kwargs):
        left, values, right = real(wide, **kwargs)
        return -left, values, -right

    monkeypatch.setattr(torch.linalg, "svd", flipped)
    assert all(torch.equal(a, b) for a, b in zip(svd(weight), (u, s, vh), strict=True))


def test_half_precision_is_widened():
    assert svd(matrix(4, 4, torch.float16))[2].dtype == torch.float32
    assert svd(matrix(4, 4, torch.float64))[2].dtype == torch.float64


def test_nan_is_refused_with_the_name_of_the_layer(build_stack):
    model = build_stack()
    adapter = espnet_blora.add_adapter(model, "dama", theta1=0.34, theta2=1.0)
    with torch.no_grad():
        model.decoder.blocks[1].mlp[0].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="decoder.blocks.1.mlp.0: the base weight holds NaN"):
        adapter.prepare()


def test_a_forward_of_a_part_computes_the_bases_it_needs(build_stack, x):
    """Decoding never calls the model itself."""
    model = build_stack()
    adapter = espnet_blora.add_adapter(model, "dama", theta1=0.34, theta2=1.0)
    layer = adapter.layers["decoder.blocks.1.attn.query"]
    assert not layer.ready and not layer.basis_ready
    model.eval().decoder(x)
    assert layer.ready and layer.basis_ready
    kept = layer.lora_A.clone()
    with torch.no_grad():
        layer.weight.mul_(-1.0).add_(0.1)
    model.train()(x)
    assert torch.equal(layer.lora_A, kept)  # once is enough


def test_a_state_without_bases_makes_them_due_again(build_stack, x):
    model = build_stack()
    adapter = espnet_blora.add_adapter(model, "dama", theta1=0.34, theta2=1.0)
    early = {key: value.clone() for key, value in model.state_dict().items()}
    adapter.prepare()
    layer = adapter.layers["decoder.blocks.1.attn.query"]
    basis = layer.lora_A.clone()
    model.load_state_dict(early)
    assert not layer.ready and not torch.equal(layer.lora_A, basis)
    assert not model.adapter_state.bases_agreed  # with the other ranks
    model.train()(x)
    assert layer.ready and torch.equal(layer.lora_A, basis)

import pytest
import torch

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

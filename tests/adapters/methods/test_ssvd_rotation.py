import pytest
import torch

from espnet_blora.adapters.methods.ssvd import (
    MAPS,
    orthogonality_gap,
    rotated_core,
    rotated_count,
    rotation_change,
    rotation_entries,
    skew,
    skew_size,
)

K = 7


def drawn(rotation_map, scale, k=K, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = rotation_entries(k, rotation_map)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def test_skew_fills_the_upper_triangle_row_by_row():
    matrix = skew(torch.arange(1.0, 7.0), 4)
    assert matrix.tolist() == [[0, 1, 2, 3], [-1, 0, 4, 5], [-2, -4, 0, 6], [-3, -5, -6, 0]]
    assert [skew_size(k) for k in (1, 2, 4)] == [0, 1, 6]
    assert skew(torch.zeros(0), 1).shape == (1, 1)


@pytest.mark.parametrize("rotation_map", MAPS)
def test_no_rotation_is_exactly_none(rotation_map):
    change = rotation_change(torch.zeros(rotation_entries(K, rotation_map)), K, rotation_map)
    core = rotated_core(change, torch.rand(K) + 0.3, torch.zeros(K), output_side=False)
    assert change.shape == core.shape == (K, K)
    assert not change.any() and not core.any()


def test_cayley_is_the_closed_form_and_orthogonal_at_any_size():
    entries = drawn("cayley", 3.0)
    matrix, one = skew(entries, K), torch.eye(K, dtype=torch.float64)
    rotation = one + rotation_change(entries, K, "cayley")
    assert torch.allclose(rotation, (one - matrix) @ torch.linalg.inv(one + matrix))
    assert torch.allclose(rotation.T @ rotation, one, atol=1e-12)
    assert (rotation - one).abs().max() > 0.5


def test_linear_agrees_with_cayley_to_second_order():
    gaps = []
    for scale in (1e-2, 1e-3, 1e-4):
        entries = drawn("linear", scale)
        linear, exact = (rotation_change(entries, K, name) for name in ("linear", "cayley"))
        gaps.append(float(torch.linalg.matrix_norm(linear - exact)) / scale**2)
    assert max(gaps) / min(gaps) < 1.05 and min(gaps) > 0.1


def test_the_gap_is_that_of_g_and_grows_as_known():
    """Spectral norms known for k = 32: 5e-4, 5e-2, 1.3 at entries of size 1e-3, 1e-2, 5e-2."""
    one = torch.eye(32, dtype=torch.float64)
    for scale, known in ((1e-3, 5e-4), (1e-2, 5e-2), (5e-2, 1.3)):
        change = rotation_change(drawn("linear", scale, 32), 32, "linear")
        whole = (one + change).T @ (one + change) - one
        assert torch.allclose(orthogonality_gap(change), torch.linalg.matrix_norm(whole))
        assert float(torch.linalg.matrix_norm(whole, ord=2)) == pytest.approx(known, rel=0.25)
        exact = rotation_change(drawn("cayley", scale, 32).float(), 32, "cayley")
        assert orthogonality_gap(exact) < 1e-5


@pytest.mark.parametrize("rotation_map", MAPS)
@pytest.mark.parametrize("with_shift", [True, False])
@pytest.mark.parametrize("output_side", [True, False])
def test_the_core_is_what_changes_in_the_whole_product(rotation_map, with_shift, output_side):
    """U (S + dS) G V^T of the full factors, against W0 + U_k C V_k^T of k of them."""
    weight = torch.randn(9, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    change = rotation_change(drawn(rotation_map, 0.3), K, rotation_map)
    shift = torch.linspace(-0.2, 0.3, K, dtype=torch.float64) if with_shift else None
    block = torch.eye(9, dtype=torch.float64)
    block[:K, :K] += change
    values = s.clone()
    if with_shift:
        values[:K] += shift
    middle = block.T @ torch.diag(values) if output_side else torch.diag(values) @ block
    core = rotated_core(change, s[:K], shift, output_side)
    assert torch.allclose(u @ middle @ vh, weight + u[:, :K] @ core @ vh[:K])
    assert core.abs().max() > 0.1


@pytest.mark.parametrize(
    ("size", "divisors", "published"),
    [
        (1024, (4.5, 4, 3.5, 3, 2.5), (227, 256, 292, 341, 409)),
        (384, (2.5, 1.6, 1.2), (153, 239, 320)),
        (2048, (6, 5, 4), (341, 409, 512)),
    ],
)
def test_the_divisors_of_the_published_runs(size, divisors, published):
    assert tuple(rotated_count(size, None, None, d) for d in divisors) == published


def test_rank_and_ratio():
    assert rotated_count(384, 5, None, None) == 5
    assert rotated_count(384, None, 0.4, None) == 153 and rotated_count(10, None, 1.0, None) == 10
    assert isinstance(rotated_count(10, None, None, 2.5), int)


@pytest.mark.parametrize("rotation_map", MAPS)
def test_gradients(rotation_map):
    entries = drawn(rotation_map, 0.3, 4).requires_grad_()
    values = torch.linspace(1.0, 2.0, 4, dtype=torch.float64)
    shift = torch.full((4,), 0.1, dtype=torch.float64, requires_grad=True)

    def core(entries, shift):
        return rotated_core(rotation_change(entries, 4, rotation_map), values, shift, False)

    assert torch.autograd.gradcheck(core, (entries, shift))

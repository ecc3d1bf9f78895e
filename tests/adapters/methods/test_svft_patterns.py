import pytest
import torch

from espnet_blora.adapters.methods.svft import (
    band_count,
    banded,
    best_aligned,
    random_places,
    scattered,
)


@pytest.mark.parametrize(("n", "width"), [(1, 0), (5, 0), (5, 2), (5, 4), (8, 3)])
def test_a_band_is_what_its_name_says_and_its_count_is_known(n, width):
    places = banded(n, width)
    mask = (torch.arange(n).unsqueeze(1) - torch.arange(n)).abs() <= width
    assert torch.equal(scattered(torch.ones(len(places)), places, n), mask.float())
    assert len(places) == band_count(n, width) == n * width + (n - width) * (width + 1)


def test_a_band_wider_than_the_matrix_is_all_of_it():
    assert band_count(4, 9) == 16 == len(banded(4, 9))


def test_random_places_differ_by_seed_and_never_repeat():
    one, again, other = (random_places(9, 40, seed) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert len(set(one.tolist())) == 40 and one.min() >= 0 and one.max() < 81


def test_the_best_aligned_places_are_those_of_the_largest_products():
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(3))
    u, _, vh = torch.linalg.svd(weight)
    products = torch.tensor([[abs(float(u[:, i] @ vh[j])) for j in range(6)] for i in range(6)])
    chosen = best_aligned(u, vh, 10)
    rest = [p for p in range(36) if p not in set(chosen.tolist())]
    assert len(chosen) == 10 and len(rest) == 26
    assert products.flatten()[chosen].min() > products.flatten()[rest].max()


def test_entries_go_to_their_places_and_get_their_gradient():
    entries = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    matrix = scattered(entries, torch.tensor([1, 3, 8]), 3)
    assert matrix.tolist() == [[0, 1, 0], [2, 0, 0], [0, 0, 3]]
    (matrix * torch.arange(9.0).view(3, 3)).sum().backward()
    assert entries.grad.tolist() == [1.0, 3.0, 8.0]

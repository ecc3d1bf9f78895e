import pytest
import torch

import espnet_blora
from espnet_blora.adapters import fingerprint as fp


def distance(one, two):
    return fp.difference({"w": fp.sketch(one)}, {"w": two})[0]


WEIGHT = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_cast_stays_far_below_the_tolerance(dtype):
    rounded = WEIGHT.to(dtype)
    assert distance(WEIGHT, rounded) < fp.TOLERANCE / 2
    assert distance(WEIGHT, rounded.float()) < fp.TOLERANCE / 2


@pytest.mark.parametrize("relative", [0.02, 0.1, 1.0])
def test_the_distance_estimates_the_relative_change(relative):
    other = WEIGHT + relative * torch.randn(300, 200, generator=torch.Generator().manual_seed(1))
    assert 0.5 * relative < distance(WEIGHT, other) < 1.6 * relative


def test_unrelated_scaled_negated_and_permuted_weights_differ():
    torch.manual_seed(5)
    for other in (torch.randn(300, 200), 1.05 * WEIGHT, -WEIGHT, WEIGHT.flip(0), WEIGHT.flip(1)):
        assert distance(WEIGHT, other) > 5 * fp.TOLERANCE


def test_zeros_and_small_weights():
    zero = torch.zeros(3)
    assert distance(zero, zero) == 0.0
    assert distance(zero, torch.ones(3)) > 0.1
    assert distance(torch.ones(5), torch.ones(5)) == 0.0
    assert distance(torch.tensor([float("nan")]), torch.ones(1)) == float("inf")


def test_bits_survive_packing():
    rows = fp.fingerprint([WEIGHT, torch.ones(7)])
    assert rows.shape == (2, fp.WIDTH)
    assert torch.equal(fp.unpack(fp.pack(rows)), rows)


def test_meta_has_no_fingerprint():
    assert fp.fingerprint([torch.ones(2, 2, device="meta")]) is None


def test_all_targets_and_some_others_are_looked_at(build):
    model = build(blocks=8)
    adapter = espnet_blora.add_adapter(model, "lora", rank=2, target_modules=["query"])
    names = adapter.state.base_names
    targets = [f"blocks.{i}.attn.query.weight" for i in range(8)]
    vectors = [name for name, p in model.named_parameters() if p.dim() == 1]
    assert names[:8] == targets and names[-len(vectors) :] == vectors
    assert 4 <= len(names[8 : -len(vectors)]) <= fp.OTHERS
    assert len(set(names)) == len(names)

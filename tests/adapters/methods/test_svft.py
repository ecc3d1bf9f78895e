import pytest
import torch
from torch import nn

import espnet_blora
from espnet_blora.adapters import parse_config
from espnet_blora.adapters.methods.svft import band_count


def one_layer(d_out, d_in, **conf):
    """One prepared layer on an fp64 Linear, with entries 0.1, 0.2, ... in M."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"proj": nn.Linear(d_in, d_out, dtype=torch.float64)})
    adapter = espnet_blora.add_adapter(model, "svft", target_modules=["proj"], **conf)
    adapter.prepare()
    layer = adapter.layers["proj"].eval()
    with torch.no_grad():
        layer.svft_M.copy_(0.1 * torch.arange(1, len(layer.svft_M) + 1))
    return layer


@pytest.mark.parametrize("shape", [(6, 6), (10, 6), (6, 10)])
@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"width": 2},
        {"width": 1, "gate": True},
        {"pattern": "random", "width": 1},
        {"pattern": "random", "entries": 9},
    ],
)
def test_it_is_m_between_all_singular_vectors(shape, conf):
    layer = one_layer(*shape, **conf)
    weight = layer.weight.detach()
    s = torch.linalg.svdvals(weight)
    assert torch.allclose(layer.svd_U @ torch.diag(s) @ layer.svd_Vh, weight)
    matrix = torch.zeros(6, 6, dtype=torch.float64)
    places = layer.svft_places
    if places is None:
        places = torch.arange(6) * 7
    matrix.view(-1)[places] = layer.svft_M.detach() * (0.5 if "gate" in conf else 1.0)
    expected = layer.svd_U @ (torch.diag(s) + matrix) @ layer.svd_Vh
    assert torch.allclose(weight + layer.delta_weight(), expected)
    x = torch.randn(2, 3, shape[1], dtype=torch.float64)
    assert torch.allclose(layer(x), nn.functional.linear(x, expected, layer.bias))
    assert (expected - weight).abs().max() > 0.05


def test_the_diagonal_moves_singular_values_and_no_vector():
    layer = one_layer(7, 5)
    values = torch.linalg.svdvals(layer.weight) + 0.1 * torch.arange(1, 6)
    changed = torch.linalg.svdvals(layer.weight + layer.delta_weight())
    assert torch.allclose(changed, values.sort(descending=True).values)


def test_top_k_trains_the_best_aligned_pairs():
    layer = one_layer(6, 6, pattern="top_k", entries=5)
    products = (layer.svd_U.T @ layer.svd_Vh.T).abs().flatten()
    assert set(layer.svft_places.tolist()) == set(products.topk(5).indices.tolist())


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({}, 12),
        ({"gate": True}, 13),
        ({"width": 3}, band_count(12, 3)),
        ({"pattern": "random", "width": 3}, band_count(12, 3)),
        ({"pattern": "top_k", "entries": 20, "target_modules": ["query"]}, 20),
    ],
)
def test_counts(build, conf, expected):
    adapter = espnet_blora.add_adapter(build(device="meta"), "svft", **conf)
    assert adapter.report()["trainable"] == len(adapter.layers) * expected
    assert adapter.report()["stored"] == len(adapter.layers) * 2 * 12 * 12


def test_random_places_differ_between_layers_and_follow_the_seed(build):
    def places(seed):
        adapter = espnet_blora.add_adapter(build(), "svft", pattern="random", width=1, seed=seed)
        adapter.prepare()
        return [layer.svft_places.tolist() for layer in adapter.layers.values()]

    assert places(1) == places(1) != places(2)
    assert places(1)[0] != places(1)[1]


@pytest.mark.parametrize("conf", [{}, {"width": 2, "gate": True}, {"pattern": "random"}])
def test_everything_learns(build, x, conf):
    model = build()
    adapter = espnet_blora.add_adapter(model, "svft", **conf)
    before = [p.clone() for p in adapter.trainable_parameters()]
    optimizer = torch.optim.AdamW(adapter.trainable_parameters(), lr=0.1)
    for _ in range(2):  # the gate's gradient is zero until there is an M
        optimizer.zero_grad()
        model.train()(x).square().sum().backward()
        optimizer.step()
    pairs = list(zip(adapter.trainable_parameters(), before, strict=True))
    assert len(pairs) == 4 * (2 if "gate" in conf else 1)
    assert all(bool((now != was).any()) for now, was in pairs)


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"pattern": "diagonal"}, ["pattern is 'diagonal'", "banded, random, top_k"]),
        ({"width": -1}, ["width is -1", ">= 0"]),
        ({"gate": 0}, ["gate is 0", "true or false"]),
        ({"seed": 1.5}, ["seed is 1.5"]),
        ({"entries": 5}, ["entries is 5", "random or top_k"]),
        ({"pattern": "random", "entries": 0}, ["entries is 0", ">= 1"]),
        ({"rank": 4}, ["'rank'", "allowed"]),
    ],
)
def test_each_bad_option_is_named_with_what_is_allowed(conf, words):
    with pytest.raises(ValueError, match="adapter_conf of svft") as caught:
        parse_config("svft", conf)
    for word in words:
        assert word in str(caught.value)


def test_what_does_not_fit_names_the_linear(build):
    with pytest.raises(ValueError, match=r"square; blocks\.0\.mlp\.0 is 24 x 12"):
        espnet_blora.add_adapter(build(), "svft", pattern="top_k", target_modules=["mlp.0"])
    with pytest.raises(ValueError, match=r"entries is 145.*attn\.query.*1 to 144"):
        espnet_blora.add_adapter(build(), "svft", pattern="random", entries=145)

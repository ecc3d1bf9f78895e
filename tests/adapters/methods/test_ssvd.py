import pytest
import torch
from torch import nn

import espnet_blora
from espnet_blora.adapters import parse_config


def wobble(adapter, scale=0.3):
    """Move all that trains away from its start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapter.trainable_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(scale * noise)
    return adapter


def one_layer(d_out, d_in, **conf):
    """One prepared and moved layer on an fp64 Linear."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"proj": nn.Linear(d_in, d_out, dtype=torch.float64)})
    adapter = espnet_blora.add_adapter(model, "ssvd", target_modules=["proj"], **conf)
    adapter.prepare()
    return wobble(adapter).layers["proj"].eval()


def inventory(count, width):
    """Linears of the published models: square, tall and wide, all of min(d_out, d_in) = width."""
    shapes = [(width, width), (4 * width, width), (width, 4 * width)]
    layers = [nn.Linear(*shapes[i % 3][::-1], device="meta") for i in range(count)]
    return nn.ModuleList(nn.ModuleDict({"proj": layer}) for layer in layers)


PUBLISHED = {  # millions of parameters by divisor, with gate
    (380, 1024): {4.5: 9.83, 4: 12.50, 3.5: 16.26, 3: 22.16, 2.5: 31.86},  # OWSM-1B
    (128, 384): {2.5: 1.51, 1.6: 3.67, 1.2: 6.57},  # OWSM-0.1B
    (258, 2048): {6: 15.04, 5: 21.63, 4: 33.88},  # OWLS-2B
}


@pytest.mark.parametrize(
    ("count", "width", "divisor", "millions"),
    [(*size, *row) for size, rows in PUBLISHED.items() for row in rows.items()],
)
def test_the_published_counts_eleven_of_eleven(count, width, divisor, millions):
    model = inventory(count, width)
    report = espnet_blora.add_adapter(
        model, "ssvd", target_modules=["proj"], rotation_divisor=divisor
    ).report()
    assert round(report["trainable"] / 1e6, 2) == millions
    k = int(width // divisor)
    assert report["trainable"] == count * (k * (k - 1) // 2 + k + 1)
    assert report["ranks"] == (k, k)


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({}, 4 * 3 // 2 + 4 + 1),
        ({"gate": False}, 4 * 3 // 2 + 4),
        ({"shift": False}, 4 * 3 // 2),
        ({"rotation_map": "cayley"}, 4 * 3 // 2 + 4 + 1),
        ({"rotation_map": "free", "gate": False}, 4 * 4 + 4),
        ({"rotation_map": "free", "shift": False}, 4 * 4),
    ],
)
def test_what_each_option_costs(build, conf, expected):
    adapter = espnet_blora.add_adapter(build(), "ssvd", rank=4, target_modules=["key"], **conf)
    assert adapter.report()["trainable"] == 2 * expected
    assert adapter.report()["stored"] == 2 * (12 * 4 + 4 + 4 * 12)


@pytest.mark.parametrize("shape", [(8, 8), (16, 8), (8, 16)])
@pytest.mark.parametrize("subspace", ["head", "tail"])
@pytest.mark.parametrize("rotation_map", ["linear", "cayley", "free"])
def test_it_is_the_rotation_of_the_whole_decomposition(shape, subspace, rotation_map):
    """U (S + dS) G V^T with all factors, as the paper writes it; nothing outside k changes."""
    layer = one_layer(*shape, rank=3, subspace=subspace, rotation_map=rotation_map)
    weight = layer.weight.detach()
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    rows = slice(0, 3) if subspace == "head" else slice(5, 8)
    u[:, rows], vh[rows] = layer.svd_U, layer.svd_Vh  # signs
    assert torch.allclose(u @ torch.diag(s) @ vh, weight)
    shift, rotation = torch.zeros(8), torch.eye(8, dtype=torch.float64)
    shift = shift.double().index_add(
        0, torch.arange(8)[rows], layer.ssvd_dS * layer.ssvd_gate.sigmoid()
    )
    rotation[rows, rows] += layer.change()
    expected = u @ torch.diag(s + shift) @ rotation @ vh
    adapted = weight + layer.delta_weight()
    assert torch.allclose(adapted, expected, atol=1e-12)
    assert (adapted - weight).abs().max() > 1e-2
    rest = [i for i in range(8) if i not in range(8)[rows]]
    assert torch.allclose(adapted @ vh[rest].T, weight @ vh[rest].T, atol=1e-12)
    assert torch.allclose(u[:, rest].T @ adapted, u[:, rest].T @ weight, atol=1e-12)
    x = torch.randn(2, 5, shape[1], dtype=torch.float64)
    assert torch.allclose(layer(x), nn.functional.linear(x, expected, layer.bias), atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (16, 8), (8, 16)])
def test_espnets_orientation_is_the_published_programs(shape):
    """It factorises W^T where W is wide, so the rotation meets the outputs there."""
    layer = one_layer(*shape, rank=3, orientation="espnet")
    wide = shape[0] < shape[1]
    left, right = (layer.svd_Vh.T, layer.svd_U.T) if wide else (layer.svd_U, layer.svd_Vh)
    rotation = torch.eye(3, dtype=torch.float64) + layer.change()
    values = torch.diag(layer.svd_S + layer.ssvd_dS * layer.ssvd_gate.sigmoid())
    block = left @ values @ rotation @ right - left @ torch.diag(layer.svd_S) @ right
    assert torch.allclose(layer.delta_weight(), block.T if wide else block, atol=1e-12)
    other = one_layer(*shape, rank=3, orientation="input")
    assert torch.allclose(layer.delta_weight(), other.delta_weight(), atol=1e-9) != wide


def test_a_rotation_alone_keeps_singular_values():
    layer = one_layer(9, 7, rank=4, rotation_map="cayley", shift=False, subspace="tail")
    before = torch.linalg.svdvals(layer.weight)
    changed = layer.weight + layer.delta_weight()
    assert torch.allclose(torch.linalg.svdvals(changed), before)
    assert (changed - layer.weight).abs().max() > 1e-2


def test_decode_time_scale_is_a_fraction_of_the_update(build, x):
    model = build()
    adapter = wobble(espnet_blora.add_adapter(model, "ssvd", rank=4))
    model.eval()
    layer = adapter.layers["blocks.0.attn.query"]
    with adapter.disabled():
        base = layer(x)
    whole = layer(x) - base
    adapter.set_scale(0.25)
    assert torch.allclose(layer(x) - base, 0.25 * whole, atol=1e-6) and whole.abs().max() > 1e-2


def test_everything_learns_and_the_singular_vectors_stay(build, x):
    model = build()
    adapter = espnet_blora.add_adapter(model, "ssvd", rank=4, target_modules=["query", "mlp.2"])
    adapter.prepare()
    frozen = {n: b.clone() for n, b in model.named_buffers() if ".svd_" in n}
    before = [p.clone() for p in adapter.trainable_parameters()]
    optimizer = torch.optim.AdamW(adapter.trainable_parameters(), lr=0.1)
    for _ in range(2):  # the gate's gradient is zero until there is a shift
        optimizer.zero_grad()
        model.train()(x).square().sum().backward()
        optimizer.step()
    moved = [
        bool((a != b).any()) for a, b in zip(adapter.trainable_parameters(), before, strict=True)
    ]
    assert len(moved) == 4 * 3 and all(moved)
    assert len(frozen) == 4 * 3
    assert all(torch.equal(model.get_buffer(name), value) for name, value in frozen.items())


def test_the_distance_from_a_rotation_is_logged(build, x):
    gaps = {}
    for rotation_map in ("linear", "cayley"):
        model = build()
        adapter = espnet_blora.add_adapter(
            model, "ssvd", rank=4, rotation_map=rotation_map, log_every=2
        )
        wobble(adapter)
        assert adapter.has_loss_term
        logged = []
        for _ in range(3):
            model.train()(x)
            term, logs = adapter.loss_terms()
            assert float(term) == 0.0
            logged.append(sorted(logs))
        assert logged == [["orthogonality_gap", "rotation"], [], ["orthogonality_gap", "rotation"]]
        gaps[rotation_map] = float(logs["orthogonality_gap"])
        sizes = [float(layer.change().detach().norm()) for layer in adapter.layers.values()]
        assert float(logs["rotation"]) == pytest.approx(max(sizes))
    assert gaps["linear"] > 0.1 and gaps["cayley"] < 1e-5


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"rank": 4, "rotation_ratio": 0.4}, ["rank and rotation_ratio", "one of"]),
        ({"rotation_ratio": 1.5}, ["rotation_ratio is 1.5", "<= 1"]),
        ({"rotation_ratio": 0}, ["rotation_ratio is 0", "> 0"]),
        ({"rotation_divisor": 0.5}, ["rotation_divisor is 0.5", ">= 1"]),
        ({"rank": 2.0}, ["rank is 2.0", "whole number"]),
        ({"rotation_map": "neumann"}, ["rotation_map is 'neumann'", "cayley, free, linear"]),
        ({"subspace": "middle"}, ["subspace is 'middle'", "head, tail"]),
        ({"orientation": "output"}, ["orientation is 'output'", "espnet, input"]),
        ({"shift": 1}, ["shift is 1", "true or false"]),
        ({"gate": "yes"}, ["gate is 'yes'", "true or false"]),
        ({"shift": False, "gate": True}, ["gate is true", "gate: false"]),
        ({"alpha": 4}, ["'alpha'", "allowed"]),
        ({"log_every": 0}, ["log_every is 0"]),
    ],
)
def test_each_bad_option_is_named_with_what_is_allowed(conf, words):
    with pytest.raises(ValueError, match="adapter_conf of ssvd") as caught:
        parse_config("ssvd", conf)
    for word in words:
        assert word in str(caught.value)


def test_a_size_that_does_not_fit_names_the_linear(build):
    with pytest.raises(ValueError, match=r"rank 13 gives 13.*attn\.query.*12 x 12.*1 to 12"):
        espnet_blora.add_adapter(build(), "ssvd", rank=13)
    with pytest.raises(ValueError, match=r"rotation_ratio 0\.05 gives 0 singular.*1 to 12"):
        espnet_blora.add_adapter(build(), "ssvd", rotation_ratio=0.05)


def test_defaults():
    config = parse_config("ssvd", {})
    assert (config.rotation_ratio, config.rank, config.gate) == (0.4, None, True)
    assert parse_config("ssvd", {"shift": False}).gate is False
    assert parse_config("ssvd", {"rank": 8}).rotation_ratio is None

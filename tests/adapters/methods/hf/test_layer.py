"""The methods from Hugging Face PEFT: they compute what PEFT computes, and promise what ours do."""

import copy
import sys
from collections import OrderedDict

import peft
import pytest
import torch
from torch import nn

import espnet_blora
from espnet_blora.adapters import METHODS
from espnet_blora.adapters.methods.hf.layer import HfLayer, peft_layer, peft_package, slot

TARGETS = ["query", "mlp.0", "mlp.2"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS}
# {method: (our options, PEFT's config of the same)}
SAME = {
    "dora": ({"rank": 4, "alpha": 8}, lambda: peft.LoraConfig(**LORA, use_dora=True)),
    "pissa": ({"rank": 4, "alpha": 8}, lambda: peft.LoraConfig(**LORA, init_lora_weights="pissa")),
    "lora_fa": ({"rank": 4, "alpha": 8}, lambda: peft.LoraConfig(**LORA)),
    "mica": ({"rank": 4, "alpha": 8}, lambda: peft.LoraConfig(**LORA, init_lora_weights="mica")),
    "vera": (
        {"rank": 4, "seed": 5},
        lambda: peft.VeraConfig(r=4, projection_prng_key=5, target_modules=TARGETS),
    ),
    "vblora": (
        {"rank": 4, "num_vectors": 6, "vector_length": 6},
        lambda: peft.VBLoRAConfig(r=4, num_vectors=6, vector_length=6, target_modules=TARGETS),
    ),
    "osf": ({"rank": 5}, lambda: peft.OSFConfig(effective_rank=7, target_modules=TARGETS)),
    "adalora": (
        {"rank": 4, "alpha": 8, "target_rank": 2, "total_steps": 20},
        lambda: peft.AdaLoraConfig(
            init_r=4, target_r=2, lora_alpha=8, total_step=20, target_modules=TARGETS
        ),
    ),
}


def test_all_of_them_are_here():
    assert set(SAME) == {name for name, m in METHODS.items() if issubclass(m.layer, HfLayer)}


@pytest.fixture(params=list(SAME))
def name(request):
    return request.param


def both(build, name):
    """Our adapter and PEFT's on the same base, with the same tensors in them."""
    our_model = build()
    adapter = espnet_blora.add_adapter(our_model, name, target_modules=TARGETS, **SAME[name][0])
    adapter.prepare()
    peft_model = peft.get_peft_model(build(), SAME[name][1]())
    share(adapter, peft_model)
    return our_model, adapter, peft_model


def in_peft(adapter, peft_model):
    """Yield (our tensor, PEFT's) of every tensor that both know."""
    for prefix, layer in adapter.layers.items():
        module = peft_model.get_submodule(f"base_model.model.{prefix}")
        for own, path in layer.names.items():
            if hasattr(layer, own):  # not what another layer owns for all
                place, key = slot(module, path)
                yield layer.tensor(own), place[key]


@torch.no_grad()
def share(adapter, peft_model):
    for mine, other in in_peft(adapter, peft_model):
        assert mine.shape == other.shape
        other.copy_(mine)


def step(model, parameters, x):
    """A step of one length, whatever the size of the gradient."""
    model.train()(x).square().mean().backward()
    with torch.no_grad():
        length = torch.stack([p.grad.norm() for p in parameters]).norm()
        for parameter in parameters:
            parameter -= 0.5 * parameter.grad / length
            parameter.grad = None


def test_it_starts_where_peft_does(build, name, x):
    """What is computed from the weight is what PEFT computes from it, in its own model."""
    our_model, adapter, _ = both(build, name)
    peft_model = peft.get_peft_model(build(), SAME[name][1]())
    pairs = list(in_peft(adapter, peft_model))
    if name in ("pissa", "mica", "osf"):
        assert all(torch.equal(mine, other) for mine, other in pairs)
    if name == "vera":
        assert all(torch.equal(mine, other) for mine, other in pairs)  # one seed, one draw
    if name == "dora":
        layer = adapter.layers["blocks.0.mlp.0"]
        assert torch.allclose(layer.lora_magnitude, layer.weight.norm(dim=1))
    assert pairs and torch.allclose(our_model.eval()(x), build()(x), atol=1e-3)


def test_it_trains_and_computes_as_peft_does(build, name, x):
    """Four steps of gradient descent on both: equal outputs, equal tensors, equal merges."""
    our_model, adapter, peft_model = both(build, name)
    trained = [(mine, other) for mine, other in in_peft(adapter, peft_model) if mine.requires_grad]
    for _ in range(4):
        step(our_model, [mine for mine, _ in trained], x)
        step(peft_model, [other for _, other in trained], x)
    our_model.eval(), peft_model.eval()
    assert (our_model(x) - build()(x)).abs().max() > 1e-3  # it has moved
    assert torch.allclose(our_model(x), peft_model(x), atol=1e-5)
    assert all(torch.allclose(mine, other, atol=1e-5) for mine, other in trained)
    adapter.merge()
    merged = peft_model.merge_and_unload()
    assert torch.allclose(our_model(x), merged(x), atol=1e-5)


def test_a_scale_goes_from_the_base_to_the_adapted_model(build, name, x):
    our_model, adapter, _ = both(build, name)
    trained = adapter.trainable_parameters()
    for _ in range(3):
        step(our_model, trained, x)
    whole, base = our_model.eval()(x), build()(x)
    with adapter.scaled(0.0):
        assert torch.equal(our_model(x), base)
    layer, z = adapter.layers["blocks.0.mlp.0"], torch.randn(2, 12)
    full, empty = layer(z), nn.functional.linear(z, layer.weight, layer.bias)
    with adapter.scaled(0.5):
        assert torch.allclose(layer(z), (full + empty) / 2, atol=1e-6)
        factored = our_model(x)
        adapter.merge()
        assert torch.allclose(our_model(x), factored, atol=1e-6)
        adapter.unmerge()
    assert torch.equal(our_model(x), whole)


def test_dropout_is_on_the_update_alone_and_in_training_alone(build, name, x):
    our_model = build()
    options = {**SAME[name][0], "dropout_rate": 0.5, "target_modules": TARGETS}
    adapter = espnet_blora.add_adapter(our_model, name, **options)
    assert torch.allclose(our_model.train()(x), build()(x), atol=1e-3)
    for _ in range(3):
        step(our_model, adapter.trainable_parameters(), x)
    assert torch.equal(our_model.eval()(x), our_model(x))
    assert not torch.equal(our_model.train()(x), our_model(x))


def test_torchs_generator_moves_at_the_start_alone_and_not_for_what_is_frozen(build, name, x):
    our_model = build()
    torch.manual_seed(1)
    adapter = espnet_blora.add_adapter(our_model, name, target_modules=TARGETS, **SAME[name][0])
    before = torch.get_rng_state()
    adapter.prepare()
    our_model.train()(x)
    copy.deepcopy(our_model)(x)
    adapter.merge()
    assert torch.equal(torch.get_rng_state(), before)
    other = build()
    torch.manual_seed(2)
    again = espnet_blora.add_adapter(other, name, target_modules=TARGETS, **SAME[name][0])
    again.prepare()
    kinds = {True: [], False: []}
    for key, layer in adapter.layers.items():
        for factor, tensor in layer.factors().items():
            kinds[tensor.requires_grad].append(
                torch.equal(tensor, again.layers[key].factors()[factor])
            )
    assert all(kinds[False])  # on every rank the same, without a word between them
    drawn = name in ("dora", "vblora", "adalora")
    assert all(kinds[True]) is not drawn


@pytest.fixture(scope="module")
def decoder():
    """The Linears of the decoder of Whisper-large-v2, on the meta device."""

    def attention():
        return nn.ModuleDict({n: nn.Linear(1280, 1280) for n in ("query", "key", "value", "out")})

    def block():
        mlp = nn.Sequential(nn.Linear(1280, 5120), nn.GELU(), nn.Linear(5120, 1280))
        parts = OrderedDict(attn=attention(), cross_attn=attention(), mlp=mlp)
        return nn.ModuleDict(parts)

    with torch.device("meta"):
        return nn.ModuleDict({"blocks": nn.ModuleList(block() for _ in range(32))})


@pytest.mark.parametrize(
    ("method", "conf", "trained", "stored"),
    [
        # Table 1 of the DAMA paper, in millions: 68.7, 34.1, 51.1 (+ 15,360 in E), 4.9.
        ("dora", {"rank": 64, "alpha": 64}, 68_689_920, 0),
        ("lora_fa", {"rank": 64}, 34_078_720, 34_078_720),
        ("adalora", {"rank": 48, "total_steps": 100}, 51_118_080 + 15_360, 320),
        ("vblora", {"rank": 64, "num_vectors": 90}, 4_907_520, 0),
        # LoRA's count, and half of it.
        ("pissa", {"rank": 64}, 68_157_440, 68_157_440),
        ("mica", {"rank": 64}, 34_078_720, 34_078_720),
    ],
)
def test_the_published_counts_on_the_decoder_of_large_v2(decoder, method, conf, trained, stored):
    model = copy.deepcopy(decoder)
    targets = ["query", "key", "value", "out", "mlp.0", "mlp.2"]
    report = espnet_blora.add_adapter(model, method, target_modules=targets, **conf).report()
    assert (report["layers"], report["trainable"], report["stored"]) == (320, trained, stored)


def test_without_peft_the_error_names_the_command(build, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    model = build()
    with pytest.raises(ValueError, match=r"pip install -e '\.\[peft\]'"):
        espnet_blora.add_adapter(model, "dora", rank=4)


def test_another_layout_of_peft_is_named(build):
    layer = peft_layer(peft.LoraConfig(r=2, target_modules=["linear"]), nn.Linear(3, 3))
    assert slot(layer, "lora_A.default.weight")[1] == "weight"
    for path in ("lora_Z.default.weight", "lora_A.default.wait"):
        with pytest.raises(ValueError, match=f"has no {path}.*laid out differently"):
            slot(layer, path)
    assert peft_package() is peft


def test_a_base_with_nan_is_named(build, x):
    model = build()
    with torch.no_grad():
        model.blocks[1].mlp[0].weight[0, 0] = float("nan")
    adapter = espnet_blora.add_adapter(model, "pissa", rank=2, target_modules=TARGETS)
    with pytest.raises(ValueError, match=r"blocks.1.mlp.0: .*NaN or inf"):
        adapter.prepare()


def test_fast_singular_vectors_of_pissa_span_what_the_exact_ones_do(build, x):
    updates = []
    for niter in (None, 16):
        model = build()
        linear = model.blocks[0].attn.query
        u, _, vh = torch.linalg.svd(linear.weight.detach())
        with torch.no_grad():  # singular values far enough apart to be told apart
            linear.weight.copy_(u * 0.5 ** torch.arange(12) @ vh)
        base = model(x)
        adapter = espnet_blora.add_adapter(model, "pissa", rank=3, niter=niter)
        adapter.prepare()
        layer = adapter.layers["blocks.0.attn.query"]
        updates.append(layer.lora_start_B @ layer.lora_start_A)
        assert torch.equal(model.eval()(x), base)
    best = u[:, :3] * 0.5 ** torch.arange(3) @ vh[:3]
    assert torch.allclose(updates[0], best, atol=1e-6)
    assert torch.allclose(updates[1], best, atol=1e-4) and not torch.equal(*updates)


@pytest.mark.parametrize("target", ["mlp.0", "mlp.2", "query"])
def test_osf_keeps_its_gradients_off_the_kept_triplets(build, target):
    model = build()
    adapter = espnet_blora.add_adapter(model, "osf", rank=5, target_modules=[target])
    model.train()
    adapter.prepare()
    for layer in adapter.layers.values():
        layer(torch.randn(9, layer.in_features)).square().sum().backward()
        u, _, vh = torch.linalg.svd(layer.weight, full_matrices=False)
        left, right = layer.osf_U.grad, layer.osf_V.grad
        assert left.norm() > 1e-4 and right.norm() > 1e-4
        assert (u[:, :7].T @ left).norm() < 1e-5 * left.norm()
        assert (right @ vh[:7].T).norm() < 1e-5 * right.norm()


def test_one_layer_owns_what_all_share(build, x):
    for name, shared in (("vera", "vera_A"), ("vblora", "vblora_vector_bank")):
        model = build()
        adapter = espnet_blora.add_adapter(model, name, target_modules=TARGETS, **SAME[name][0])
        first, *others = adapter.layers.values()
        holders = [key for key in model.state_dict() if key.endswith(shared)]
        assert holders == [f"blocks.0.attn.query.{shared}"]
        assert all(other.tensor(shared) is first.tensor(shared) for other in others)
        copied = espnet_blora.adapters.get_adapter(copy.deepcopy(model))
        owner, *rest = copied.layers.values()
        assert all(other.tensor(shared) is owner.tensor(shared) for other in rest)
        assert owner.tensor(shared) is not first.tensor(shared)
        model.double()  # replaces every buffer
        assert (
            first.form().get_submodule(shared)["default"].dtype
            == others[-1].form().get_submodule(shared)["default"].dtype
            == torch.float64
        )

"""Penalties on the update: closed forms, gradients, and what they leave alone."""

import copy

import pytest
import torch
from torch import nn

import espnet_blora
from espnet_blora.adapters import get_adapter, moments, parse_config
from espnet_blora.adapters.fingerprint import base_names
from espnet_blora.adapters.fisher import Fisher, save_fisher
from espnet_blora.adapters.methods.lora_l2sp import squared_norm
from espnet_blora.adapters.moments import new_sums, read_moments

TARGETS = ["query", "mlp.0", "mlp.2"]


@pytest.fixture
def fisher_file(build, tmp_path):
    """Write a Fisher file for a base, some of its entries 0; return its path."""

    def written(seed=0, targets=TARGETS, dtype=torch.float32, path=tmp_path / "fisher"):
        model = build(seed=seed, dtype=dtype).requires_grad_(False)
        names = [n for n, _ in model.named_modules() if any(n.endswith(t) for t in targets)]
        generator = torch.Generator().manual_seed(5)
        values = {}
        for name in names:
            weight = model.get_parameter(f"{name}.weight")
            values[f"{name}.weight"] = torch.rand(weight.shape, generator=generator).relu() ** 4
        base = {name: model.get_parameter(name) for name in base_names(model, names)}
        save_fisher(path, Fisher(values, 3, 40), base, {"sets": ["old"]})
        return path

    return written


@pytest.fixture
def keep_file(build, tmp_path):
    """Write a file of moments for a base; return its path."""

    def written(seed=0, targets=TARGETS, dtype=torch.float32, made=None):
        model = build(seed=seed, dtype=dtype).requires_grad_(False)
        names = [n for n, _ in model.named_modules() if any(n.endswith(t) for t in targets)]
        weights = dict(model.named_parameters())
        sums = new_sums(weights, {n: n for n in names}, {"through": "base", **(made or {})})
        generator = torch.Generator().manual_seed(5)
        for name in names:
            width = weights[f"{name}.weight"].shape[1]
            x = torch.randn(9, width, generator=generator) * 0.8 ** torch.arange(width)
            sums.add(name, x.T @ x, 9)
        sums.heard["old"] = 3.0
        sums.export(tmp_path / "moments", {})
        return tmp_path / "moments"

    return written


@pytest.fixture(params=["l2sp-sum", "l2sp-mean", "ewc", "keep"])
def penalised(request, build, shake, fisher_file, keep_file):
    """Return (model, adapter, expected): a shaken adapter and its penalty by definition."""

    def make(dtype=torch.float64, strength=0.3):
        model = build(dtype=dtype)
        conf = {"rank": 4, "alpha": 6, "target_modules": TARGETS, "strength": strength}
        if request.param == "ewc":
            method, conf["fisher_file"] = "lora_ewc", str(fisher_file(dtype=dtype))
        elif request.param == "keep":
            method, conf["keep_file"] = "lora_keep", str(keep_file(dtype=dtype))
        else:
            method = "lora_l2sp"
            conf["reduction"] = {"sum": "sum", "mean": "per_matrix_mean"}[request.param[5:]]
        adapter = shake(espnet_blora.add_adapter(model, method, **conf))

        def expected():
            total = 0.0
            for layer in adapter.layers.values():
                if request.param == "keep":
                    factor, rest, output = (part.to(dtype) for part in layer.kept)
                    delta, moment = 6 / 4 * layer.lora_B @ layer.lora_A, factor.T @ factor
                    total = total + 2 * ((delta @ (moment + rest.diag())) * delta).sum() / output
                    continue
                square = (6 / 4 * layer.lora_B @ layer.lora_A).square()
                if request.param == "ewc":
                    square = square * layer.fisher.to(dtype)
                total = total + (square.mean() if request.param == "l2sp-mean" else square.sum())
            return strength / 2 * total

        return model, adapter, expected

    return make


def test_value_and_gradient_are_those_of_the_definition(penalised):
    _, adapter, expected = penalised()
    term, logs = adapter.loss_terms()
    assert term.shape == () and float(term.detach()) > 1e-3
    definition = expected()
    torch.testing.assert_close(term, definition, rtol=1e-12, atol=0)
    parameters = adapter.trainable_parameters()
    gradients = torch.autograd.grad(term, parameters)
    for one, two in zip(gradients, torch.autograd.grad(definition, parameters), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-14)
        assert one.abs().max() > 0
    norm = torch.cat([la.delta_weight().flatten() for la in adapter.layers.values()]).norm()
    assert logs["penalty"] == term and not logs["penalty"].requires_grad
    torch.testing.assert_close(logs["delta_norm"], norm.detach(), rtol=1e-12, atol=0)


def test_gradients_by_differences(penalised):
    _, adapter, _ = penalised()
    parameters = adapter.trainable_parameters()[:3]
    assert torch.autograd.gradcheck(lambda *_: adapter.loss_terms()[0], parameters)


def test_autocast_and_half_models_do_not_round_it(penalised):
    model, adapter, expected = penalised(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        term, logs = adapter.loss_terms()
    term.backward()
    torch.testing.assert_close(term, expected(), rtol=1e-5, atol=0)
    assert term.dtype == logs["delta_norm"].dtype == torch.float32
    exact = [p.grad.clone() for p in adapter.trainable_parameters()]
    model.zero_grad()
    adapter.loss_terms()[0].backward()
    assert all(
        torch.equal(p.grad, e) for p, e in zip(adapter.trainable_parameters(), exact, strict=True)
    )
    rough, _ = get_adapter(copy.deepcopy(model).bfloat16()).loss_terms()
    torch.testing.assert_close(rough, term, rtol=0.02, atol=0)


def test_a_penalty_holds_the_update_back(penalised, x):
    """Training against it: the larger the strength, the smaller the update; 0 is plain LoRA."""
    norms = []
    for strength in (0.0, 1.0, 100.0):
        model, adapter, _ = penalised(dtype=torch.float32, strength=strength)
        optimiser = torch.optim.Adam(adapter.trainable_parameters(), lr=0.01)
        for _ in range(20):
            optimiser.zero_grad()
            loss = (model.train()(x) - 1.0).square().mean() + adapter.loss_terms()[0]
            loss.backward()
            optimiser.step()
        norms.append(float(adapter.loss_terms()[1]["delta_norm"]))
    assert norms[0] > 1.05 * norms[1] > 1.1 * norms[2]


def test_nothing_is_added_to_a_checkpoint(penalised, build, trained_state):
    model, adapter, _ = penalised(dtype=torch.float32)
    adapter.loss_terms()
    keys = {key.rpartition(".")[2] for key in trained_state(model)}
    assert keys == {"lora_A", "lora_B", "step", "signature", "fingerprint"}
    assert {n for n, _ in model.named_buffers()} <= set(model._ddp_params_and_buffers_to_ignore)
    lora = espnet_blora.add_adapter(build(), "lora", rank=4, target_modules=TARGETS)
    assert lora.report()["trainable"] == adapter.report()["trainable"]
    assert adapter.report()["stored"] == 0


def test_the_norm_needs_no_weight_sized_tensor(build, shake, monkeypatch):
    adapter = shake(espnet_blora.add_adapter(build(), "lora_l2sp", rank=4))
    with monkeypatch.context() as patch:
        patch.setattr(type(next(iter(adapter.layers.values()))), "delta_weight", None)
        adapter.loss_terms()


def test_the_norm_of_a_fresh_or_huge_layer(build):
    adapter = espnet_blora.add_adapter(build(), "lora_l2sp", rank=4)
    layer = next(iter(adapter.layers.values()))
    assert float(squared_norm(layer).detach()) == 0.0
    term, logs = adapter.loss_terms()
    term.backward()
    assert float(logs["delta_norm"]) == 0.0
    assert all(torch.isfinite(p.grad).all() for p in adapter.trainable_parameters())
    with torch.no_grad():  # a trace of rounding errors is no negative norm
        layer.lora_A.zero_()[0, 0] = 1e18
        layer.lora_B.zero_()[0, 1] = 1e18
    assert torch.isfinite(adapter.loss_terms()[1]["delta_norm"])


def test_backward_keeps_no_weight_sized_tensor(penalised, monkeypatch):
    """What is kept for the backward pass is the factors and F or C's, not delta W."""
    monkeypatch.setattr(moments, "IN_TRAINING", 3)
    _, adapter, _ = penalised()
    sizes = []

    def pack(tensor):
        sizes.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        adapter.loss_terms()
    weights = {layer.weight.shape for layer in adapter.layers.values()}
    assert not weights & set(sizes)


@pytest.mark.parametrize(
    ("method", "conf", "message"),
    [
        ("lora_l2sp", {"strength": -1.0}, "strength is -1.0; allowed: a number >= 0"),
        ("lora_l2sp", {"strength": "1e-2"}, "YAML reads 1e-2 as text"),
        ("lora_l2sp", {"reduction": "mean"}, "reduction is 'mean'; allowed: per_matrix_mean, sum"),
        ("lora_l2sp", {"strenght": 1.0}, "did you mean 'strength'"),
        ("lora_ewc", {}, "fisher_file is None; .*espnet-blora fisher"),
        ("lora_keep", {}, "keep_file is None; .*espnet-blora moments"),
        ("lora_ewc", {"fisher_file": "f", "strength": float("nan")}, "strength is nan"),
    ],
)
def test_options_are_checked(method, conf, message):
    with pytest.raises(ValueError, match=message):
        parse_config(method, conf)


def test_decoding_needs_no_fisher_file(build, shake, fisher_file, trained_state, tmp_path, x):
    conf = {"rank": 4, "target_modules": TARGETS, "fisher_file": str(fisher_file())}
    model = build()
    adapter = shake(espnet_blora.add_adapter(model, "lora_ewc", **conf))
    adapter.loss_terms()
    adapter.save(tmp_path / "adapter")
    (tmp_path / "fisher").unlink()
    other = build()
    espnet_blora.add_adapter(other, "lora_ewc", **conf)
    other.load_state_dict(trained_state(model), strict=False)
    assert torch.equal(other.eval()(x), model.eval()(x))
    third = build()
    espnet_blora.load_adapter(third, tmp_path / "adapter")
    assert torch.equal(third.eval()(x), model(x))
    with pytest.raises(FileNotFoundError, match="fisher_file .* does not exist; make it with"):
        get_adapter(other).loss_terms()


def test_fisher_file_of_another_base_or_other_targets(build, fisher_file, tmp_path):
    def term(path):
        conf = {"rank": 4, "target_modules": TARGETS, "fisher_file": str(path)}
        return espnet_blora.add_adapter(build(), "lora_ewc", **conf).loss_terms()[0]

    assert float(term(fisher_file(targets=[*TARGETS, "out", "key"])).detach()) == 0.0
    with pytest.raises(ValueError, match=r"wrong base: blocks\..* make it with .* this model's"):
        term(fisher_file(seed=1))
    with pytest.raises(ValueError, match=r"lacks 2 of 6 targets, such as blocks\.0\.mlp\.2\.weig"):
        term(fisher_file(targets=["query", "mlp.0"]))
    adapter = espnet_blora.add_adapter(build(), "lora", rank=2)
    adapter.save(tmp_path / "adapter")
    with pytest.raises(ValueError, match="not of espnet_blora .fisher_file"):
        term(tmp_path / "adapter")
    path = fisher_file()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is truncated, damaged"):
        term(path)
    path = fisher_file()
    raw = bytearray(path.read_bytes())
    raw[-10] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"tensors do not match their checksum.* make it with"):
        term(path)
    other = nn.Sequential(nn.Sequential())
    other[0].add_module("query", nn.Linear(12, 12))
    conf = {"rank": 4, "target_modules": ["query"], "fisher_file": str(fisher_file())}
    with pytest.raises(ValueError, match="which this model lacks"):
        espnet_blora.add_adapter(other, "lora_ewc", **conf).loss_terms()


def test_moments_that_do_not_fit_and_decoding_without_them(build, keep_file, x, tmp_path):
    def adapted(**file):
        conf = {"rank": 4, "target_modules": TARGETS, "keep_file": str(keep_file(**file))}
        return espnet_blora.add_adapter(build(), "lora_keep", **conf)

    assert float(adapted().loss_terms()[0].detach()) == 0.0  # a fresh update changes nothing
    for file, message in (
        ({"seed": 1}, r"wrong base: blocks\..* make it with .* this model's"),
        ({"targets": ["query", "mlp.0"]}, r"lacks 2 of 6 Linears, such as blocks\.0\.mlp\.2"),
        ({"made": {"through": "adapted"}}, "was heard by the adapted model"),
    ):
        with pytest.raises(ValueError, match=message):
            adapted(**file).loss_terms()
    padded = adapted(made={"pad_to": "30s"})
    padded.model.pad_to = "batch"  # as the encoder of ESPnet's model has it
    with pytest.raises(ValueError, match="padded to '30s', this model pads to 'batch'"):
        padded.loss_terms()
    fine = adapted()
    (tmp_path / "moments").unlink()
    assert torch.equal(fine.model.eval()(x), build()(x))
    with pytest.raises(FileNotFoundError, match="file of moments .* does not exist; make it with"):
        fine.loss_terms()


def test_moments_of_low_rank_and_the_rest_of_the_diagonal(build, shake, keep_file, monkeypatch):
    monkeypatch.setattr(moments, "IN_TRAINING", 3)
    conf = {"rank": 4, "target_modules": ["mlp.2"], "keep_file": str(keep_file())}
    adapter = shake(espnet_blora.add_adapter(build(), "lora_keep", **conf))
    term, _ = adapter.loss_terms()
    whole = read_moments(conf["keep_file"], dict(adapter.model.named_parameters()), adapter.layers)
    total = 0.0
    for name, layer in adapter.layers.items():
        assert layer.kept.factor.shape == (3, 24)
        exact = whole.matrix(name)
        approximate = layer.kept.factor.T @ layer.kept.factor + layer.kept.rest.diag()
        torch.testing.assert_close(approximate.diagonal().double(), exact.diagonal())
        delta, weight = layer.delta_weight().detach().double(), layer.weight.double()
        total += float(((delta @ exact) * delta).sum() / ((weight @ exact) * weight).sum())
    term = float(term.detach())
    assert term == pytest.approx(total, rel=0.3) and term != pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize("method", ["lora_keep", "blora", "lora_ewc"])
def test_a_narrowed_base_leaves_the_term_as_it_was(build, shake, keep_file, fisher_file, method):
    """What a term reads of the base is read before the base is rounded."""
    file = {"prior": "moments", "keep_file": str(keep_file())}
    if method == "lora_keep":
        del file["prior"]
    if method == "lora_ewc":
        file = {"fisher_file": str(fisher_file())}
    terms = []
    for narrowed in (False, True):
        conf = {"rank": 4, "target_modules": TARGETS, **file}
        adapter = espnet_blora.add_adapter(build(), method, **conf)
        if narrowed:
            assert adapter.narrow_base() >= len(adapter.layers)
            assert adapter.model.training
        shake(adapter)
        adapter.advance()
        terms.append(adapter.loss_terms()[0].detach())
    assert terms[0] > 0 and torch.equal(*terms)


def test_a_penalty_can_be_taken_where_there_is_no_autocast():
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(6, 5))
    adapter = espnet_blora.add_adapter(model, "lora_l2sp", rank=2, target_modules=["0"])
    assert adapter.loss_terms()[0].device.type == "meta"


def test_half_precision_does_not_reach_the_sums(build):
    for method, more in (("lora_l2sp", {}), ("adalora", {"target_rank": 2, "total_steps": 9})):
        adapter = espnet_blora.add_adapter(build(), method, rank=4, target_modules=TARGETS, **more)
        with torch.no_grad():
            for layer in adapter.layers.values():
                layer.lora_B.copy_(torch.randn(layer.lora_B.shape))
        plain = adapter.loss_terms()[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(adapter.loss_terms()[0], plain), method

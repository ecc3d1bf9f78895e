import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import espnet_blora
from espnet_blora.adapters.sampling import SAMPLERS


def make(build, shake, seed=0, **conf):
    model = build(dtype=torch.float64)
    options = {"rank": 4, "alpha": 8, "seed": seed, **conf}
    return model, shake(espnet_blora.add_adapter(model, "blora", **options))


def test_eval_is_the_posterior_mean_and_deterministic(build, shake, x):
    model, adapter = make(build, shake)
    plain = build(dtype=torch.float64)
    lora = espnet_blora.add_adapter(plain, "lora", rank=4, alpha=8)
    for name, layer in lora.layers.items():
        layer.load_state_dict(
            {k: v for k, v in adapter.layers[name].state_dict().items() if "rho" not in k}
        )
    x = x.double()
    assert torch.equal(model.eval()(x), plain.eval()(x))
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("sampling", SAMPLERS)
def test_training_draws_anew_at_every_step(build, shake, x, sampling):
    model, adapter = make(build, shake, sampling=sampling)
    model.train()
    outputs = [model(x.double()) for _ in range(3)]
    assert adapter.step == 3
    assert not torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[1], outputs[2])
    model.eval()(x.double())
    assert adapter.step == 3  # validation is not counted


@pytest.mark.parametrize("train_sigma_b", [False, True])
def test_the_samplings_agree_in_mean_and_variance(build, shake, train_sigma_b):
    """At one layer, over steps; a sigma of lora_B adds its own variance."""
    moments = {}
    x = torch.randn(1, 2, 12, dtype=torch.float64)
    for sampling in SAMPLERS:
        _, adapter = make(
            build, shake, sampling=sampling, train_sigma_B=train_sigma_b, rho_init_A=-2.0,
            **({"rho_init_B": -2.0} if train_sigma_b else {}),
        )  # fmt: skip
        layer = adapter.layers["blocks.0.attn.query"].train()
        ys = []
        for _ in range(2000):
            adapter.advance()
            ys.append(layer(x).detach())
        ys = torch.stack(ys)
        layer.eval()
        scale = ys.std(0).mean()
        assert ((ys.mean(0) - layer(x)).abs() / (ys.std(0) / 2000**0.5)).max() < 4.5
        assert scale > 1e-3
        moments[sampling] = ys.var(0)
    for sampling in set(SAMPLERS) - {"weight"}:
        ratio = moments[sampling] / moments["weight"]
        assert float(ratio.mean()) == pytest.approx(1.0, abs=0.07)
        assert ratio.min() > 0.7 and ratio.max() < 1.4


@pytest.mark.parametrize("sampling", SAMPLERS)
@pytest.mark.parametrize("train_sigma_b", [False, True])
def test_gradients_of_the_negative_elbo(build, shake, sampling, train_sigma_b):
    """Of the whole step, data and KL, in fp64, with the noise held by the step counter."""
    _model, adapter = make(
        build, shake, sampling=sampling, train_sigma_B=train_sigma_b, rank=2, prior_std=0.5,
        target_modules=["query"],
    )  # fmt: skip
    layer = adapter.layers["blocks.0.attn.query"].train()
    x = torch.randn(2, 3, 12, dtype=torch.float64)
    names = ["lora_A", "lora_B", "rho_A"] + ["rho_B"] * train_sigma_b

    def neg_elbo(*values):
        inputs = dict(zip(names, values, strict=True))
        output = torch.func.functional_call(layer, inputs, (x,))
        saved = {name: getattr(layer, name) for name in names}
        for name, value in inputs.items():
            layer._parameters[name] = value
        kl = adapter.kl()
        layer._parameters.update(saved)
        return output.tanh().sum() + kl

    values = [getattr(layer, name).detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(neg_elbo, values)


def test_every_posterior_parameter_learns_from_the_data(build, shake, x):
    model, adapter = make(build, shake, train_sigma_B=True)
    model.train()(x.double()).square().sum().backward()
    for parameter in adapter.trainable_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_what_is_frozen_is_a_buffer_and_rho_stays_out_of_weight_decay(build, shake):
    model, _adapter = make(build, shake)
    trained = {n.rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"lora_A", "lora_B", "rho_A"}
    assert "blocks.0.attn.query.rho_B" in dict(model.named_buffers())
    model2, _ = make(build, shake, train_sigma_B=True)
    for copied in (model, model2, copy.deepcopy(model2)):
        rhos = [p for n, p in copied.named_parameters() if "rho_" in n]
        assert rhos and all(p._no_weight_decay for p in rhos)
    assert not hasattr(model.blocks[0].attn.query.lora_A, "_no_weight_decay")
    meta = build(device="meta")
    espnet_blora.add_adapter(meta, "blora", rank=4)
    meta.to_empty(device="cpu")  # makes new parameters, as copying does
    assert meta.blocks[0].attn.query.rho_A._no_weight_decay


def test_rho_starts_in_its_range_alike_on_every_rank(build, shake):
    torch.manual_seed(1)
    _, one = make(build, shake)
    torch.manual_seed(2)
    _, two = make(build, shake)
    rho = one.layers["blocks.0.attn.query"].rho_A
    assert torch.equal(rho, two.layers["blocks.0.attn.query"].rho_A)
    assert rho.min() >= -5.5 and rho.max() <= -4.5 and rho.std() > 0.2
    assert not torch.equal(rho, one.layers["blocks.0.attn.value"].rho_A)
    assert (one.layers["blocks.0.attn.query"].rho_B == -50.0).all()


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_recomputes_the_same_noise(build, shake, reentrant):
    x = torch.randn(2, 3, 12, dtype=torch.float64)
    gradients = []
    for use in (False, True):
        model, adapter = make(build, shake)
        model.train()
        adapter.advance()
        y = x.clone().requires_grad_()
        for block in model.blocks:
            y = checkpoint(block, y, use_reentrant=reentrant) if use else block(y)
        y.square().sum().backward()
        gradients.append([p.grad.clone() for p in adapter.trainable_parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def train(model, adapter, optimiser, batches):
    losses = []
    for batch in batches:
        model.train()
        optimiser.zero_grad()
        loss = model(batch).square().mean() + adapter.loss_terms()[0]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("sampling", SAMPLERS)
def test_resume_equals_an_uninterrupted_run_bit_for_bit(build, trained_state, sampling):
    conf = {"rank": 4, "sampling": sampling, "schedule": "linear", "warmup_steps": 6}
    batches = list(torch.randn(8, 2, 3, 12))

    def start():
        model = build()
        adapter = espnet_blora.add_adapter(model, "blora", **conf)
        return model, adapter, torch.optim.AdamW(adapter.trainable_parameters(), lr=0.01)

    model, adapter, optimiser = start()
    train(model, adapter, optimiser, batches[:4])
    saved = copy.deepcopy((trained_state(model), optimiser.state_dict()))
    rest = train(model, adapter, optimiser, batches[4:])

    torch.manual_seed(99)  # a new process has another global state
    model2, adapter2, optimiser2 = start()
    model2.load_state_dict(saved[0], strict=False)  # trained weights only: the base is there
    optimiser2.load_state_dict(saved[1])
    assert adapter2.step == 4
    assert train(model2, adapter2, optimiser2, batches[4:]) == rest
    for a, b in zip(adapter.trainable_parameters(), adapter2.trainable_parameters(), strict=True):
        assert torch.equal(a, b)


class Block(torch.nn.Module):
    """A residual block after a norm, so that its gradients are of one order at every width."""

    def __init__(self, width):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.query, self.key = torch.nn.Linear(width, width), torch.nn.Linear(width, width)

    def forward(self, x):
        return x + self.key(self.query(self.norm(x)).tanh())


def trained(width, rank, method, **conf):
    """200 steps of classification; returns (fall of the cross entropy, norm of the update)."""
    torch.manual_seed(0)
    norm, head = torch.nn.LayerNorm(width), torch.nn.Linear(width, 5)
    model = torch.nn.Sequential(Block(width), Block(width), norm, head).train()
    adapter = espnet_blora.add_adapter(model, method, rank=rank, **conf)
    optimiser = torch.optim.Adam(adapter.trainable_parameters(), lr=1e-3)
    truth, losses = torch.randn(width, 5), []
    for _ in range(200):
        x = torch.randn(128, width)
        task = torch.nn.functional.cross_entropy(model(x), (x @ truth).argmax(-1))
        optimiser.zero_grad()
        (task + (adapter.loss_terms()[0] if adapter.bayesian else 0.0)).backward()
        optimiser.step()
        losses.append(task.item())
    norms = [layer.delta_weight().norm() for layer in adapter.layers.values()]
    return losses[0] - sum(losses[-20:]) / 20, torch.stack(norms).norm().item()


@pytest.mark.parametrize(("width", "rank"), [(16, 4), (64, 16)])
def test_any_size_trains_as_lora_does_where_the_paper_s_setting_collapses(width, rank):
    fall, norm = trained(width, rank, "lora", target_modules=["query", "key"])
    assert fall > 0.5
    any_size = trained(width, rank, "blora", preset="any_size")
    assert any_size[0] >= 0.9 * fall and norm / 3 <= any_size[1] <= 3 * norm
    paper = trained(width, rank, "blora", preset="paper")
    assert paper[0] < 0.1 * fall and paper[1] < 0.01 * norm

"""AdaLoRA: the budget shrinks as PEFT's does, and a resumed run chooses as the whole one."""

import copy

import peft
import pytest
import torch

import espnet_blora

CONF = {
    "rank": 4,
    "alpha": 8,
    "target_rank": 2,
    "total_steps": 20,
    "warmup_steps": 2,
    "final_steps": 6,
    "interval": 3,
    "target_modules": ["query", "mlp.0", "mlp.2"],
}


@pytest.fixture
def make(build):
    def start():
        model = build()
        torch.manual_seed(4)
        adapter = espnet_blora.add_adapter(model, "adalora", **CONF)
        optimiser = torch.optim.AdamW(adapter.trainable_parameters(), lr=0.01)
        adapter.follow(optimiser)
        return model, adapter, optimiser

    return start


def train(model, adapter, optimiser, x, steps):
    for _ in range(steps):
        loss = model.train()(x).square().mean() + adapter.loss_terms()[0]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()


def values(adapter):
    return {
        f"{name}.{key}": value.clone()
        for name, layer in adapter.layers.items()
        for key, value in layer.state_dict().items()
    }


def kept(adapter):
    return [int(layer.lora_kept.sum()) for layer in adapter.layers.values()]


def test_it_is_pefts_own_training_step_by_step(make, build, x):
    model, adapter, optimiser = make()
    config = peft.AdaLoraConfig(
        init_r=4,
        target_r=2,
        lora_alpha=8,
        total_step=20,
        tinit=2,
        tfinal=6,
        deltaT=3,
        target_modules=CONF["target_modules"],
    )
    peft_model = peft.get_peft_model(build(), config)
    pairs = [
        (getattr(layer, own), peft_model.get_parameter(f"base_model.model.{name}.{path}"))
        for name, layer in adapter.layers.items()
        for own, path in layer.names.items()
        if own != "ranknum"
    ]
    with torch.no_grad():
        for mine, other in pairs:
            other.copy_(mine)
    other_optimiser = torch.optim.AdamW([other for _, other in pairs], lr=0.01)
    counts = []
    for number in range(1, 19):
        train(model, adapter, optimiser, x, 1)
        # PEFT adds its penalty to the loss of what is called a model's output.
        grams = [
            (p @ p.T if p.shape[0] == 4 else p.T @ p) for _, p in pairs if p.shape not in [(4, 1)]
        ]
        gaps = [torch.norm(gram - torch.eye(4)) for gram in grams]
        (peft_model.train()(x).square().mean() + 0.5 * sum(gaps) / len(gaps)).backward()
        other_optimiser.step()
        peft_model.base_model.update_and_allocate(number)
        other_optimiser.zero_grad()
        assert all(torch.allclose(mine, other, atol=1e-5) for mine, other in pairs), number
        counts.append(sum(kept(adapter)))
    zeros = sum(int((layer.lora_E == 0).sum()) for layer in adapter.layers.values())
    assert counts[0] == 24 and counts[-1] == 12 and zeros == 12
    assert sorted(counts, reverse=True) == counts and len(set(counts)) > 2
    assert len(set(kept(adapter))) > 1  # not the same rank everywhere


def test_the_penalty_is_pefts(make, x):
    _, adapter, _ = make()
    term, logs = adapter.loss_terms()
    norms = [
        torch.norm(gram - torch.eye(4))
        for layer in adapter.layers.values()
        for gram in (layer.lora_A @ layer.lora_A.T, layer.lora_B.T @ layer.lora_B)
    ]
    assert torch.allclose(term, 0.5 * torch.stack(norms).mean())
    assert float(logs["kept_rank"]) == 4.0 and not logs["orthogonality"].requires_grad
    assert float(logs["orthogonality"]) == pytest.approx(2 * float(term.detach()))


@pytest.mark.parametrize("at", [1, 7, 14, 16])
def test_a_run_resumed_anywhere_is_the_uninterrupted_one(make, trained_state, x, at):
    model, adapter, optimiser = make()
    train(model, adapter, optimiser, x, at)
    saved = copy.deepcopy((trained_state(model), optimiser.state_dict()))
    train(model, adapter, optimiser, x, 18 - at)
    again, resumed, optimiser2 = make()
    again.load_state_dict(saved[0], strict=False)
    optimiser2.load_state_dict(saved[1])
    train(again, resumed, optimiser2, x, 18 - at)
    one, two = values(adapter), values(resumed)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert sum(kept(adapter)) == 12


def test_a_file_has_what_the_update_needs_and_not_what_training_remembers(make, build, x, tmp_path):
    model, adapter, optimiser = make()
    train(model, adapter, optimiser, x, 16)
    adapter.save(tmp_path / "adapter")
    file = espnet_blora.adapters.read_adapter_file(tmp_path / "adapter")
    ends = {key.rpartition(".")[2] for key in file.tensors}
    assert ends == {"lora_A", "lora_B", "lora_E", "ranknum", "lora_kept"}
    other = build()
    loaded = espnet_blora.load_adapter(other, tmp_path / "adapter")
    assert torch.equal(other.eval()(x), model.eval()(x)) and kept(loaded) == kept(adapter)
    assert "blocks.0.attn.query.lora_A_importance" in model.state_dict()


def test_a_layer_that_gets_no_gradient_is_pruned_first(make, x):
    _, adapter, optimiser = make()
    for _ in range(14):  # only the first layer is called
        layer = adapter.layers["blocks.0.attn.query"]
        layer(x).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    counts = dict(zip(adapter.layers, kept(adapter), strict=True))
    assert counts.pop("blocks.0.attn.query") == 4
    assert sum(counts.values()) < 20

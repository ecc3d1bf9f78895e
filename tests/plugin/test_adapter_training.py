"""The ELBO in the loss: once per micro-batch, in training only, whatever happens to the model."""

import argparse
import copy
import io
import pickle

import pytest
import torch

from espnet_blora import plugin
from espnet_blora.adapters import get_adapter, parse_config
from espnet_blora.plugin import adapter_training

CONF = {"rank": 2, "target_modules": ["query"], "beta": 0.25, "log_every": 3}


class Model(torch.nn.Module):
    """Returns what ESPnet's models return: loss, stats and weight of shape (1,)."""

    def __init__(self, as_dict=False):
        super().__init__()
        self.query = torch.nn.Linear(4, 4)
        self.as_dict = as_dict

    def forward(self, x):
        loss = self.query(x).square().mean()[None]
        stats, weight = {"loss": loss.detach()}, torch.tensor([len(x)])
        if self.as_dict:
            return {"loss": loss, "stats": stats, "weight": weight}
        return loss, stats, weight


def blora(**conf):
    model = Model(conf.pop("as_dict", False))
    adapter_training.create("blora", model=model, **{**CONF, **conf})
    return model


X = torch.ones(3, 4)


def check(model):
    """The loss in training is the cross entropy + beta KL, with the KL's gradient."""
    model.train()
    adapter = get_adapter(model)
    loss, stats, weight = model(X)
    kl = adapter.kl()
    assert stats["neg_elbo"].item() == pytest.approx(loss.item())
    assert loss.item() == pytest.approx(stats["loss"].item() + 0.25 * kl.item(), rel=1e-5)
    assert kl.item() > 0.1 and weight.item() == 3
    assert all(value.shape == (1,) and torch.is_tensor(value) for value in stats.values())
    before = stats["neg_elbo"].item()
    loss /= 2  # as the trainer does with accum_grad, in place
    assert stats["neg_elbo"].item() == before
    loss.backward()
    rho = next(p for name, p in model.named_parameters() if name.endswith("rho_A"))
    wanted = torch.autograd.grad(0.25 * adapter.kl() / 2, rho)[0]
    data = rho.grad - wanted
    assert wanted.abs().max() > 1e-3 and data.abs().max() < wanted.abs().max()
    model.zero_grad()


def test_the_kl_is_added_in_training():
    check(blora())


def test_the_hook_survives_copies_and_pickles():
    model = blora()
    check(copy.deepcopy(model))
    check(pickle.loads(pickle.dumps(model)))
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    check(torch.load(buffer, weights_only=False))  # a whole module, as torch's own spawn sends it


def test_validation_and_statistics_have_no_kl():
    model = blora()
    model.eval()
    loss, stats, _ = model(X)
    assert set(stats) == {"loss"} and loss.item() == stats["loss"].item()
    model.train()
    with torch.no_grad():
        assert set(model(X)[1]) == {"loss"}


def test_a_model_that_returns_a_dict():
    out = blora(as_dict=True).train()(X)
    assert out["loss"].item() == pytest.approx(out["stats"]["neg_elbo"].item())
    assert out["loss"].item() > out["stats"]["loss"].item() and out["weight"].item() == 3


def test_statistics_come_every_few_steps():
    model = blora().train()
    with_quantiles = ["sigma_A_q50" in model(X)[1] for _ in range(7)]
    assert sum(with_quantiles) in (2, 3) and not all(with_quantiles)
    assert all({"kl_A", "kl_B", "beta"} <= model(X)[1].keys() for _ in range(3))


def test_lora_adds_nothing_to_the_loss():
    model = Model()
    adapter_training.create("lora", model=model, rank=2, target_modules=["query"])
    loss, stats, _ = model.train()(X)
    assert set(stats) == {"loss"} and loss.item() == stats["loss"].item()


def test_posterior_scales_leave_weight_decay():
    from espnet2.optimizers.optim_groups import configure_optimizer

    model = blora()
    args = argparse.Namespace(exclude_weight_decay=False, exclude_weight_decay_conf={})
    adapter_training.exclude_from_weight_decay(args, model)
    assert args.exclude_weight_decay is True
    optimizer = configure_optimizer(
        model, torch.optim.AdamW, {"weight_decay": 0.1}, args.exclude_weight_decay_conf
    )
    without = {id(p) for g in optimizer.param_groups if g["weight_decay"] == 0 for p in g["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in without}
    assert names == {"query.rho_A"}

    untouched = argparse.Namespace(exclude_weight_decay=False, exclude_weight_decay_conf={})
    adapter_training.exclude_from_weight_decay(untouched, Model())
    assert untouched.exclude_weight_decay is False
    chosen = argparse.Namespace(exclude_weight_decay=True, exclude_weight_decay_conf={"x": 1})
    adapter_training.exclude_from_weight_decay(chosen, model)
    assert chosen.exclude_weight_decay_conf == {"x": 1}


@pytest.mark.parametrize(("beta", "lines"), [(50.0, 1), (1e-3, 0)])
def test_a_kl_that_outweighs_the_task_is_said_once(caplog, beta, lines):
    model = Model()
    conf = {"rank": 2, "target_modules": ["query"], "beta": beta, "log_every": 1}
    adapter_training.create("blora", model=model, **conf)
    for _ in range(3):
        model.train()(X)
    assert caplog.text.count("outweighs") == lines


def test_a_penalty_is_added_as_the_kl_is():
    model = Model()
    conf = {"rank": 2, "target_modules": ["query"], "strength": 3.0}
    adapter_training.create("lora_l2sp", model=model, **conf)
    with torch.no_grad():
        model.query.lora_B.fill_(0.5)
    loss, stats, _ = model.train()(X)
    term = get_adapter(model).loss_terms()[0].item()
    assert term > 0.01
    assert stats["objective"].item() == pytest.approx(loss.item())
    assert loss.item() == pytest.approx(stats["loss"].item() + term, rel=1e-5)
    assert model.eval()(X)[0].item() == pytest.approx(stats["loss"].item(), rel=1e-5)


def test_a_method_is_told_of_every_step():
    model = Model()
    conf = {"rank": 4, "target_rank": 2, "total_steps": 30, "target_modules": ["query"]}
    adapter_training.create("adalora", model=model, **conf)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    adapter_training.follow(model, [optimizer])
    for _ in range(3):
        model.train()(X)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert get_adapter(model).state.context.updates == 3
    adapter_training.follow(Model(), [optimizer])  # no adapter: nothing to follow


@pytest.mark.parametrize("name", ["blora", "dama", "lora_l2sp"])
def test_a_method_that_is_named_but_not_used(name):
    args = argparse.Namespace(use_adapter=False, adapter=name)
    with pytest.raises(ValueError, match="use_adapter is false: every weight would be trained"):
        adapter_training.check_training(args)
    adapter_training.check_training(argparse.Namespace(use_adapter=False, adapter="lora"))


def trained_with(**changes):
    args = {"use_adapter": True, "adapter": "lora", "save_strategy": "required_grad_only"}
    return argparse.Namespace(**{**args, **changes})


def test_the_bias_type_of_stock_lora():
    plugin.register()
    args = trained_with(adapter_conf={"rank": 8, "bias_type": "none"})
    adapter_training.check_training(args)
    assert args.adapter_conf == {"rank": 8}
    for bias in ("all", "lora_only"):
        with pytest.raises(ValueError, match=f"bias_type is '{bias}'; allowed: none: .*frozen"):
            adapter_training.check_training(trained_with(adapter_conf={"bias_type": bias}))
    blora = trained_with(adapter="blora", adapter_conf={"bias_type": "none"})
    with pytest.raises(ValueError, match="unknown key 'bias_type'"):
        adapter_training.check_training(blora)


def test_specaug_on_waves_is_refused_with_the_place_that_works():
    for adapter in (True, False):
        args = trained_with(use_adapter=adapter, specaug="specaug", encoder="whisper")
        with pytest.raises(ValueError, match=r"specaug: specaug .*encoder_conf: {use_specaug"):
            adapter_training.check_training(args)
    adapter_training.check_training(trained_with(specaug="specaug", encoder="conformer"))


def test_what_stock_espnet_would_match_is_said_with_both_counts(caplog):
    caplog.set_level("INFO")
    block = torch.nn.ModuleDict(
        {
            name: torch.nn.ModuleDict({"out": torch.nn.Linear(4, 4)})
            for name in ("attn", "cross_attn")
        }
    )
    adapter_training.create("lora", model=block, rank=2, target_modules=["attn.out"])
    told = [m for m in caplog.messages if "stock" in m]
    assert len(told) == 1 and "attn.out: 1 Linears" in told[0] and "would be 2" in told[0]
    assert "cross_attn.out" in told[0]
    caplog.clear()
    adapter_training.create("lora", model=Model(), rank=2, target_modules=["query"])
    assert "stock" not in caplog.text
    assert (
        "adapter 'lora' on 1 Linears: trainable parameters 16 of 36" in caplog.text
    )  # the report reads it


def test_options_that_are_left_at_their_defaults_are_told(caplog):
    """Stock ESPnet's LoRA has rank 8, alpha 8, `query` alone."""
    caplog.set_level("INFO")
    adapter_training.create("lora", model=Model(), target_modules=["query"], dropout_rate=0.1)
    (told,) = [record.args for record in caplog.records if "left at the defaults" in record.msg]
    assert told == ("lora", {"rank": 32, "alpha": 64.0})
    caplog.clear()
    every = parse_config("lora", {"target_modules": ["query"], "rank": 2}).as_dict()
    adapter_training.create("lora", model=Model(), **every)
    assert "left at the defaults" not in caplog.text


def test_a_replaced_base_must_be_saved():
    """By ESPnet's init_param: decoding builds the first base again, unless checkpoints hold it."""
    model, other = blora(), Model()
    adapter_training.check_base_is_saved(model, "required_grad_only")
    adapter_training.check_base_is_saved(other, "required_grad_only")  # no adapter
    model.load_state_dict({**model.state_dict(), **other.state_dict()})  # load_pretrained_model
    adapter_training.check_base_is_saved(model, "all")
    with pytest.raises(ValueError, match="init_param .*required_grad_only.*: save_strategy: all"):
        adapter_training.check_base_is_saved(model, "required_grad_only")


def narrowed(model, **options):
    """Dtype of the base after what the trainer's start does with these options."""
    given = {"save_strategy": "required_grad_only", "use_amp": True, "ngpu": 1, **options}
    autocast = {"dtype": given.pop("autocast", torch.bfloat16)}
    adapter_training.narrow_base(model, argparse.Namespace(**given), autocast)
    return model.query.weight.dtype


def test_the_base_is_narrowed_under_autocast_to_bfloat16_alone():
    model = blora()
    assert narrowed(model) == torch.float32  # nobody asks for it
    model.narrow_base = True
    for other in ({"use_amp": False}, {"ngpu": 0}, {"autocast": torch.float16}):
        assert narrowed(model, **other) == torch.float32
    assert narrowed(model) == torch.bfloat16


def test_a_base_that_checkpoints_would_hold_is_not_narrowed():
    for model, strategy in ((blora(), "all"), (Model(), "required_grad_only")):
        model.narrow_base = True
        with pytest.raises(ValueError, match="checkpoints would hold the rounded base"):
            narrowed(model, save_strategy=strategy)
        assert model.query.weight.dtype == torch.float32

"""Adapters in ESPnet's training: names, checks of a configuration, terms of the loss."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import Linear

from espnet_blora.adapters import METHODS, add_adapter, get_adapter, parse_config
from espnet_blora.adapters.targets import name_matches
from espnet_blora.utils.mistakes import did_you_mean
from espnet_blora.whisper.new_tokens import TABLE, find

log = logging.getLogger(__name__)


def create(method: str, /, model: torch.nn.Module, **conf: Any) -> None:
    """Put adapter `method` into an ESPnet model, with the options of `adapter_conf`.

    Everything else is frozen, later loads are checked, and an adapter that has a term of the loss
    (the KL of a Bayesian one, a penalty) adds it by itself.

    Raises:
        ValueError: An option or a target is unknown, or out of range.
    """
    config = parse_config(method, conf)
    say_what_stock_would_match(model, config.target_modules)
    adapter = add_adapter(model, method, **conf)
    log.info("%s", adapter.report())
    # ESPnet's own `lora` has others
    left = {key: value for key, value in config.as_dict().items() if key not in conf}
    if left:
        log.info("adapter_conf of %s, left at the defaults of this plugin: %s", method, left)
    if adapter.has_loss_term:
        model.register_forward_hook(add_loss_terms)


def say_what_stock_would_match(model: torch.nn.Module, targets: Sequence[str]) -> None:
    """Log Linears whose names end in a target for stock ESPnet, but not in whole components."""
    ends = [
        n for n, m in model.named_modules() if isinstance(m, Linear) and n.endswith((*targets,))
    ]
    extra = [n for n in ends if not any(name_matches(n, target) for target in targets)]
    if extra:
        log.info(
            "target_modules: %s: %d Linears, for targets are whole components of names; stock "
            "ESPnet's plain ends would be %d, with %s. Add an end such as %s for them",
            ", ".join(targets),
            len(ends) - len(extra),
            len(ends),
            ", ".join(extra[:3]) + (", ..." if len(extra) > 3 else ""),
            ".".join(extra[0].split(".")[-2:]),
        )


def follow(model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Let the adapter on a model do its method's work after each step of an optimiser."""
    adapter = get_adapter(model)
    if adapter is not None:
        for optimizer in optimizers:
            adapter.follow(optimizer)


def add_loss_terms(model: torch.nn.Module, args: tuple, output: Any) -> Any:
    """Forward hook: loss + beta_t KL(q || p), or the method's penalty, once per micro-batch.

    In training only. ESPnet divides the sum by accum_grad, so that a step sees the mean of both
    terms. As a hook of the model it is inside DistributedDataParallel, and is copied and pickled
    with the model. The stats keep ESPnet's `loss`, which is the cross entropy; the sum that is
    descended is `neg_elbo` for a Bayesian method, `objective` for another.

    Args:
        model: The model, with an adapter.
        args: Not used.
        output: (loss, stats, weight) or a dict of the three; tensors of shape () or (1,).

    Returns:
        The same with the new loss and more stats, each of shape (1,), which is what ESPnet
        gathers over ranks; None (no change) outside training.
    """
    adapter = get_adapter(model)
    if adapter is None or not (model.training and torch.is_grad_enabled()):
        return None
    term, terms = adapter.loss_terms()
    as_dict = isinstance(output, dict)
    loss, stats, weight = (output["loss"], output["stats"], output["weight"]) if as_dict else output
    if adapter.bayesian:
        adapter.check_balance(loss.detach(), term.detach())
    total = loss + term.to(loss.dtype)
    stats = dict(stats)
    name = "neg_elbo" if adapter.bayesian else "objective"
    # A copy: the trainer divides the loss by accum_grad in place.
    stats[name] = total.detach().clone().reshape(1)
    for name, value in terms.items():
        value = torch.as_tensor(value, device=loss.device).detach()
        stats[name] = value.to(torch.float32).reshape(1)
    if as_dict:
        return {**output, "loss": total, "stats": stats}
    return total, stats, weight


def check_name(name: str | None, table: Mapping[str, Any]) -> None:
    """Check the name of an adapter.

    Raises:
        ValueError: It is unknown; near misses are named.
    """
    if name not in table:
        near = did_you_mean(str(name), table, count=2)
        allowed = ", ".join(sorted(table))
        raise ValueError(f"adapter: {name!r} is unknown; allowed are {allowed}{near}")


def check_training(args: argparse.Namespace) -> None:
    """Check what a training configuration says about adapters, before anything is built.

    Raises:
        ValueError: It would train something else than it says; says what to change.
    """
    from espnet2.layers.create_adapter import create_adapter_fn_table

    # Masks of a feature's shape do not fit the waves that Whisper takes.
    if getattr(args, "specaug", None) and getattr(args, "encoder", None) == "whisper":
        raise ValueError(
            f"specaug: {args.specaug} would mask the wave, for encoder: whisper makes the log-mel "
            "features itself. Remedy: specaug: null and encoder_conf: {use_specaug: true, "
            "specaug_conf: {...}}, which masks the features."
        )

    # No adapter, or one of ESPnet's.
    name = getattr(args, "adapter", None)
    if not getattr(args, "use_adapter", False):
        if name in METHODS and name != "lora":  # lora is ESPnet's default: it says nothing
            raise ValueError(
                f"adapter: {name} is set but use_adapter is false: every weight would be trained. "
                "Remedy: use_adapter: true, or leave adapter out for full fine-tuning."
            )
        return
    check_name(name, create_adapter_fn_table)
    if name == "houlsby" and getattr(args, "frontend", None) != "s3prl":
        raise ValueError(
            "adapter: houlsby is ESPnet's own, for frontend: s3prl only (and needs transformers "
            f"and s3prl installed); found frontend: {getattr(args, 'frontend', None)}. Remedy: "
            "adapter: lora or blora for a Whisper, or frontend: s3prl."
        )
    if name not in METHODS:
        return
    # How ours are trained and saved.
    if args.save_strategy == "adapter_only":
        raise ValueError(
            f"save_strategy: adapter_only is ESPnet's and knows nothing of adapter {name!r}. "
            "Remedy: save_strategy: required_grad_only, which saves what is trained and the "
            "adapter's buffers."
        )
    for option in ("use_deepspeed", "sharded_ddp"):
        if getattr(args, option, False):
            raise ValueError(
                f"{option}: true does not work with adapter {name!r}: its checkpoints would miss "
                f"the adapter's checks. Remedy: {option}: false (an adapter fits one GPU; several "
                "work by ESPnet's plain distributed training)."
            )
    if getattr(args, "ngpu", 0) > 1 and not getattr(args, "distributed", False):
        raise ValueError(
            f"ngpu: {args.ngpu} in one process (DataParallel) does not work with adapter {name!r}: "
            "its copies would share one noise and one step. Remedy: --multiprocessing_distributed "
            "true, as asr.sh gives it, or ngpu: 1."
        )

    # Its own options, and the loss that it adds to. An option of ESPnet's LoRA stays out of
    # config.yaml.
    conf = dict(getattr(args, "adapter_conf", None) or {})
    if name == "lora" and (bias := conf.pop("bias_type", "none")) != "none":
        raise ValueError(
            f"adapter_conf of lora: bias_type is {bias!r}; allowed: none: the base is frozen, its "
            "biases included, and an adapter file holds no biases. Remedy: bias_type: none"
        )
    parse_config(name, conf)
    args.adapter_conf = conf
    if METHODS[name].adds_to_loss:
        _check_loss(name, getattr(args, "model_conf", None) or {})


def check_base_is_saved(model: torch.nn.Module, save_strategy: str) -> None:
    """Check that decoding can build the base that the adapter on `model` is trained on.

    Raises:
        ValueError: `init_param` has replaced it, and checkpoints are to leave it out.
    """
    adapter = get_adapter(model)
    if adapter is None or save_strategy == "all" or not adapter.state.base_replaced:
        return
    raise ValueError(
        "init_param has replaced the base under the adapter, and save_strategy: "
        f"{save_strategy} leaves the base out of checkpoints: decoding would build another one and "
        "refuse the adapter. Remedy: save_strategy: all"
    )


def narrow_base(model: torch.nn.Module, options: Any, autocast: Mapping[str, Any]) -> None:
    """Hold frozen weights in bfloat16 where `model_conf.narrow_base` asks for it.

    Args:
        model: The model, its base loaded.
        options: Of the trainer.
        autocast: What the trainer gives to autocast.

    Raises:
        ValueError: Checkpoints would hold the rounded base, or the method reads it in each step.
    """
    if not getattr(model, "narrow_base", False):
        return
    adapter = get_adapter(model)
    if adapter is None or options.save_strategy != "required_grad_only":
        raise ValueError(
            "model_conf.narrow_base: true needs an adapter and save_strategy: required_grad_only, "
            f"found {options.save_strategy}{'' if adapter else ' without one'}: checkpoints would "
            "hold the rounded base. Remedy: model_conf.narrow_base: false"
        )
    if not (options.use_amp and options.ngpu and autocast.get("dtype") == torch.bfloat16):
        log.info("narrow_base: left in fp32, for the training is not under autocast to bfloat16")
        return
    log.info("narrow_base: %d frozen weights are held in bfloat16", adapter.narrow_base())


def _check_loss(name: str, model_conf: Mapping[str, Any]) -> None:
    """Make sure that the loss which the adapter adds to is a mean over tokens.

    Raises:
        ValueError: It is not: the term's weight would mean something else.
    """
    if model_conf.get("length_normalized_loss") is not True:
        raise ValueError(
            f"adapter: {name} needs model_conf.length_normalized_loss: true, found "
            f"{model_conf.get('length_normalized_loss', False)}: ESPnet's default divides the loss "
            "by the batch size, not by tokens, and the adapter's own term would be some 20 times "
            "too weak. Remedy: set it to true under model_conf."
        )
    weight = model_conf.get("ctc_weight", 0.5)
    if weight != 0:
        raise ValueError(
            f"adapter: {name} needs model_conf.ctc_weight: 0.0, found {weight} (ESPnet's default "
            "is 0.5): the CTC loss is per utterance, the adapter's own term is weighed against a "
            "loss per token."
        )


def exclude_from_weight_decay(args: argparse.Namespace, model: torch.nn.Module) -> None:
    """Turn ESPnet's `exclude_weight_decay` on where parameters ask for it (posterior scales).

    Biases and norms keep the decay they had, unless the user has chosen otherwise.
    """
    if args.exclude_weight_decay:
        return
    marked = [n for n, p in model.named_parameters() if getattr(p, "_no_weight_decay", False)]
    if not marked:
        return
    args.exclude_weight_decay = True
    args.exclude_weight_decay_conf = {
        "bias_weight_decay": True,
        "normalization_weight_decay": True,
        **(args.exclude_weight_decay_conf or {}),
    }
    log.info("exclude_weight_decay is on: %d parameters are marked", len(marked))


def train_beside(model: torch.nn.Module) -> None:
    """Let the embeddings of new languages train beside an adapter, which has frozen all else."""
    match = find(model)
    if match is None:
        return
    name, table = match
    table.new_weight.requires_grad_(True)
    adapter = get_adapter(model)
    if adapter is None:
        return
    # The table is not a part of the base that the adapter was trained on.
    adapter.state.base_names = [n for n in adapter.state.base_names if n != f"{name}.{TABLE}"]
    adapter.state.refresh(model)
    counts = adapter.report()
    log.info(
        "new languages %s: their embeddings (%s numbers) are trained beside the adapter; "
        "trainable parameters with them %s of %s (%.3f %%)",
        " ".join(table.languages),
        f"{table.new_weight.numel():,}",
        f"{counts['trainable']:,}",
        f"{counts['total']:,}",
        100 * counts["share"],
    )

"""Every place where ESPnet is touched on the training side, and the release it was read in.

Another release of ESPnet may have moved one of them: then nothing is replaced in silence, but an
error names the place and the remedy. `tests/plugin/test_quirks.py` reads the same table.
"""

import importlib
import inspect
import logging
from dataclasses import dataclass

RELEASE = "202611"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Touch:
    """One place of ESPnet that we replace or rely on.

    Attributes:
        module: Module that holds it.
        name: Dotted name inside the module.
        holds: Fragments of its source that our replacement relies on.
        why: What would break if it moved.
    """

    module: str
    name: str
    holds: tuple[str, ...]
    why: str


TOUCHES = (
    Touch(
        "espnet2.tasks.abs_task",
        "AbsTask.get_parser",
        (
            '"--adapter"',
            'choices=["lora", "houlsby"]',
            "choices=list(scheduler_classes) + [None]",
        ),
        "--adapter blora and --scheduler newbob on the command line",
    ),
    Touch(
        "espnet2.tasks.abs_task",
        "AbsTask.main_worker",
        (
            "cls.build_model(args=args)",
            "create_adapter(model, args.adapter, args.adapter_conf)",
            "cls.build_optimizers(args, model=model)",
            "cls_ = scheduler_classes.get(name)",
            '(output_dir / "config.yaml").open("w"',
        ),
        "the checks before training, and the order in which config.yaml is rewritten",
    ),
    Touch(
        "espnet2.tasks.abs_task",
        "AbsTask.build_optimizers",
        ("if args.exclude_weight_decay:", "configure_optimizer("),
        "weight decay off the posterior scales; the guard against a changed configuration",
    ),
    Touch(
        "espnet2.tasks.abs_task",
        "AbsTask.build_model_from_file",
        ("create_adapter(model, args.adapter", "safe_torch_load(", "strict=False"),
        "checked loads at inference",
    ),
    Touch(
        "espnet2.tasks.asr",
        "ASRTask.build_model",
        ("model_choices.get_class(args.model)", "**args.model_conf"),
        "checked loads of a whole model",
    ),
    Touch("espnet2.tasks.asr", "model_choices", (), "BloraASRModel in the place of `espnet`"),
    Touch(
        "espnet2.layers.create_adapter",
        "create_adapter",
        ("create_adapter_fn_table[adapter]", "create_adapter_fn(model=model, **adapter_conf)"),
        "adapter: blora in the yaml",
    ),
    Touch(
        "espnet2.train.trainer",
        "Trainer.run",
        (
            'adapter == "lora" and lora is None',
            'checkpoint=output_dir / "checkpoint.pth"',
            'torch.save(model_state_dict, output_dir / f"{iepoch}epoch.pth")',
            "model_state_dict.pop(n)",
            "average_nbest_models(",
            "isinstance(scheduler, AbsValEpochStepScheduler)",
        ),
        "adapter: lora without loralib, atomic checkpoints, repair, averaging, newbob",
    ),
    Touch(
        "espnet2.train.trainer",
        "Trainer.resume",
        ("safe_torch_load(", 'model.load_state_dict(states["model"], strict=strict)'),
        "checked resume",
    ),
    Touch("espnet2.train.trainer", "lora", (), "adapter: lora without loralib"),
    Touch("espnet2.train.trainer", "torch", (), "atomic checkpoints"),
    Touch("espnet2.train.trainer", "safe_torch_load", (), "checked resume"),
    Touch("espnet2.tasks.abs_task", "safe_torch_load", (), "checked loads at inference"),
    Touch(
        "espnet2.torch_utils.load_pretrained_model",
        "load_pretrained_model",
        ("safe_torch_load(path", "obj.load_state_dict(dst_state)"),
        "checked loads of --init_param",
    ),
    Touch("espnet2.tasks.abs_task", "create_adapter", (), "an unknown adapter in the yaml"),
    Touch("espnet2.tasks.abs_task", "yaml.safe_load", (), "config.yaml read by libyaml"),
    Touch(
        "espnet2.train.trainer",
        "average_nbest_models",
        ("best_model_criterion", 'f"{ph}.{cr}.ave_{n}best.{suffix}pth"'),
        "averaging of posterior means only",
    ),
    Touch(
        "espnet2.asr.espnet_model",
        "ESPnetASRModel._calc_att_loss",
        ("add_sos_eos(ys_pad, self.sos, self.eos, self.ignore_id)", "self.criterion_att("),
        "loss and accuracy over text tokens",
    ),
    Touch(
        "espnet2.train.dataset",
        "sound_loader",
        ("SoundScpReader(", "AdapterForSoundScpReader(loader"),
        "audio that cannot be read is named in training",
    ),
    Touch("espnet2.train.dataset", "DATA_TYPES", (), "audio that cannot be read is named"),
    Touch(
        "espnet2.train.reporter",
        "SubReporter.next",
        ("stats_list.append(to_reported_value(np.nan, 0))",),
        "no nan in logs and curves where a statistic was not due",
    ),
    Touch(
        "espnet2.train.reporter",
        "SubReporter.log_message",
        ("self.stats.items()", "stats_list[start:end]"),
        "no nan in progress lines where a statistic was not due",
    ),
    Touch(
        "espnet2.train.reporter",
        "SubReporter.tensorboard_add_scalar",
        ("self.stats.items()", "stats_list[start:]"),
        "no nan in TensorBoard where a statistic was not due",
    ),
    Touch(
        "espnet2.optimizers.optim_groups",
        "add_optimizer_hooks",
        ('getattr(p, "_no_weight_decay", False)',),
        "weight decay off the posterior scales",
    ),
)


def moved(touches: tuple[Touch, ...] = TOUCHES) -> list[str]:
    """Return one line for every place that is no longer as we read it; empty if all is well."""
    lines = []
    for touch in touches:
        place = f"{touch.module}.{touch.name}"
        target = importlib.import_module(touch.module)
        try:
            for part in touch.name.split("."):
                target = getattr(target, part)
        except AttributeError:
            lines.append(f"{place} is gone; needed for: {touch.why}")
            continue
        if not touch.holds:
            continue
        source = inspect.getsource(inspect.unwrap(getattr(target, "__func__", target)))
        for fragment in touch.holds:
            if fragment not in source:
                lines.append(f"{place} no longer holds {fragment!r}; needed for: {touch.why}")
    return lines


def check_release() -> None:
    """Make sure that this ESPnet is one whose internals we know.

    Raises:
        ValueError: It is another release and places that we rely on have moved.
    """
    import espnet2

    found = str(getattr(espnet2, "__version__", "unknown"))
    if found == RELEASE:
        return
    lines = moved()
    remedy = f"install the release this was written for (pip install espnet=={RELEASE})"
    if lines:
        raise ValueError(
            f"ESPnet {found} is installed, espnet_blora knows {RELEASE}, and "
            f"{len(lines)} places that it relies on have moved: {'; '.join(lines)}. "
            f"Remedy: {remedy}, or an espnet_blora made for ESPnet {found}."
        )
    log.warning(
        "ESPnet %s is installed, espnet_blora was written for %s; every place it relies on is "
        "still there, but nothing was tried with this release. To be safe, %s.",
        found,
        RELEASE,
        remedy,
    )

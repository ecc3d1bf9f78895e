"""The one place where ESPnet's functions are replaced: training, adapters, checkpoints, Whisper."""

import functools
import logging
import os
import types
from pathlib import Path

import yaml

from espnet_blora.plugin.settings import Settings

log = logging.getLogger(__name__)

_state = {"done": False}


def plug_in(settings: Settings) -> None:
    """Replace what must be replaced in ESPnet; a second call only passes on new settings.

    Raises:
        ValueError: ESPnet's internals have moved (see `quirks`).
    """
    from espnet_blora.plugin import quirks
    from espnet_blora.plugin.whisper_register import register_whisper

    if not _state["done"]:
        quirks.check_release()
        _replace_adapters()
        _replace_training()
        _replace_loads()
        _state["done"] = True
    register_whisper(settings)


def _replace_adapters() -> None:
    """Adapters by name, in the yaml and on the command line; no loralib."""
    import espnet2.layers.create_adapter as creation
    import espnet2.tasks.abs_task as abs_task
    import espnet2.train.trainer as trainer
    from espnet2.tasks.asr import model_choices

    from espnet_blora.plugin import adapter
    from espnet_blora.plugin.adapter import train_beside
    from espnet_blora.plugin.model import BloraASRModel

    table = creation.create_adapter_fn_table
    table.update(adapter.create_functions())
    model_choices.classes["espnet"] = BloraASRModel
    trainer.lora = _NoLoralib()

    get_parser = abs_task.AbsTask.get_parser.__func__

    @classmethod
    @functools.wraps(get_parser)
    def parser_with_our_adapters(cls):
        parser = get_parser(cls)
        for action in parser._actions:
            if action.dest == "adapter":
                action.choices = sorted(table)
        return parser

    abs_task.AbsTask.get_parser = parser_with_our_adapters

    create_adapter = abs_task.create_adapter

    @functools.wraps(create_adapter)
    def checked_create_adapter(model, adapter, adapter_conf):
        _check_name(adapter, table)
        create_adapter(model=model, adapter=adapter, adapter_conf=dict(adapter_conf or {}))
        model._espnet_adapter = adapter
        train_beside(model)

    def _check_name(name, names):
        adapter.check_name(name, names)

    abs_task.create_adapter = checked_create_adapter


class _NoLoralib:
    """Stands where the trainer looks for loralib, which `adapter: lora` (ours) does not need."""

    @staticmethod
    def lora_state_dict(model, *args, **kwargs):
        raise ValueError("save_strategy: adapter_only is not supported; use required_grad_only")


def _replace_training() -> None:
    """Checks before training, guards of the folder, atomic checkpoints, averaging, NewBob."""
    import espnet2.tasks.abs_task as abs_task
    import espnet2.train.trainer as trainer
    from espnet2.train.distributed_utils import get_rank

    from espnet_blora.plugin import adapter, checkpoints, newbob, reporting, resume
    from espnet_blora.whisper.safe_torch_load import checked_loader

    abs_task.scheduler_classes["newbob"] = newbob.NewBob
    reporting.leave_out_what_is_not_due()
    main_worker = abs_task.AbsTask.main_worker.__func__

    @classmethod
    @functools.wraps(main_worker)
    def guarded_main_worker(cls, args):
        adapter.check_training(args)
        if args.collect_stats or args.dry_run:
            return main_worker(cls, args)
        folder = Path(args.output_dir)
        distributed = getattr(args, "distributed", False)
        rank = get_rank(args.dist_rank, args.dist_launcher) if distributed else 0
        with resume.stored_config(folder, args.resume):
            if rank:
                return main_worker(cls, args)
            with resume.only_run(folder), resume.kept_config(folder):
                return main_worker(cls, args)

    abs_task.AbsTask.main_worker = guarded_main_worker

    build_optimizers = abs_task.AbsTask.build_optimizers.__func__

    @classmethod
    @functools.wraps(build_optimizers)
    def checked_build_optimizers(cls, args, model):
        adapter.exclude_from_weight_decay(args, model)
        resume.refuse_changed_config(vars(args), Path(args.output_dir))
        optimizers = build_optimizers(cls, args, model)
        adapter.follow(model, optimizers)
        return optimizers

    abs_task.AbsTask.build_optimizers = checked_build_optimizers

    run = trainer.Trainer.run.__func__

    @classmethod
    @functools.wraps(run)
    def repairing_run(cls, *args, **kwargs):
        options, ranks = kwargs["trainer_options"], kwargs["distributed_option"]
        if options.resume and (not ranks.distributed or ranks.dist_rank == 0):
            checkpoints.repair(Path(options.output_dir), options.best_model_criterion)
        return run(cls, *args, **kwargs)

    trainer.Trainer.run = repairing_run
    trainer.torch = checkpoints.TorchWithAtomicSave()
    trainer.average_nbest_models = checkpoints.average_nbest_models
    trainer.safe_torch_load = checked_loader(trainer.safe_torch_load, checkpoints.RESUME_KEYS)


class _FastYaml(types.ModuleType):
    """yaml as the tasks see it, read by libyaml: 51,866 tokens take a third of the time."""

    def __init__(self):
        super().__init__("yaml", yaml.__doc__)

    def __getattr__(self, name: str):
        return getattr(yaml, name)

    @staticmethod
    def safe_load(stream):
        return yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _replace_loads() -> None:
    """Checked loads of whole models, and the adapter's scale at decoding."""
    import espnet2.tasks.abs_task as abs_task
    import espnet2.torch_utils.load_pretrained_model as init_param
    from espnet2.tasks.asr import ASRTask

    from espnet_blora.decoding import checked_load
    from espnet_blora.whisper.safe_torch_load import checked_loader

    abs_task.safe_torch_load = checked_loader(abs_task.safe_torch_load)
    init_param.safe_torch_load = checked_loader(init_param.safe_torch_load)
    abs_task.yaml = _FastYaml()

    build_model = ASRTask.build_model.__func__

    @classmethod
    @functools.wraps(build_model)
    def checked_build_model(cls, args):
        return checked_load.check_loads(build_model(cls, args))

    ASRTask.build_model = checked_build_model

    from_file = abs_task.AbsTask.build_model_from_file.__func__

    @classmethod
    @functools.wraps(from_file)
    def checked_build_model_from_file(cls, config_file=None, model_file=None, device="cpu"):
        try:
            model, args = from_file(cls, config_file, model_file, device)
        except (ValueError, RuntimeError) as error:
            if model_file is None or os.fspath(model_file) in str(error):
                raise
            raise ValueError(f"{model_file}: {error}") from error
        checked_load.apply_scale(model, Settings.current().adapter_scale)
        return model, args

    abs_task.AbsTask.build_model_from_file = checked_build_model_from_file

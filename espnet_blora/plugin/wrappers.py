"""Functions that make our replacements of ESPnet's; the table of `patches` says which goes where.

Each is called once with the object that stood in the place, and returns the one that takes over.
Modules of ours that import ESPnet are imported only then: the table is checked before, so that a
place which has moved is an entry of its message and not an ImportError.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import types
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml

from espnet_blora.adapters import METHODS
from espnet_blora.decoding.training_config import load_yaml
from espnet_blora.plugin import (
    adapter_training,
    checkpoints,
    memory_cache,
    resume,
    training_notes,
)
from espnet_blora.plugin.data_checks import SPEECH, Languages, check_utterances
from espnet_blora.plugin.settings import Settings
from espnet_blora.whisper.safe_torch_load import checked_loader
from espnet_blora.whisper.sizes import dims_of

Replacement = Callable[[Any], Any]

_of_trained: ContextVar[Path | None] = ContextVar("of_trained", default=None)
"""The stored config.yaml whose model is being built, which names its own Whisper."""

_due_plots: ContextVar[list[Callable[[], None]] | None] = ContextVar("due_plots", default=None)
"""What the training that runs draws when it ends; None outside of one."""


def wrapping(wrapper: Callable[..., Any]) -> Replacement:
    """Turn `wrapper(original, *args, **kwargs)` into the maker of a function around `original`."""

    @functools.wraps(wrapper)
    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return wrapper(original, *args, **kwargs)

        return wrapped

    return replacement


def lazy_typechecked(original: Callable) -> Callable:
    """`typeguard.typechecked`, which compiles a function's checks when it is called first.

    ESPnet decorates its functions by the hundred, and parses a module's source for each: a third of
    the time in which it is imported. Whatever is called is checked as before.
    """

    @functools.wraps(original)
    def typechecked(target: Any = None, **options: Any) -> Any:
        if not inspect.isfunction(target):
            return original(target, **options)
        checked = None

        @functools.wraps(target)
        def function(*args: Any, **kwargs: Any) -> Any:
            nonlocal checked
            checked = checked or original(target, **options)
            return checked(*args, **kwargs)

        return function

    return typechecked


def ours(name: str) -> Replacement:
    """Return the maker of what `name` is in this package, whatever stood there before.

    Args:
        name: `MODULE.OBJECT` of this room, such as `newbob.NewBob`.
    """
    module, _, attribute = name.rpartition(".")

    def replacement(original: Any) -> Any:
        return getattr(importlib.import_module(f"espnet_blora.plugin.{module}"), attribute)

    return replacement


# -- adapters: names in the yaml and on the command line ---------------------------------------


def adapter_table(original: dict[str, Callable]) -> dict[str, Callable]:
    """ESPnet's table of adapters with our methods in it."""
    return original | {
        method: functools.partial(adapter_training.create, method) for method in METHODS
    }


@wrapping
def get_parser(original: Callable, cls: type) -> ArgumentParser:
    """`--adapter` knows all names of the table; the options of older releases get a hint."""
    from espnet2.layers.create_adapter import create_adapter_fn_table
    from espnet2.utils.nested_dict_action import NestedDictAction

    parser: ArgumentParser = original(cls)
    parser.add_argument("--retain", action=NestedDictAction, default={}, help="old audio's term")
    for action in parser._actions:
        if action.dest == "adapter":
            action.choices = sorted(create_adapter_fn_table)
    error = parser.error

    def hinting(message: str) -> NoReturn:
        if re.search(r"unrecognized arguments: .*\b(use_lora|lora_conf)\b", message):
            message += (
                "; ESPnet 202611 has use_adapter: true, adapter: lora (or blora) and "
                "adapter_conf: {rank: 8, alpha: 8, ...} in the place of use_lora and lora_conf"
            )
        error(message)

    parser.error = hinting  # type: ignore[method-assign]
    return parser


@wrapping
def create_adapter(
    original: Callable, model: torch.nn.Module, adapter: str, adapter_conf: dict | None
) -> None:
    """An unknown name is an error with near misses; new languages are trained beside an adapter."""
    from espnet2.layers.create_adapter import create_adapter_fn_table

    adapter_training.check_name(adapter, create_adapter_fn_table)
    original(model=model, adapter=adapter, adapter_conf=dict(adapter_conf or {}))
    model._espnet_adapter = adapter  # type: ignore[assignment]  # the checked load reads it
    adapter_training.train_beside(model)


def no_loralib(original: Any) -> types.SimpleNamespace:
    """Stand where the trainer looks for loralib, which `adapter: lora` (ours) does not need."""

    def lora_state_dict(model: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        raise ValueError("save_strategy: adapter_only is not supported; use required_grad_only")

    return types.SimpleNamespace(lora_state_dict=lora_state_dict)


# -- training: checks, guards of the folder, checkpoints, schedulers, reports -------------------


@wrapping
def main_worker(original: Callable, cls: type, args: Namespace) -> None:
    """Check the configuration, and hold the experiment's folder for this run."""
    from espnet2.train.distributed_utils import get_rank

    from espnet_blora.plugin.retain import Retain

    adapter_training.check_training(args)
    Retain.of(args)
    if args.collect_stats or args.dry_run:
        return original(cls, args)
    folder = Path(args.output_dir)
    distributed = getattr(args, "distributed", False)
    first = not (distributed and get_rank(args.dist_rank, args.dist_launcher))
    args.training_data = training_notes.describe_data(args)
    if old := training_notes.describe_old_data(args):
        args.old_data = old
    with (
        resume.stored_config(folder, args.resume),
        resume.only_run(folder) if first else nullcontext(),
        resume.kept_config(folder) if first else nullcontext(),
    ):
        return original(cls, args)


@wrapping
def build_optimizers(original: Callable, cls: type, args: Namespace, model: torch.nn.Module) -> Any:
    """Refuse a changed configuration, keep memories, and let the adapter follow steps."""
    adapter_training.exclude_from_weight_decay(args, model)
    resume.refuse_changed_config(vars(args), Path(args.output_dir))
    memory_cache.attach(args, getattr(model, "encoder", None))
    optimizers = original(cls, args, model)
    adapter_training.follow(model, optimizers)
    return optimizers


@wrapping
def trainer_run(original: Callable, cls: type, *args: Any, **kwargs: Any) -> None:
    """Check the base, repair the folder before a resume, save adapter files, plot last."""
    options, ranks = kwargs["trainer_options"], kwargs["distributed_option"]
    first = not ranks.distributed or ranks.dist_rank == 0
    from espnet2.train.trainer import autocast_args

    adapter_training.check_base_is_saved(kwargs["model"], options.save_strategy)
    adapter_training.narrow_base(kwargs["model"], options, autocast_args)
    if first:
        if options.resume:
            checkpoints.repair(Path(options.output_dir), options.best_model_criterion)
        batches, schedulers = kwargs["train_iter_factory"], kwargs["schedulers"]
        training_notes.warn_of_long_warmup(batches, options, schedulers)
    due: list[Callable[[], None]] = []
    before = _due_plots.set(due)
    try:
        original(cls, *args, **kwargs)
        if first:
            folder, criteria = Path(options.output_dir), options.best_model_criterion
            checkpoints.save_adapter_files(kwargs["model"], folder, criteria)
    finally:
        _due_plots.reset(before)
        for plot in due:
            plot()


@wrapping
def plot_at_the_end(original: Callable, reporter: Any, folder: Path) -> None:
    """Curves are drawn when a training ends or stops, not after each epoch (2 s each time)."""
    due = _due_plots.get()
    if due is None:
        original(reporter, folder)
    else:
        due[:] = [functools.partial(original, reporter, folder)]


def with_newbob(original: dict[str, type]) -> dict[str, type]:
    """ESPnet's table of schedulers with `newbob` in it."""
    return {**original, "newbob": ours("newbob.NewBob")(None)}


def torch_with_atomic_save(original: types.ModuleType) -> types.ModuleType:
    """Torch as the trainer sees it, with `save` atomic."""
    return _Module(original, save=checkpoints.atomic_save)


@wrapping
def only_due(original: Callable, reporter: Any, *args: Any, **kwargs: Any) -> Any:
    """A method of SubReporter leaves out statistics that were not due in its window of steps.

    Quantiles and the like come every `log_every` steps. In the steps between, ESPnet fills in
    (nan, weight 0), and would print and plot nan for a window that holds nothing else, which reads
    as a training that has diverged. A value that was reported, be it nan, always shows.
    """
    given = inspect.signature(original).bind(reporter, *args, **kwargs).arguments
    window = slice(given.get("start"), given.get("end"))
    stats = reporter.stats
    reporter.stats = {
        name: values
        for name, values in stats.items()
        if any(getattr(value, "weight", 1) != 0 for value in values[window])
    }
    try:
        return original(reporter, *args, **kwargs)
    finally:
        reporter.stats = stats


# -- loads: whole models, checkpoints, config.yaml -----------------------------------------------


def resumed_checkpoint(original: Callable) -> Callable:
    """`safe_torch_load` that also refuses a checkpoint.pth without all its parts."""
    return checked_loader(original, checkpoints.RESUME_KEYS)


def fast_yaml(original: types.ModuleType) -> types.ModuleType:
    """Yaml as the tasks see it, read by libyaml: 51,866 tokens take a third of the time."""
    return _Module(original, safe_load=load_yaml)


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Tell that nothing is written as a reference."""
        return True


@wrapping
def fast_dump(original: Callable, data: Any, stream: Any = None, **options: Any) -> Any:
    """Write config.yaml by libyaml: a third of the time."""
    return yaml.dump(data, stream, allow_unicode=True, Dumper=_Dumper, **options)


@wrapping
def build_model(original: Callable, cls: type, args: Namespace) -> torch.nn.Module:
    """Fill in the Whisper, check the token list before weights are read, and check later loads."""
    from espnet_blora.decoding.checked_load import check_loads
    from espnet_blora.plugin.retain import Retain
    from espnet_blora.plugin.vocabulary import check_vocabulary, fill_new_languages, vocabulary_of
    from espnet_blora.plugin.whisper_parts import fill_whisper_model, forget

    trained = _of_trained.get()
    spec = fill_whisper_model(args, trained=trained)
    if spec is not None and args.decoder == "whisper":
        vocabulary = vocabulary_of(args.token_list)
        check_vocabulary(vocabulary, dims_of(spec).n_vocab, spec)
        fill_new_languages(args, vocabulary, trained=trained is not None)
    try:
        model = check_loads(original(cls, args))
    finally:
        forget()
    if trained is None and (retain := Retain.of(args)) is not None:
        # in every k-th step; the trainer divides by accum_grad
        weight = retain.weight * args.accum_grad
        model.retained = (retain.kind, weight)  # type: ignore[assignment]  # of BloraASRModel
    return model


@wrapping
def build_model_from_file(
    original: Callable,
    cls: type,
    config_file: str | Path | None = None,
    model_file: str | Path | None = None,
    device: str = "cpu",
) -> tuple[torch.nn.Module, Namespace]:
    """The stored configuration names the Whisper; errors name the file; the adapter is scaled."""
    from espnet_blora.decoding.checked_load import apply_scale

    place = Path(model_file or "").parent / "config.yaml" if config_file is None else config_file
    token = _of_trained.set(Path(place))
    try:
        model, args = original(cls, config_file, model_file, device)
    except (ValueError, RuntimeError) as error:
        if model_file is None or os.fspath(model_file) in str(error):
            raise
        raise ValueError(f"{model_file}: {error}") from error
    finally:
        _of_trained.reset(token)
    apply_scale(model, Settings.current().adapter_scale)
    return model, args


# -- data: a language per utterance ----------------------------------------------------------------


@wrapping
def build_iter_options(
    original: Callable, cls: type, args: Namespace, distributed_option: Any, mode: str
) -> Any:
    """Give the preprocessor the languages beside the `wav.scp` of training or validation."""
    options = original(cls, args, distributed_option, mode)
    if mode == "train" and options.distributed and distributed_option.dist_rank == 0:
        processes = distributed_option.dist_world_size
        training_notes.say_shares(options.batch_type, options.batch_size, processes)
    spec = (getattr(args, "decoder_conf", None) or {}).get("whisper_model")
    _bind(options.preprocess_fn, options.data_path_and_name_and_type, decoding=False, spec=spec)
    return options


@wrapping
def build_iter_factory(
    original: Callable,
    cls: type,
    args: Namespace,
    distributed_option: Any,
    mode: str,
    kwargs: dict | None = None,
) -> Any:
    """Let old audio ride in the batches of a training that has a `retain:` block."""
    factory = original(cls, args, distributed_option, mode, kwargs)
    if mode != "train":
        return factory
    from espnet_blora.plugin.retain import with_old_audio

    ranks = distributed_option
    share = (ranks.dist_rank, ranks.dist_world_size) if ranks.distributed else (0, 1)
    return with_old_audio(cls, args, factory, share)


@wrapping
def build_streaming_iterator(original: Callable, cls: type, *args: Any, **kwargs: Any) -> Any:
    """Give the preprocessor the languages for statistics and decoding; the latter wants prompts."""
    given = inspect.signature(original).bind(cls, *args, **kwargs)
    given.apply_defaults()
    decoding = bool(given.arguments["inference"])
    _bind(
        given.arguments["preprocess_fn"],
        given.arguments["data_path_and_name_and_type"],
        decoding,
        spec=None if decoding else Settings.current().whisper,
    )
    return original(*given.args, **given.kwargs)


def _bind(preprocess: Any, data: Any, decoding: bool, spec: str | None) -> None:
    """Check the data, and tell a Whisper's preprocessor its languages and number of positions."""
    from espnet_blora.plugin.preprocessor import WhisperPreprocessor

    if not isinstance(preprocess, WhisperPreprocessor) or preprocess.vocabulary is None:
        return
    check_utterances(data)
    # ESPnet allows one entry of a name.
    speech = [path for path, name, _ in data if name == SPEECH]
    stated = preprocess.whisper_language
    languages = (
        Languages.beside(speech[0], preprocess.vocabulary, stated) if speech else Languages()
    )
    positions = {} if spec is None else {"n_text_ctx": dims_of(spec).n_text_ctx}
    preprocess.bind(languages, decoding, **positions)


class _Module(types.ModuleType):
    """A module with some of its functions replaced, for one importer."""

    def __init__(self, original: types.ModuleType, **functions: Callable):
        super().__init__(original.__name__, original.__doc__)
        self._original = original
        self.__dict__.update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

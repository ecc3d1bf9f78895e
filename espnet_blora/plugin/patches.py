"""Table of every place in ESPnet that this package replaces or relies on, and what applies it.

A place is a module and a dotted name in it; `NAME[key]` is an entry of a mapping. A new release of
ESPnet is this file's business: the same table is checked (all of it, before anything is replaced)
and applied, and a test compares it with what the modules of this room import and reach.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import re
from dataclasses import dataclass
from typing import Any

import typeguard

from espnet_blora.plugin import data_checks, wrappers
from espnet_blora.plugin.late import late_imports
from espnet_blora.plugin.wrappers import Replacement, ours
from espnet_blora.whisper.safe_torch_load import checked_loader

RELEASE = "202611"
"""Release of ESPnet whose source was read for the table."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patch:
    """One place of ESPnet.

    Attributes:
        module: Module that holds it.
        name: Dotted name in the module; `[key]` for an entry of a mapping.
        why: What would break if the place moved.
        relies_on: Fragments of its source that must be there.
        by: Makes what takes its place from what stood there; None where it is only relied on.
    """

    module: str
    name: str
    why: str
    relies_on: tuple[str, ...] = ()
    by: Replacement | None = None

    @property
    def place(self) -> str:
        """The whole dotted name."""
        return f"{self.module}.{self.name}"


# A table, with two or three lines per entry where the formatter would make ten.
# fmt: off
PATCHES = (
    # -- adapters: names in the yaml and on the command line
    Patch("espnet2.layers.create_adapter", "create_adapter_fn_table", by=wrappers.adapter_table,
          why="adapter: blora in the yaml"),
    Patch("espnet2.layers.create_adapter", "create_adapter", why="adapter: blora in the yaml",
          relies_on=("create_adapter_fn_table[adapter]",
                     "create_adapter_fn(model=model, **adapter_conf)")),
    Patch("espnet2.tasks.abs_task", "create_adapter", by=wrappers.create_adapter,
          why="an unknown adapter in the yaml"),
    Patch("espnet2.tasks.abs_task", "AbsTask.get_parser", by=wrappers.get_parser,
          why="--adapter blora and --scheduler newbob on the command line, options that we read",
          relies_on=('"--adapter"', 'choices=["lora", "houlsby"]',
                     "choices=list(scheduler_classes) + [None]", '"--use_adapter"',
                     '"--adapter_conf"', '"--save_strategy"', '"--exclude_weight_decay"',
                     '"--exclude_weight_decay_conf"', '"--collect_stats"', '"--dry_run"',
                     '"--resume"', '"--output_dir"', '"--dist_rank"', '"--dist_launcher"')),
    Patch("espnet2.train.trainer", "lora", by=wrappers.no_loralib,
          why="adapter: lora without loralib"),
    # -- training: order of its steps, checkpoints, schedulers
    Patch("espnet2.tasks.abs_task", "AbsTask.main_worker", by=wrappers.main_worker,
          why="the checks before training, and the order in which config.yaml is rewritten",
          relies_on=("cls.build_model(args=args)",
                     "create_adapter(model, args.adapter, args.adapter_conf)",
                     "cls.build_optimizers(args, model=model)",
                     "cls_ = scheduler_classes.get(name)",
                     '(output_dir / "config.yaml").open("w"')),
    Patch("espnet2.tasks.abs_task", "AbsTask.build_optimizers", by=wrappers.build_optimizers,
          why="weight decay off the posterior scales; the guard against a changed configuration",
          relies_on=("if args.exclude_weight_decay:", "configure_optimizer(")),
    Patch("espnet2.optimizers.optim_groups", "add_optimizer_hooks",
          why="weight decay off the posterior scales",
          relies_on=('getattr(p, "_no_weight_decay", False)',)),
    Patch("espnet2.tasks.abs_task", "scheduler_classes", by=wrappers.with_newbob,
          why="scheduler: newbob in the yaml"),
    Patch("espnet2.schedulers.abs_scheduler", "AbsValEpochStepScheduler",
          why="scheduler: newbob is stepped with the validation's criterion",
          relies_on=("def step(self, val,", "def state_dict(self",
                     "def load_state_dict(self, state")),
    Patch("espnet2.train.trainer", "Trainer.run", by=wrappers.trainer_run,
          why="adapter: lora without loralib, atomic checkpoints, repair, averaging, newbob",
          relies_on=('adapter == "lora" and lora is None',
                     'checkpoint=output_dir / "checkpoint.pth"',
                     'torch.save(model_state_dict, output_dir / f"{iepoch}epoch.pth")',
                     "model_state_dict.pop(n)", "average_nbest_models(",
                     'reporter.matplotlib_plot(output_dir / "images")',
                     "isinstance(scheduler, AbsValEpochStepScheduler)", "trainer_options.resume",
                     "distributed_option.distributed", "distributed_option.dist_rank")),
    Patch("espnet2.train.trainer", "TrainerOptions",
          why="repair of a folder before a resume; the number of updates; a base that is not saved",
          relies_on=("resume: bool", "output_dir: ", "best_model_criterion: ", "max_epoch: ",
                     "accum_grad: ", "save_strategy: ", "use_amp: ", "ngpu: ")),
    Patch("espnet2.iterators.sequence_iter_factory", "SequenceIterFactory",
          why="the number of updates, beside which a warm-up may be too long",
          relies_on=("self.sampler = ", "self.num_iters_per_epoch = ")),
    Patch("espnet2.train.distributed_utils", "DistributedOption",
          why="the share of each process in a batch",
          relies_on=("distributed: ", "dist_rank: ", "dist_world_size: ")),
    Patch("espnet2.train.trainer", "autocast_args", why="frozen weights in bfloat16 under it"),
    Patch("espnet2.train.trainer", "Trainer.resume", why="checked resume",
          relies_on=("safe_torch_load(", 'model.load_state_dict(states["model"], strict=strict)')),
    Patch("espnet2.train.trainer", "torch", by=wrappers.torch_with_atomic_save,
          why="atomic checkpoints"),
    Patch("espnet2.train.trainer", "safe_torch_load", by=wrappers.resumed_checkpoint,
          why="checked resume"),
    Patch("espnet2.train.trainer", "average_nbest_models",
          by=ours("checkpoints.average_nbest_models"), why="averaging of posterior means only",
          relies_on=("best_model_criterion", 'f"{ph}.{cr}.ave_{n}best.{suffix}pth"')),
    Patch("espnet2.train.distributed_utils", "get_rank",
          why="which process holds the experiment's folder",
          relies_on=("def get_rank(prior=None, launcher",)),
    Patch("espnet2.torch_utils.safe_torch_load", "safe_torch_load",
          why="repair and averaging of checkpoints",
          relies_on=("def safe_torch_load(", "map_location=None", "weights_only=True")),
    # -- training: reports
    *(
        Patch(
            "espnet2.train.reporter",
            f"SubReporter.{method}",
            why="no nan in logs and curves where a statistic was not due",
            relies_on=("self.stats.items()", window),
            by=wrappers.only_due,
        )
        for method, window in (
            ("log_message", "stats_list[start:end]"),
            ("tensorboard_add_scalar", "stats_list[start:]"),
            ("wandb_log", "stats_list[start:]"),
        )
    ),
    Patch("espnet2.train.reporter", "Reporter.matplotlib_plot", by=wrappers.plot_at_the_end,
          why="curves are drawn once", relies_on=("self, output_dir:", "plt.savefig(p)")),
    Patch("espnet2.train.reporter", "SubReporter.next",
          why="no nan in logs and curves where a statistic was not due",
          relies_on=("stats_list.append(to_reported_value(np.nan, 0))",)),
    Patch("espnet2.train.reporter", "WeightedAverage",
          why="no nan in logs and curves where a statistic was not due",
          relies_on=("weight: ",)),
    Patch("espnet2.train.reporter", "Reporter", why="repair and averaging of checkpoints",
          relies_on=("def load_state_dict(", "def get_epoch(", "def has(self, key",
                     "def get_best_epoch(self, key", "def sort_epochs_and_values(")),
    # -- loads of models
    Patch("espnet2.tasks.abs_task", "AbsTask.build_model_from_file",
          by=wrappers.build_model_from_file, why="checked loads at inference",
          relies_on=("create_adapter(model, args.adapter", "safe_torch_load(", "strict=False",
                     "args = yaml.safe_load(f)")),
    Patch("espnet2.tasks.abs_task", "safe_torch_load", by=checked_loader,
          why="checked loads at inference"),
    Patch("espnet2.tasks.abs_task", "yaml", by=wrappers.fast_yaml,
          why="config.yaml read by libyaml"),
    Patch("espnet2.tasks.abs_task", "yaml_no_alias_safe_dump", by=wrappers.fast_dump,
          why="config.yaml written by libyaml"),
    Patch("espnet2.torch_utils.load_pretrained_model", "load_pretrained_model",
          why="checked loads of --init_param",
          relies_on=("safe_torch_load(path", "obj.load_state_dict(dst_state)")),
    Patch("espnet2.torch_utils.load_pretrained_model", "safe_torch_load",
          by=checked_loader, why="checked loads of --init_param"),
    Patch("espnet2.tasks.asr", "ASRTask.build_model", by=wrappers.build_model,
          why="checked loads of a whole model; which Whisper it is",
          relies_on=("model_choices.get_class(args.model)", "**args.model_conf",
                     "encoder_choices.get_class(args.encoder)", "decoder_choices.get_class(",
                     "args.token_list")),
    Patch("espnet2.tasks.asr", "ASRTask",
          why="the experiment of the base, and programs that open an experiment",
          relies_on=("class ASRTask(AbsTask)",)),
    Patch("espnet2.utils.yaml_no_alias_safe_dump", "yaml_no_alias_safe_dump",
          why="config.yaml of the base as training writes it",
          relies_on=("def yaml_no_alias_safe_dump(data, stream=None, **kwargs)",)),
    Patch("espnet2", "__version__", why="config.yaml of the base as training writes it"),
    # -- parts of the model
    Patch("espnet2.tasks.asr", "model_choices.classes[espnet]", by=ours("model.BloraASRModel"),
          why="loss over text tokens"),
    Patch("espnet2.tasks.asr", "encoder_choices.classes[whisper]",
          by=ours("whisper_parts.WhisperEncoder"), why="encoder: whisper"),
    Patch("espnet2.tasks.asr", "decoder_choices.classes[whisper]",
          by=ours("whisper_parts.WhisperDecoder"), why="decoder: whisper"),
    Patch("espnet2.asr.espnet_model", "ESPnetASRModel", why="loss over text tokens",
          relies_on=("self.sos = ", "self.eos = ", "self.ignore_id = ", "self.token_list = ",
                     "self.decoder = ", "self.criterion_att = LabelSmoothingLoss(",
                     "self.error_calculator = ErrorCalculator(", "self.ctc = None",
                     "self.is_encoder_whisper", "self.lang_token_id = None", "def __init__(",
                     "def forward(", "def encode(")),
    Patch("espnet2.asr.espnet_model", "ESPnetASRModel._calc_att_loss",
          why="loss and accuracy over text tokens",
          relies_on=("add_sos_eos(ys_pad, self.sos, self.eos, self.ignore_id)",
                     "self.criterion_att(", "self.error_calculator(")),
    Patch("espnet2.legacy.nets.pytorch_backend.transformer.label_smoothing_loss",
          "LabelSmoothingLoss", why="label smoothing as ESPnet weighs it",
          relies_on=("self.smoothing = smoothing", "self.normalize_length = normalize_length")),
    Patch("espnet2.legacy.nets.pytorch_backend.transformer.add_sos_eos", "add_sos_eos",
          why="input and output of the decoder in training",
          relies_on=("def add_sos_eos(ys_pad, sos, eos, ignore_id",)),
    Patch("espnet2.asr.encoder.abs_encoder", "AbsEncoder", why="encoder: whisper",
          relies_on=("def output_size(", "def forward(")),
    Patch("espnet2.asr.specaug.specaug", "SpecAug", why="encoder_conf: use_specaug",
          relies_on=("def forward(self, x, x_lengths=None)",)),
    Patch("espnet2.asr.decoder.abs_decoder", "AbsDecoder", why="decoder: whisper",
          relies_on=("ScorerInterface", "def forward(")),
    Patch("espnet2.legacy.nets.scorer_interface", "ScorerInterface",
          why="Whisper's decoder as a scorer of ESPnet's search",
          relies_on=("def init_state(", "def score(")),
    Patch("espnet2.legacy.nets.scorer_interface", "BatchScorerInterface",
          why="Whisper's decoder as a scorer of ESPnet's batched search",
          relies_on=("def batch_init_state(", "def batch_score(")),
    # -- text and vocabulary
    Patch("espnet2.bin.whisper_export_vocabulary", "export_vocabulary",
          by=ours("vocabulary.export_vocabulary"),
          why="stage 5 writes the token list of the Whisper in use",
          relies_on=("output: str", "whisper_model: str", "whisper_language: ",
                     "whisper_task: str", "log_level: str", "add_token_file_name: str",
                     "sot_asr: bool", "speaker_change_symbol: str")),
    *(
        Patch(
            module,
            f"OpenAIWhisper{name}",
            why="token_type: whisper_multilingual with today's openai-whisper",
            by=ours("vocabulary.WhisperTokenizer"),
        )
        for module, name in (
            ("espnet2.text.build_tokenizer", "Tokenizer"),
            ("espnet2.train.preprocessor", "Tokenizer"),
            ("espnet2.train.preprocessor", "TokenIDConverter"),
            ("espnet2.bin.asr_inference", "TokenIDConverter"),
        )
    ),
    Patch("espnet2.text.build_tokenizer", "build_tokenizer",
          why="token_type: whisper_multilingual with today's openai-whisper",
          relies_on=("return OpenAIWhisperTokenizer(",)),
    Patch("espnet2.text.abs_tokenizer", "AbsTokenizer",
          why="token_type: whisper_multilingual with today's openai-whisper",
          relies_on=("def text2tokens(self, line", "def tokens2text(self, tokens")),
    # -- data
    Patch("espnet2.tasks.asr", "preprocessor_choices.classes[default]",
          by=ours("preprocessor.WhisperPreprocessor"), why="a prompt per utterance from utt2lang"),
    Patch("espnet2.train.preprocessor", "CommonPreprocessor",
          why="a prompt per utterance from utt2lang",
          relies_on=("def __init__(", "def _speech_process(", "def __call__(",
                     "self.speech_name = ", "self.text_name = ", "self.text_cleaner = ",
                     "self.tokenizer = ", "self.token_id_converter = ",
                     "OpenAIWhisperTokenIDConverter(")),
    Patch("espnet2.text.cleaner", "TextCleaner", why="the cleaner of texts",
          relies_on=("def __init__(self, cleaner_types", "def __call__(self, text")),
    Patch("espnet2.tasks.abs_task", "AbsTask.build_iter_options", by=wrappers.build_iter_options,
          why="utt2lang beside the wav.scp of training",
          relies_on=("preprocess_fn=preprocess_fn", "data_path_and_name_and_type=")),
    Patch("espnet2.tasks.abs_task", "AbsTask.build_iter_factory", by=wrappers.build_iter_factory,
          why="retain: old audio in the batches of training",
          relies_on=("iter_options = cls.build_iter_options(", "kwargs: Optional[dict] = None")),
    Patch("espnet2.tasks.abs_task", "AbsTask.build_dataset",
          why="retain: old audio in the batches of training",
          relies_on=("keys_to_load: Optional[Set", "iter_options.data_path_and_name_and_type,")),
    Patch("espnet2.iterators.abs_iter_factory", "AbsIterFactory",
          why="retain: old audio in the batches of training",
          relies_on=("def build_iter(self, epoch",)),
    Patch("espnet2.utils.nested_dict_action", "NestedDictAction",
          why="retain: is a mapping in the yaml", relies_on=("def __call__(",)),
    Patch("espnet2.tasks.abs_task", "IteratorOptions",
          why="utt2lang beside the wav.scp of training",
          relies_on=("preprocess_fn: ", "data_path_and_name_and_type: ", "batch_type: ",
                     "batch_size: ", "distributed: ")),
    Patch("espnet2.tasks.abs_task", "AbsTask.build_streaming_iterator",
          by=wrappers.build_streaming_iterator,
          why="utt2lang beside the wav.scp of statistics and decoding",
          relies_on=("data_path_and_name_and_type,", "preprocess_fn,", "inference: bool = False")),
    Patch("espnet2.train.dataset", "DATA_TYPES[sound][func]", by=data_checks.naming_reader,
          why="audio that cannot be read is named in training",
          relies_on=("SoundScpReader(", "AdapterForSoundScpReader(loader")),
    Patch("espnet2.train.dataset", "DATA_TYPES[kaldi_ark][func]",
          by=functools.partial(data_checks.naming_reader, places="_dict"),
          why="the same of archives, and that an entry is the utterance's own",
          relies_on=("kaldi_io.load_scp(", "AdapterForSoundScpReader(\n        loader")),
    Patch("espnet2.train.dataset", "AdapterForSoundScpReader",
          why="audio that cannot be read is named in training",
          relies_on=("self.loader = loader",)),
    Patch("espnet2.fileio.sound_scp", "SoundScpReader",
          why="audio that cannot be read is named in training",
          relies_on=("self.data = read_2columns_text(",)),
    Patch("espnet2.train.iterable_dataset", "DATA_TYPES[sound]", by=data_checks.naming_file,
          why="audio that cannot be read is named in statistics and decoding",
          relies_on=("soundfile.read(x)",)),
    Patch("espnet2.train.iterable_dataset", "DATA_TYPES[kaldi_ark]", by=data_checks.naming_file,
          why="the same of archives",
          relies_on=("kaldi_io.load_mat(input)",)),
    # -- decoding
    Patch("espnet2.bin.asr_inference", "Speech2Text",
          by=ours("espnet_inference.WhisperSpeech2Text"),
          why="a language per utterance in ESPnet's own search",
          relies_on=("self.asr_model = ", "self.asr_train_args = ", "self.beam_search = ",
                     "self.batch_size = ", "self.maxlenratio = ", "self.minlenratio = ",
                     "self.device = ", "self.dtype = ", "self.nbest = ", "def __init__(",
                     "def __call__(", "def batch_decode(", "def from_pretrained(",
                     "download_pretrained(model_tag)", "return Speech2Text(**kwargs)")),
    Patch("espnet2.bin.asr_inference", "inference", by=ours("espnet_inference.inference"),
          why="one line per utterance, or an error that names it",
          relies_on=("Speech2Text.from_pretrained(", "speech2text.batch_decode(**batch)",
                     "key_file: ", "output_dir: str")),
    Patch("espnet2.bin.asr_inference", "get_parser",
          why="options of stage 12, read by our own search without ESPnet",
          relies_on=('"--data_path_and_name_and_type"', '"--key_file"', '"--asr_model_file"')),
    Patch("espnet2.bin.pack", "get_parser", why="stage 14's archive is completed",
          relies_on=("add_subparsers(",)),
    Patch("espnet2.bin.asr_inference", "BatchBeamSearch", why="prompts per row of a batch",
          relies_on=("x_lengths: Optional[torch.Tensor] = None", "def forward(")),
    Patch("espnet2.legacy.nets.beam_search", "BeamSearch", why="prompts of ESPnet's own search",
          relies_on=("def set_hyp_primer(", "self.scorers = ", "self.token_list = ")),
    Patch("espnet2.legacy.nets.beam_search", "Hypothesis",
          why="n-best lists of ESPnet's own search",
          relies_on=("yseq", "score")),
    Patch("espnet2.torch_utils.device_funcs", "is_out_of_memory_error",
          why="a batch that does not fit is split",
          relies_on=("def is_out_of_memory_error(exc",)),
    Patch("espnet2.torch_utils.device_funcs", "release_accelerator_memory",
          why="a batch that does not fit is split",
          relies_on=("def release_accelerator_memory()",)),
    Patch("espnet2.fileio.datadir_writer", "DatadirWriter",
          why="the output files of our own search",
          relies_on=("def __enter__(", "def __exit__(", "def __getitem__(", "def __setitem__(")),
)
# fmt: on


@functools.cache
def apply(patches: tuple[Patch, ...]) -> None:
    """Replace what the table says, in this process; a second call does nothing.

    All places are looked for before the first is replaced, and all replacements are made before
    the first is put in: on an error ESPnet is as it was.

    Raises:
        ValueError: Places that we replace or rely on have moved.
    """
    typeguard.typechecked = wrappers.lazy_typechecked(typeguard.typechecked)
    import espnet2

    release = str(getattr(espnet2, "__version__", "unknown"))
    remedy = f"install the release this was written for (pip install espnet=={RELEASE})"
    with late_imports():
        # What the source says is read only of other releases: that of RELEASE was.
        lines = moved(patches, read_source=release != RELEASE)
    if lines:
        raise ValueError(
            f"ESPnet {release} is installed, espnet_blora knows {RELEASE}, and "
            f"{len(lines)} places that it relies on have moved: {'; '.join(lines)}. "
            f"Remedy: {remedy}, or an espnet_blora made for ESPnet {release}."
        )
    if release != RELEASE:
        log.warning(
            "ESPnet %s is installed, espnet_blora was written for %s; every place it relies on is "
            "still there, but nothing was tried with this release. To be safe, %s.",
            release,
            RELEASE,
            remedy,
        )
    replacements = [
        (patch, patch.by(_function(present(patch)))) for patch in patches if patch.by is not None
    ]
    for patch, replacement in replacements:
        _put(patch, replacement)


def moved(patches: tuple[Patch, ...] = PATCHES, read_source: bool = True) -> list[str]:
    """Return one line per place that is no longer as we read it; empty if all is well.

    Args:
        patches: The table.
        read_source: Look for the fragments in the source too, not only for the place.
    """
    lines = []
    for patch in patches:
        try:
            place = present(patch)
        except (ImportError, AttributeError, KeyError, TypeError):
            lines.append(f"{patch.place} is gone; needed for: {patch.why}")
            continue
        if not (read_source and patch.relies_on):
            continue
        try:
            source = inspect.getsource(inspect.unwrap(_function(place)))
        except (OSError, TypeError):  # it is there, but no longer a function or a class
            source = ""
        lines += [
            f"{patch.place} no longer holds {fragment!r}; needed for: {patch.why}"
            for fragment in patch.relies_on
            if fragment not in source
        ]
    return lines


def present(patch: Patch) -> Any:
    """Return what stands in a place now (of a class method the classmethod object).

    What a class only inherits does not count: it would be another function.

    Raises:
        ImportError: The module is gone.
        AttributeError: What holds the place is gone.
        KeyError: The place is gone.
    """
    owner, last = _owner(patch)
    return (owner if isinstance(owner, dict) else vars(owner))[last]


def _owner(patch: Patch) -> tuple[Any, str]:
    """Return what holds a place, an object or a mapping, and the place's name or key in it."""
    *path, last = re.findall(r"[^.\[\]]+", patch.name)
    owner = importlib.import_module(patch.module)
    for part in path:
        owner = owner[part] if isinstance(owner, dict) else getattr(owner, part)
    return owner, last


def _function(place: Any) -> Any:
    """Return the function under a class method; anything else as it is."""
    return place.__func__ if isinstance(place, classmethod) else place


def _put(patch: Patch, replacement: Any) -> None:
    """Put a replacement into its place; a class method stays one."""
    owner, last = _owner(patch)
    if isinstance(owner, dict):
        owner[last] = replacement
    elif isinstance(present(patch), classmethod):
        setattr(owner, last, classmethod(replacement))
    else:
        setattr(owner, last, replacement)

"""Experiment of the unadapted base: config.yaml and a marker, from a recipe's training yaml."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from espnet_blora.decoding.training_config import read_mapping
from espnet_blora.plugin.settings import Settings
from espnet_blora.utils import atomic

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

ADAPTER_KEYS = ("use_adapter", "adapter", "adapter_conf", "retain", "save_strategy")
"""Keys of a training yaml that have no place in the base's config.yaml."""


def write_base_model(
    asr_config: str,
    token_list: str,
    output_dir: str,
    whisper: str | None,
    model_file: str = "base.pth",
    options: Sequence[str] = (),
) -> Path:
    """Write `config.yaml` and the marker of the base into `output_dir`.

    config.yaml has the form that ESPnet's training dumps: the task's defaults, the yaml, the
    options and what building the model filled in.

    Args:
        asr_config: A training yaml.
        token_list: tokens.txt of the same Whisper.
        output_dir: The base model's asr_exp.
        whisper: Published size or checkpoint file.
        model_file: Name of the marker.
        options: More options of espnet2.bin.asr_train.

    Returns:
        Path of the marker.

    Raises:
        FileNotFoundError: The yaml or the token list is missing.
        ValueError: The Whisper is not named or does not fit the token list, or the folder holds
            the training of another model.
    """
    from espnet_blora.decoding.checked_load import base_marker
    from espnet_blora.plugin.checkpoints import atomic_save

    folder = Path(output_dir)
    _check(asr_config, token_list, folder, whisper, model_file)
    args, model = build(asr_config, token_list, folder, whisper, options)
    write_config(args, folder)
    atomic_save(base_marker(model), folder / model_file)
    log.info(
        "%s: config.yaml and the marker %s of the base %s", folder, model_file, whisper or "model"
    )
    return folder / model_file


def build(
    asr_config: str,
    token_list: str,
    folder: Path,
    whisper: str | None,
    options: Sequence[str] = (),
) -> tuple[argparse.Namespace, torch.nn.Module]:
    """Build the model that a training without its adapter would start from.

    Args:
        asr_config: As of `write_base_model`.
        token_list: As of `write_base_model`.
        folder: The experiment's.
        whisper: As of `write_base_model`.
        options: As of `write_base_model`.

    Returns:
        The training's arguments, which building the model has completed; and the model.
    """
    from espnet_blora import plugin
    from espnet_blora.plugin.vocabulary import vocabulary_of

    plugin.register(whisper=whisper, new_languages=vocabulary_of(token_list).new_languages)

    from espnet2 import __version__
    from espnet2.tasks.asr import ASRTask

    with _without_adapter(Path(asr_config), folder) as config:
        args: argparse.Namespace = ASRTask.get_parser().parse_args(
            [
                *("--config", str(config)),
                *("--token_list", str(token_list)),
                *("--output_dir", str(folder)),
                *options,
            ]
        )
    args.config, args.version, args.distributed = str(asr_config), __version__, False
    if args.use_adapter:
        raise ValueError("--use_adapter true has no place here: this makes the unadapted base")

    return args, ASRTask.build_model(args)


def write_config(args: argparse.Namespace, folder: Path) -> None:
    """Write config.yaml as ESPnet's training dumps its arguments."""
    from espnet2.utils.yaml_no_alias_safe_dump import yaml_no_alias_safe_dump

    text = yaml_no_alias_safe_dump(vars(args), indent=4, sort_keys=False)
    atomic.write(folder / "config.yaml", text)


def _check(
    asr_config: str, token_list: str, folder: Path, whisper: str | None, model_file: str
) -> None:
    """Check the arguments of `write_base_model` before ESPnet is imported."""
    for path, option in ((asr_config, "--asr_config"), (token_list, "--token_list")):
        if not Path(path).is_file():
            raise FileNotFoundError(f"{option}: no file {path}")
    if not whisper and not Settings.current().whisper:
        raise ValueError("which Whisper? Give --whisper SIZE_OR_FILE, as to the launcher")
    if (folder / "checkpoint.pth").exists():
        raise ValueError(
            f"{folder} holds a trained model (checkpoint.pth); its config.yaml would be lost. "
            "Remedy: give the base another folder (--asr_exp)."
        )
    if Path(model_file).name != model_file:
        raise ValueError(f"--model_file: {model_file!r} is a path; give a name inside {folder}")


@contextmanager
def _without_adapter(path: Path, folder: Path) -> Iterator[Path]:
    """Yield a copy of a training yaml without its adapter's options, for as long as it is read.

    Raises:
        ValueError: The yaml is not a mapping.
    """
    config = read_mapping(path)
    stripped = {key: value for key, value in config.items() if key not in ADAPTER_KEYS}
    copy = folder / ".base_config.yaml"
    atomic.write(copy, yaml.safe_dump(stripped, allow_unicode=True))
    try:
        yield copy
    finally:
        copy.unlink()

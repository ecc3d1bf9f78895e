"""The experiment of the unadapted base: config.yaml and a mark, from a recipe's training yaml."""

import logging
from collections.abc import Sequence
from pathlib import Path

import yaml

from espnet_blora.plugin.settings import Settings

log = logging.getLogger(__name__)

# Of a training yaml, what speaks of the adapter and so has no place in the base's config.yaml.
ADAPTER_KEYS = ("use_adapter", "adapter", "adapter_conf", "save_strategy")


def write_base_model(
    asr_config: str,
    token_list: str,
    output_dir: str,
    whisper: str | None,
    model_file: str = "base.pth",
    options: Sequence[str] = (),
) -> Path:
    """Write `config.yaml` and the mark of the base into `output_dir`; returns the mark's path.

    config.yaml has the form that ESPnet's training dumps: the task's defaults, the yaml, the
    options and what building the model filled in.

    Args:
        asr_config: A training yaml.
        token_list: tokens.txt of the same Whisper.
        output_dir: The base model's asr_exp.
        whisper: Published size or checkpoint file.
        model_file: Name of the mark.
        options: More options of espnet2.bin.asr_train.

    Raises:
        FileNotFoundError: The yaml or the token list is missing.
        ValueError: The Whisper is not named, does not fit the token list, or the folder holds the
            training of another model.
    """
    import torch

    from espnet_blora import plugin
    from espnet_blora.decoding.checked_load import base_marker
    from espnet_blora.plugin.checkpoints import atomic_save
    from espnet_blora.plugin.vocabulary import layout_of
    from espnet_blora.utils import atomic

    for path, what in ((asr_config, "--asr_config"), (token_list, "--token_list")):
        if not Path(path).is_file():
            raise FileNotFoundError(f"{what}: no file {path}")
    if not whisper and not Settings.current().whisper:
        raise ValueError("which Whisper? Give --whisper SIZE_OR_FILE, as to the launcher")
    folder = Path(output_dir)
    if (folder / "checkpoint.pth").exists():
        raise ValueError(
            f"{folder} holds a trained model (checkpoint.pth); its config.yaml would be lost. "
            "Remedy: give the base another folder (--asr_exp)."
        )
    if Path(model_file).name != model_file:
        raise ValueError(f"--model_file: {model_file!r} is a path; give a name inside {folder}")
    plugin.register(whisper=whisper, new_languages=layout_of(token_list).new_languages)

    from espnet2 import __version__
    from espnet2.tasks.asr import ASRTask
    from espnet2.utils.yaml_no_alias_safe_dump import yaml_no_alias_safe_dump

    folder.mkdir(parents=True, exist_ok=True)
    stripped = folder / ".base_config.yaml"
    stripped.write_text(
        yaml.safe_dump(_without_adapter(Path(asr_config)), allow_unicode=True), encoding="utf-8"
    )
    try:
        args = ASRTask.get_parser().parse_args(
            [
                *("--config", str(stripped)),
                *("--token_list", str(token_list)),
                *("--output_dir", str(folder)),
                *options,
            ]
        )
    finally:
        stripped.unlink()
    args.config, args.version, args.distributed = str(asr_config), __version__, False
    if args.use_adapter:
        raise ValueError("--use_adapter true has no place here: this makes the unadapted base")
    with torch.no_grad():
        model = ASRTask.build_model(args)
        marker = base_marker(model)
    text = yaml_no_alias_safe_dump(vars(args), indent=4, sort_keys=False)
    atomic.write(folder / "config.yaml", text.encode("utf-8"))
    atomic_save(marker, folder / model_file)
    log.info(
        "%s: config.yaml and the mark %s of the base %s", folder, model_file, whisper or "model"
    )
    return folder / model_file


def _without_adapter(path: Path) -> dict:
    """Read a training yaml and leave its adapter options out.

    Raises:
        ValueError: It is no yaml mapping.
    """
    try:
        conf = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as yaml: {' '.join(str(error).split())}") from error
    if not isinstance(conf, dict):
        raise ValueError(f"{path}: expected a yaml mapping, found {type(conf).__name__}")
    return {key: value for key, value in conf.items() if key not in ADAPTER_KEYS}

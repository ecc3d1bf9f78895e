"""Packed models (stage 14): what ESPnet's archive lacks, and a check before one is opened.

ESPnet packs configuration and checkpoint. A model of this package also needs its Whisper, where
that is a file and not a published size; it is put beside config.yaml, where opening looks for it.
"""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from espnet_blora.plugin.settings import Settings
from espnet_blora.whisper.safe_torch_load import damaged_entry

README = """\
# A Whisper that was adapted with espnet_blora

It needs ESPnet and the package espnet_blora:

    from espnet_blora import plugin
    plugin.register()
    from espnet2.bin.asr_inference import Speech2Text
    model = Speech2Text.from_pretrained("{name}", beam_size=1, maxlenratio=-200)
    text = model(wave, language="en")[0][0]  # wave: float32 at 16 kHz

Unpacked, it is also an experiment: espnet-blora transcribe --asr_exp {folder} x.wav
The Whisper that it was trained on is {whisper}.
"""

log = logging.getLogger(__name__)


def of_whisper(config: str | os.PathLike | None) -> bool:
    """Whether a config.yaml is of a model with Whisper's encoder; its token list is not parsed."""
    if config is None or not Path(config).is_file():
        return False
    text = Path(config).read_text(encoding="utf-8", errors="replace")
    return re.search(r"^encoder: whisper$", text, re.MULTILINE) is not None


def complete(arguments: Sequence[str]) -> None:
    """Add to the archive that `espnet2.bin.pack` has written with these arguments what it lacks.

    Raises:
        FileNotFoundError: The Whisper that the model was trained with is not there.
    """
    from espnet2.bin.pack import get_parser

    from espnet_blora.decoding.recogniser import whisper_of
    from espnet_blora.decoding.training_config import read_training_config

    args = get_parser().parse_args(arguments)
    config = Path(getattr(args, "asr_train_config", None) or "")
    archive = Path(args.outpath)
    if archive.suffix != ".zip" or not of_whisper(config):
        return
    spec = whisper_of(read_training_config(config), Settings.current().whisper)
    with zipfile.ZipFile(archive, "a") as file:
        names = file.namelist()
        packed = next(name for name in names if Path(name).name == config.name)
        folder = Path(packed).parent
        whisper, base = f"the published size {spec}", folder / Path(spec).name
        if os.path.isfile(spec):
            whisper = f"in it: {base}"
            if str(base) not in names:
                file.write(spec, base)
        if "README.md" not in names:
            text = README.format(name=archive.name, folder=folder, whisper=whisper)
            file.writestr("README.md", text)
    log.info("%s: its Whisper is %s", archive, whisper)


def check_packed(path: Path) -> None:
    """Check the archive of a packed model before anything is taken from it.

    Raises:
        ValueError: It is damaged or no packed model.
    """
    if path.suffix != ".zip":  # ESPnet reads tar files too, which have no checksums
        return
    entry = damaged_entry(path)
    if entry is None and not zipfile.is_zipfile(path):
        entry = "its end"
    if entry is not None:
        raise ValueError(f"packed model {path}: damaged at {entry}; copy it again, or pack it anew")
    with zipfile.ZipFile(path) as archive:
        if not any(Path(name).name == "meta.yaml" for name in archive.namelist()):
            raise ValueError(
                f"{path} is no packed model (it has no meta.yaml); make one with run.sh "
                "--skip_packing false --stage 14"
            )

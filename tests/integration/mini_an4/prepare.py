#!/usr/bin/env python3
"""Turn AN4's NIST SPHERE files into 16 kHz WAV and data directories: prepare.py AN4_PARENT OUT."""

import re
import sys
from pathlib import Path

from espnet_blora.data import audio, kaldi


def read_part(root: Path, part: str) -> dict[str, tuple[Path, str]]:
    """Utterance id -> (SPHERE file, text) of `train` or `test`."""
    texts = {}
    for line in (root / "etc" / f"an4_{part}.transcription").read_text().splitlines():
        words, name = re.fullmatch(r"(.*) \((.*)\)", line).groups()
        texts[name] = re.sub(r"</?s>", "", words).strip().lower()
    found = {}
    for name in (root / "etc" / f"an4_{part}.fileids").read_text().split():
        path = root / "wav" / f"{name}.sph"
        found[f"{path.parent.name}-{path.stem}"] = (path, texts[path.stem])
    return found


def main(parent: str, out: str) -> None:
    """Write train (all but two), dev (two of the training part) and test."""
    root = Path(parent) / "an4"
    train = read_part(root, "train")
    dev = {key: train.pop(key) for key in sorted(train)[-2:]}
    for name, part in (("train", train), ("dev", dev), ("test", read_part(root, "test"))):
        wav = {}
        for key, (path, _) in part.items():
            wav[key] = str(Path(parent) / f"{key}.wav")
            audio.write(wav[key], audio.read(path))
        kaldi.write_data_dir(
            Path(out) / name,
            wav,
            {key: text for key, (_, text) in part.items()},
            {key: key.split("-")[0] for key in part},
            dict.fromkeys(part, "en"),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

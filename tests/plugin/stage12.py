"""An experiment and a set as stage 12 finds them, on a random Whisper."""

import argparse
import math

import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet2.tasks.asr import ASRTask

from espnet_blora import plugin
from espnet_blora.plugin.settings import SCALE, WHISPER
from espnet_blora.whisper.vocabulary import Vocabulary

LAYOUT = Vocabulary.of(51865)
SAMPLES = {"u1": 6000, "u2": 16000, "u3": 9000, "u4": 12345, "u5": 30, "u6": 0}
LANGUAGES = {"u1": "zh", "u2": "en", "u3": "de", "u4": "zh", "u5": "en", "u6": "zh"}
PLAIN = (str, int, float, bool, dict, list, type(None))


def write_data(folder, samples, languages):
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for uid, n in samples.items():
        t = np.arange(n) / 16000
        wave = 0.3 * np.sin(2 * math.pi * rng.uniform(100, 3000) * t) + 0.05 * rng.normal(size=n)
        soundfile.write(folder / f"{uid}.wav", wave, 16000)
        lines.append(f"{uid} {folder / uid}.wav\n")
    (folder / "wav.scp").write_text("".join(lines))
    (folder / "utt2lang").write_text("".join(f"{u} {c}\n" for u, c in languages.items()))
    return folder


def make_experiment(tmp_path_factory, random_whisper):
    """What training leaves behind: config.yaml and model.pth, in a folder that is returned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WHISPER, random_whisper)
        patch.delenv(SCALE, raising=False)
        plugin.register()
        folder = tmp_path_factory.mktemp("exp")
        tokens = folder / "tokens.txt"
        tokens.write_text("".join(f"{t}\n" for t in LAYOUT.token_list()), encoding="utf-8")
        options = {
            "output_dir": str(folder),
            "token_list": str(tokens),
            "token_type": "whisper_multilingual",
            "bpemodel": "whisper_multilingual",
            "input_size": 1,
            "normalize": None,
            "encoder": "whisper",
            "encoder_conf": {"pad_to": "batch"},
            "decoder": "whisper",
            "model_conf": {
                "ctc_weight": 0.0,
                "sym_sos": "<|startoftranscript|>",
                "sym_eos": "<|endoftext|>",
            },
        }
        args = argparse.Namespace(**{**vars(ASRTask.get_parser().parse_args([])), **options})
        model = ASRTask.build_model(args)
        # A trained checkpoint that differs from the base, so that it must really be read.
        with torch.no_grad():
            model.decoder.decoders.ln.weight.mul_(1.1)
        torch.save(model.state_dict(), folder / "model.pth")
        stored = {k: v for k, v in vars(args).items() if isinstance(v, PLAIN)}
        text = yaml.dump(stored, Dumper=yaml.CSafeDumper, sort_keys=False)
        (folder / "config.yaml").write_text(text)
    return folder

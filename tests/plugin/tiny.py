"""A real ESPnet experiment small enough for a test: random Whisper, a few noises with texts."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import yaml

REPO = Path(__file__).resolve().parents[2]
TEXTS = ["hello world", "good morning", "你好世界", "one two", "thank you", "再见"]
TRAIN, VALID = 8, 3


def whisper_file(folder: Path, seed: int = 0) -> Path:
    """Write a Whisper of width 16 with random weights as a checkpoint file."""
    from tests import whispers  # torch: not for what only names commands

    path = folder / f"whisper{seed}.safetensors"
    return whispers.whisper_file(path, seed=seed)


def data_dir(folder: Path, count: int, seed: int) -> Path:
    """Write a Kaldi data directory of `count` noises of 0.3-0.7 s, two languages."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    tables = {name: [] for name in ("wav.scp", "text", "utt2lang", "speech_shape", "text_shape")}
    for index in range(count):
        uid = f"utt{seed}-{index:02d}"
        length = int(random.integers(4800, 11200))
        soundfile.write(folder / f"{uid}.wav", 0.1 * random.standard_normal(length), 16000)
        text = TEXTS[index % len(TEXTS)]
        tables["wav.scp"].append(f"{uid} {folder / f'{uid}.wav'}")
        tables["text"].append(f"{uid} {text}")
        tables["utt2lang"].append(f"{uid} {'en' if text.isascii() else 'zh'}")
        tables["speech_shape"].append(f"{uid} {length}")
        tables["text_shape"].append(f"{uid} 7")
    for name, lines in tables.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def config(**changes) -> dict:
    """Return a training configuration as a recipe's yaml holds it."""
    return {
        "token_type": "whisper_multilingual",
        "bpemodel": "whisper_multilingual",
        "cleaner": None,
        "frontend": None,
        "input_size": 1,
        "normalize": None,
        "encoder": "whisper",
        "decoder": "whisper",
        "encoder_conf": {"pad_to": "batch"},
        "model_conf": {
            "ctc_weight": 0.0,
            "lsm_weight": 0.1,
            "length_normalized_loss": True,
            "sym_sos": "<|startoftranscript|>",
            "sym_eos": "<|endoftext|>",
            "extract_feats_in_collect_stats": False,
        },
        "batch_type": "unsorted",
        "batch_size": 2,
        "accum_grad": 2,
        "optim": "adamw",
        "optim_conf": {"lr": 0.01},
        "scheduler": None,
        "max_epoch": 2,
        "num_att_plot": 0,
        "num_workers": 0,
        "use_matplotlib": False,
        "use_tensorboard": False,
        "best_model_criterion": [["valid", "acc", "max"]],
        "keep_nbest_models": 2,
        **changes,
    }


BLORA = {
    "use_adapter": True,
    "adapter": "blora",
    "adapter_conf": {"rank": 4, "target_modules": ["query", "value"], "log_every": 2},
    "save_strategy": "required_grad_only",
}


class Experiment:
    """Data, token list and base model of a tiny experiment, and what starts ESPnet on it."""

    def __init__(self, folder: Path):
        from espnet_blora.whisper.vocabulary import Vocabulary

        self.folder = folder
        self.whisper = whisper_file(folder)
        self.train = data_dir(folder / "train", TRAIN, 1)
        self.valid = data_dir(folder / "valid", VALID, 2)
        self.tokens = folder / "tokens.txt"
        self.tokens.write_text(
            "".join(f"{token}\n" for token in Vocabulary.of(51865).token_list()), encoding="utf-8"
        )

    def arguments(self, name: str, extra=(), **changes) -> list[str]:
        """Return asr_train's arguments for experiment folder `name`."""
        yaml_file = self.folder / f"{name}.yaml"
        yaml_file.write_text(yaml.safe_dump(config(**changes)), encoding="utf-8")
        arguments = ["--config", str(yaml_file), "--token_list", str(self.tokens)]
        for part, folder in (("train", self.train), ("valid", self.valid)):
            arguments += [
                f"--{part}_data_path_and_name_and_type",
                f"{folder}/wav.scp,speech,sound",
                f"--{part}_data_path_and_name_and_type",
                f"{folder}/text,text,text",
                f"--{part}_shape_file",
                f"{folder}/speech_shape",
            ]
        arguments += ["--resume", "true", "--output_dir", str(self.folder / name)]
        return [*arguments, *extra]

    def train_here(self, name: str, extra=(), **changes) -> Path:
        """Train inside this process, as `espnet_blora.run -m espnet2.bin.asr_train` would."""
        from espnet2.tasks.asr import ASRTask

        from espnet_blora import plugin

        plugin.register(whisper=str(self.whisper))
        ASRTask.main(cmd=self.arguments(name, extra, **changes))
        return self.folder / name

    def command(self, name: str, extra=(), **changes) -> list[str]:
        """Return the whole command line that trains through the launcher."""
        return [
            *launcher("--whisper", str(self.whisper)),
            "-m",
            "espnet2.bin.asr_train",
            *self.arguments(name, extra, **changes),
        ]


def launcher(*options: str) -> list[str]:
    """Return the command line of the launcher with its own options."""
    return [sys.executable, "-m", "espnet_blora.run", *options]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess:
    """Run a command from the repository, one thread, and return what it printed."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO), **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO, env=settings)


_shared: list[Experiment] = []


def shared(tmp_path_factory) -> Experiment:
    """Return the one experiment that all test files of a session share."""
    if not _shared:
        _shared.append(Experiment(tmp_path_factory.mktemp("tiny")))
    return _shared[0]

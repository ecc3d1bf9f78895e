"""Training programs with a clock: ESPnet's (ours or its own Whisper), and HF Trainer with PEFT.

    python3 -m espnet_blora.run --whisper FILE trainers.py CLOCK espnet [asr_train's options]
    python3 trainers.py CLOCK stock WHISPER [asr_train's options]
    python3 trainers.py CLOCK hf SETTINGS

`CLOCK` is a JSON file that the program writes when it ends: the wall time and the processor time
at the end of every step of the optimiser, and the GPU's peak. SETTINGS are those of `hf`, as JSON.
"""

from __future__ import annotations

import atexit
import json
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

RATE = 16000


def watch(path: str) -> dict:
    """Write a clock file when this process ends; returns what more goes into it."""
    found: dict = {"steps": []}

    def tick(*_: object) -> None:
        found["steps"].append((time.time(), time.process_time()))

    def write() -> None:
        if torch.cuda.is_initialized():
            found["gpu"] = torch.cuda.max_memory_allocated()
        Path(path).write_text(json.dumps(found))

    register_optimizer_step_post_hook(tick)
    atexit.register(write)
    return found


def stock(spec: str) -> None:
    """Let ESPnet's own Whisper read a file, and find the constant that openai-whisper dropped."""
    import whisper
    import whisper.audio

    from espnet_blora.whisper.checkpoint import load_whisper

    model = load_whisper(spec)
    whisper.available_models = lambda: [spec]
    whisper.load_model = lambda *_, **__: model
    whisper.audio.N_MELS = 80


class Prepared(torch.utils.data.Dataset):
    """Features and targets of a set, computed before the training as in HF's guides.

    The features lie in a file that is mapped into memory, as those of `datasets` do.
    """

    def __init__(self, folder: Path, settings: dict) -> None:
        from transformers import WhisperFeatureExtractor

        samples, n_mels = settings["samples"], settings["n_mels"]
        extractor = WhisperFeatureExtractor(feature_size=n_mels)
        self.rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        shape = (len(self.rows), n_mels, samples // extractor.hop_length)
        place = Path(settings["output_dir"]) / f"{folder.name}.npy"
        self.features = np.lib.format.open_memmap(place, "w+", np.float32, shape)
        for index, row in enumerate(self.rows):
            wave, _ = soundfile.read(row["wave"], dtype="float32")
            self.features[index] = extractor(
                wave, sampling_rate=RATE, padding="max_length", max_length=samples
            ).input_features[0]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return {"input_features": self.features[index], **self.rows[index]}


def collate(rows: list[dict], pad: int) -> dict:
    """Return one batch: the loss is that of the text and its end, not of the prompt."""
    longest = max(len(row["ids"]) for row in rows)
    read = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), -100)
    for row, (before, after) in zip(rows, zip(read, labels, strict=True), strict=True):
        size, ids = len(row["ids"]), torch.tensor([*row["ids"], pad])  # pad is the end of text
        before[:size] = ids[:-1]
        after[row["prompt"] - 1 : size] = ids[row["prompt"] :]
    features = torch.from_numpy(np.stack([row["input_features"] for row in rows]))
    return {"input_features": features, "decoder_input_ids": read, "labels": labels}


def hf(settings: dict, found: dict) -> None:
    """Train with HF's Trainer and PEFT's LoRA.

    Args:
        settings: `model`, `train`, `valid` (folders), `samples` of the window, `n_mels`, `pad`,
            `lora` (LoraConfig's) and `output_dir`; the rest is TrainingArguments'.
        found: Gets the loss on the validation set.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments, WhisperForConditionalGeneration

    given = {"model", "train", "valid", "samples", "n_mels", "pad", "lora"}
    model = WhisperForConditionalGeneration.from_pretrained(settings["model"])
    encoder, positions = model.model.encoder, settings["samples"] // 320
    if positions < encoder.max_source_positions:  # HF's encoder takes nothing but its own length
        encoder.embed_positions = torch.nn.Embedding.from_pretrained(
            encoder.embed_positions.weight[:positions].clone()
        )
        encoder.max_source_positions = model.config.max_source_positions = positions
    model = get_peft_model(model, LoraConfig(**settings["lora"]))
    trainer = Trainer(
        model,
        TrainingArguments(**{key: value for key, value in settings.items() if key not in given}),
        data_collator=lambda rows: collate(rows, settings["pad"]),
        train_dataset=Prepared(Path(settings["train"]), settings),
        eval_dataset=Prepared(Path(settings["valid"]), settings),
    )
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    found["valid_loss"] = losses[-1]


def main() -> None:
    clock, kind, *rest = sys.argv[1:]
    found = watch(clock)
    if kind == "hf":
        hf(json.loads(Path(rest[0]).read_text()), found)
        return
    if kind == "stock":
        stock(rest.pop(0))
    sys.argv[1:] = rest
    from espnet2.bin.asr_train import main as train

    train()


if __name__ == "__main__":
    main()

"""Trained experiments as ESPnet leaves them on the disk, made without training: the one builder.

`experiment` needs no ESPnet; `complete` adds what ESPnet itself must find to open one.
"""

from functools import lru_cache
from pathlib import Path

import torch
import yaml
from torch import nn
from whisper.model import Whisper

from espnet_blora.adapters import METHODS, add_adapter, get_adapter
from espnet_blora.whisper import new_tokens
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.vocabulary import Vocabulary
from tests import whispers

# What single methods need beside their defaults on a Whisper of width 16.
CONF = {
    "adalora": {"target_rank": 2, "total_steps": 1000},
    "vblora": {"num_vectors": 6},
    "lora_ewc": {"fisher_file": "gone.safetensors"},  # decoding does not read it
    "lora_keep": {"keep_file": "gone.safetensors"},
}
SMALL = {"rank": 4, "alpha": 8, "r_high": 6, "r_low": 3, "theta1": 0.34, "theta2": 1.0}
TARGETS = ["query", "value", "mlp.0", "mlp.2"]


def whisper_file(path: Path, seed: int = 0, width: int = 16, n_vocab: int = 51865) -> str:
    """Write a Whisper with random weights, two layers a half."""
    return str(
        whispers.whisper_file(
            path, width, (2, 2), vocab=n_vocab, context=64, seed=seed, dtype=torch.float32
        )
    )


def options(method: str) -> dict:
    """Small `adapter_conf` of a method."""
    known = METHODS[method].config.options()
    common = {key: value for key, value in SMALL.items() if key in known}
    return {**common, **CONF.get(method, {}), "target_modules": TARGETS}


@lru_cache
def token_block(new: tuple[str, ...]) -> str:
    """`token_list:` as ESPnet's dump writes it."""
    tokens = Vocabulary.of(51865, new).token_list()
    return yaml.dump({"token_list": tokens}, Dumper=yaml.CSafeDumper, allow_unicode=True)


def write_config(folder: Path, whisper: str | None, new: tuple[str, ...] = (), **changes) -> Path:
    """Write config.yaml as a training of this Whisper dumps it; returns the folder."""
    named = {} if whisper is None else {"whisper_model": whisper}
    head = {"config": "train.yaml", "use_adapter": False, "adapter": "lora", "adapter_conf": {}}
    tail = {
        "token_type": "whisper_multilingual",
        "bpemodel": "whisper_multilingual",
        "input_size": 1,
        "frontend": None,
        "normalize": None,
        "model_conf": {
            "ctc_weight": 0.0,
            "length_normalized_loss": True,
            "sym_sos": "<|startoftranscript|>",
            "sym_eos": "<|endoftext|>",
        },
        "preencoder": None,
        "encoder": "whisper",
        "encoder_conf": {"pad_to": "batch", **named},
        "postencoder": None,
        "decoder": "whisper",
        "decoder_conf": {**named, **({"new_languages": list(new)} if new else {})},
        "preprocessor_conf": {},
        "required": ["output_dir", "token_list"],
        "version": "202611",
    }
    for key, value in changes.items():
        (head if key in head else tail)[key] = value
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join((_yaml(head), token_block(new), _yaml(tail)))
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return folder


def _yaml(values: dict) -> str:
    return yaml.dump(values, Dumper=yaml.CSafeDumper, indent=4, sort_keys=False)


def espnet_names(whisper: Whisper) -> nn.Module:
    """Its halves under the names that they have in ESPnet's model."""
    halves = {"encoder": "encoders", "decoder": "decoders"}
    return nn.ModuleDict(
        {half: nn.ModuleDict({name: getattr(whisper, half)}) for half, name in halves.items()}
    )


def reference(
    whisper: str, method: str | None = None, new: tuple[str, ...] = (), moved_by: float = 0.05
) -> tuple[nn.Module, dict]:
    """A model as if trained (every factor moved), and what its checkpoint holds."""
    model = espnet_names(load_whisper(whisper))
    new_tokens.extend(model["decoder"]["decoders"], new)
    torch.manual_seed(3)
    if method is not None:
        add_adapter(model, method, **options(method)).prepare()
    table = new_tokens.find(model)
    if table is not None:
        table[1].new_weight.requires_grad_(True)
    moved = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for parameter in moved.values():
        parameter.data += moved_by * torch.randn_like(parameter)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    state = {key: value.clone() for key, value in model.state_dict().items() if key not in frozen}
    return model.eval().requires_grad_(False), state


def experiment(
    folder: Path,
    whisper: str,
    method: str | None = None,
    new: tuple[str, ...] = (),
    moved_by: float = 0.05,
    **changes,
) -> tuple[Path, nn.Module]:
    """Lay an experiment out; returns its folder and the model that opening it must give.

    Without a method all weights are trained; `moved_by` is the deviation of what training changed.
    """
    if method is not None:
        changes |= {"use_adapter": True, "adapter": method, "adapter_conf": options(method)}
    write_config(folder, whisper, new, **changes)
    model, state = reference(whisper, method, new, moved_by)
    torch.save(state, folder / "valid.acc.best.pth")
    assert method is None or get_adapter(model) is not None
    return folder, model


def complete(folder: Path) -> Path:
    """Add ESPnet's defaults to a config.yaml, so that ESPnet opens the experiment; returns it."""
    from espnet2.tasks.asr import ASRTask

    path = folder / "config.yaml"
    text = path.read_text(encoding="utf-8")
    known = {line.partition(":")[0] for line in text.splitlines()}
    defaults = vars(ASRTask.get_parser().parse_args([])).items()
    plain = (str, int, float, bool, dict, list, type(None))
    more = {key: v for key, v in defaults if key not in known and isinstance(v, plain)}
    path.write_text(text + _yaml(more), encoding="utf-8")
    return folder

"""One Whisper in every peer's layout, and Whispers of published sizes with seeded random weights.

Hugging Face's and CTranslate2's are the package's own exports.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from whisper.model import ModelDimensions, Whisper

from espnet_blora.export import hf
from espnet_blora.export.ct2 import write_ct2
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.sizes import PUBLISHED, dims_of
from espnet_blora.whisper.vocabulary import Vocabulary


def to_hf(whisper: Whisper):
    """Hugging Face's model, which may say any token, as the searches that it is compared with."""
    model = hf.to_hf(whisper)
    model.generation_config.suppress_tokens = None
    return model


def to_espnet(spec: str, folder: Path, pads: Sequence[str]) -> None:
    """Write what a training leaves: `model.pth` and a configuration for each way to decode.

    The configurations are called `<pad_to>_<cached or uncached>.yaml`.
    """
    import yaml
    from espnet2.tasks.asr import ASRTask

    from espnet_blora import plugin

    plugin.register(whisper=spec)
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "output_dir": str(folder),
        "token_list": Vocabulary.of(dims_of(spec).n_vocab).token_list(),
        "token_type": "whisper_multilingual",
        "bpemodel": "whisper_multilingual",
        "input_size": 1,
        "normalize": None,
        "frontend": None,
        "specaug": None,
        "encoder": "whisper",
        "decoder": "whisper",
        "model_conf": {
            "ctc_weight": 0.0,
            "sym_sos": "<|startoftranscript|>",
            "sym_eos": "<|endoftext|>",
        },
    }
    args = vars(ASRTask.get_parser().parse_args([])) | options
    model = ASRTask.build_model(argparse.Namespace(**args))
    torch.save(model.state_dict(), folder / "model.pth")
    for pad_to in pads:
        for cached in (False, True):
            conf = args | {
                "encoder_conf": {"pad_to": pad_to},
                "decoder_conf": {"use_cache": cached},
            }
            text = yaml.safe_dump({k: v for k, v in conf.items() if not isinstance(v, tuple)})
            name = f"{pad_to}_{'cached' if cached else 'uncached'}.yaml"
            (folder / name).write_text(text, "utf-8")


def random_whisper(dims: ModelDimensions, seed: int = 0) -> Whisper:
    """A Whisper whose matrices and embeddings are N(0, 0.02^2), its biases 0 and its norms 1."""
    generator = torch.Generator().manual_seed(seed)
    model = Whisper(dims)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
            else:
                norm = re.search(r"ln(_post)?\.weight$", name)
                parameter.fill_(1.0 if norm else 0.0)
    return model


def write_random(size: str, path: str | Path, seed: int = 0) -> None:
    """Write such a Whisper of a published size in openai-whisper's layout, in fp16 as they are."""
    model = random_whisper(PUBLISHED[size], seed)
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    torch.save({"dims": asdict(model.dims), "model_state_dict": state}, path)


def prepare(spec: str, folder: str, kinds: Collection[str], pads: Sequence[str]) -> None:
    """Write into a folder what the kinds of systems named read; `spec` is the Whisper itself."""
    whisper, folder = load_whisper(spec), Path(folder)
    if "hf" in kinds:
        to_hf(whisper).save_pretrained(folder / "hf")
    if "ct2" in kinds:
        (folder / "ct2").mkdir()
        write_ct2(whisper, folder / "ct2", "float32")  # other precisions are made of it on loading
    if "espnet" in kinds:
        to_espnet(spec, folder / "espnet", pads)

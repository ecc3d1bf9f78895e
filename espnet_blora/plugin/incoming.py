"""A model that was trained elsewhere, as an experiment of ESPnet's."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import yaml

from espnet_blora.adapters import add_adapter
from espnet_blora.decoding.training_config import BEST
from espnet_blora.export.incoming import Incoming, nested
from espnet_blora.plugin.base_model import build, write_config
from espnet_blora.plugin.checkpoints import atomic_save
from espnet_blora.whisper.sizes import dims_of
from espnet_blora.whisper.vocabulary import Vocabulary

# What a training of a Whisper says in a recipe, as far as its model goes.
_CONFIG = {
    "token_type": "whisper_multilingual",
    "bpemodel": "whisper_multilingual",
    "input_size": 1,
    "frontend": None,
    "normalize": None,
    "specaug": None,
    "encoder": "whisper",
    "decoder": "whisper",
    "model_conf": {
        "ctc_weight": 0.0,
        "length_normalized_loss": True,
        "sym_sos": "<|startoftranscript|>",
        "sym_eos": "<|endoftext|>",
        "extract_feats_in_collect_stats": False,
    },
}


def write_experiment(
    incoming: Incoming, whisper: str, folder: Path, name: str, pad_to: str
) -> None:
    """Write train.yaml, config.yaml and the checkpoint that stands for the best epoch's.

    Args:
        incoming: The model.
        whisper: Its base, a published size or a file.
        folder: Where; is there.
        name: The folder's name in the end.
        pad_to: How waves are padded, "30s" or "batch".

    Raises:
        ValueError: The Whisper cannot be used.
        OSError: It cannot be written.
    """
    config = _CONFIG | {"encoder_conf": {"pad_to": pad_to}}
    with tempfile.TemporaryDirectory() as scratch:
        yaml_file, tokens = folder / "train.yaml", Path(scratch) / "tokens.txt"
        yaml_file.write_text(yaml.safe_dump(config), encoding="utf-8")
        lines = Vocabulary.of(dims_of(whisper).n_vocab).token_list()
        tokens.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        args, model = build(str(yaml_file), str(tokens), folder, whisper)

    args.config, args.output_dir = None, name
    tensors = {nested(key): tensor for key, tensor in incoming.tensors.items()}
    if incoming.method is None:
        args.save_strategy = "all"
        model.load_state_dict(tensors)
        state = model.state_dict()
    else:
        args.use_adapter, args.adapter = True, incoming.method
        args.adapter_conf, args.save_strategy = incoming.options, "required_grad_only"
        adapter = add_adapter(model, incoming.method, **incoming.options)
        adapter.prepare()
        factors = adapter.factors()
        with torch.no_grad():
            for key, tensor in tensors.items():
                factors[key].copy_(tensor)
        frozen = {key for key, p in model.named_parameters() if not p.requires_grad}
        state = {key: value for key, value in model.state_dict().items() if key not in frozen}
    write_config(args, folder)
    atomic_save(state, folder / BEST)

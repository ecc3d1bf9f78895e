"""Open a trained experiment of a recipe (asr_exp) for programs of ours."""

from __future__ import annotations

from pathlib import Path

import torch

from espnet_blora.adapters import get_adapter
from espnet_blora.decoding.recogniser import Recogniser
from espnet_blora.decoding.training_config import find_checkpoint
from espnet_blora.whisper.vocabulary import Vocabulary


def open_experiment(
    asr_exp: str | Path, model_file: str | None = None, device: str = "cpu"
) -> torch.nn.Module:
    """Build the model of `asr_exp/config.yaml` and load its checkpoint, checked.

    Args:
        asr_exp: the experiment's folder.
        model_file: a checkpoint in it; by default the best epoch's, else the marked base.
        device: where to put the model.

    Returns:
        ESPnet's ASR model in evaluation mode, parameters frozen.

    Raises:
        FileNotFoundError: no config.yaml or no checkpoint there.
        ValueError: a checkpoint that does not fit (base, rank, method, keys).
    """
    from espnet2.tasks.asr import ASRTask

    folder = Path(asr_exp)
    config = folder / "config.yaml"
    if not config.is_file():
        raise FileNotFoundError(f"{config}: no such file; train first (run.sh --stage 11)")
    file = find_checkpoint(folder, model_file)
    model, _ = ASRTask.build_model_from_file(config, file, device)
    return model.eval().requires_grad_(False)


def recogniser_of(model: torch.nn.Module, layout: Vocabulary, name: str) -> Recogniser:
    """Return ESPnet's model of a Whisper as our search takes it; its adapter stays factored."""
    return Recogniser(
        encoder=model.encoder.encoders,
        decoder=model.decoder.decoders,
        layout=layout,
        pad_to=model.encoder.pad_to,
        adapter=get_adapter(model),
        alignment_heads=[tuple(head) for head in model.decoder.alignment_heads.nonzero().tolist()],
        language=None,
        name=name,
    )


def base_state(asr_exp: str | Path) -> dict[str, torch.Tensor]:
    """State dict of the experiment's model before training (weights of its Whisper)."""
    from espnet2.tasks.asr import ASRTask

    model, _ = ASRTask.build_model_from_file(Path(asr_exp) / "config.yaml", None, "cpu")
    return model.state_dict()

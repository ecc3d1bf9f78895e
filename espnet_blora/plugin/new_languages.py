"""Languages added to Whisper's, under ESPnet: which there are, what trains, what a load must bring.

The token list says which (`Layout.new_languages`); it stands in config.yaml, so decoding needs no
option. Their embeddings are the parameter `decoder.decoders.token_embedding.new_weight`, trained
beside an adapter that freezes the rest of the base.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Mapping

import torch

from espnet_blora.adapters import get_adapter
from espnet_blora.plugin.settings import Settings
from espnet_blora.plugin.vocabulary import check_new_languages
from espnet_blora.whisper.new_tokens import CODES, TABLE, find, unpack_codes
from espnet_blora.whisper.vocabulary import Layout

logger = logging.getLogger(__name__)


def fill_new_languages(args: Namespace, layout: Layout, trained: bool = False) -> None:
    """Put the token list's new languages into `decoder_conf`, where the decoder reads them.

    Args:
        args: the task's arguments; changed in place.
        layout: that of the token list.
        trained: the arguments are the config.yaml of a trained model, whatever the launcher says.

    Raises:
        ValueError: the launcher's `--new-languages` or the yaml say others.
    """
    if not trained:
        check_new_languages(layout, Settings.current().new_languages)
    conf = dict(args.decoder_conf or {})
    given = conf.get("new_languages")
    if given is not None and tuple(given) != layout.new_languages:
        raise ValueError(
            f"decoder_conf.new_languages is {list(given)}, the token list has "
            f"{list(layout.new_languages)}: leave the key out, the token list decides"
        )
    if layout.new_languages:
        conf["new_languages"] = list(layout.new_languages)
        args.decoder_conf = conf


def train_beside(model: torch.nn.Module) -> None:
    """Let the embeddings of new languages train beside an adapter, which has frozen all else."""
    found = find(model)
    if found is None:
        return
    name, table = found
    table.new_weight.requires_grad_(True)
    adapter = get_adapter(model)
    if adapter is None:
        return
    # It is no part of the base that the adapter was trained on.
    adapter.state.base_names = [n for n in adapter.state.base_names if n != f"{name}.{TABLE}"]
    adapter.state.refresh(model)
    counts = adapter.report()
    logger.info(
        "new languages %s: their embeddings (%s numbers) are trained beside the adapter; "
        "trainable parameters with them %s of %s (%.3f %%)",
        " ".join(table.languages),
        f"{table.new_weight.numel():,}",
        f"{counts['trainable']:,}",
        f"{counts['total']:,}",
        100 * counts["share"],
    )


def check_table(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Check that a checkpoint brings the embeddings of this model's new languages, and no others.

    Raises:
        ValueError: they are missing, of other languages, or of another width.
    """
    found = find(model)
    theirs = next((key for key in state if key.endswith(f".{CODES}")), None)
    there = () if theirs is None else unpack_codes(state[theirs])
    here = () if found is None else found[1].languages
    if there != here:
        raise ValueError(
            f"the checkpoint's new languages are {' '.join(there) or 'none'}, the model's are "
            f"{' '.join(here) or 'none'}. Remedy: use the config.yaml that was written with this "
            "checkpoint: its token list names them."
        )
    if found is None:
        return
    key = f"{found[0]}.{TABLE}"
    if key not in state:
        raise ValueError(
            f"the checkpoint lacks {key}, the embeddings of the new languages {' '.join(here)}: "
            "it would be decoded with prompts that nobody trained. Remedy: use another epoch's "
            "file; if it was cut short, copy it again."
        )
    shape, wanted = tuple(state[key].shape), tuple(found[1].new_weight.shape)
    if shape != wanted:
        raise ValueError(
            f"{key} has shape {shape} in the checkpoint, {wanted} in the model: it was trained on "
            "a Whisper of another size. Remedy: use the --whisper that it was trained with."
        )
    if not bool(torch.isfinite(state[key]).all()):
        raise ValueError(f"{key} holds NaN or inf: training diverged; use an earlier checkpoint")

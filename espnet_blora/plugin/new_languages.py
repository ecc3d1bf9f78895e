"""Languages added to Whisper's, under ESPnet: which there are, what trains, what a load must bring.

The token list says which (`Vocabulary.new_languages`); it stands in config.yaml, so decoding needs
no option. Their embeddings are the parameter `decoder.decoders.token_embedding.new_weight`, trained
beside an adapter that freezes the rest of the base.
"""

from __future__ import annotations

import logging
from argparse import Namespace

import torch

from espnet_blora.adapters import get_adapter
from espnet_blora.plugin.settings import Settings
from espnet_blora.plugin.vocabulary import check_new_languages
from espnet_blora.whisper.new_tokens import TABLE, check_agreement, find
from espnet_blora.whisper.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


def fill_new_languages(args: Namespace, layout: Vocabulary, trained: bool = False) -> None:
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
    check_agreement(conf.get("new_languages"), layout)
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

"""Compute what memory a training needs, and which batch fits on which GPU; none is needed for it.

The settings are those of `run.sh`: a recipe's shared conf/train.yaml, the adapter's yaml over it,
each --set over both. Audio fills Whisper's window of 30 s. Computed from the tensors of a step
that is run on shapes alone, with autocast to bfloat16 where use_amp is true; CUDA's own memory and
fragmentation come on top, for which the table leaves 1 GB. Not measured on a GPU.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from whisper.model import ModelDimensions

import espnet_blora
from espnet_blora.adapters.memory import StepMemory, step_memory
from espnet_blora.bin.make_config import SHARED, load, merge, parse_setting
from espnet_blora.utils.program import Parser, program
from espnet_blora.whisper.decoder import logits_of, states
from espnet_blora.whisper.encoder import encode_features
from espnet_blora.whisper.sizes import dims_of, empty_modules

CARDS = (8, 16, 24, 48, 80)
"""Sizes of GPUs, in GB as they are sold: 2^30 bytes."""
RESERVE = 1e9
PROMPT = 3

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("memory", __doc__)
    parser.add_argument("--whisper", required=True, help="a published size, or a checkpoint")
    parser.add_argument("--adapter", default="blora", help="as of run.sh: its adapter_NAME.yaml")
    parser.add_argument("--config", help="a whole training yaml, in the place of the two files")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="a setting over the files; may be repeated")  # fmt: skip
    parser.add_argument("--tokens", type=int, default=100, help="of text, an utterance")
    return parser


def training_step(
    config: Mapping[str, Any],
    dims: ModelDimensions,
    batch: int,
    tokens: int,
    device: str = "cpu",
) -> tuple[list[Tensor], Callable[[], None]]:
    """Return what is there before a step of this training, and the step.

    Args:
        config: A training configuration.
        dims: Of the Whisper, which is made here without its weights.
        batch: Utterances.
        tokens: Of text, an utterance.
        device: Where it runs.
    """
    encoder, decoder = empty_modules(dims, device)
    parts = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    adapter = None
    if config.get("use_adapter"):
        conf = config.get("adapter_conf") or {}
        adapter = espnet_blora.add_adapter(parts, config["adapter"], **conf)
        if config.get("use_amp") and (config.get("model_conf") or {}).get("narrow_base"):
            adapter.narrow_base()
    trained = [parameter for parameter in parts.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    window = 2 * dims.n_audio_ctx  # frames
    mel = torch.zeros(batch, dims.n_mels, window, device=device)
    ids = torch.zeros(batch, PROMPT + tokens, dtype=torch.int64, device=device)
    recomputed = [
        bool((config.get(f"{part}_conf") or {}).get("activation_checkpointing"))
        for part in ("encoder", "decoder")
    ]

    def step() -> None:
        if adapter is not None:
            adapter.advance()
        with torch.autocast(device, torch.bfloat16, enabled=bool(config.get("use_amp"))):
            memory, _ = encode_features(encoder, mel, torch.tensor([window]), recomputed[0])
            hidden = states(decoder, ids, memory, recomputed=recomputed[1])[:, PROMPT:]
            logits = logits_of(decoder, hidden.flatten(0, 1))  # (B tokens, n_vocab)
            loss = F.cross_entropy(logits, ids[:, PROMPT:].flatten())
            if adapter is not None and adapter.has_loss_term:
                loss = loss + adapter.loss_terms()[0]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return [*parts.parameters(), *parts.buffers(), mel, ids], step


def computed(config: Mapping[str, Any], whisper: str, batch: int, tokens: int) -> StepMemory:
    """Return the bytes of a training step, on tensors that have shapes only."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        return step_memory(*training_step(config, dims_of(whisper), batch, tokens))


def largest_batches(
    config: Mapping[str, Any], whisper: str, tokens: int
) -> tuple[StepMemory, float, dict[int, int]]:
    """Compute which batch fits where.

    Returns:
        The bytes of a step at the configuration's `batch_size`, those of each further utterance,
        and the largest batch for each of `CARDS`, below 1 where none fits.
    """
    batch = int(config["batch_size"])
    small, large = (computed(config, whisper, size, tokens) for size in (batch, 2 * batch))
    each = (large.peak - small.peak) / batch
    fixed = small.peak - batch * each
    fits = {card: int((card * 2**30 - RESERVE - fixed) // each) for card in CARDS}
    return small, each, fits


def work(args: argparse.Namespace) -> None:
    """Print the bytes of one step, and the largest batch for each size of GPU.

    Raises:
        ValueError: Nothing is trained, or a setting is bad.
        FileNotFoundError: No such Whisper, or no settings of this adapter.
    """
    if args.adapter == "none":
        raise ValueError("--adapter none trains nothing; name an adapter, or full")
    files = [SHARED / "train.yaml", SHARED / f"adapter_{args.adapter}.yaml"]
    given = [args.config] if args.config else files
    config = merge(*map(load, given), *map(parse_setting, args.set))
    one, each, fits = largest_batches(config, args.whisper, args.tokens)
    batch, method = config["batch_size"], config["adapter"] if config.get("use_adapter") else "full"
    print(f"{args.whisper}, {method}, batch {batch} x 30 s, {args.tokens} tokens of text")
    names = ("weights", "optimiser", "activations, gradients")
    for name, size in zip((*names, "together"), (*one, one.peak), strict=True):
        print(f"{name:24}{size / 1e9:8.2f} GB")
    print(f"{'each further utterance':24}{each / 1e9:8.2f} GB\n\nGPU      largest batch")
    for card, most in fits.items():
        print(f"{card:2} GB    {most if most > 0 else 'none'}")


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())

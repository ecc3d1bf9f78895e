"""Estimate how much old data depend on each weight of the base: the file that lora_ewc needs.

F = (sum over utterances of the squared gradient of their log likelihood) / (number of tokens), for
every weight that the adapter will go on; one forward and one backward per utterance. With
--labels text the tokens are those of the transcripts (the empirical Fisher), with --labels sampled
they are drawn from the model (Kirkpatrick et al. 2017, arXiv 1612.00796; on the difference:
Kunstner et al. 2019, arXiv 1905.12558). Give it data that the base is to keep (retention sets, but
not the ones that are reported), and the base's own experiment, such as exp/asr_none.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_blora.bin._common import ALL_LINEARS, add_experiment, find_sets, open_recogniser
from espnet_blora.utils.program import Parser, program

if TYPE_CHECKING:  # torch is imported when the program runs
    from espnet_blora.adapters.fisher import Fisher


def get_parser() -> Parser:
    """Return the options, each with its default."""
    parser = Parser("fisher", __doc__)
    add_experiment(parser)
    parser.add_argument(
        "--utterances", type=int, help="at most so many of each set, spread evenly (default: all)"
    )
    parser.add_argument("--target_modules", default=ALL_LINEARS, help="as in adapter_conf")
    parser.add_argument("--labels", default="text", choices=("text", "sampled"), help="see above")
    parser.add_argument("--seed", type=int, default=0, help="of --labels sampled")
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16"), help="of the file"
    )
    parser.add_argument("--output", type=Path, help="file (default: ASR_EXP/fisher.safetensors)")
    parser.renamed("--out", "--output")
    return parser


def estimate(args: argparse.Namespace) -> None:
    """Read the model and the sets, estimate, write the file and say what it cost.

    Raises:
        FileNotFoundError: The experiment or a set is not there.
        ValueError: A checkpoint, a set or a target does not fit, or the model has an adapter.
    """
    import torch

    from espnet_blora.adapters.fingerprint import base_names
    from espnet_blora.adapters.fisher import diagonal_fisher, save_fisher
    from espnet_blora.adapters.targets import find_targets
    from espnet_blora.decoding.confidence import text_nll
    from espnet_blora.decoding.dumped_set import read_set

    # The base's weights that an adapter will go on.
    chosen = find_sets(args)
    recogniser = open_recogniser(args, merge=False, packed=False)
    if recogniser.adapter is not None:
        raise ValueError(
            f"{args.asr_exp} is adapted ('{recogniser.adapter.method}'); Fisher information is "
            "that of the base: give the experiment of --adapter none"
        )
    model = recogniser.as_trained()
    weights = {
        f"{name}.weight": linear.weight
        for name, linear in find_targets(model, args.target_modules.split()).items()
    }

    # The data, and how likely the model makes it.
    vocabulary = recogniser.vocabulary
    sets = [read_set(args.dump / name, vocabulary, args.utterances) for name in chosen]
    utterances = [
        (waves[uid], prompts[uid], vocabulary.encode(texts[uid]))
        for waves, prompts, texts in sets
        for uid in sorted(waves)
    ]
    sampler = torch.Generator().manual_seed(args.seed) if args.labels == "sampled" else None

    def nll(utterance):
        wave, prompt, text = utterance
        halves = recogniser.encoder, recogniser.decoder
        return text_nll(*halves, wave, prompt, text, vocabulary.eot, recogniser.pad_to, sampler)

    # The estimate, with a fingerprint of the base.
    start = time.monotonic()
    fisher = diagonal_fisher(weights, utterances, nll)
    seconds = time.monotonic() - start
    output = args.output or args.asr_exp / "fisher.safetensors"
    names = base_names(model, [name.removesuffix(".weight") for name in weights])
    about = {"sets": chosen, "labels": args.labels, "seed": args.seed}
    base = {name: model.get_parameter(name) for name in names}
    size = save_fisher(output, fisher, base, about, getattr(torch, args.dtype))
    sys.stdout.write(report(fisher, size, seconds, output))


def report(fisher: Fisher, size: int, seconds: float, output: Path) -> str:
    """Return what was estimated and what it costs: numbers, memory, file."""
    count = sum(value.numel() for value in fisher.values.values())
    lines = [
        f"{output}: {len(fisher.values)} matrices, {count:,} weights, {size / 1e6:.1f} MB",
        f"{fisher.utterances} utterances, {fisher.tokens} tokens, {seconds:.0f} s; memory beside "
        f"the model {8e-6 * count:.0f} MB here, {1e-6 * size:.0f} MB in training",
        f"{'F per weight':>12}  matrix",
    ]
    lines += [f"{float(value.mean()):12.3g}  {name}" for name, value in fisher.values.items()]
    return "\n".join(lines) + "\n"


main = program(get_parser, estimate)

if __name__ == "__main__":
    sys.exit(main())

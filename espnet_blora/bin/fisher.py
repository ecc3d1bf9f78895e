"""Estimate which weights of the base old data depends on: the Fisher information for lora_ewc.

F = (sum over utterances of the squared gradient of their log likelihood) / (number of tokens), for
every weight that the adapter will go on; one forward and one backward an utterance. With
--labels text the tokens are those of the transcripts (the empirical Fisher), with --labels sampled
they are drawn from the model (Kirkpatrick et al. 2017, arXiv 1612.00796; on the difference:
Kunstner et al. 2019, arXiv 1905.12558). Give it data that the base is to keep (retention sets, but
not the ones that are reported), and the base's own experiment, such as exp/asr_none.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from espnet_blora.bin.sweep import add_experiment, read_set, run

TARGETS = "query key value out mlp.0 mlp.2"
log = logging.getLogger("fisher")


def get_parser() -> argparse.ArgumentParser:
    """Return the options, each with its default."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_experiment(parser)
    parser.add_argument("--sets", required=True, help="names of sets in --dump, blanks between")
    parser.add_argument(
        "--utterances", type=int, help="at most so many of each set, spread evenly (default: all)"
    )
    parser.add_argument("--target_modules", default=TARGETS, help="as in adapter_conf")
    parser.add_argument("--labels", default="text", choices=("text", "sampled"), help="see above")
    parser.add_argument("--seed", type=int, default=0, help="of --labels sampled")
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16"), help="of the file"
    )
    parser.add_argument("--out", type=Path, help="file (default: ASR_EXP/fisher.safetensors)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Estimate and write; a user's mistake is one line and status 1."""
    run("fisher", get_parser(), argv, estimate)


def estimate(args: argparse.Namespace) -> None:
    """Read the model and the sets, estimate, write the file and say what it cost.

    Raises:
        FileNotFoundError: the experiment or a set is not there.
        ValueError: a checkpoint, a set or a target that does not fit, or a model with an adapter.
    """
    import torch

    from espnet_blora import plugin
    from espnet_blora.adapters import get_adapter
    from espnet_blora.adapters.fingerprint import base_names
    from espnet_blora.adapters.fisher import diagonal_fisher, save_fisher
    from espnet_blora.adapters.targets import find_targets
    from espnet_blora.decoding.likelihood import text_nll
    from espnet_blora.whisper.vocabulary import Vocabulary

    torch.set_num_threads(args.threads)
    plugin.register(whisper=args.whisper)
    from espnet_blora.plugin.experiment import open_experiment

    model = open_experiment(args.asr_exp, args.model_file, args.device)
    present = get_adapter(model)
    if present is not None:
        raise ValueError(
            f"{args.asr_exp} is adapted ('{present.method}'); Fisher information is that of the "
            "base: give the experiment of --adapter none"
        )
    weights = {
        f"{name}.weight": linear.weight
        for name, linear in find_targets(model, args.target_modules.split()).items()
    }
    layout = Vocabulary.of_tokens(model.token_list)
    sets = [read_set(args.dump / name, layout, args.utterances) for name in args.sets.split()]
    utterances = [
        (waves[uid], prompts[uid], layout.encode(texts[uid]))
        for waves, prompts, texts in sets
        for uid in sorted(waves)
    ]
    sampler = torch.Generator().manual_seed(args.seed) if args.labels == "sampled" else None

    def nll(utterance):
        wave, prompt, text = utterance
        halves = model.encoder.encoders, model.decoder.decoders
        return text_nll(*halves, wave, prompt, text, layout.eot, model.encoder.pad_to, sampler)

    started = time.monotonic()
    found = diagonal_fisher(weights, utterances, nll)
    seconds = time.monotonic() - started
    out = args.out or args.asr_exp / "fisher.safetensors"
    names = base_names(model, [name.removesuffix(".weight") for name in weights])
    about = {"sets": args.sets.split(), "labels": args.labels, "seed": args.seed}
    base = {name: model.get_parameter(name) for name in names}
    size = save_fisher(out, found, base, about, getattr(torch, args.dtype))
    sys.stdout.write(report(found, size, seconds, out))


def report(found, size: int, seconds: float, out: Path) -> str:
    """Say what was found and what it costs: numbers, memory, file."""
    count = sum(value.numel() for value in found.values.values())
    lines = [
        f"{out}: {len(found.values)} matrices, {count:,} weights, {size / 1e6:.1f} MB",
        f"{found.utterances} utterances, {found.tokens} tokens, {seconds:.0f} s; memory beside the "
        f"model {8e-6 * count:.0f} MB here, {1e-6 * size:.0f} MB in training",
        f"{'F per weight':>12}  matrix",
    ]
    lines += [f"{float(value.mean()):12.3g}  {name}" for name, value in found.values.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Decode sets with an adapter's posterior mean, or many draws from it, and say how sure that is.

Writes ASR_EXP/confidence/NAME/SET/text and words.jsonl (a JSON object an utterance: text, words
with their confidences, uncertainties in nats a token), which espnet_blora.bin.calibrate compares
with the references. NAME is `mean` or `samplesS`, and what differs from the defaults is added to
it: `samples8_spread2`, `mean_temperature1.5`.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from espnet_blora.bin.sweep import SEARCH, add_experiment, run, search_options

log = logging.getLogger("confidence")


def get_parser() -> argparse.ArgumentParser:
    """Return the options, each with its default."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_blora.bin.confidence",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_experiment(parser)
    add = parser.add_argument
    add("--sets", required=True, help="names of sets in --dump, blanks between")
    add("--samples", type=int, default=0, help="draws averaged at every step; 0: posterior mean")
    add("--seed", type=int, default=0, help="of the draws, the same ones for all utterances")
    add("--spread", type=float, default=1.0, help="factor on the posterior's scales")
    add("--temperature", default="1", help="of the scores: numbers, blanks between, a file each")
    add("--word", default="product", choices=("product", "min", "mean"),
        help="a word's confidence from its tokens' probabilities; mean: geometric")  # fmt: skip
    add("--inference_config", type=Path, help=f"decoding yaml; {', '.join(SEARCH)} are taken")
    add("--beam_size", type=int, help="instead of the yaml's; 1 is greedy")
    add("--batch_size", type=int, default=16, help="utterances at once, with S rows each")
    return parser


def temperatures(text: str) -> list[float]:
    """Return the numbers of the option.

    Raises:
        ValueError: none, or one that is not a number.
    """
    try:
        found = [float(word) for word in text.split()]
    except ValueError:
        found = []
    if not found:
        raise ValueError(f"--temperature {text!r}: numbers above 0 with blanks between are needed")
    return found


def name_of(args: argparse.Namespace, temperature: float) -> str:
    """Return the name of a folder of results, after what is not as by default."""
    parts = [f"samples{args.samples}" if args.samples else "mean"]
    if args.samples and args.spread != 1.0:
        parts.append(f"spread{args.spread:g}")
    if args.word != "product":
        parts.append(args.word)
    if temperature != 1.0:
        parts.append(f"temperature{temperature:g}")
    return "_".join(parts)


def main(argv: list[str] | None = None) -> None:
    """Decode every set and write what was found; a user's mistake is one line and status 1."""
    run("confidence", get_parser(), argv, confidence)


def confidence(args: argparse.Namespace) -> None:
    """Decode every set and write texts and confidences.

    Raises:
        FileNotFoundError: the experiment or a set is not there.
        ValueError: an option, a checkpoint or a set that does not fit.
    """
    import torch

    from espnet_blora.bin.sweep import read_set
    from espnet_blora.decoding.posterior import decode_posterior
    from espnet_blora.decoding.recogniser import open_experiment
    from espnet_blora.text.tokens import mixed_tokens
    from espnet_blora.utils import atomic
    from espnet_blora.utils.keyed import write_keyed

    options = search_options(args.inference_config, args.beam_size)
    scored_at = temperatures(args.temperature)
    torch.set_num_threads(args.threads)
    recogniser = open_experiment(
        args.asr_exp, args.model_file, args.whisper, args.device, merge=args.samples == 0
    )
    for name in args.sets.split():
        waves, prompts, _ = read_set(args.dump / name, recogniser.layout)
        found = decode_posterior(
            recogniser, waves, prompts, mixed_tokens, options, args.samples, args.seed, scored_at,
            args.word, batch_size=args.batch_size, spread=args.spread,
        )  # fmt: skip
        for temperature, recognised in found.items():
            folder = args.asr_exp / "confidence" / name_of(args, temperature) / name
            folder.mkdir(parents=True, exist_ok=True)
            write_keyed(folder / "text", {uid: one.text for uid, one in recognised.items()})
            lines = [one.as_json(uid) for uid, one in recognised.items()]
            texts = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines]
            atomic.write(folder / "words.jsonl", "".join(texts))
            doubt = sum(line["model"] for line in lines) / max(len(lines), 1)
            log.info("%s: %d utterances, model part %.3g nats a token", folder, len(lines), doubt)


if __name__ == "__main__":
    main()

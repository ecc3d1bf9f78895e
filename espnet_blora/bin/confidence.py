"""Decode sets with an adapter's posterior mean, or many draws from it, and say how sure that is.

Writes ASR_EXP/confidence/NAME/SET/text and words.jsonl (one JSON object per utterance: text, words
with their confidences, uncertainties in nats per token), which espnet_blora.bin.calibrate compares
with the references. NAME is `mean` or `samplesS`, and what differs from the defaults is added to
it: `samples8_spread2`, `mean_temperature1.5`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from espnet_blora.bin._common import (
    add_experiment,
    find_sets,
    numbers,
    open_recogniser,
    read_options,
)
from espnet_blora.decoding.options import DecodingOptions, add_options
from espnet_blora.utils.program import Parser, program

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the options, each with its default."""
    parser = Parser("confidence", __doc__)
    add_experiment(parser)
    add = parser.add_argument
    add(
        "--temperature", dest="temperatures", default="1",
        help="logits are divided by it: numbers, blanks between; one folder per temperature",
    )  # fmt: skip
    add("--inference_config", type=Path, help="decoding yaml (default: greedy)")
    names = ["beam_size", "samples", "spread", "seed", "word_confidence", "batch_size"]
    add_options(parser, names, beam_size=None)
    parser.renamed("--word", "--word_confidence")
    return parser


def name_of(options: DecodingOptions, temperature: float) -> str:
    """Return the name of a folder of results: what differs from the defaults.

    >>> name_of(DecodingOptions(samples=8, spread=2.0), 1.0)
    'samples8_spread2'
    """
    parts = [f"samples{options.samples}" if options.samples else "mean"]
    if options.samples and options.spread != 1.0:
        parts.append(f"spread{options.spread:g}")
    if options.word_confidence != "product":
        parts.append(options.word_confidence)
    if temperature != 1.0:
        parts.append(f"temperature{temperature:g}")
    return "_".join(parts)


def confidence(args: argparse.Namespace) -> None:
    """Decode every set and write texts and confidences.

    Raises:
        FileNotFoundError: The experiment or a set is not there.
        ValueError: An option, a checkpoint or a set that does not fit.
    """
    from espnet_blora.decoding.batch import decode_posterior
    from espnet_blora.decoding.dumped_set import read_set
    from espnet_blora.utils import atomic
    from espnet_blora.utils.keyed import write_keyed

    options, temperatures = read_options(args), numbers(args.temperatures, "--temperature")
    if 0.0 in temperatures:
        raise ValueError("--temperature 0: logits are divided by it, so it is above 0")
    names = find_sets(args)
    recogniser = open_recogniser(args, merge=options.samples == 0)
    for name in names:
        waves, prompts, _ = read_set(args.dump / name, recogniser.vocabulary)
        results = decode_posterior(recogniser, waves, prompts, options, temperatures)
        for temperature, texts in results.items():
            folder = args.asr_exp / "confidence" / name_of(options, temperature) / name
            folder.mkdir(parents=True, exist_ok=True)
            write_keyed(folder / "text", {uid: result.text for uid, result in texts.items()})
            lines = [result.as_json(uid) for uid, result in texts.items()]
            rows = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines]
            atomic.write(folder / "words.jsonl", "".join(rows))
            doubt = sum(line["model"] for line in lines) / max(len(lines), 1)
            log.info("%s: %d utterances, model part %.3g nats per token", folder, len(lines), doubt)


main = program(get_parser, confidence)

if __name__ == "__main__":
    sys.exit(main())

"""Linear probes, layer by layer: the depth at which a Whisper knows the language that it hears.

After DAMA (arXiv 2602.01008, appendix A): frozen model, states averaged over time, one linear layer
per depth, AdamW, the epoch with the best validation loss. The paper does not say what the decoder
reads; here it is never the language token: with --reads text the start, task and time-stamp tokens
and the transcript, with --reads start the start token alone, so that all it knows comes from the
audio. Languages are those of utt2lang (any code, known to Whisper or not). A probe is trained on
--train_sets, a part of which is held out for the choice of its epoch, and tested on --test_sets.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from espnet_blora.bin._common import add_experiment, open_recogniser
from espnet_blora.decoding.options import add_options
from espnet_blora.utils.program import Parser, run_program

ENOUGH = 100  # steps of a probe
log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the options, each with its default."""
    parser = Parser("probe_depth", __doc__)
    add_experiment(parser)
    add = parser.add_argument
    add("--train_sets", required=True, help="names of sets, blanks between")
    add("--test_sets", required=True, help="other sets, of the same languages")
    add("--utterances", type=int, help="at most so many per set, spread evenly (default: all)")
    add("--side", default="decoder", choices=("decoder", "encoder", "both"))
    add("--reads", default="text", choices=("text", "start"), help="see above")
    add("--seeds", type=int, default=5, help="probes per layer")
    add("--lr", type=float, default=1e-3, help="of the probes")
    add("--probe_batch_size", type=int, default=256, help="utterances per step")
    add("--epochs", type=int, default=5, help="of the probes")
    add("--held_out", type=float, default=0.2, help="share of the train sets")
    add("--output", type=Path,
        help="figures; the plot lies beside (default: ASR_EXP/probe_depth.json)")  # fmt: skip
    add_options(parser, ["batch_size"])
    parser.renamed("--out", "--output")
    return parser


def read_sets(dump: Path, names: str, most: int | None) -> tuple[dict, dict, dict]:
    """Read waves, texts and languages of sets, by utterance id.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: an utterance without a language, or in two sets.
    """
    from espnet_blora.data.kaldi import read_utt2lang
    from espnet_blora.decoding.dumped_set import read_waves

    waves: dict[str, Any] = {}
    texts: dict[str, str] = {}
    languages: dict[str, str] = {}
    for name in names.split():
        set_waves, set_texts = read_waves(dump / name, most)
        codes = read_utt2lang(dump / name / "utt2lang")
        odd = sorted(set_waves.keys() - codes.keys() | set_waves.keys() & waves.keys())
        if odd:
            raise ValueError(
                f"{dump / name}: {odd[0]} (and {len(odd) - 1} more) has no line in utt2lang, or is "
                "in another set too; every utterance is needed once, with a language"
            )
        waves.update(set_waves)
        texts.update(set_texts)
        languages.update((uid, codes[uid]) for uid in set_waves)
    return waves, texts, languages


def probe(args: argparse.Namespace) -> None:
    """Compute the states, train and test the probes, write and print the figures.

    Raises:
        FileNotFoundError: the experiment or a set is not there.
        ValueError: a checkpoint, a set or an option that does not fit.
    """
    from espnet_blora.decoding.probe import SIDES, Probe, accuracies, layer_means
    from espnet_blora.report.probe import Depth, plot, table
    from espnet_blora.utils import atomic

    how = Probe(args.lr, args.probe_batch_size, args.epochs, args.held_out)
    if args.seeds < 1:
        raise ValueError(f"--seeds {args.seeds}: 1 or more are needed")
    recogniser = open_recogniser(args, merge=False, packed=False)
    layout = recogniser.layout
    sides = SIDES if args.side == "both" else (args.side,)
    prefix = [layout.sot, layout.transcribe, layout.notimestamps]
    # states of each layer, averaged over time, of the train sets and of the test sets
    started = time.monotonic()
    vectors, languages = [], {}
    for names in (args.train_sets, args.test_sets):
        waves, texts, codes = read_sets(args.dump, names, args.utterances)
        languages.update(codes)
        read = {
            uid: [layout.sot] if args.reads == "start" else prefix + layout.encode(text)
            for uid, text in texts.items()
        }
        means = layer_means(recogniser, waves, read, sides, args.batch_size)
        vectors.append({s: dict(zip(waves, m, strict=True)) for s, m in means.items()})
        log.info("%s: %s", names, dict(sorted(Counter(codes.values()).items())))
    computed = time.monotonic() - started
    # probes
    train, test = vectors
    steps = how.steps(len(train[sides[0]]))
    if steps < ENOUGH:
        log.warning(
            "%d utterances are about %d steps per probe, which hardly leaves its start (the paper "
            "has many more utterances); give a smaller --probe_batch_size or more --epochs",
            len(train[sides[0]]),
            steps,
        )
    depths = [
        Depth(side, layer, tuple(row))
        for side in sides
        for layer, row in enumerate(
            accuracies(train[side], test[side], languages, how, range(args.seeds)), 1
        )
    ]
    tested = Counter(languages[uid] for uid in test[sides[0]])
    chance = max(tested.values()) / sum(tested.values())
    # figures, plot and table
    adapter = recogniser.adapter
    conditions = {
        "asr_exp": str(args.asr_exp),
        "adapter": None if adapter is None else adapter.method,
        "train_sets": args.train_sets.split(),
        "test_sets": args.test_sets.split(),
        "train_utterances": len(train[sides[0]]),
        "test_utterances": dict(sorted(tested.items())),
        "reads": args.reads,
        "seeds": args.seeds,
        **vars(how),
        "steps": steps,
        "chance": chance,
        "seconds": {"states": computed, "probes": time.monotonic() - started - computed},
    }
    output = args.output or args.asr_exp / "probe_depth.json"
    result = {"conditions": conditions, "layers": [depth.row() for depth in depths]}
    atomic.write(output, (json.dumps(result, indent=1) + "\n").encode())
    which = ", ".join(sorted(tested)) if len(tested) <= 6 else f"{len(tested)} languages"
    picture = output.with_suffix(".png")
    plot(picture, depths, chance, f"{args.asr_exp.name}: telling {which} apart")
    sys.stdout.write(table(depths, chance))
    log.info("wrote %s and %s", output, picture.name)


def main(argv: list[str] | None = None) -> int:
    """Probe every layer; return the exit status."""
    return run_program(get_parser(), probe, argv)


if __name__ == "__main__":
    sys.exit(main())

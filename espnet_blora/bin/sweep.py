"""Decode sets with an adapter's update turned down step by step: the rival that costs nothing.

One process, one load of the model. Scale 0 is the base model, 1 the adapted one, of
whatever method: an adapted layer computes base(x) + scale * update(x). For a fully fine-tuned model
the weights are interpolated. Texts go to ASR_EXP/scale_sweep/<scale>/<set>/text, counts to
ASR_EXP/scale_sweep.json and, by utterance, .npz. The report compares other systems with this curve:
that needs the scales 0 and 1 and two between them, or more. With --repair the adapter is repaired
at several strengths instead (see `espnet-blora repair`), at every one of --scales; results are in
ASR_EXP/repair_sweep*.
"""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import nullcontext
from itertools import product
from pathlib import Path

from espnet_blora.bin._common import (
    add_experiment,
    find_sets,
    numbers,
    open_recogniser,
    read_options,
)
from espnet_blora.decoding.options import add_options
from espnet_blora.utils.program import Parser, program

SCALES = "0 0.25 0.4 0.5 0.6 0.7 0.8 0.9 1"
log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the options, each with its default."""
    parser = Parser("sweep", __doc__)
    add_experiment(parser)
    add = parser.add_argument
    add("--scales", help=f"scales, blanks between (default: {SCALES}; with --repair: 1)")
    add("--repair", metavar="STRENGTHS", help="strengths of a repair, blanks between")
    add("--keep", type=Path, help="moments of old audio, for --repair")
    add("--new", type=Path, help="moments of new-domain audio, for --repair")
    add("--unit", default="mer", help="unit of the score: mer, wer or cer")
    add("--normalisation", default="basic", help="treatment of both sides")
    add("--inference_config", type=Path, help="decoding yaml (default: greedy)")
    add("--output", type=Path, help="result (default: see above)")
    add_options(parser, ["batch_size"], batch_size=50)
    parser.renamed("--out", "--output")
    return parser


def sweep(args: argparse.Namespace) -> None:
    """Decode every set at every scale, or strength of a repair, and write the counts.

    Raises:
        FileNotFoundError: The experiment, a set or a file of moments is not there.
        ValueError: An option, a checkpoint, a set or moments that do not fit.
    """
    from espnet_blora.decoding.batch import decode
    from espnet_blora.decoding.dumped_set import read_set
    from espnet_blora.decoding.recogniser import base_state
    from espnet_blora.decoding.scaling import moved, open_repair
    from espnet_blora.scoring.errors import score
    from espnet_blora.scoring.sweep import save_sweep
    from espnet_blora.utils.keyed import write_keyed

    # What is swept.
    scales = sorted(set(numbers(args.scales or ("1" if args.repair else SCALES), "--scales")))
    strengths = sorted(set(numbers(args.repair, "--repair"))) if args.repair else [0.0]
    if len({bool(args.repair), args.keep is not None, args.new is not None}) > 1:
        raise ValueError("--repair needs both --keep and --new, and they need --repair")
    kind, options = "repair" if args.repair else "scale", read_options(args)
    names = find_sets(args)
    recogniser = open_recogniser(args, merge=False, packed=False)
    needs_base = recogniser.adapter is None and (args.repair or scales != [1.0])
    base = base_state(args.asr_exp, args.whisper) if needs_base else None
    repair = open_repair(recogniser, args.keep, args.new, base) if args.repair else None
    vocabulary = recogniser.vocabulary
    sets = {name: read_set(args.dump / name, vocabulary) for name in names}

    # Every set at every point.
    rows = []
    for strength, scale, name in product(strengths, scales, sets):
        waves, prompts, references = sets[name]
        repaired = repair.applied(strength) if repair else nullcontext()
        with repaired, moved(recogniser, scale, base):
            nbest = decode(recogniser, waves, prompts, options)
        texts = {uid: vocabulary.line(best[0].ids if best else ()) for uid, best in nbest.items()}
        point = f"{strength:g}_{scale:g}" if repair else f"{scale:g}"
        folder = args.asr_exp / f"{kind}_sweep" / point / name
        folder.mkdir(parents=True, exist_ok=True)
        write_keyed(folder / "text", texts)
        result = score(references, texts, args.unit, normalisation=args.normalisation)
        where: dict[str, float | str] = {}
        if repair:
            where = {"repair": strength, "old_audio": repair.old_audio}
        rows.append((where | {"scale": scale, "set": name}, result))
        log.info("%s %s, %s: %.2f %%", kind, point, name, 100 * (result.rate or 0.0))
    output = args.output or args.asr_exp / f"{kind}_sweep.json"
    save_sweep(output, rows)
    log.info("wrote %s", output)


main = program(get_parser, sweep)

if __name__ == "__main__":
    sys.exit(main())

"""Write an adapted Whisper for the programs of others, or its adapter alone; and check it.

The update is merged into the weights (not for --to adapter and peft). What is written is opened by
the reader that its users use (openai-whisper, transformers, PEFT, faster-whisper, whisper.cpp), and
its greedy ids must be ours on every utterance of --check_set (a folder with wav.scp, text and
utt2lang such as dump/raw/test_cs; without one on noises, which proves less), in Whisper's 30 s
window. Where weights are rounded (ggml, --precision float16 and int8) nine of ten must be, of a
set, and those that differ are listed. Otherwise nothing is left and the status is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_blora.utils.mistakes import parse_scale
from espnet_blora.utils.program import Parser, run_program

if TYPE_CHECKING:
    from espnet_blora.decoding.recogniser import Recogniser

KINDS = ("adapter", "peft", "openai", "hf", "ct2", "ggml")
READERS = {
    "peft": ["peft"],
    "hf": ["transformers"],
    "ct2": ["faster_whisper", "transformers"],
    "ggml": ["pywhispercpp"],
}


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("export", __doc__)
    add = parser.add_argument
    add("model", help="experiment folder, or an adapter's .safetensors with --whisper")
    add("output_dir", type=Path, help="folder to be made")
    add("--to", required=True, choices=KINDS, help="whose files")
    add("--whisper", help="published size or checkpoint file of the base")
    add("--model_file", help="checkpoint of the experiment (default: the best epoch's)")
    add("--scale", help="multiply the adapter's update: 0 (the base) or more (default: 1)")
    add("--precision", help="of ct2's weights: float32, float16 or int8 (default: float32)")
    add("--check_set", type=Path, help="folder of utterances for the check (default: noises)")
    add("--check", type=int, default=10, help="how many utterances, 1 or more")
    add("--threads", type=int, help="CPU threads (default: torch's choice)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Open, decode what the check compares with, export, say what was done; return the status.

    Raises:
        FileNotFoundError: No such experiment, adapter, Whisper or set.
        ValueError: Options that contradict each other or the model.
    """
    from espnet_blora.decoding.dumped_set import greedy_ids, probe_waves
    from espnet_blora.decoding.recogniser import (
        base_spec,
        open_experiment,
        open_whisper,
        set_threads,
    )
    from espnet_blora.export.check import Differs, Probe
    from espnet_blora.export.ct2 import PRECISIONS
    from espnet_blora.export.openai import assemble
    from espnet_blora.export.write import check_free, export

    # What is asked for.
    set_threads(args.threads)
    check_free(args.output_dir)
    gone = [name for name in READERS.get(args.to, []) if importlib.util.find_spec(name) is None]
    if gone:
        raise ValueError(
            f"--to {args.to} needs {' and '.join(gone)}: pip install espnet_blora[export]"
        )
    precision = args.precision or "float32"
    if args.precision and args.to != "ct2":
        raise ValueError(f"--precision {precision}: only --to ct2 has a choice")
    if precision not in PRECISIONS:
        raise ValueError(f"--precision {precision!r}; allowed: {', '.join(PRECISIONS)}")
    if (args.to == "ggml" or precision != "float32") and args.check_set is None:
        raise ValueError(
            f"--to {args.to} rounds weights to {'float16' if args.to == 'ggml' else precision}: "
            "what that does to texts shows on speech alone, give a --check_set"
        )
    scale = None if args.scale is None else parse_scale(args.scale, "--scale")
    alone = args.to in ("adapter", "peft")
    if args.to == "adapter" and scale is not None:
        raise ValueError("--scale: an adapter's file holds what was trained; leave it out")

    # The model: merged, and where its adapter goes alone, factored as well.
    def opened(merge: bool) -> Recogniser:
        how: Any = {"merge": merge, "packed": False, "adapter_scale": scale}
        if not args.model.endswith(".safetensors"):
            return open_experiment(args.model, args.model_file, args.whisper, **how)
        if args.whisper is None:
            raise ValueError(f"{args.model}: on which Whisper? --whisper SIZE_OR_FILE")
        return open_whisper(args.whisper, args.model, **how)

    merged = opened(True)
    whole = assemble(merged.encoder, merged.decoder, merged.alignment_heads)
    adapter = opened(False).adapter if alone else None
    if alone and adapter is None:
        raise ValueError(
            f"{args.model} has no adapter: --to openai, hf, ct2 and ggml take the whole model"
        )
    file = args.model.endswith(".safetensors")
    base = args.whisper if file else base_spec(args.model, args.whisper)

    # The export and its check.
    waves, languages = probe_waves(args.check_set, merged, args.check)
    limit = min(100, whole.dims.n_text_ctx // 2)
    ours = greedy_ids(merged, waves, languages, limit)
    probe = Probe(waves, languages, limit, ours, merged.vocabulary)
    try:
        odd = export(args.to, adapter or whole, base, args.output_dir, probe, precision)
    except Differs as error:
        sys.stderr.write(f"export: {error}\n")
        return 1
    what = "noises" if args.check_set is None else f"utterances of {args.check_set}"
    same = f"{len(ours) - len(odd)} of {len(ours)}" if odd else f"{len(ours)}"
    sys.stdout.write(f"{args.output_dir}: its reader's ids are ours on {same} {what}\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Export; return the exit status."""
    return run_program(get_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())

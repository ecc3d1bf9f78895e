"""Try adapted models in a browser: base and adapted side by side, on uploads or the microphone.

A slider turns the update's scale; with --keep and --new, another one repairs every experiment.

The page is for this machine alone; `--host 0.0.0.0` lets others reach it, without a password. It
needs the extra `ui` (gradio).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from espnet_blora.utils.program import Parser, program


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("demo", __doc__)
    add = parser.add_argument
    add("asr_exp", nargs="+", help="experiment folders, to choose from")
    add("--whisper", help="published size or checkpoint file of the base")
    sets = "folders of sets (dump/raw/test_cs), whose first utterances are at hand"
    add("--examples", nargs="+", type=Path, default=[], metavar="SET", help=sets)
    add("--keep", type=Path, help="moments of old audio, for a slider that repairs")
    add("--new", type=Path, help="moments of new-domain audio, for the same")
    add("--device", default="cpu", help="torch device")
    add("--threads", type=int, help="CPU threads (default: torch's choice)")
    add("--host", default="127.0.0.1", help="address to listen at")
    add("--port", type=int, help="(default: a free one from 7860 on)")
    add("--most_mb", type=int, default=500, help="largest file that is taken, MB")
    return parser


def work(args: argparse.Namespace) -> None:
    """Open the experiments and serve the page."""
    from espnet_blora.decoding.demo import Desk, Opened, examples_of, page, serve
    from espnet_blora.decoding.recogniser import set_threads

    if (args.keep is None) != (args.new is None):
        raise ValueError("a repair needs both --keep and --new (files of espnet-blora moments)")
    moments = (args.keep, args.new) if args.keep else None
    set_threads(args.threads)
    examples = examples_of(args.examples)
    names = {str(Path(folder)): folder for folder in args.asr_exp}
    opened = {
        name: Opened.of(folder, args.whisper, args.device, moments)
        for name, folder in names.items()
    }
    with tempfile.TemporaryDirectory(prefix="espnet-blora-demo.") as folder:
        os.environ["GRADIO_TEMP_DIR"] = f"{folder}/sent"
        desk = Desk(opened, Path(folder))
        blocks = page(desk, examples)
        address = serve(blocks, args.host, args.port, args.most_mb)
        # an end by `kill` removes what users have sent, too
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        sys.stdout.write(f"{address}  (Ctrl-C ends it)\n")
        sys.stdout.flush()
        blocks.block_thread()


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())

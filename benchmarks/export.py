"""Every format of `espnet-blora export`, opened by its users' reader, on real speech of mini_cs.

For each trained experiment and each format: on how many utterances the reader says what we say in
the 30 s window, the size of what was written, and whether `espnet-blora import` takes it in again
(PEFT's and transformers' folders). Utterances that differ are listed with both texts. The second
table has the mixed error rates of ours, padded as the experiment was trained and in the 30 s
window: what an export is worth.

The experiments come of the recipe, and are looked for in its exp/:

    cd egs2/mini_cs/asr1
    for adapter in lora blora dama dora full; do ./run.sh --adapter $adapter --stop_stage 11; done
    python3 ../../../benchmarks/export.py
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import logging
import platform
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from whisper.model import Whisper

from espnet_blora.adapters import Adapter
from espnet_blora.decoding.batch import decode
from espnet_blora.decoding.dumped_set import WINDOW, probe_waves
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.recogniser import base_spec, open_experiment
from espnet_blora.export import write
from espnet_blora.export.check import Differs, Probe
from espnet_blora.export.openai import assemble
from espnet_blora.scoring.errors import score
from espnet_blora.utils.keyed import read_keyed

RECIPE = Path(__file__).resolve().parents[1] / "egs2/mini_cs/asr1"
METHODS = ["lora", "blora", "dama", "dora", "full"]
FORMATS = ["adapter", "peft", "openai", "hf", "ct2 float32", "ct2 float16", "ct2 int8", "ggml"]
LIMIT = 100  # tokens of a text
AGAIN = ("peft", "hf")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exp", type=Path, default=RECIPE / "exp")
    parser.add_argument("--tag", default="", help="experiments are called asr_METHOD_TAG")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--data", type=Path, default=RECIPE / "dump/raw/test_cs")
    parser.add_argument("--utterances", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    return parser


@dataclass
class Case:
    """One experiment: its merged model, its adapter, its base, and what both sides hear."""

    whole: Whisper
    adapter: Adapter | None
    base: str
    probe: Probe


class Texts(logging.Handler):
    """Keeps the lines of utterances that read otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "espnet_blora.export.check":
            self.lines.append(record.getMessage())


def one(case: Case, name: str, box: Path, heard: Texts) -> str:
    """Export and import again; return a row of the table."""
    kind, _, precision = name.partition(" ")
    model = case.adapter if kind in write.ALONE else case.whole
    heard.lines.clear()
    if model is None:
        return f"| {name} | no adapter | | |"
    try:
        odd = write.export(kind, model, case.base, box / "out", case.probe, precision or "float32")
    except Differs:
        return f"| {name} | {len(heard.lines)} of {len(case.probe.ours)} differ: not kept | | |"
    except ValueError as error:
        return f"| {name} | refused: {str(error).partition(': ')[2]} | | |"
    same = len(case.probe.ours) - len(odd)
    size = sum(path.stat().st_size for path in (box / "out").rglob("*") if path.is_file())
    again = ""
    if kind in AGAIN:
        words = [str(box / "out"), str(box / "again"), "--base", case.base]
        with contextlib.redirect_stdout(io.StringIO()):
            again = (
                "no" if importlib.import_module("espnet_blora.bin.import").main(words) else "yes"
            )
    row = (f"{same} of {len(case.probe.ours)}", f"{size / 1e6:.1f}", again)
    return f"| {name} | {' | '.join(row)} |"


def open_case(folder: Path, data: Path, utterances: int) -> tuple[Case, list[float]]:
    """Open an experiment, decode as it was trained and in 30 s; return the error rates of both."""
    merged = open_experiment(folder, packed=False)
    waves, languages = probe_waves(data, merged, utterances)
    every = read_keyed(data / "text")
    references = {uid: every[uid] for uid in waves}
    prompts = {uid: merged.vocabulary.prompt(code) for uid, code in languages.items()}
    options, found, ids = DecodingOptions(beam_size=1, max_tokens=LIMIT), [], {}
    for window in (merged.pad_to, WINDOW):
        nbest = decode(replace(merged, pad_to=window), waves, prompts, options)
        ids = {uid: best[0].ids for uid, best in nbest.items()}
        texts = {uid: merged.vocabulary.line(one) for uid, one in ids.items()}
        found.append(100 * (score(references, texts, "mer", normalisation="basic").rate or 0.0))
    probe = Probe(waves, languages, LIMIT, ids, merged.vocabulary)
    whole = assemble(merged.encoder, merged.decoder, merged.alignment_heads)
    adapter = open_experiment(folder, merge=False, packed=False).adapter
    return Case(whole, adapter, base_spec(folder), probe), found


def main() -> None:
    args = get_parser().parse_args()
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(args.threads)
    heard = Texts()
    check = logging.getLogger("espnet_blora.export.check")
    check.addHandler(heard)
    check.setLevel(logging.WARNING)  # below the root's, which keeps the readers' own warnings out
    check.propagate = False
    tag = f"_{args.tag}" if args.tag else ""
    folders = {method: args.exp / f"asr_{method}{tag}" for method in args.methods}
    print(
        f"torch {torch.__version__}, {platform.machine()}, CPU, {args.threads} thread(s); "
        f"{args.utterances} utterances of {args.data.name}\n"
    )
    different, worth = [], []
    for method, folder in folders.items():
        if not (folder / "config.yaml").is_file():
            print(f"{method}: no {folder}: train it first (see --help)\n")
            continue
        print(f"#### {method}\n\n| format | same ids | MB | imported again |", flush=True)
        print("|---|---|---|---|")
        case, found = open_case(folder, args.data, args.utterances)
        for name in FORMATS:
            with tempfile.TemporaryDirectory() as box:
                print(one(case, name, Path(box), heard), flush=True)
            different += [f"* {method}, {name}: {line}" for line in heard.lines]
        print()
        worth.append(f"| {method} | {found[0]:.1f} | {found[1]:.1f} |")
    print("\n".join(["| method | as trained, % | 30 s window, % |", "|---|---|---|", *worth]))
    if different:
        print("\nDifferent texts:\n\n" + "\n".join(different))


if __name__ == "__main__":
    main()

"""Audio seconds a second and peak memory of decoding: this project and five others, in one run.

Every system gets the same checkpoint, waves, beam, number of threads and precision:

* ours: `espnet_blora.decoding.batch.decode`;
* ESPnet alone: ESPnet's `Speech2Text` and search at batch size 1 over our decoder without cache,
  which is how ESPnet decodes Whisper; and its batched search over our cached decoder;
* openai-whisper's `decode` (its beam search fails on more than one utterance, so it gets one);
* Hugging Face's `generate`;
* faster-whisper: its features and CTranslate2's batched `generate`, in fp32 and with eight bits.

Two kinds of comparison:

* mini_cs: the shipped tiny base on the utterances of mini_cs's test set, which end by themselves:
  padded to the batch, as this base was trained, by ESPnet's rule; and in Whisper's window of 30 s,
  where most others always are, by openai-whisper's rule (the base was not trained for it; so ours
  is there a second time, padded to the batch);
* published sizes with seeded random weights, in the window of 30 s, on noise, each utterance
  exactly as many tokens.

A system has a process of its own, which opens the model, warms up, and decodes all utterances once
a round; rounds are interleaved, and as many as the minutes allow. Reading files, opening models and
making texts of ids do not count, log-mel features do. Ratios are of wall time, round by round.

What is not installed is left out, and said.

    python3 benchmarks/decode.py --quick
    python3 benchmarks/decode.py --out decode.md
    python3 benchmarks/decode.py --device cuda --dtype float16 --batch 16 --sizes small large-v3
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from peers.systems import (
    OURS,
    READS,
    SAMPLE_RATE,
    SYSTEMS,
    UNPADDED,
    Opening,
    Task,
)
from peers.tables import Rounds, shares, table, targets
from peers.waves import noise, read_set
from peers.worker import Child, Failed

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "egs2/mini_cs/asr1"
BASE = RECIPE / "base/tiny_mini_cs.safetensors"
RATIO, MOST = 0.2, 64
"""mini_cs: tokens a position at most (conf/decode.yaml), and tokens an utterance in 30 s."""
NEEDS = {"hf": ["transformers"], "ct2": ["ctranslate2", "faster_whisper"], "espnet": ["espnet2"]}
PACKAGES = ("torch", "openai-whisper", "espnet", "transformers", "ctranslate2", "faster-whisper")
BATCHED = "ESPnet batched, our cache"


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=RECIPE / "dump/raw/test_cs")
    parser.add_argument("--utterances", type=int, default=48, help="of --data; 0: none")
    parser.add_argument(
        "--sizes", nargs="*", default=["tiny:8", "base:4", "small:2"], metavar="SIZE[:BATCH]",
        help="published sizes with random weights; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, default=32, help="an utterance of random weights")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument(
        "--rounds", type=int, default=3, help="at most; those that take one by one: 1"
    )
    parser.add_argument("--minutes", type=float, default=15, help="no further round beyond them")
    parser.add_argument("--out", type=Path, help="also write FILE, and FILE with .json")
    parser.add_argument("--quick", action="store_true", help="only to see that it works")
    return parser


@dataclass
class Comparison:
    """One table: a checkpoint, what is decoded, and by whom."""

    title: str
    whisper: str
    folder: Path
    pad_to: str
    systems: list[str]
    task: Task
    waves: Path
    languages: dict[str, str]
    seconds: dict[str, float]
    """Of each utterance."""
    alone: int
    """How many utterances a system gets that takes them one by one."""
    weight: float
    """Its part of the minutes."""


# ---- what is compared ----------------------------------------------------------------------------


def comparisons(args: argparse.Namespace, box: Path) -> Iterator[Comparison]:
    """Prepare one after the other; nothing is prepared before its turn."""

    def store(name: str, waves: dict[str, np.ndarray]) -> tuple[Path, dict[str, float]]:
        np.savez(box / f"{name}.npz", **waves)
        return box / f"{name}.npz", {uid: len(w) / SAMPLE_RATE for uid, w in waves.items()}

    def of(kinds: Sequence[str]) -> list[str]:
        return [name for name in args.systems if name in kinds]

    if args.utterances:
        waves, languages = read_set(args.data, args.utterances)
        stored, seconds = store("mini_cs", waves)
        folder = box / "mini_cs"
        prepare(args, box, str(BASE), folder, of(list(SYSTEMS)), ["batch"])
        espnet = of([OURS, "ESPnet alone", BATCHED])
        task = Task(1, args.batch, MOST)
        both = (task, stored, languages, seconds, len(waves), 3)
        first = Comparison(
            "mini_cs, padded to the batch", str(BASE), folder, "batch", espnet, *both
        )
        first.task = replace(task, ratio=RATIO)
        yield first
        others = [name for name in args.systems if name == OURS or name not in espnet]
        yield Comparison("mini_cs, 30 s window", str(BASE), folder, "30s", others, *both)
    whole = [name for name in args.systems if name != UNPADDED]  # 30 s fill the window
    for number, named in enumerate(args.sizes):
        size, _, batch = named.partition(":")
        batch = int(batch or args.batch)
        waves, languages = noise(batch)
        stored, seconds = store("noise", waves)
        folder = box / size
        spec = str(folder / f"{size}.pt")
        folder.mkdir()
        converted(args, "write_random", size, spec)
        prepare(args, box, spec, folder, args.systems, ["30s"])
        task = Task(1, batch, args.tokens, fixed=True)
        yield Comparison(
            f"{size}, {args.tokens} tokens", spec, folder, "30s", whole, task,
            stored, languages, seconds, 1, number + 1,
        )  # fmt: skip


def converted(args: argparse.Namespace, function: str, *arguments: object) -> None:
    """Run a function of `peers.convert` in a process of its own."""
    child = Child(None, args.threads)
    try:
        child.wait()
        child.ask(prepare=function, arguments=arguments)
    finally:
        child.close()


def prepare(
    args: argparse.Namespace,
    box: Path,
    spec: str,
    folder: Path,
    names: Sequence[str],
    pads: Sequence[str],
) -> None:
    """Write the checkpoint as each installed system reads it."""
    kinds = {READS[name] for name in names if name in READS and not missing(name)}
    folder.mkdir(exist_ok=True)
    converted(args, "prepare", spec, str(folder), sorted(kinds), list(pads))


def missing(system: str) -> str:
    """Why a system cannot run here, or nothing."""
    for module in NEEDS.get(READS.get(system, ""), []):
        if importlib.util.find_spec(module) is None:
            return f"not installed: no {module}"
    return ""


# ---- the rounds ----------------------------------------------------------------------------------


def compare(args: argparse.Namespace, case: Comparison, until: float) -> tuple[dict, dict]:
    """Run the rounds of one comparison: beam -> system -> rounds, and beam -> our profile."""
    from espnet_blora.whisper.sizes import dims_of
    from espnet_blora.whisper.vocabulary import Vocabulary

    dims = dims_of(case.whisper)
    vocabulary = Vocabulary.of(dims.n_vocab)
    prompts = {language: vocabulary.prompt(language) for language in set(case.languages.values())}
    found: dict[int, dict[str, Rounds]] = {beam: {} for beam in args.beams}
    children: dict[str, Child] = {}
    with ExitStack() as stack:
        for name in case.systems:
            absent = missing(name)
            for beam in args.beams:
                found[beam][name] = Rounds(*load_of(case, name, beam), missing=absent)
            if not absent:
                opening = Opening(
                    name, case.whisper, str(case.folder), dims.n_mels, vocabulary.eot, case.pad_to,
                    args.device, args.dtype, args.threads,
                )  # fmt: skip
                children[name] = Child(opening, args.threads)
                stack.callback(children[name].close)
        for name in list(children):
            try:
                children[name].wait()
            except Failed as error:
                fail(found, name, error)
                del children[name]
        for number in range(args.rounds):
            began = time.monotonic()
            for beam in args.beams:
                for name in list(children):
                    if number and alone(name, beam):
                        continue
                    say(f"  {case.title}: round {number + 1}, beam {beam}, {name}", progress=True)
                    try:
                        answer = children[name].ask(**question(case, name, beam), prompts=prompts)
                        found[beam][name].results.append(answer)
                    except Failed as error:
                        fail(found, name, error)
                        del children[name]
            if 2 * time.monotonic() - began > until:
                break
        profiles = {}
        for beam in args.beams if OURS in children else []:
            profiles[beam] = children[OURS].ask(
                **question(case, OURS, beam), prompts=prompts, profile=True
            )
    return found, profiles


def alone(name: str, beam: int) -> bool:
    """Whether a system takes one utterance at a time: so slow that one round must do."""
    return SYSTEMS[name].one_by_one or (name == "openai-whisper" and beam > 1)


def ids_of(case: Comparison, name: str, beam: int) -> list[str]:
    return list(case.seconds)[: case.alone if alone(name, beam) else None]


def load_of(case: Comparison, name: str, beam: int) -> tuple[int, float]:
    """Batch size and audio seconds of a round."""
    seconds = sum(case.seconds[uid] for uid in ids_of(case, name, beam))
    return 1 if alone(name, beam) else case.task.batch, seconds


def question(case: Comparison, name: str, beam: int) -> dict:
    return {
        "task": asdict(replace(case.task, beam=beam)),
        "languages": {uid: case.languages[uid] for uid in ids_of(case, name, beam)},
        "waves": str(case.waves),
    }


def fail(found: dict[int, dict[str, Rounds]], name: str, error: Failed) -> None:
    for systems in found.values():
        if not systems[name].results:
            systems[name].missing = f"failed: {error}".replace("|", "/")


# ---- what is printed -----------------------------------------------------------------------------

written: list[str] = []


def say(text: str, progress: bool = False) -> None:
    """Print a line; to the error stream what only tells how far the run is."""
    stream = sys.stderr if progress else sys.stdout
    stream.write(text + "\n")
    stream.flush()
    if not progress:
        written.append(text)


def conditions(args: argparse.Namespace) -> str:
    from espnet_blora.report.conditions import cpu, now, revision, version

    where = cpu()
    if args.device.startswith("cuda"):
        import torch

        where = f"{torch.cuda.get_device_name(args.device)}; {where}"
    return (
        f"{where}, {args.threads} threads, {args.dtype}, load average {os.getloadavg()[0]:.1f} at "
        f"the start, {platform.system()}, Python {platform.python_version()}, "
        f"{', '.join(f'{name} {version(name)}' for name in PACKAGES)}, revision "
        f"{revision(ROOT)[0][:7]}, {now()}; batch of mini_cs {args.batch}, beams "
        f"{' and '.join(map(str, args.beams))}, {args.rounds} rounds at most, interleaved, one "
        "process a system"
    )


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    import torch

    from espnet_blora.whisper.sizes import PUBLISHED

    if args.device == "cpu" and args.dtype != "float32":
        parser.error(f"--dtype {args.dtype} needs --device cuda")
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch sees no CUDA device here")
    for size in args.sizes:
        name, _, batch = size.partition(":")
        if name not in PUBLISHED or name.endswith(".en") or not re.fullmatch(r"|[1-9]\d*", batch):
            known = " ".join(name for name in PUBLISHED if not name.endswith(".en"))
            parser.error(f"--sizes {size}: allowed are {known}, each with :BATCH behind it or not")


def main() -> None:
    parser = get_parser()
    args = parser.parse_args()
    check(parser, args)
    if OURS not in args.systems:
        args.systems.insert(0, OURS)
    if args.quick:
        args.rounds, args.utterances, args.tokens = 1, min(args.utterances, 16), 8
        args.sizes = [size.partition(":")[0] for size in args.sizes[:1]]
        args.batch = 4
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # leaves no files behind
    end = time.monotonic() + 60 * args.minutes
    say(conditions(args) + "\n")
    if args.utterances and not (args.data / "wav.scp").is_file():
        args.utterances = 0
        say(
            f"mini_cs left out: no {args.data}/wav.scp. Make it with: cd egs2/mini_cs/asr1 && "
            "./run.sh --stop_stage 4, or give --data\n"
        )
    all_found, columns, verdicts = {}, {}, []
    with tempfile.TemporaryDirectory(prefix="bench_decode_") as box:
        planned = [3.0, 3.0] * bool(args.utterances) + [n + 1.0 for n in range(len(args.sizes))]
        for number, case in enumerate(comparisons(args, Path(box))):
            left = max(0.0, end - time.monotonic())
            share = case.weight / sum(planned[number:])
            found, profiles = compare(args, case, time.monotonic() + share * left)
            count = len(case.seconds)
            total = sum(case.seconds.values())
            say(f"### {case.title}: {count} utterances, {total:.0f} s\n")
            say(table(found) + "\n")
            verdicts += targets(case.title, found)
            columns |= {f"{case.title}, beam {beam}": one for beam, one in profiles.items()}
            all_found[case.title] = {
                beam: {name: asdict(rounds) for name, rounds in systems.items()}
                for beam, systems in found.items()
            }
    if columns:
        say("### Where our time goes\n\n" + shares(columns) + "\n")
    say("### Targets\n\n" + "\n".join(verdicts or ["no peer of a target was there"]))
    if args.out:
        args.out.write_text("\n".join(written) + "\n", encoding="utf-8")
        raw = {"conditions": written[0], "found": all_found, "profiles": columns}
        args.out.with_suffix(".json").write_text(json.dumps(raw, indent=1), encoding="utf-8")
    if any(s[OURS]["missing"] for beams in all_found.values() for s in beams.values()):
        raise SystemExit("ours failed: see the tables")


if __name__ == "__main__":
    main()

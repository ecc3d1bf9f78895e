"""Seconds and memory of scoring: this project, jiwer and sclite, on the same files in one run.

Kaldi text files of a seeded English and a seeded mixed Mandarin-English set (words by Zipf's law
from a vocabulary of 20,000, 15 tokens an utterance, 15 % errors) are scored by each peer in a
process of its own, interleaved over the repeats:

* ours: what `espnet_blora.bin.score` does before it prints (read, pair, normalise, tokenise,
  align, count by script, PIER); without bootstrap intervals;
* jiwer: reads files that hold our tokens joined by blanks, made before its clock starts, and calls
  `jiwer.process_words`: it neither pairs, normalises nor tokenises;
* jiwer, same work: reads the same files as we do, and normalises and tokenises with our functions;
* both also with Python's garbage collector off: over jiwer's many small objects it takes more than
  the alignment does, the more the larger a set is;
* sclite: the same tokens in ready `.trn` files, `-o rsum`; the clock is its process alone.

The totals of errors and tokens must be the same, sclite's cost 4S + 3D + 3I the minimal one; else
the benchmark stops. Seconds are of processor time (wall time is printed beside them); memory is the
peak of resident memory less what the process held after its imports.

    python3 benchmarks/score.py --quick
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import accumulate
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY, TOKENS, ERRORS = 20_000, 15, 0.15
OFF = ", collector off"
PEERS = ("ours", "ours" + OFF, "jiwer", "jiwer" + OFF, "jiwer, same work", "sclite")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="10,000 utterances, one repeat")
    parser.add_argument("--job", help=argparse.SUPPRESS)  # JSON: one measurement, in a child
    return parser


# ---- data ----------------------------------------------------------------------------------------


def english(generator: random.Random) -> list[str]:
    """Made-up words; the frequent ones are short, as in any language."""
    syllables = [c + v + e for c in "bdfghklmnprst" for v in "aeiou" for e in ("", "n", "r", "st")]
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        length = 1 + (len(words) > 60) + (len(words) > 3000) + (generator.random() < 0.2)
        words["".join(generator.choices(syllables, k=length))] = None
    return [w[0] + "'" + w[1:] if n % 97 == 5 else w for n, w in enumerate(words)]


def mixed(generator: random.Random) -> list[str]:
    """Mandarin words of one to three of 3,500 characters, and one English word in six."""
    hanzi = [chr(0x4E00 + 5 * n) for n in range(3500)]
    weights = [1 / (n + 8) for n in range(3500)]
    words = english(generator)
    for n in range(VOCABULARY):
        if n % 6 != 3:
            size = generator.choice((1, 1, 2) if n < 500 else (2, 2, 3))
            words[n] = "".join(generator.choices(hanzi, weights, k=size))
    return words


def write_set(folder: Path, kind: str, utterances: int) -> None:
    """Write `ref` and `hyp`: cased, with punctuation in the references and less in the
    hypotheses, the Mandarin without blanks between its characters."""
    folder.mkdir(parents=True)
    generator = random.Random(20_250_101)
    vocabulary = english(generator) if kind == "English" else mixed(generator)
    zipf = list(accumulate(1 / (n + 2.7) for n in range(VOCABULARY)))
    draw = partial(generator.choices, vocabulary, cum_weights=zipf)
    with (
        (folder / "ref").open("w", encoding="utf-8") as left,
        (folder / "hyp").open("w", encoding="utf-8") as right,
    ):
        for n in range(utterances):
            said: list[str] = []
            size = generator.randrange(TOKENS - 7, TOKENS + 8)  # Han characters count one by one
            while size > 0:
                said += draw(k=1)
                size -= 1 if said[-1].isascii() else len(said[-1])
            heard = []
            for word, place, spare in zip(
                said, (generator.random() for _ in said), draw(k=len(said)), strict=True
            ):
                if place < 0.6 * ERRORS:
                    heard.append(spare)
                elif place < 0.8 * ERRORS:
                    continue
                else:
                    heard += [word, spare] if place < ERRORS else [word]
            key = f"spk{n % 200:03d}-utt{n:07d}"
            left.write(f"{key} {sentence(said, generator, 0.08)}\n")
            right.write(f"{key} {sentence(heard, generator, 0.04)}\n")


def sentence(words: list[str], generator: random.Random, commas: float) -> str:
    out = ""
    for n, word in enumerate(words):
        word = word.capitalize() if n == 0 else word
        space = bool(out) and (word.isascii() or out[-1].isascii())
        out += (" " if space else "") + word
        out += "," if generator.random() < commas and n < len(words) - 1 else ""
    return out + "." if out else ""


def write_tokens(folder: Path, normalisation: str) -> None:
    """Write what jiwer and sclite read: our tokens joined by blanks, and `.trn` files of them."""
    from espnet_blora.scoring.modes import UNITS
    from espnet_blora.scoring.trn import safe_token, trn_line
    from espnet_blora.text.presets import get_normalisation

    treat, tokenise = get_normalisation(normalisation), UNITS["mer"]
    for side in ("ref", "hyp"):
        name = folder / f"{side}.{normalisation}"
        with name.open("w", encoding="utf-8") as file, Path(f"{name}.trn").open("w") as trn:
            for key, text in pairs(folder / side):
                tokens = tokenise(treat(text))
                file.write(f"{key} {' '.join(tokens)}\n")
                trn.write(trn_line(map(safe_token, tokens), key))


def pairs(path: Path):
    with path.open(encoding="utf-8") as file:
        for line in file:
            key, _, text = line.rstrip("\n").partition(" ")
            yield key, text


# ---- one measurement, in a process of its own ----------------------------------------------------


def memory() -> int:
    """Peak resident memory of this process so far, in KiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # of this program alone; ru_maxrss also remembers the one that started it
        return int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(job: dict) -> dict:
    """Run one peer once; return seconds (processor, wall), memory in KiB, errors and tokens."""
    run = {
        "ours": ours,
        "jiwer": jiwer_alone,
        "jiwer, same work": jiwer_same_work,
        "sclite": sclite,
    }[job["peer"].removesuffix(OFF)](Path(job["folder"]), job["normalisation"], job)
    if job["peer"].endswith(OFF):
        gc.disable()
    before, wall, cpu = memory(), time.perf_counter(), time.process_time()
    found = run()
    found = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "kib": memory() - before,
        **found,
    }
    if job["peer"] == "sclite":
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        found |= {"cpu": usage.ru_utime + usage.ru_stime, "kib": usage.ru_maxrss}
    return found


def ours(folder: Path, normalisation: str, job: dict):
    from espnet_blora.scoring import score
    from espnet_blora.utils.keyed import KeyedText

    def run() -> dict:
        result = score(KeyedText(folder / "ref"), KeyedText(folder / "hyp"), "mer", normalisation)
        return {"errors": result.total.errors, "tokens": result.total.tokens}

    return run


def jiwer_alone(folder: Path, normalisation: str, job: dict):
    import jiwer

    def run() -> dict:
        sides = ([text for _, text in pairs(folder / f"{s}.{normalisation}")] for s in SIDES)
        return of_jiwer(jiwer.process_words(*sides))

    return run


SIDES = ("ref", "hyp")


def jiwer_same_work(folder: Path, normalisation: str, job: dict):
    import jiwer

    from espnet_blora.scoring.modes import UNITS
    from espnet_blora.text.presets import get_normalisation

    treat, tokenise = get_normalisation(normalisation), UNITS["mer"]

    def run() -> dict:
        ref, hyp = (dict(pairs(folder / side)) for side in SIDES)
        sides = ([" ".join(tokenise(treat(side[key]))) for key in ref] for side in (ref, hyp))
        return of_jiwer(jiwer.process_words(*sides))

    return run


def of_jiwer(out) -> dict:
    missed = out.substitutions + out.deletions
    return {"errors": missed + out.insertions, "tokens": out.hits + missed}


def sclite(folder: Path, normalisation: str, job: dict):
    files = [str(folder / f"{side}.{normalisation}.trn") for side in SIDES]
    command = [job["sclite"], "-e", "utf-8", "-s", "-r", files[0], "trn", "-h", files[1], "trn"]

    def run() -> dict:
        done = subprocess.run(
            [*command, "-i", "rm", "-o", "rsum", "stdout"], capture_output=True, check=True
        )
        return {"report": done.stdout.decode("utf-8", "replace")}

    return run


# ---- the run -------------------------------------------------------------------------------------


def child(**job: object) -> dict:
    command = [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps(job)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{job}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


# Imports of ours stay inside functions: what jiwer's and sclite's processes hold is not to be ours.
def check(peer: str, found: dict, counted: dict, expected) -> str:
    """Stop where totals differ without a reason; return the note of the table."""
    from espnet_blora.scoring.sclite import parse_totals

    if peer != "sclite":
        if (found["errors"], found["tokens"]) != (counted["errors"], counted["tokens"]):
            raise SystemExit(f"{peer}: {found}, jiwer: {counted}")
        return ""
    totals = parse_totals(found["report"])
    problems = expected.problems(totals)
    if problems:
        raise SystemExit(f"sclite: {problems}")
    more = totals.counts.errors - counted["errors"]
    return f": {more} errors more (its costs are 4/3/3)" if more else ""


def expected_of(folder: Path, normalisation: str):
    """Count what sclite must find."""
    from espnet_blora.scoring.sclite import Expected

    expected = Expected()
    names = (folder / f"{side}.{normalisation}" for side in SIDES)
    for (_, ref), (_, hyp) in zip(*map(pairs, names), strict=True):
        expected.add(ref.split(" ") if ref else [], hyp.split(" ") if hyp else [])
    return expected


def conditions(utterances: int, repeats: int, program: Path | None) -> str:
    from espnet_blora.report.conditions import cpu, now, revision, version

    told = "absent"
    if program:
        usage = subprocess.run([str(program)], capture_output=True, text=True, check=False)
        found = re.search(r"sclite Version: ([\d.]+)", usage.stdout + usage.stderr)
        told = found.group(1) if found else "unknown"
    return (
        f"{cpu()}, load average {os.getloadavg()[0]:.1f} at the start, {platform.system()}, "
        f"Python {platform.python_version()}, jiwer {version('jiwer')}, rapidfuzz "
        f"{version('rapidfuzz')}, sclite {told}, revision {revision(ROOT)[0][:7]}, "
        f"{now()}; {utterances:,} utterances of about {TOKENS} tokens, {repeats} repeats "
        "interleaved, one process each, one thread, no intervals"
    )


def table(folder: Path, kind: str, repeats: int, program: Path | None) -> list[str]:
    rows = []
    for normalisation in ("none", "basic"):
        write_tokens_in_child(folder, normalisation)
        job = {"folder": str(folder), "normalisation": normalisation, "sclite": str(program)}
        peers = [p for p in PEERS if p != "sclite" or program]
        found: dict[str, list[dict]] = {peer: [] for peer in peers}
        for _ in range(repeats):
            for peer in peers:
                found[peer].append(child(peer=peer, **job))
        counted, expected = found["jiwer"][0], expected_of(folder, normalisation)
        for peer in peers:
            note = {check(peer, one, counted, expected) for one in found[peer]}.pop()
            pairs_of = zip(found[peer], found["jiwer"], strict=True)
            ratios = [one["cpu"] / other["cpu"] for one, other in pairs_of]
            rate = 100 * counted["errors"] / counted["tokens"]
            rows.append(
                f"| {kind}, {normalisation} | {peer} | {spread(found[peer], 'cpu')} | "
                f"{statistics.median(one['wall'] for one in found[peer]):.2f} | "
                f"{statistics.median(ratios):.2f} | {mib(found[peer]):.0f} | "
                f"{rate:.2f} %{note} |"
            )
    return rows


def write_tokens_in_child(folder: Path, normalisation: str) -> None:
    child(peer="", folder=str(folder), normalisation=normalisation)


def spread(found: list[dict], what: str) -> str:
    values = sorted(one[what] for one in found)
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({values[0]:.2f}-{values[-1]:.2f})"


def mib(found: list[dict]) -> float:
    return statistics.median(one["kib"] for one in found) / 1024


def main() -> None:
    args = get_parser().parse_args()
    if args.job:
        job = json.loads(args.job)
        if job["peer"]:
            found = measure(job)
        else:
            found = write_tokens(Path(job["folder"]), job["normalisation"])
        sys.stdout.write(json.dumps(found))
        return
    from espnet_blora.scoring.sclite import find_sclite

    utterances, repeats = (10_000, 1) if args.quick else (args.utterances, args.repeats)
    program, _ = find_sclite()
    print(conditions(utterances, repeats, program) + "\n")
    print(
        "| set, normalisation | peer | s of processor (median, range) | s of wall time | "
        "ratio to jiwer | peak MiB over imports | error rate |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory(prefix="bench_score_") as box:
        for kind in ("English", "mixed"):
            folder = Path(box) / kind
            write_set(folder, kind, utterances)
            print("\n".join(table(folder, kind, repeats, program)), flush=True)
        print(
            "\n| utterances (mixed, basic) | ours: peak MiB | bytes an utterance | s | "
            "jiwer: peak MiB | bytes an utterance | s |\n|---|---|---|---|---|---|---|"
        )
        for size in (utterances // 10, utterances, 3 * utterances):
            folder = Path(box) / str(size)
            write_set(folder, "mixed", size)
            write_tokens_in_child(folder, "basic")
            job = {"folder": str(folder), "normalisation": "basic"}
            cells = [f"{size:,}"]
            for peer in ("ours", "jiwer"):
                one = child(peer=peer, **job)
                cells += [f"{one['kib'] / 1024:.1f}", f"{1024 * one['kib'] / size:.0f}"]
                cells.append(f"{one['cpu']:.2f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""Seconds and memory of preparing a corpus: its text, and the cutting of its audio.

* text: a synthetic SEAME of `--lines` transcript lines (all families of marks, a tenth of them in
  the test sets) is read and cleaned, and its train, devman and devsge are written as Kaldi
  directories; recordings are empty files, no audio is touched.
* audio: recordings of `--minutes` minutes of tones in noise, cut into utterances of 3.5 s that
  follow one another every 4 s, written as 16 kHz FLAC; then the same preparation again, when all is
  there already.

Each row is a process of its own; memory is its peak of resident memory, what it imports included
(of the largest single process where there are several).

    python3 benchmarks/prepare.py --quick
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the checkout under test, not an installed one
SPAN, EVERY = 3.5, 4.0  # seconds
FORMATS = ("16 kHz mono FLAC", "44.1 kHz stereo FLAC", "8 kHz stereo SPHERE u-law")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--minutes", type=int, default=10, help="of each of four recordings")
    parser.add_argument("--quick", action="store_true", help="10,000 lines, recordings of 2 min")
    parser.add_argument("--job", help=argparse.SUPPRESS)  # JSON: one measurement, in a child
    return parser


def text_job(root: str, out: str, split_dir: str) -> dict[str, float]:
    from espnet_blora.data import kaldi
    from espnet_blora.data.records import Ledger
    from espnet_blora.data.registry import get_corpus

    corpus, ledger = get_corpus("seame"), Ledger()
    started = time.perf_counter()
    sets = ["train", "valid", "devman", "devsge"]
    found = corpus.read(corpus.find(Path(root)), sets, ledger, {"split_dir": split_dir})
    read = time.perf_counter() - started
    for name, utterances in found.items():
        kaldi.write_data_dir(
            Path(out, name),
            {u.id: f"clips/{u.id}.flac" for u in utterances},
            {u.id: u.text for u in utterances},
            {u.id: u.speaker for u in utterances},
            {u.id: u.language for u in utterances},
        )
    ledger.write(Path(out, "left_out.tsv"))
    return {
        "read": read,
        "seconds": time.perf_counter() - started,
        "utterances": sum(map(len, found.values())),
    }


def audio_job(root: str, out: str, nj: int) -> dict[str, float]:
    from espnet_blora.data.prepare import prepare
    from espnet_blora.data.records import Corpus, Expected, Utterance

    def read(folder, sets, _ledger, _options):
        utterances = []
        for n, path in enumerate(sorted(folder.iterdir())):
            for i in range(int(path.stem.split("_")[1])):
                start, channel = i * EVERY, None if path.suffix == ".flac" else n % 2
                key = f"s{n}-{i:05d}"
                utterances.append(
                    Utterance(key, f"s{n}", "zh", "词", path, start, start + SPAN, channel)
                )
        return dict.fromkeys(sets, utterances)

    corpus = Corpus(
        "bench", "", "", "", "", {"all": Expected()}, (), lambda p: p, read, lambda *_: []
    )
    started = time.perf_counter()
    summary = prepare(corpus, root, ["all"], Path(out, "data"), Path(out, "clips"), nj=nj)
    return {"seconds": time.perf_counter() - started, "audio": summary.sets[0].seconds}


JOBS = {"text": text_job, "audio": audio_job}


def measured(job: str, **arguments) -> dict[str, float]:
    """Run one job in a process of its own."""
    command = [sys.executable, __file__, "--job", json.dumps([job, arguments])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def in_child(text: str) -> None:
    job, arguments = json.loads(text)
    result = JOBS[job](**arguments)
    status = Path("/proc/self/status").read_text()
    # not ru_maxrss, which begins with what the parent held when it forked
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    peak = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    print(json.dumps({**result, "mb": peak / 1024}))


def make_audio(folder: Path, form: str, minutes: int) -> None:
    """Write four recordings; a name ends in the number of utterances."""
    import numpy as np

    from tests.data.layouts import speech

    rate = {FORMATS[0]: 16000, FORMATS[1]: 44100, FORMATS[2]: 8000}[form]
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(4):
        wave = speech.tone(60.0 * minutes, 200.0 + 100 * n, rate)
        wave += 0.05 * rng.standard_normal(len(wave)).astype(np.float32)
        if form != FORMATS[0]:
            wave = speech.stereo(wave, wave[::-1])
        suffix = "sph" if form == FORMATS[2] else "flac"
        speech.write(folder / f"r{n}_{int(60 * minutes / EVERY)}.{suffix}", wave, rate)


def main() -> None:
    args = get_parser().parse_args()
    if args.job:
        in_child(args.job)
        return
    lines, minutes = (10_000, 2) if args.quick else (args.lines, args.minutes)
    import numpy
    import soundfile
    import soxr

    from tests.data.layouts import seame

    print(
        f"Python {platform.python_version()}, numpy {numpy.__version__}, "
        f"libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}, "
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before\n"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layout = seame.make_lines(folder / "seame", lines)
        split = str(layout.options["split_dir"])
        text = measured("text", root=str(layout.root), out=str(folder / "data"), split_dir=split)
        print("| text | lines | utterances kept | read, s | read and written, s | peak, MB |")
        print("|---|---|---|---|---|---|")
        print(
            f"| SEAME-style | {lines:,} | {text['utterances']:,} | {text['read']:.1f} | "
            f"{text['seconds']:.1f} | {text['mb']:.0f} |\n"
        )
        print("| audio | processes | hours cut | s | times real time | peak, MB | again, s |")
        print("|---|---|---|---|---|---|---|")
        for form in FORMATS:
            source = folder / form.replace(" ", "_")
            make_audio(source, form, minutes)
            for nj in (1, 2):
                place = {"root": str(source), "out": f"{source}_{nj}", "nj": nj}
                one, two = measured("audio", **place), measured("audio", **place)
                speed = one["audio"] / one["seconds"]
                print(
                    f"| {form} | {nj} | {one['audio'] / 3600:.2f} | {one['seconds']:.1f} | "
                    f"{speed:.0f} | {one['mb']:.0f} | {two['seconds']:.2f} |"
                )


if __name__ == "__main__":
    main()

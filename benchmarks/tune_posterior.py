"""Does sampling the posterior help on mini_cs? Samples against the mean and its temperature.

For every seed of BLoRA and LoRA: greedy search with the posterior mean (LoRA: the only one), the
same with a temperature and, apart, with a map of word confidences, both fitted on valid_cs; for
BLoRA averages over S draws, as they are and with a map of their own. Error rates, calibration and
risk-coverage areas on each set, paired over its utterances; Markdown tables, with the spread over
seeds, go to OUT/posterior.md.

    python3 benchmarks/tune_posterior.py --threads 1

What was decoded is kept in OUT (words.jsonl) and not decoded again; remove it to start anew, as
after a change of the experiments or of --maxlenratio. On one quiet thread the whole takes about 21
minutes, half of them for the 16 draws: leave those out (--samples 4 8) or give fewer --utterances
or --seeds to have it sooner.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[1] / "egs2" / "mini_cs" / "asr1"
BLORA = "exp_tune/asr_blora_lr=0.001_beta=0.02_prior_std=0.05_seed{}"
LORA = "exp_tune/asr_lora_lr=0.001_seed{}"
TEMPERATURES = "0.6 0.7 0.8 0.9 1 1.1 1.2 1.35 1.5 1.7 2 2.5 3"
MEAN, TEMPERATURE, MAP = "mean", "mean + temperature", "mean + map"
SHOWN = ("mer", "ece", "gap", "brier", "nll", "auroc", "aupr", "area_confidence", "ratio_total")
log = logging.getLogger("tune_posterior")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--blora", default=BLORA, help="experiment in the recipe's folder, {} for the seed")
    add("--lora", default=LORA, help="likewise; '' for none")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--samples", type=int, nargs="*", default=[4, 8, 16], help="draws to average over")
    add("--temperatures", default=TEMPERATURES, help="to choose from on the validation set")
    add("--valid_set", default="valid_cs")
    add("--sets", default="test_cs ret_en ret_zh")
    add("--utterances", type=int, help="of each set, spread evenly (default: all)")
    add("--spread", type=float, default=1.0, help="factor on the posterior's scales")
    add("--maxlenratio", type=float, default=0.2, help="as in conf/decode.yaml")
    add("--batch_size", type=int, default=16, help="utterances at once, with S rows each")
    add("--threads", type=int, default=1)
    add("--out", type=Path, default=Path("exp_tune/posterior"), help="in the recipe's folder")
    return parser


class Decoder:
    """One experiment: files of confidences, decoded where they are not there yet."""

    def __init__(self, asr_exp: str, args: argparse.Namespace):
        self.asr_exp, self.args, self._model = asr_exp, args, None

    def words(self, name: str, samples: int, temperatures: Sequence[float]) -> dict[float, Path]:
        """Temperature -> file of a set."""
        kind = f"samples{samples}_spread{self.args.spread:g}" if samples else MEAN
        if self.args.utterances:
            kind += f"_of{self.args.utterances}"
        folder = self.args.out / Path(self.asr_exp).name
        files = {t: folder / f"{kind}_t{t:g}" / name / "words.jsonl" for t in temperatures}
        missing = {t: path for t, path in files.items() if not path.is_file()}
        if missing:
            self._decode(name, samples, missing)
        return files

    def _decode(self, name: str, samples: int, files: dict[float, Path]) -> None:
        from espnet_blora.decoding.batch import decode_posterior
        from espnet_blora.decoding.dumped_set import read_set
        from espnet_blora.decoding.options import DecodingOptions
        from espnet_blora.decoding.recogniser import open_experiment
        from espnet_blora.utils import atomic

        if self._model is None:
            self._model = open_experiment(self.asr_exp, merge=False)
        waves, prompts, _ = read_set(
            Path("dump/raw") / name, self._model.vocabulary, self.args.utterances
        )
        began = time.monotonic()
        found = decode_posterior(
            self._model,
            waves,
            prompts,
            DecodingOptions(
                rule="espnet",
                beam_size=1,
                maxlenratio=self.args.maxlenratio,
                samples=samples,
                spread=self.args.spread,
                batch_size=self.args.batch_size,
            ),
            temperatures=tuple(files),
        )
        for t, path in files.items():
            with atomic.writing(path, "w") as file:
                for uid, one in found[t].items():
                    file.write(json.dumps(one.as_json(uid), ensure_ascii=False) + "\n")
        took = time.monotonic() - began
        what = f"{samples} samples" if samples else MEAN
        log.info("%s, %s, %s: %.0f s", Path(self.asr_exp).name, name, what, took)


def references(name: str, path: Path) -> dict[str, str]:
    """References of those utterances that a file has."""
    from espnet_blora.scoring.calibration.words import read_confidences
    from espnet_blora.utils.keyed import read_keyed

    texts = read_keyed(Path("dump/raw") / name / "text")
    return {key: texts[key] for key in read_confidences(path)}


def marked(name: str, path: Path):
    from espnet_blora.scoring.calibration.words import label_tokens, read_confidences

    return label_tokens(references(name, path), read_confidences(path))


def systems(label: str, decoder: Decoder, args: argparse.Namespace, draws: Sequence[int]):
    """Set -> (name, marked words) of every way to be confident, and what was fitted."""
    from espnet_blora.scoring.calibration.measures import nll_of
    from espnet_blora.scoring.calibration.platt import fit_map

    grid = [float(word) for word in args.temperatures.split()]
    if 1.0 not in grid:
        raise ValueError(f"--temperatures {args.temperatures!r}: 1 must be among them")
    files = decoder.words(args.valid_set, 0, grid)
    valid = {t: marked(args.valid_set, path) for t, path in files.items()}
    nll = {t: float(nll_of(one).mean()) for t, one in sorted(valid.items())}
    best = min(nll, key=nll.__getitem__)
    fitted = fit_map(valid[1.0])
    edge = ", at the edge of the grid" if best in (min(grid), max(grid)) else ""
    notes = [
        f"{label} mean: temperature {best:g}{edge} (NLL {nll[best]:.3f}, at 1 {nll[1.0]:.3f})",
        f"{label} mean: {fitted.describe()}",
    ]
    maps = {}
    for number in draws:
        drawn = decoder.words(args.valid_set, number, [1.0])[1.0]
        maps[number] = fit_map(marked(args.valid_set, drawn))
        notes.append(f"{label} {number} samples: {maps[number].describe()}")
    found = {}
    for name in args.sets.split():
        own = decoder.words(name, 0, list(dict.fromkeys([1.0, best])))
        mean = marked(name, own[1.0])
        rows = [(MEAN, mean), (TEMPERATURE, marked(name, own[best])), (MAP, fitted.apply(mean))]
        for number in draws:
            one = marked(name, decoder.words(name, number, [1.0])[1.0])
            rows += [
                (f"{number} samples", one),
                (f"{number} samples + map", maps[number].apply(one)),
            ]
        found[name] = [(f"{label} {kind}", one) for kind, one in rows]
    return found, notes


def pairs(samples: Sequence[int], *, lora: bool) -> list[tuple[str, str]]:
    """The differences that answer the question."""
    drawn = [f"BLoRA {number} samples" for number in samples]
    found = [(f"BLoRA {kind}", f"BLoRA {MEAN}") for kind in (TEMPERATURE, MAP)]
    found += [(one, f"BLoRA {MEAN}") for one in drawn]
    found += [(one, f"BLoRA {TEMPERATURE}") for one in drawn]
    found += [(f"{one} + map", f"BLoRA {MAP}") for one in drawn]
    if lora:
        found += [(f"LoRA {kind}", f"LoRA {MEAN}") for kind in (TEMPERATURE, MAP)]
        found += [(f"BLoRA {kind}", f"LoRA {kind}") for kind in (MEAN, TEMPERATURE, MAP)]
        found += [(f"{one} + map", f"LoRA {MAP}") for one in drawn]
    return found


def difference(examined, a: str, b: str):
    """System `a` minus system `b`, whichever way the pair was examined."""
    from espnet_blora.scoring.calibration.compare import Difference, Estimate
    from espnet_blora.scoring.intervals import Interval

    def turned(estimate: Estimate) -> Estimate:
        ends = estimate.interval and Interval(-estimate.interval.high, -estimate.interval.low)
        return Estimate(None if estimate.value is None else -estimate.value, ends)

    for pair in examined.differences:
        if (pair.a, pair.b) == (a, b):
            return pair
        if (pair.b, pair.a) == (a, b):
            return Difference(a, b, {name: turned(one) for name, one in pair.estimates.items()})
    raise KeyError(f"{a} - {b}")


def page(results: dict[str, list], notes: Sequence[str], args: argparse.Namespace):
    """The tables: means and spread over seeds, differences over seeds, then seed by seed."""
    from espnet_blora.report.calibration import (
        COMPARED,
        DIFFERENCES,
        HOW_TO_READ,
        difference_cell,
        seeds_cell,
        seeds_difference,
        short_title,
    )
    from espnet_blora.report.page import Bullets, Folded, Page, Prose, Section, table

    sections = []
    for name, examined in results.items():
        rows = [
            [system.name, *(seeds_cell(key, [e.systems[at] for e in examined]) for key in SHOWN)]
            for at, system in enumerate(examined[0].systems)
        ]
        between, each = [], []
        for a, b in pairs(args.samples, lora=bool(args.lora)):
            runs = [difference(e, a, b) for e in examined]
            between.append([f"{a} − {b}", *(seeds_difference(key, runs) for key in COMPARED)])
            for seed, run in zip(args.seeds, runs, strict=True):
                cells = [difference_cell(key, run.estimates.get(key)) for key in COMPARED]
                each.append([f"{a} − {b}", str(seed), *cells])
        titles = [short_title(key) for key in COMPARED]
        utterances = examined[0].systems[0].utterances
        over = f"{utterances} utterances, {len(args.seeds)} seeds of training: mean ± s.d. of seeds"
        told = (
            "Differences over seeds: mean (range; in how many seeds the paired 95 % interval lies "
            "on one side of zero)."
        )
        blocks = [
            table(("system", *(short_title(key) for key in SHOWN)), rows, over),
            table(("systems", *titles), between, told),
            Folded("Seed by seed", [table(("systems", "seed", *titles), each, DIFFERENCES)]),
        ]
        sections.append(Section(name, blocks))
    sections.append(Section("Fitted on the validation set", [Bullets(notes)]))
    sections.append(Section("How to read these figures", [Prose(HOW_TO_READ)]))
    return Page("Samples of the posterior, its mean, and a temperature", sections=sections)


def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.chdir(RECIPE)  # paths in wav.scp and config.yaml are the recipe's
    import torch

    from espnet_blora.report.page import page_markdown
    from espnet_blora.scoring.calibration.compare import examine
    from espnet_blora.utils import atomic

    torch.set_num_threads(args.threads)
    began = time.monotonic()
    results: dict[str, list] = {name: [] for name in args.sets.split()}
    notes = []
    for seed in args.seeds:
        together: dict[str, list] = {name: [] for name in results}
        methods = [("BLoRA", args.blora, args.samples)]
        methods += [("LoRA", args.lora, [])] if args.lora else []
        for label, pattern, draws in methods:
            found, said = systems(label, Decoder(pattern.format(seed), args), args, draws)
            notes += [f"seed {seed}, {line}" for line in said]
            for name, rows in found.items():
                together[name] += rows
        for name, rows in together.items():
            examined = examine(rows)
            examined.save(args.out / f"seed{seed}" / name / "calibration.json", set=name)
            results[name].append(examined)
    text = page_markdown(page(results, notes, args))
    with atomic.writing(args.out / "posterior.md", "w") as file:
        file.write(text)
    sys.stdout.write(text)
    log.info("%.0f s; wrote %s", time.monotonic() - began, (args.out / "posterior.md").absolute())


if __name__ == "__main__":
    main()

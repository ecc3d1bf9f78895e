"""From what was asked for to files: find, collect, analyse, draw, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_blora.report import csv, html, markdown
from espnet_blora.report.analysis import analyse
from espnet_blora.report.behind import notes_of
from espnet_blora.report.calibration_found import collect_confidences, plot_confidences, section
from espnet_blora.report.collect import Experiment, collect
from espnet_blora.report.page import retention_page
from espnet_blora.report.plots import PLOTS, plot_bars, plot_scatter, plot_sparsity
from espnet_blora.report.results_md import results
from espnet_blora.report.systems import SEED, folders_of, grouped
from espnet_blora.report.worst import Read, Words
from espnet_blora.utils import atomic

FILES = ("RESULTS.md", "retention.md", "retention.html", "retention.csv")


@dataclass
class Wanted:
    """What a report is asked for; the names are those of the program's options.

    Attributes:
        roles: `base`, `lora`, `blora` -> names (blanks between), None for the default.
        kappa: retention set -> degradation allowed, as a difference of rates.
        command: what the page says it was made by.
    """

    exp: Path
    dump: Path
    test_sets: Sequence[str]
    retention_sets: Sequence[str]
    kappa: dict[str, float]
    roles: dict[str, str | None] = field(default_factory=dict)
    others: Sequence[str] = ()
    experiments: Sequence[str] = ()
    tag: str = ""
    groups: Sequence[str] = ()
    labels: Sequence[str] = ()
    compare: Sequence[str] = ()
    inference_tag: str = "decode"
    command: str = ""


def write(wanted: Wanted, read: Read) -> tuple[list[Path], int]:
    """Write the report into `wanted.exp`; return its files and how many things are missing.

    Args:
        read: reads a Kaldi `text` file: id -> text.

    Raises: FileNotFoundError if `exp` is no folder; ValueError for sets, groups, labels or pairs
        that make no sense. Nothing is written then.
    """
    exp, sets = wanted.exp, [*wanted.test_sets, *wanted.retention_sets]
    if not exp.is_dir():
        raise FileNotFoundError(f"{exp}: no such folder; run the recipe first, or give --exp")
    if not wanted.test_sets or not wanted.retention_sets or len(set(sets)) != len(sets):
        raise ValueError(
            "--test_sets and --retention_sets need at least one set each, and none twice; found "
            f"{' '.join(wanted.test_sets)!r} and {' '.join(wanted.retention_sets)!r}"
        )
    experiments = gather(wanted, sets)
    systems = grouped(experiments, wanted.groups, wanted.labels)
    rows = list(csv.rows(experiments, wanted.test_sets, sets))
    by_experiment = results(experiments, sets, exp, wanted.inference_tag)
    found = analyse(systems, wanted.test_sets, wanted.retention_sets, wanted.kappa, wanted.compare)
    words = Words(wanted.dump, read)
    drawn = (
        plot_scatter(exp / PLOTS[0], found),
        plot_bars(exp / PLOTS[1], found),
        plot_sparsity(exp / PLOTS[2], found.systems),
    )
    pictures = {picture.file: picture for picture in drawn if picture is not None}
    for name in set(PLOTS) - set(pictures):
        (exp / name).unlink(missing_ok=True)  # one of an earlier run would be believed
    sure, doubts = collect_confidences(found, words)
    curves = {picture.file: picture for picture in plot_confidences(exp, sure)}
    confidence = section(sure, curves, doubts)
    page = retention_page(found, pictures, words, exp, wanted.command, confidence)
    table = csv.text(csv.complete(rows, found))
    texts = (by_experiment, markdown.page(page), html.page(page), table)
    for name, text in zip(FILES, texts, strict=True):
        # what is not Unicode in a file's name becomes a mark
        atomic.write(exp / name, text.encode("utf-8", "backslashreplace"))
    missing = len(notes_of(found, pictures, words))
    return [exp / name for name in (*FILES, *pictures, *curves)], missing


def gather(wanted: Wanted, sets: Sequence[str]) -> list[Experiment]:
    """Read the experiments asked for, each once, the base first.

    Those given without a role get it from their `config.yaml`: the first method with LoRA and the
    first with BLoRA, if no option names one.
    """
    tag = f"_{wanted.tag}" if wanted.tag else ""
    named = []
    for role, default in (("base", "asr_none"), ("lora", "asr_lora"), ("blora", "asr_blora")):
        given = wanted.roles.get(role)
        if given is None and (role == "base" or not wanted.experiments):
            given = f"{default}{tag}"
        named += [(word, role) for word in (given or "").split()]
    named += [(word.rstrip("/"), "other") for word in (*wanted.others, *wanted.experiments)]
    found: dict[Path, Experiment] = {}
    for word, role in named:
        for folder in folders_of(wanted.exp, word):
            if folder.resolve() not in found:
                found[folder.resolve()] = collect(folder, role, sets, wanted.inference_tag)
    experiments = list(found.values())
    for role in ("lora", "blora"):
        if not any(e.role == role for e in experiments):
            _take_role(experiments, role)
    return experiments


def _take_role(experiments: Sequence[Experiment], role: str) -> None:
    fits = [
        e
        for e in experiments
        if e.role == "other" and not e.full and e.config.get("adapter") == role
    ]
    for e in fits:
        if SEED.sub("", e.name) == SEED.sub("", fits[0].name):
            e.role = role


def parse_kappa(text: str, retention_sets: Sequence[str]) -> dict[str, float]:
    """Read `2` or `ret_en=1 ret_zh=3` (points) as {set: rate}.

    Raises: ValueError for anything else, a set that is left out, or a kappa that is not > 0.
    """
    try:
        if "=" in text:
            pairs = dict(word.split("=", 1) for word in text.split())
            found = {name: float(pairs.pop(name)) / 100 for name in retention_sets}
            if pairs:
                raise ValueError(f"no retention set is called {', '.join(pairs)}")
        else:
            found = dict.fromkeys(retention_sets, float(text) / 100)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"--kappa {text!r}: give one number, or name=number for each of "
            f"{', '.join(retention_sets)} ({error})"
        ) from error
    if not all(0 < value < float("inf") for value in found.values()):
        raise ValueError(f"--kappa {text!r}: the degradation allowed must be > 0 and finite")
    return found

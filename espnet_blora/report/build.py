"""Building the report: collect, analyse, draw, write.

A new plot is a function and its line in `PLOTS`; a new section is a function and its line in
`page_sections`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_blora.report import (
    by_experiment,
    calibration,
    matched,
    most_changed,
    plots,
    sections,
    verdict,
)
from espnet_blora.report.calibration import Confident
from espnet_blora.report.collect import Texts, collect, folders_of, scored_sets
from espnet_blora.report.estimates import Analysis, analyse
from espnet_blora.report.experiments import SEED, Experiment, make_systems
from espnet_blora.report.page import (
    Block,
    Bullets,
    Page,
    Picture,
    Prose,
    Section,
    foldable,
    page_html,
    page_markdown,
)
from espnet_blora.scoring.job import fewer_than_published
from espnet_blora.scoring.set_score import OtherRelease
from espnet_blora.utils import atomic
from espnet_blora.utils.mistakes import did_you_mean

TITLE = "What was gained, what was forgotten"
SCATTER, BARS, SPARSITY = (f"retention_{name}.png" for name in ("scatter", "bars", "sparsity"))
RELIABILITY, RISK = (f"retention_{name}.png" for name in ("reliability", "risk_coverage"))
PLOTS: dict[str, Callable[[Path, Analysis, Sequence[Confident]], Picture | None]] = {
    SCATTER: lambda path, analysis, _: plots.scatter(path, analysis),
    BARS: lambda path, analysis, _: plots.bars(path, analysis),
    SPARSITY: lambda path, analysis, _: plots.sparsity(path, analysis),
    RELIABILITY: lambda path, _, confident: calibration.reliability(path, confident),
    RISK: lambda path, _, confident: calibration.risk(path, confident),
}
"""File -> what draws it, or returns None (and draws no file) where there is nothing to draw."""


@dataclass
class Request:
    """What a report is asked for; the names are those of the program's options.

    Attributes:
        roles: `base`, `lora`, `blora` -> names (blanks between), None for the default.
        kappa: Retention set -> degradation allowed, as a difference of rates.
        audio: Whether the page holds the sound of four utterances.
        command: What the page says it was made by.
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
    resample: str = "auto"
    audio: bool = True
    command: str = ""

    @property
    def sets(self) -> list[str]:
        """All sets, the new domain first."""
        return [*self.test_sets, *self.retention_sets]


def build(request: Request) -> tuple[list[Path], int]:
    """Write the report into `request.exp`; return its files and how many things are missing.

    Raises:
        FileNotFoundError: `exp` is not a folder; nothing is written.
        ValueError: Sets, groups, labels or pairs make no sense, or no score can be read although
            there are some; nothing is written.
    """
    exp, sets = request.exp, request.sets
    if not exp.is_dir():
        raise FileNotFoundError(f"{exp}: no such folder; run the recipe first, or give --exp")
    if not request.test_sets or len(set(sets)) != len(sets):
        raise ValueError(
            "--test_sets needs at least one set, and --test_sets and --retention_sets none twice; "
            f"found {' '.join(request.test_sets)!r} and {' '.join(request.retention_sets)!r}"
        )
    # From experiments to systems to estimates. The files by experiment come first: the analysis
    # sets scores aside that cannot be compared.
    experiments = gather(request)
    unread = unread_scores(experiments)
    if unread and not any(e.scores for e in experiments):
        raise ValueError(unread)
    systems = make_systems(experiments, request.groups, request.labels)
    rows = list(by_experiment.csv_rows(experiments, request.test_sets, sets))
    results = by_experiment.results_md(experiments, sets, exp)
    analysis = analyse(
        systems, request.test_sets, request.retention_sets, request.kappa, request.compare
    )
    refuse_unknown_sets(request, experiments)
    analysis.warnings += [*elsewhere(request, experiments), *parts_of_sets(experiments)]
    if unread:
        analysis.warnings.insert(0, f"{unread}. They are left out here.")
    texts = Texts(request.dump, request.audio)
    analysis.warnings += most_changed.identical(analysis, texts)
    confident, doubts = calibration.collect_confidences(analysis, texts)

    pictures = {}
    for name, draw in PLOTS.items():
        picture = draw(exp / name, analysis, confident)
        if picture is None:
            (exp / name).unlink(missing_ok=True)  # one of an earlier run would be believed
        else:
            pictures[name] = picture

    blocks = page_sections(analysis, pictures, texts, confident, doubts)
    # Last, as making the other sections notes which texts are gone.
    undrawn = [name for name in (SCATTER, BARS, SPARSITY) if name not in pictures]
    notes = sections.missing_notes(analysis, undrawn, texts)
    blocks["What is missing here"] = [Bullets(notes) if notes else Prose("Nothing.")]
    blocks["Conditions"] = sections.conditions(analysis, exp, request.command)
    page = Page(
        TITLE,
        analysis.warnings,
        verdict.headline(analysis),
        [Section(title, [*map(foldable, content)]) for title, content in blocks.items() if content],
        sections.introduction(analysis),
    )
    files = {
        "RESULTS.md": results,
        "retention.md": page_markdown(page),
        "retention.html": page_html(page),
        "retention.csv": by_experiment.csv_text(rows, analysis),
    }
    for name, text in files.items():
        # what is not Unicode in a file's name becomes a mark
        atomic.write(exp / name, text.encode("utf-8", "backslashreplace"))
    return [exp / name for name in (*files, *pictures)], len(notes)


def page_sections(
    analysis: Analysis,
    pictures: Mapping[str, Picture],
    texts: Texts,
    confident: Sequence[Confident],
    doubts: Sequence[str],
) -> dict[str, list[Block]]:
    """Return title -> blocks of every section but the last two, in the page's order.

    Empty ones are not shown.

    Args:
        analysis: All figures.
        pictures: The plots that could be drawn, by file.
        texts: Words of references and hypotheses.
        confident: What is known of the systems' confidences.
        doubts: Confidences that could not be used.
    """

    def drawn(*names: str) -> list[Block]:
        return [pictures[name] for name in names if name in pictures]

    return {
        "At a glance": [*sections.cards(analysis), *drawn(SCATTER)],
        "Hear it": most_changed.heard(analysis, texts),
        "Errors before and after": [*sections.errors(analysis), *drawn(BARS)],
        "Forgetting, by these formulas": sections.retention(analysis),
        **{
            f"{pair.a.label} against {pair.b.label}": verdict.compared(analysis, pair)
            for pair in analysis.comparisons
        },
        "Forgetting at matched new-domain error": matched.section(analysis.match),
        "Beside what was published": [verdict.published(analysis)],
        "The trivial rivals": sections.rivals(analysis),
        "Utterances that changed most": most_changed.utterances(analysis, texts),
        "By language and speaker": most_changed.groups(analysis),
        "Does it know when it is wrong?": calibration.section(
            confident, drawn(RELIABILITY, RISK), doubts
        ),
        "Cost": sections.cost(analysis),
        "Sparsity": [*sections.sparsity(analysis), *drawn(SPARSITY)],
    }


def gather(request: Request) -> list[Experiment]:
    """Read the experiments asked for, each once, the base first.

    Those given without a role get it from their `config.yaml`: the first method with LoRA and the
    first with BLoRA, if no option names one.
    """
    by_folder = {
        folder: collect(folder, role, request.sets, request.inference_tag, request.resample)
        for folder, role in named_folders(request).items()
    }
    experiments = list(by_folder.values())
    for role in ("lora", "blora"):
        if not any(e.role == role for e in experiments):
            _take_role(experiments, role)
    return experiments


def named_folders(request: Request) -> dict[Path, str]:
    """Return folder -> role of the experiments asked for, each once, there or not."""
    tag = f"_{request.tag}" if request.tag else ""
    named = []
    for role, default in (("base", "asr_none"), ("lora", "asr_lora"), ("blora", "asr_blora")):
        given = request.roles.get(role)
        if given is None and (role == "base" or not request.experiments):
            given = f"{default}{tag}"
        named += [(word, role) for word in (given or "").split()]
    named += [(word.rstrip("/"), "other") for word in (*request.others, *request.experiments)]
    folders: dict[Path, tuple[Path, str]] = {}
    for word, role in named:
        for folder in folders_of(request.exp, word):
            folders.setdefault(folder.resolve(), (folder, role))
    return dict(folders.values())


def other_scored_sets(request: Request) -> list[str]:
    """Return the sets that the experiments asked for were scored on, without the test sets.

    Raises:
        ValueError: There are no test sets; names the scored sets, or the scored experiments.
    """
    scored = scored_sets(request.exp, request.inference_tag)
    named = [n for folder in named_folders(request) for n in scored.get(folder.name, [])]
    if request.exp.is_dir() and not request.test_sets:
        raise ValueError(
            "--test_sets needs at least one set, that of the new domain, or --tag (or names of) "
            "experiments that run.sh has scored. Scored in "
            f"{request.exp}: {' '.join(dict.fromkeys(named)) or _listed(scored)}"
        )
    return [name for name in dict.fromkeys(named) if name not in request.test_sets]


def elsewhere(request: Request, experiments: Sequence[Experiment]) -> list[str]:
    """Return a warning with the scored experiments, where base or adapted ones are not there."""
    there = [e for e in experiments if e.exists]
    scored = scored_sets(request.exp, request.inference_tag)
    others = {n: sets for n, sets in scored.items() if n not in [e.name for e in there]}
    if not others or {e.adapted for e in there} == {True, False}:
        return []
    missing = ", ".join(e.name for e in experiments if not e.exists)
    return [
        f"Not in {request.exp}: {missing or 'an adapted experiment'}. Scored there: "
        f"{_listed(others)}. Name them as arguments, or by --base, --lora, --blora, or give --tag."
    ]


def refuse_unknown_sets(request: Request, experiments: Sequence[Experiment]) -> None:
    """Refuse a set that no experiment has scored and that is not in the dump folder.

    Raises:
        ValueError: There is such a set; names near misses, and the sets that are known.
    """
    scored = scored_sets(request.exp, request.inference_tag).values()
    known = {name for names in scored for name in names}
    for e in experiments:
        known |= {*e.scores, *e.unread, *(row.set for row in e.sweep)}
    for place in (request.dump, request.dump / "org"):
        known |= {path.parent.name for path in place.glob("*/text")}
    for name in request.sets:
        if name not in known:
            raise ValueError(
                f"{name}: no experiment in {request.exp} has a score of such a set, and it is not "
                f"in {request.dump}, where there are: {', '.join(sorted(known)) or 'none'}"
                f"{did_you_mean(name, known, 3)}"
            )


def unread_scores(experiments: Sequence[Experiment]) -> str:
    """Say how many scores are there but cannot be read, and what to do; empty if all can."""
    errors = [error for e in experiments for error in e.unread.values()]
    if not errors:
        return ""
    number = f"{len(errors)} scores are" if len(errors) > 1 else "1 score is"
    damaged = [error for error in errors if not isinstance(error, OtherRelease)]
    why = f"not readable ({damaged[0]})" if damaged else "of an older release"
    return f"{number} {why}: run stage 13 again (run.sh --stage 13)"


def parts_of_sets(experiments: Sequence[Experiment]) -> list[str]:
    """Return a warning per set of which fewer utterances than published were scored."""
    parts = {
        f"{name}: {part}": None
        for e in experiments
        for name, score in e.scores.items()
        if (part := fewer_than_published(score, e.published.get(name)))
    }
    told = "was scored, a part of the published set: its figures are no figures of that set."
    return [f"{part} {told}" for part in parts]


def _listed(scored: Mapping[str, Sequence[str]]) -> str:
    """List experiments with the tags that name them, and their sets."""
    texts = []
    for name, sets in scored.items():
        tag = re.fullmatch(r"asr_(?:none|lora|blora)_(.+)", SEED.sub("", name))
        texts.append(f"{name} ({f'--tag {tag[1]}: ' if tag else ''}{' '.join(sets)})")
    return ", ".join(texts) or "nothing"


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

    >>> parse_kappa("2", ["ret_en", "ret_zh"])
    {'ret_en': 0.02, 'ret_zh': 0.02}
    >>> parse_kappa("ret_en=1 ret_zh=3", ["ret_en", "ret_zh"])
    {'ret_en': 0.01, 'ret_zh': 0.03}

    Raises:
        ValueError: Anything else, a set that is left out, or a kappa that is not > 0.
    """
    try:
        pairs = dict.fromkeys(retention_sets, text)
        if "=" in text:
            pairs = dict(word.split("=", 1) for word in text.split())
        kappa = {name: float(pairs[name]) / 100 for name in retention_sets}
        if unknown := sorted(pairs.keys() - kappa.keys()):
            raise ValueError(f"no retention set is called {', '.join(unknown)}")
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"--kappa {text!r}: give one number, or name=number for each of "
            f"{', '.join(retention_sets)} ({error})"
        ) from error
    if not all(0 < value < float("inf") for value in kappa.values()):
        raise ValueError(f"--kappa {text!r}: the degradation allowed must be > 0 and finite")
    return kappa

"""Stage 13 of a recipe: every set of an experiment, scored by us, by sclite and by jiwer.

ESPnet's stage 13 leaves, per set and token unit, `score_<unit>/{ref.trn,hyp.trn,result.txt}`: words
at blanks (`wer`) and characters with `<space>` as one more (`cer`), as its tokenizers cut them.
The same files are written here, with what sclite would misread spelled out (`scoring.trn`), and
beside them `score_mer`: the tokens of our mixed error rate. A line is paired by its utterance id.
sclite's totals must be those that its costs allow (`scoring.sclite`), jiwer's must be the least
number of errors. Our own figures are in `score_blora/score.json`; they need no sclite.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from espnet_blora.scoring.job import Job, against_jiwer, open_job
from espnet_blora.scoring.modes import Mode, tokeniser
from espnet_blora.scoring.output import lines_of, score_modes
from espnet_blora.scoring.sclite import (
    AS_WRITTEN,
    Expected,
    NotScored,
    Pair,
    Reading,
    not_scored_table,
    parse_totals,
    run_sclite,
    write_trn,
)
from espnet_blora.scoring.set_score import SetScore
from espnet_blora.scoring.trn import safe_ids
from espnet_blora.utils import atomic

_SHOWN = 5  # tokens that are written otherwise than they stand

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """What is scored, and how.

    Attributes:
        asr_exp: Folder of the experiment.
        inference_tag: Name of the decoding.
        dump: Folder of the sets' data directories.
        modes: Unit and normalisation of our own figures; the first one's is that of `score_mer`.
        reading: How sclite reads the words and characters of ESPnet's tables.
        symbols: What is one character in `score_cer` (`--nlsyms_txt`).
        sclite: The program, or None and why there is none.
        data: Folder of the directories that stage 1 wrote, with the sets' published sizes.
    """

    asr_exp: Path
    inference_tag: str
    dump: Path
    modes: Sequence[Mode]
    reading: Reading
    symbols: Sequence[str] = ()
    sclite: tuple[Path | None, str] = (None, "not asked for")
    data: Path = Path("data")

    def folder(self, name: str) -> Path:
        """Return the folder in which a set was decoded."""
        return self.asr_exp / self.inference_tag / name


@dataclass
class Outcome:
    """What became of one set.

    Attributes:
        scores: Name of the combination of unit and normalisation -> score.
        lines: What is printed.
        problems: Differences between scorers that nothing explains.
        mistake: Why the set cannot be scored; empty if it was.
    """

    scores: dict[str, SetScore] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    mistake: str = ""


class Table(NamedTuple):
    """One of sclite's tables of a set.

    Attributes:
        kind: `wer`, `cer` or `mer`.
        cut: Text -> tokens.
        reading: How sclite is to read them.
    """

    kind: str
    cut: Callable[[str], list[str]]
    reading: Reading


def espnet_characters(text: str, symbols: Sequence[str] = ()) -> list[str]:
    """Split a text into characters as ESPnet's stage 13 does.

    >>> espnet_characters("a  我 <v>", ["<v>"])
    ['a', '<space>', '我', '<space>', '<v>']
    """
    longest_first = sorted(filter(None, symbols), key=len, reverse=True)
    pattern = re.compile("|".join([*map(re.escape, longest_first), "."]), re.DOTALL)
    return ["<space>" if c == " " else c for c in pattern.findall(" ".join(text.split()))]


def read_symbols(path: str | Path | None) -> list[str]:
    """Return the lines of a file of symbols; none for no file.

    Raises:
        FileNotFoundError: The file is not there.
    """
    if path is None:
        return []
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; symbols, one per line, are expected")
    return [line.rstrip() for line in Path(path).read_text("utf-8").split("\n")]


def score_set(stage: Stage, name: str) -> Outcome:
    """Score one set, and write its files; what is wrong with it is said in the outcome."""
    outcome, data = Outcome(), stage.dump / name
    try:
        job = open_job(
            data,
            stage.folder(name) / "text",
            utt2spk=data / "utt2spk",
            published=stage.data / Path(name).name / "published.json",
            sclite=stage.sclite,
        )
        # our own figures
        for treated, result in score_modes(job, stage.modes, stage.folder(name) / "score_blora"):
            outcome.scores[f"{name}/{treated}"] = result.score
            outcome.problems += [f"{name}, {treated}: {problem}" for problem in result.problems]
            outcome.lines += [f"{name}: {line}" for line in lines_of(result)]
        # ESPnet's tables, and that of mixed tokens
        characters = partial(espnet_characters, symbols=stage.symbols)
        mixed = tokeniser("mer", stage.modes[0].normalisation)
        for table in (
            Table("wer", str.split, stage.reading),
            Table("cer", characters, stage.reading),
            Table("mer", mixed, AS_WRITTEN),
        ):
            _write_table(stage, name, job, table, outcome)
    except (ValueError, OSError) as error:
        outcome.mistake = f"{name}: {error}"
        # no table of an earlier run stands beside texts that cannot be scored
        for old in sorted(stage.folder(name).glob("score_[wcm]er/result.txt")):
            atomic.write(old, not_scored_table(str(error)), sync=False)
    return outcome


def _write_table(stage: Stage, name: str, job: Job, table: Table, outcome: Outcome) -> None:
    """Write the `.trn` files and sclite's report on them, or a table that says "not scored"."""
    folder = stage.folder(name) / f"score_{table.kind}"
    where, reading = f"{name}, {table.kind}", table.reading

    # the two sides, in the order of the speakers' file, with ids as ESPnet writes them
    speakers = {key: speaker for key, speaker in (job.speakers or {}).items() if key in job.ref}
    ids = safe_ids([f"{speaker}-{key}" for key, speaker in speakers.items()])

    def pairs() -> Iterator[Pair]:
        return ((table.cut(job.ref[key]), table.cut(job.hyp[key])) for key in speakers)

    expected = Expected()
    spelled = write_trn(folder, reading, zip(ids.values(), pairs(), strict=True), expected)
    if spelled:
        shown = ", ".join(token[:20] for token in sorted(spelled)[:_SHOWN])
        log.info("%s: %d tokens spelled out for sclite: %s", where, len(spelled), shown)

    # sclite
    try:
        if job.sclite is None:
            raise NotScored(job.no_sclite)
        expected.check_size()
        report = run_sclite(job.sclite, folder, reading.options, "all")
        totals = parse_totals(report)
        if reading.unknown:
            options = ", ".join(reading.unknown)
            log.info("%s: sclite is not compared with us, because of %s", where, options)
        elif problems := expected.problems(totals):
            outcome.problems += [f"{where}: {problem}" for problem in problems]
            raise NotScored("; ".join(problems))
    except NotScored as reason:
        if job.sclite is not None:
            log.warning("%s: not scored by sclite: %s", where, reason)
        report = not_scored_table(str(reason))
    atomic.write(folder / "result.txt", report, sync=False)
    shown_rows = [row.strip() for row in report.splitlines() if "Avg" in row or "SPKR" in row]
    outcome.lines += [f"{where}: {row}" for row in shown_rows[:2]]

    # jiwer, on the tokens that sclite gets
    if expected.too_long is None:
        read = (tuple(map(reading.tokens, pair)) for pair in pairs())
        jiwer = against_jiwer(read, expected.ref_tokens, expected.errors)
        outcome.problems += [f"{where}: {problem}" for problem in jiwer["problems"]]

r"""The bridge to NIST's sclite: its totals, compared with ours exactly.

sclite aligns with costs 4 for a substitution S and 3 for an insertion I or deletion D, we with
1/1/1. So its errors S + D + I may be more than ours, never fewer: none at the error rates of a
recogniser where the wrong words stand alone, 1 to 60 in 100,000 tokens where several neighbours are
wrong at once, in one utterance of a hundred where hypothesis and reference have little to do with
each other. Which of the alignments of the same cost it takes is its own affair, but the cost is
not:

.. math:: 4S + 3D + 3I = \sum_u \min_{\text{alignments of } u} (4s + 3d + 3i)

holds for every set of utterances, and the right side is computed here. Together with the numbers
of utterances, of utterances with an error, and of tokens on either side, nothing is left to
tolerance: more errors with the same cost are explained, anything else is a problem.
Checked with SCTK 2.4.10 on 336,000 random utterances in 42 sets, of 1 to 20,000 words and error
rates from 14 to over 1,000 %: equal in each set.

How texts come to sclite unharmed: `espnet_blora.scoring.trn`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from espnet_blora.scoring.counts import Counts
from espnet_blora.scoring.modes import NOASCII
from espnet_blora.scoring.trn import safe_token, trn_line
from espnet_blora.utils import atomic

MOST_CELLS = 5_000 * 5_000
"""Reference tokens x recognised tokens of one utterance; more take sclite over 230 MB and 2 s."""

_INSERTION, _DELETION, _SUBSTITUTION = 3, 3, 4
_PATIENCE = 3600  # seconds
_BATCH = 100_000  # tokens per call: sclite takes 1 to 3 kB per token
_PLACES = (  # where a program may be that is not on PATH: ours, Debian's
    Path(__file__).resolve().parents[2] / "tools" / "sctk" / "bin",
    Path("/usr/lib/sctk/bin"),
)
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # all that sclite folds
# Options that leave alone what a word is, which words count and what an error costs.
_HARMLESS = {"-i", "-O", "-f", "-l", "-o", "-n", "-C"}


Pair = tuple[Sequence[str], Sequence[str]]
"""Tokens of reference and hypothesis of one utterance."""


class NotScored(RuntimeError):
    """There is no figure of sclite's to trust; the message says why."""


# ---- the program and its reports -----------------------------------------------------------------


def find_sclite(program: str = "auto") -> tuple[Path | None, str]:
    """Return sclite, or None and the reason.

    Args:
        program: A file; `auto` for the first `sclite` on PATH, in `tools/sctk` or in Debian's
            place; `none`.

    Raises:
        FileNotFoundError: The file is not there.
    """
    if program == "none":
        return None, "not asked for"
    if program != "auto":
        if not Path(program).is_file():
            raise FileNotFoundError(f"--sclite {program}: no such program")
        return Path(program), ""
    folders = filter(None, [os.environ.get("PATH"), *map(str, _PLACES)])
    if candidate := shutil.which("sclite", path=os.pathsep.join(folders)):
        return Path(candidate), ""
    return None, "there is no sclite here; get it with: make sclite (or apt-get install sctk)"


@dataclass(frozen=True)
class ScliteTotals:
    """sclite's totals.

    Attributes:
        utterances: Scored ones.
        counts: Over all tokens.
        wrong_utterances: Those with an error.
    """

    utterances: int
    counts: Counts
    wrong_utterances: int

    def __add__(self, other: ScliteTotals) -> ScliteTotals:
        return ScliteTotals(
            self.utterances + other.utterances,
            self.counts + other.counts,
            self.wrong_utterances + other.wrong_utterances,
        )

    @property
    def cost(self) -> int:
        """What sclite's alignments cost by its own measure, 4S + 3D + 3I."""
        c = self.counts
        return _SUBSTITUTION * c.substitutions + _DELETION * c.deletions + _INSERTION * c.insertions


def run_sclite(program: Path, folder: Path, options: Sequence[str], report: str = "rsum") -> str:
    """Score the two files of `write_trn` with sclite and return its report.

    Args:
        program: sclite.
        folder: Where the files are.
        options: How tokens are read.
        report: What it prints (`-o`).

    Raises:
        NotScored: It cannot be started, fails, crashes, or does not end within an hour.
    """
    ref, hyp = str(folder / "ref.trn"), str(folder / "hyp.trn")
    command = [str(program), *options, "-r", ref, "trn"]
    command += ["-h", hyp, "trn", _no_row(hyp)]  # the last is the report's title
    command += ["-i", "rm", "-o", report, "stdout"]
    try:
        process = subprocess.run(command, capture_output=True, check=False, timeout=_PATIENCE)
    except OSError as error:
        raise NotScored(f"{program} cannot be started: {error}") from error
    except subprocess.TimeoutExpired:
        raise NotScored(f"sclite did not end within {_PATIENCE} s") from None
    output = process.stdout.decode("utf-8", "replace")
    if process.returncode != 0:
        message = process.stderr.decode("utf-8", "replace").strip() or output.strip()
        raise NotScored(f"sclite failed with status {process.returncode}: {message[-200:]!r}")
    return output


def parse_totals(report: str) -> ScliteTotals:
    """Return the totals of a report, from the whole numbers of its Sum row.

    Of rows of that form the last one counts: a speaker may be called Sum.

    Raises:
        NotScored: There is no such row, or it contradicts itself.
    """
    rows = [r for r in report.splitlines() if re.match(r"\s*\|\s*Sum\s*\|[\s\d|]*$", r)]
    if not rows:
        raise NotScored(f"sclite printed no totals: {report.strip()[-200:]!r}")
    numbers = [int(n) for n in rows[-1].replace("|", " ").split()[1:]]
    if len(numbers) != 8:
        raise NotScored(f"sclite's Sum row holds {len(numbers)} figures, not 8: {rows[-1]!r}")
    sentences, words, correct, sub, dele, ins, errors, wrong = numbers
    counts = Counts(correct, sub, dele, ins)
    if (counts.tokens, counts.errors) != (words, errors):
        raise NotScored(f"sclite's Sum row contradicts itself: {rows[-1]!r}")
    return ScliteTotals(sentences, counts, wrong)


def parse_percentages(report: str) -> list[str] | None:
    """Return the eight cells of the Sum/Avg row (Snt Wrd Corr Sub Del Ins Err S.Err) as printed."""
    for line in report.splitlines():
        if re.match(r"\s*\|\s*Sum/Avg\s*\|", line):
            cells = line.replace("|", " ").split()[1:]
            return cells if len(cells) == 8 else None
    return None


def not_scored_table(reason: str) -> str:
    """Return a report of sclite's form whose Sum/Avg row says "not scored", as ESPnet's tables do.

    >>> parse_percentages(not_scored_table("no sclite here"))
    ['not', 'scored', '-', '-', '-', '-', '-', '-']
    """
    return (
        f"not scored: {' '.join(_no_row(reason).split())}\n\n"
        "       | SPKR   | # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err |\n"
        "       |--------+-------------+-----------------------------------------|\n"
        "       | Sum/Avg|  not scored |    -      -      -      -      -      - |\n"
    )


def _no_row(text: str) -> str:
    """Return a text that ESPnet's `grep -e Avg -e SPKR` does not take for a row of the table."""
    return text.replace("Avg", "avg").replace("SPKR", "spkr")


# ---- what sclite reads, and what it must find ----------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """How sclite reads tokens when it is called with certain options.

    Attributes:
        options: As they are given to sclite.
        splits: Each character outside ASCII becomes a token (`-e utf-8 -c NOASCII`).
        folds: A-Z are read as a-z (no `-s`).
        unknown: Options whose effect on the figures is not known: then nothing is compared.
    """

    options: tuple[str, ...]
    splits: bool
    folds: bool
    unknown: tuple[str, ...] = ()

    @classmethod
    def parse(cls, options: str) -> Reading:
        """Read options as they stand on a command line.

        Raises:
            ValueError: The encoding is one in which a byte of a letter may be `{`.
        """
        words = shlex.split(options)
        given: dict[str, list[str]] = {}
        for word in words:
            if word.startswith("-"):
                values = given.setdefault(word, [])
            elif given:
                values.append(word)
        encoding = given.pop("-e", [])
        if encoding and encoding[0] != "utf-8":
            raise ValueError(f"sclite's options {options!r}: texts are UTF-8, so -e must be utf-8")
        folds = given.pop("-s", None) is None
        by_character = given.pop("-c", None)
        unknown = [f"-e {' '.join(encoding)}"] if len(encoding) > 1 else []
        if by_character not in (None, ["NOASCII"]):
            unknown.append(f"-c {' '.join(by_character)}".strip())
        unknown += sorted(given.keys() - _HARMLESS)
        splits = bool(encoding) and by_character == ["NOASCII"]
        return cls(tuple(words), splits, folds, tuple(unknown))

    def tokens(self, tokens: Sequence[str]) -> list[str]:
        """Return the tokens that sclite compares."""
        return [self._fold(piece) for token in tokens for piece in self._pieces(token)]

    def safe(self, token: str) -> str:
        """Return the token that is written: what sclite would misread is spelled out.

        A token that sclite splits stays one, and each of its pieces is made safe.
        """
        return "".join(
            piece if safe_token(piece) == piece else safe_token(self._fold(piece))
            for piece in self._pieces(token)
        )

    def _pieces(self, token: str) -> list[str]:
        return NOASCII.findall(token) if self.splits else [token]

    def _fold(self, token: str) -> str:
        return token.translate(_LOWER) if self.folds else token


AS_WRITTEN = Reading.parse("-e utf-8 -s")
"""Every token as it stands, letters of both cases apart."""


@dataclass
class Expected:
    """What sclite must find in a set of utterances; grows with `add`.

    Attributes:
        utterances: How many there are.
        wrong_utterances: Those with an error.
        ref_tokens: Of all references.
        hyp_tokens: Of all hypotheses.
        errors: The sum over utterances of the least S + D + I: no scorer finds fewer.
        cost: The sum over utterances of the least 4S + 3D + 3I: sclite's is exactly this.
        too_long: Tokens (reference, hypothesis) of the longest utterance beyond `MOST_CELLS`.
    """

    utterances: int = 0
    wrong_utterances: int = 0
    ref_tokens: int = 0
    hyp_tokens: int = 0
    errors: int = 0
    cost: int = 0
    too_long: tuple[int, int] | None = None

    def add(self, ref: Sequence[str], hyp: Sequence[str]) -> None:
        """Count one utterance."""
        self.utterances += 1
        self.ref_tokens += len(ref)
        self.hyp_tokens += len(hyp)
        size = len(ref), len(hyp)
        if size[0] * size[1] > MOST_CELLS:
            self.too_long = max(size, self.too_long or size)
        self.wrong_utterances += ref != hyp
        if ref != hyp and self.too_long is None:  # else sclite is not called: nothing to compare
            weights = (_INSERTION, _DELETION, _SUBSTITUTION)
            self.errors += Levenshtein.distance(ref, hyp)
            self.cost += Levenshtein.distance(ref, hyp, weights=weights)

    def check_size(self) -> None:
        """Raise NotScored where an utterance is too long for sclite."""
        if self.too_long is not None:
            raise NotScored(
                f"an utterance of {self.too_long[0]} reference and "
                f"{self.too_long[1]} recognised tokens; sclite's memory grows with their product "
                f"(at most {MOST_CELLS:.2g} here)"
            )

    def problems(self, totals: ScliteTotals) -> list[str]:
        """Say what of sclite's totals differs; empty if nothing."""
        c = totals.counts
        pairs = {
            "scored {} utterances": (totals.utterances, self.utterances),
            "found errors in {} utterances": (totals.wrong_utterances, self.wrong_utterances),
            "counted {} reference tokens": (c.tokens, self.ref_tokens),
            "counted {} hypothesis tokens": (
                c.hits + c.substitutions + c.insertions,
                self.hyp_tokens,
            ),
            "pays 4S + 3D + 3I = {}": (totals.cost, self.cost),
        }
        problems = [f"sclite {what.format(a)}, we {b}" for what, (a, b) in pairs.items() if a != b]
        if c.errors < self.errors:
            problems.append(f"sclite found {c.errors} errors, fewer than our {self.errors}")
        return problems


def compare(totals: ScliteTotals, expected: Expected, own: Counts) -> list[str]:
    """Say what differs in sclite's totals, or in our own score of the same tokens."""
    problems = expected.problems(totals)
    for name, ours, least in (
        ("tokens", own.tokens, expected.ref_tokens),
        ("errors", own.errors, expected.errors),
    ):
        if ours != least:
            problems.append(f"our score has {ours} {name}, not {least}")
    return problems


# ---- scoring -------------------------------------------------------------------------------------


def write_trn(
    folder: Path,
    reading: Reading,
    rows: Iterable[tuple[str, Pair]],
    expected: Expected,
) -> set[str]:
    """Write `ref.trn` and `hyp.trn`.

    Args:
        folder: Where they go.
        reading: How sclite will read them.
        rows: Id -> tokens of both sides.
        expected: Counts the rows.

    Returns:
        The tokens that are written otherwise than they stand.
    """
    spelled: set[str] = set()

    def line(tokens: Sequence[str], key: str) -> str:
        safe = [reading.safe(token) for token in tokens]
        spelled.update(
            token for token, written in zip(tokens, safe, strict=True) if token != written
        )
        return trn_line(safe, key)

    with (
        atomic.writing(folder / "ref.trn", "w", sync=False) as ref_file,
        atomic.writing(folder / "hyp.trn", "w", sync=False) as hyp_file,
    ):
        for key, (ref, hyp) in rows:
            ref_file.write(line(ref, key))
            hyp_file.write(line(hyp, key))
            expected.add(reading.tokens(ref), reading.tokens(hyp))
    return spelled


def cross_check(
    program: Path, pairs: Iterable[Pair], own: Counts
) -> tuple[ScliteTotals, list[str]]:
    """Let sclite score our tokens (hazards spelled out, ids numbered, case kept) and compare.

    sclite is called once per 100,000 tokens.

    Args:
        program: sclite.
        pairs: (reference, hypothesis), tokens, per utterance.
        own: Our counts.

    Returns:
        sclite's totals, and what must not differ and does (`Expected`). Without problems its costs
        explain its further errors: its alignment is one of the cheapest at 4/3/3, not the shortest.

    Raises:
        NotScored: sclite fails, or an utterance is too long for it.
    """
    expected, totals = Expected(), ScliteTotals(0, Counts(), 0)
    with tempfile.TemporaryDirectory(prefix="sclite_") as box:
        for batch in _batches(pairs):
            rows = ((f"u-{number}", pair) for number, pair in enumerate(batch, 1))
            write_trn(Path(box), AS_WRITTEN, rows, expected)
            expected.check_size()
            totals += parse_totals(run_sclite(program, Path(box), AS_WRITTEN.options))
    return totals, compare(totals, expected, own)


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Yield pairs of token lists, so many at a time as sclite has memory for."""
    batch: list[Pair] = []
    size = 0
    for pair in pairs:
        batch.append(pair)
        size += len(pair[0]) + len(pair[1])
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

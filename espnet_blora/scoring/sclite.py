r"""The bridge to NIST's sclite: safe ``.trn`` files, its totals read back and compared with ours.

sclite gives meaning to characters that are plain text elsewhere, mostly without a word. Measured on
SCTK 2.4.10 (Debian) by scoring identical and slightly different lines; 2.4.12 behaves alike unless
said:

=====================  =========================================================================
in a ``.trn`` line     what sclite does
=====================  =========================================================================
``{ a / b }``          alternation: ``p { a / b } q`` counts 3 words, not 7
``{`` before words     swallows the rest of the line, rc 0: ``a { b c d`` counts 1 word
``{`` in a token       segmentation fault (``M^{ME}``, ``x{``)
token ``@``            a word that is never counted
``;`` in a token       the word ends there: ``x;y`` = ``x;z`` = ``x``
line ``;;``, ``**``    a comment: the utterance is gone, or rc 1
trailing ``*``         removed: ``foo*`` = ``foo`` (a leading one stays)
``\``                  removed: ``a\b`` = ``ab``
NBSP, U+3000           part of a word, where Python's ``split`` cuts
1,000-byte tokens      may print without end; 500 bytes take 0.1 s
id with ``(``          mis-read, adds a word; a blank inside an id stays
ids                    folded to lower case (without ``-s``): a collision is rc 1, as is a double
hyp. without ref.      rc 1
ref. without hyp.      **ignored, rc 0**: the rate is over fewer utterances
two empty files        segmentation fault
``-c NOASCII``         splits every letter outside ASCII: right for Chinese, wrong for ``über``
=====================  =========================================================================

``}``, ``/``, ``%w``, ``<tag>``, every other ASCII sign, control characters and empty lines count as
they stand.

sclite aligns with costs 4/3/3 (substitution, insertion, deletion) against our 1/1/1: at realistic
rates the total of errors is the same; on hypotheses that have little to do with the reference
sclite finds a few more, never fewer.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_blora.scoring.counts import Counts

MAX_TOKEN = 500  # bytes of UTF-8; at 1,000 sclite 2.4.10 prints without end
_NAMES = {"{": "<lbrace>", "}": "<rbrace>", ";": "<semicolon>", "\\": "<backslash>"}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Hazard:
    """One thing in a text or id that sclite would read otherwise than it stands."""

    id: str
    what: str

    def __str__(self) -> str:
        return f"utterance {self.id!r}: {self.what}"


def token_hazard(token: str) -> str | None:
    """Say what sclite would do to a token, or None if nothing.

    It does not depend on the place in the line: else a token would be spelt out on one side only.
    """
    if token == "@":
        return "token '@' would not be counted"
    if "{" in token or "}" in token:
        return f"brace in {_short(token)}: alternation, or a crash"
    if ";" in token:
        return f"';' in {_short(token)}: the word would end there, or the line be a comment"
    if "\\" in token:
        return f"backslash in {_short(token)} would be removed"
    if token.endswith("*") or token.startswith("*"):
        return f"'*' at an end of {_short(token)}: removed, or the line read as a comment"
    if _CONTROL.search(token) or any(char.isspace() for char in token):
        return f"control character or blank in {_short(token)}"
    if len(token) > MAX_TOKEN // 4 and len(_bytes(token)) > MAX_TOKEN:
        return f"token of {len(_bytes(token))} bytes (at most {MAX_TOKEN}): sclite would hang"
    return None


def safe_token(token: str) -> str:
    """Return a token that sclite leaves alone: hazards are spelt out in ASCII, ``{`` as
    ``<lbrace>``.

    Equal tokens stay equal, different ones different, as long as the text holds no such name
    itself; of a token too long stay its beginning, length and a digest.
    """
    if token == "@":
        return "<at>"
    for char, name in _NAMES.items():
        token = token.replace(char, name)
    before = len(token) - len(token.lstrip("*"))
    after = len(token) - max(before, len(token.rstrip("*")))
    middle = token[before : len(token) - after]
    token = "<asterisk>" * before + middle + "<asterisk>" * after
    token = _CONTROL.sub(lambda m: f"<u{ord(m.group()):04x}>", token)
    token = "".join(f"<u{ord(c):04x}>" if c.isspace() else c for c in token)
    if len(_bytes(token)) > MAX_TOKEN:
        digest = hashlib.sha256(_bytes(token)).hexdigest()[:16]
        token = f"{token[:30]}<{len(token)}-characters-{digest}>"
    return token


def id_hazards(ids: Iterable[str]) -> list[Hazard]:
    """Return what sclite would mis-read in utterance ids: parentheses, blanks, ids equal but for
    case."""
    found, seen = [], {}
    for key in ids:
        if not key or any(c in "()" or c.isspace() or ord(c) < 32 for c in key):
            found.append(
                Hazard(key, "an id must hold neither parentheses nor blanks, and not be empty")
            )
        folded = key.lower()
        if folded in seen:
            found.append(Hazard(key, f"the id differs by case only from {seen[folded]!r}"))
        seen.setdefault(folded, key)
    return found


def write_trn(
    path: str | Path, tokens: Mapping[str, Sequence[str]], on_hazard: str = "reject"
) -> list[Hazard]:
    """Write ``token token ...<TAB>(id)`` lines, sorted by id, that sclite reads as they stand.

    Args:
        tokens: id -> tokens.
        on_hazard: ``"reject"`` raises, ``"map"`` spells hazards out (:func:`safe_token`) and
            returns them. Write both sides with ``"map"``, or neither.

    Raises: ValueError naming each utterance (up to 10) and hazard; hazards of ids always raise.
    """
    if on_hazard not in ("reject", "map"):
        raise ValueError(f"on_hazard must be 'reject' or 'map', found {on_hazard!r}")
    bad_ids = id_hazards(sorted(tokens))
    hazards, lines = [], []
    for key in sorted(tokens):
        found = [token_hazard(token) for token in tokens[key]]
        hazards += [Hazard(key, what) for what in found if what]
        safe = [safe_token(t) if f else t for t, f in zip(tokens[key], found, strict=True)]
        lines.append(f"{' '.join(safe)}\t({key})\n")
    if bad_ids or (hazards and on_hazard == "reject"):
        listed = "\n  ".join(str(h) for h in [*bad_ids, *hazards][:10])
        raise ValueError(
            f"{path}: {len(bad_ids) + len(hazards)} places that sclite would mis-read; rename "
            f"the ids, or write with on_hazard='map':\n  {listed}"
        )
    Path(path).write_text("".join(lines), encoding="utf-8", newline="\n")
    return hazards


@dataclass(frozen=True)
class ScliteTotals:
    """sclite's totals: scored utterances, counts, utterances with an error."""

    utterances: int
    counts: Counts
    wrong_utterances: int


def parse_totals(report: str) -> ScliteTotals | None:
    """Read the whole-number Sum row of ``-o all`` (or ``rsum``) output; None where there is
    none."""
    for line in report.splitlines():
        if re.match(r"\s*\|\s*Sum\s*\|", line):
            numbers = [int(n) for n in line.replace("|", " ").split()[1:]]
            if len(numbers) != 8:
                raise ValueError(
                    f"sclite's Sum row holds {len(numbers)} figures, expected 8: {line.strip()!r}"
                )
            sentences, words, correct, sub, dele, ins, errors, wrong = numbers
            counts = Counts(correct, sub, dele, ins)
            if (counts.tokens, counts.errors) != (words, errors):
                raise ValueError(f"sclite's Sum row contradicts itself: {line.strip()!r}")
            return ScliteTotals(sentences, counts, wrong)
    return None


def parse_percentages(report: str) -> list[str] | None:
    """Return the eight cells of the Sum/Avg row (Snt Wrd Corr Sub Del Ins Err S.Err) as printed."""
    for line in report.splitlines():
        if re.match(r"\s*\|\s*Sum/Avg\s*\|", line):
            cells = line.replace("|", " ").split()[1:]
            return cells if len(cells) == 8 else None
    return None


_WRAPPER = b"espnet_blora.bin.safe_sclite"  # what the guard's wrapper (tools/bin/sclite) calls


def find_sclite(
    exclude: Iterable[str | Path] = (), extra: Iterable[str | Path] = ()
) -> Path | None:
    """Return the first executable ``sclite`` on PATH, then in ``extra`` directories, then where
    Debian puts it.

    ``exclude``: directories or files (links resolved) that are not to be taken. A guard's wrapper
    (of this or of another checkout on PATH) is never taken: it would call itself without end.
    """
    skipped = {Path(p).resolve() for p in exclude}
    folders = [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p]
    for folder in [*folders, *map(Path, extra), Path("/usr/lib/sctk/bin")]:
        candidate = folder / "sclite"
        if {folder.resolve(), candidate.resolve()} & skipped:
            continue
        if not (candidate.is_file() and os.access(candidate, os.X_OK)):
            continue
        with candidate.open("rb") as file:
            if _WRAPPER not in file.read(4096):
                return candidate
    return None


def run_sclite(
    sclite: str | Path,
    ref: str | Path,
    hyp: str | Path,
    options: Sequence[str] = ("-e", "utf-8", "-s"),
) -> ScliteTotals:
    """Score two ``.trn`` files with sclite and return its totals.

    Raises: RuntimeError with sclite's message when it fails, crashes or prints no totals.
    """
    command = [str(sclite), *options, "-r", str(ref), "trn", "-h", str(hyp), "trn"]
    command += ["-i", "rm", "-o", "all", "stdout"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=3600)
    report = done.stdout.decode("utf-8", "replace")
    totals = parse_totals(report) if done.returncode == 0 else None
    if totals is None:
        said = (done.stderr.decode("utf-8", "replace").strip() or report.strip())[-300:]
        raise RuntimeError(
            f"{' '.join(command)}: rc {done.returncode}, no totals; it said: {said!r}"
        )
    return totals


@dataclass(frozen=True)
class Agreement:
    """sclite's totals beside ours.

    Attributes:
        problems: what must not differ and does: number of utterances, reference tokens, fewer
            errors than ours (our alignment is the shortest there is).
        extra_errors: errors sclite counts more than we do, from its other costs.
    """

    problems: tuple[str, ...]
    extra_errors: int

    @property
    def agrees(self) -> bool:
        """Same utterances, same tokens, same total of errors."""
        return not self.problems and self.extra_errors == 0


def compare(theirs: ScliteTotals, utterances: int, ours: Counts) -> Agreement:
    """Compare sclite's totals with ours for the same tokens."""
    problems = []
    if theirs.utterances != utterances:
        problems.append(f"sclite scored {theirs.utterances} utterances, we {utterances}")
    if theirs.counts.tokens != ours.tokens:
        problems.append(f"sclite counted {theirs.counts.tokens} reference tokens, we {ours.tokens}")
    if theirs.counts.errors < ours.errors:
        problems.append(f"sclite found {theirs.counts.errors} errors, fewer than our {ours.errors}")
    return Agreement(tuple(problems), max(0, theirs.counts.errors - ours.errors))


def cross_check(
    sclite: str | Path,
    ref: Mapping[str, Sequence[str]],
    hyp: Mapping[str, Sequence[str]],
    ours: Counts,
) -> tuple[ScliteTotals, Agreement]:
    """Let sclite score our tokens (hazards spelt out, case kept) and compare its totals with ours.

    ``hyp`` may lack ids: those count as empty.

    Raises: ValueError for ids that sclite would mis-read; RuntimeError if sclite fails.
    """
    with tempfile.TemporaryDirectory(prefix="sclite_") as box:
        paths = Path(box) / "ref.trn", Path(box) / "hyp.trn"
        write_trn(paths[0], ref, "map")
        write_trn(paths[1], {key: hyp.get(key, ()) for key in ref}, "map")
        theirs = run_sclite(sclite, *paths)
    return theirs, compare(theirs, len(ref), ours)


def _bytes(token: str) -> bytes:
    return token.encode("utf-8", "surrogateescape")


def _short(token: str) -> str:
    return repr(token if len(token) <= 40 else token[:37] + "...")

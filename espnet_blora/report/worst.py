"""Utterances that got most worse on the retention sets, and most better on the new domain.

Utterances are ranked by the change of their errors from the base to the adapted system (the mean
over its seeds; more errors first at equal changes, then by id). The words shown of a system with
several seeds are those of the seed with most errors there (on the new domain: with fewest).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_blora.report.analysis import Analysis
from espnet_blora.report.collect import Experiment
from espnet_blora.report.figures import comparable
from espnet_blora.report.systems import System
from espnet_blora.report.tables import ABSENT, Cell, Table, table
from espnet_blora.report.treatments import Treatment
from espnet_blora.scoring import align
from espnet_blora.scoring.errors import tokens_of

MOST = 5
Read = Callable[[Path], Mapping[str, str]]


@dataclass(frozen=True)
class Changed:
    """One utterance before and after; `run` is the seed whose words are shown."""

    id: str
    before: float
    after: float
    tokens: int
    run: Experiment


@dataclass(frozen=True)
class Change:
    """How many utterances of a set got worse and better, and the most changed ones."""

    worse: int
    better: int
    same: int
    most: tuple[Changed, ...]


def changed(base: System, adapted: System, name: str, most: int = MOST, *, worse: bool) -> Change:
    """Compare a system with the base utterance by utterance.

    Raises: ValueError unless both were scored on the same references of the set.
    """
    if not comparable([base, adapted], name):
        raise ValueError(f"{name}: {base.label} and {adapted.label} differ in references")
    (before, n), (after, m) = base.errors(name), adapted.errors(name)
    rows = []
    runs = adapted.with_score(name)
    for at, (uid, tokens) in enumerate(base.shape(name)):
        rows.append(
            (after[at] / m - before[at] / n, before[at] / n, after[at] / m, uid, tokens, at)
        )
    side = 1 if worse else -1
    hit = sorted((r for r in rows if side * r[0] > 0), key=lambda r: (-side * r[0], -r[2], r[3]))
    pick = max if worse else min
    told = [
        Changed(
            *(uid, float(old), float(new), tokens),
            pick(runs, key=lambda run, at=at: run.scores[name].utterances[at].errors),
        )
        for _, old, new, uid, tokens, at in hit[:most]
    ]
    up, down = sum(r[0] > 0 for r in rows), sum(r[0] < 0 for r in rows)
    return Change(up, down, len(rows) - up - down, tuple(told))


class Words:
    """Texts of references and hypotheses, read once a file; what is not there is noted."""

    def __init__(self, dump: Path, read: Read):
        self.dump, self.read = dump, read
        self.notes: list[str] = []
        self._kept: dict[Path, Mapping[str, str] | None] = {}

    def reference(self, name: str) -> Mapping[str, str] | None:
        """Return the references of a set; None where there are none any more."""
        places = [self.dump / name / "text", self.dump / "org" / name / "text"]
        return self._text(next((p for p in places if p.is_file()), places[0]))

    def heard(self, run: Experiment, name: str) -> Mapping[str, str] | None:
        """Return what an experiment heard; None where the text is gone."""
        return self._text(run.decoded[name] / "text") if name in run.decoded else None

    def _text(self, path: Path) -> Mapping[str, str] | None:
        if path not in self._kept:
            try:
                self._kept[path] = self.read(path)
            except (OSError, ValueError) as error:
                self._kept[path] = None
                gone = "is not there any more" if not path.is_file() else f"cannot be read: {error}"
                self.notes.append(f"{path} {gone}; its words are not shown")
        return self._kept[path]


def change_table(found: Analysis, system: System, name: str, change: Change, words: Words) -> Table:
    """Return the most changed utterances with what was said and heard."""
    base, treatment = found.base.with_score(name)[0], found.treated[name]
    reference, before = words.reference(name), words.heard(base, name)
    several = len(system.runs) > 1
    rows = []
    for one in change.most:
        said = _of(reference, one.id)
        after = _of(words.heard(one.run, name), one.id)
        run = one.run.scores[name].utterances
        shown = next(u.errors for u in run if u.id == one.id)
        seed = f" [{one.run.name.removeprefix(system.name).strip('_')}: {shown}]" if several else ""
        rows.append(
            [
                Cell(one.id),
                Cell(said, foreign=True),
                _cell(said, _of(before, one.id), treatment),
                _cell(said, after, treatment),
                Cell(
                    f"{_number(one.before)} → {_number(one.after)} of {one.tokens}{seed}",
                    one.after - one.before,
                ),
            ]
        )
    head = ("utterance", "reference", f"{base.label} heard", f"{system.label} heard", "errors")
    return table(head, rows)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def _of(texts: Mapping[str, str] | None, uid: str) -> str:
    return ABSENT if texts is None else texts.get(uid, ABSENT)


def _cell(said: str, heard: str, treatment: Treatment) -> Cell:
    """Return recognised words, the wrong ones marked (as they were treated, if that is known)."""
    if ABSENT in (said, heard):
        return Cell(heard, foreign=True)
    try:
        sides = tokens_of({"said": said, "heard": heard}, treatment.unit, treatment.normalisation)
    except (ValueError, KeyError):  # a treatment of an old file that there is no more
        return Cell(heard, foreign=True)
    return Cell(
        heard, marks=_marks(heard, wrong_tokens(sides["said"], sides["heard"])), foreign=True
    )


def wrong_tokens(said: Sequence[str], heard: Sequence[str]) -> list[tuple[str, bool]]:
    """Return the tokens heard, each with whether it is wrong in one optimal alignment."""
    rows = align(list(said), list(heard))
    return [(token, operation != "hit") for operation, _, token in rows if token is not None]


def _marks(text: str, tokens: Iterable[tuple[str, bool]]) -> tuple[tuple[str, bool], ...]:
    """Cut a text into pieces at its tokens; () where the treatment has changed the letters."""
    pieces: list[tuple[str, bool]] = []
    folded, at = text.lower(), 0
    if len(folded) != len(text):
        return ()
    for token, wrong in tokens:
        start = folded.find(token, at)
        if start < 0:
            return ()
        pieces += [(text[at:start], False), (text[start : start + len(token)], wrong)]
        at = start + len(token)
    return tuple((piece, wrong) for piece, wrong in (*pieces, (text[at:], False)) if piece)

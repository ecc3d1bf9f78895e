"""The score of a set of utterances, and its file `score.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from pathlib import Path

from espnet_blora.scoring.counts import (
    HAN_KANA_SCRIPTS,
    REST,
    Counts,
    Remark,
    Utterance,
    add_up,
    shared_counts,
    with_rate,
)
from espnet_blora.scoring.intervals import (
    Interval,
    RateInterval,
    Units,
    rate_interval,
    units_of,
    worst_share,
)
from espnet_blora.scoring.modes import points_of
from espnet_blora.utils import atomic

FORMAT = "espnet_blora.score/3"
COLUMNS = (
    *("id", "[H, S, D, I]", "PIER's [H, S, D, I]", "{script: [H, S, D, I]}", "speaker"),
    "PIER's [fewest, most errors], null where unique",
)
_NAMES = ("hits", "substitutions", "deletions", "insertions")


class OtherRelease(ValueError):
    """A file is in the format of another release."""


@dataclass(frozen=True)
class SetScore:
    """Counts of a set of utterances.

    Every total is the sum over `utterances`; nothing is kept twice.

    Attributes:
        unit: A key of `modes.UNITS`: `mer`, `wer`, `cer`, ...
        normalisation: The name of the treatment of both sides.
        poi: Which tokens are points of interest.
        utterances: Counts by utterance, sorted by id.
        missing_as_empty: Ids without hypothesis that were, on request, counted as empty ones.
        remarks: Odd things in the texts, with file and line, by kind.
        resample: What intervals take as independent units: see `intervals.units_of`.
    """

    unit: str
    normalisation: str
    poi: str = REST
    utterances: tuple[Utterance, ...] = ()
    missing_as_empty: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()
    resample: str = "auto"

    @cached_property
    def total(self) -> Counts:
        """Counts over all utterances."""
        return add_up(u.counts for u in self.utterances)

    @cached_property
    def pier(self) -> Counts:
        """Counts at the points of interest; `pier.rate` is the PIER."""
        return add_up(u.pier for u in self.utterances)

    @property
    def pier_range(self) -> Interval | None:
        """Lowest and highest PIER over all shortest alignments; None without points."""
        if not self.pier.tokens:
            return None
        ranges = (u.pier_range or (u.pier.errors, u.pier.errors) for u in self.utterances)
        low, high = map(sum, zip(*ranges, strict=True))
        return Interval(low / self.pier.tokens, high / self.pier.tokens)

    @cached_property
    def embedded(self) -> Counts:
        """Counts on the embedded language: at PIER's points, insertions under their own script."""
        is_point = points_of(self.poi)
        switched = (u.scripts for u in self.utterances if u.pier.tokens)
        return add_up(c for scripts in switched for script, c in scripts if is_point(script))

    @cached_property
    def by_script(self) -> dict[str, Counts]:
        """Counts by script of the token, sorted by script."""
        parts: dict[str, list[Counts]] = {}
        for utterance in self.utterances:
            for script, counts in utterance.scripts:
                parts.setdefault(script, []).append(counts)
        return {script: add_up(parts[script]) for script in sorted(parts)}

    @cached_property
    def wrong_utterances(self) -> int:
        """Utterances with at least one error."""
        return sum(u.errors > 0 for u in self.utterances)

    @cached_property
    def empty_references(self) -> tuple[str, ...]:
        """Ids whose reference holds no token: everything heard there is an insertion."""
        return tuple(u.id for u in self.utterances if not u.tokens)

    @cached_property
    def empty_hypotheses(self) -> tuple[str, ...]:
        """Ids whose hypothesis holds no token though the reference does."""
        return tuple(
            u.id
            for u in self.utterances
            if u.counts.deletions == u.tokens > 0 == u.counts.insertions
        )

    @property
    def rate(self) -> float | None:
        """The set's error rate in its unit; None without reference tokens."""
        return self.total.rate

    @property
    def han_kana(self) -> Counts:
        """Counts on the Han and Kana side; in unit `mer` its rate is a character error rate."""
        return add_up(c for s, c in self.by_script.items() if s in HAN_KANA_SCRIPTS)

    @property
    def rest(self) -> Counts:
        """Counts on everything else; in unit `mer` its rate is a word error rate."""
        return add_up(c for s, c in self.by_script.items() if s not in HAN_KANA_SCRIPTS)

    @cached_property
    def units(self) -> Units:
        """The independent units: speakers or utterances."""
        return units_of([u.speaker for u in self.utterances], self.resample)

    @cached_property
    def interval(self) -> RateInterval | None:
        """The 95 % interval of the rate; None for too few units or errors."""
        errors, tokens = ([getattr(u, k) for u in self.utterances] for k in ("errors", "tokens"))
        return rate_interval(errors, tokens, self.units)

    @property
    def worst_share(self) -> float | None:
        """The share of the errors that the worst 1 % of utterances make; None without errors."""
        return worst_share([u.errors for u in self.utterances])

    def summary(self) -> dict:
        """Return the counts alone, flat and small, as a row of a sweep has them."""
        return {
            "unit": self.unit,
            "normalisation": self.normalisation,
            "num_utterances": len(self.utterances),
            "wrong_utterances": self.wrong_utterances,
            **asdict(self.total),
            "errors": self.total.errors,
            "tokens": self.total.tokens,
            "rate": self.rate,
        }

    def totals(self) -> dict:
        """Return all that follows from the utterances: what a file says of them must equal it."""
        return {
            **self.summary(),
            "by_script": {s: with_rate(c) for s, c in self.by_script.items()},
            "cer_han_kana": with_rate(self.han_kana),
            "wer_rest": with_rate(self.rest),
            "pier": {
                "points_of_interest": self.poi,
                **with_rate(self.pier),
                "range": asdict(self.pier_range) if self.pier_range else None,
            },
            "embedded": with_rate(self.embedded),
            "empty_references": list(self.empty_references),
            "empty_hypotheses": list(self.empty_hypotheses),
        }

    def save(self, path: str | Path, **extra: object) -> None:
        """Write the score as JSON; `extra` (paths, settings) goes in as it is."""
        head = {"format": FORMAT, **self.totals()}
        head["interval_95"] = asdict(self.interval) if self.interval else None
        head["errors_of_worst_1_percent"] = self.worst_share
        head |= {"missing_as_empty": list(self.missing_as_empty)}
        head |= {"remarks": [asdict(r) for r in self.remarks], **extra}
        head |= {"utterance_columns": COLUMNS}
        with atomic.writing(path, "w") as file:
            file.write(json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}"))
            file.write(',\n "utterances": [')
            for number, utterance in enumerate(self.utterances):
                row = json.dumps(_row(utterance), ensure_ascii=False)
                file.write(f"{',' if number else ''}\n  {row}")
            file.write("\n ]\n}\n")

    @classmethod
    def load(cls, path: str | Path) -> SetScore:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: The file is not there.
            OtherRelease: It is a score of another release.
            ValueError: It is not such a file, or its totals (of the set, by script, PIER, by
                speaker, by language) are not the sum over the utterances.
        """
        with reading(path, FORMAT, "score") as document:
            loaded = cls(
                unit=document["unit"],
                normalisation=document["normalisation"],
                poi=document["pier"]["points_of_interest"],
                utterances=tuple(_utterance(*row) for row in document["utterances"]),
                missing_as_empty=tuple(document["missing_as_empty"]),
                remarks=tuple(Remark(**row) for row in document["remarks"]),
            )
            contradictions = list(_contradictions(document, loaded))
        if contradictions:
            raise ValueError(f"{path}: contradicts itself; score anew ({contradictions[0]})")
        return loaded


@contextmanager
def reading(path: str | Path, form: str, program: str) -> Iterator[dict]:
    """Give a JSON document of a format; what the block cannot make of it is an error of the file.

    Args:
        path: The file.
        form: What its `format` must be.
        program: Writes such files.

    Raises:
        FileNotFoundError: The file is not there.
        OtherRelease: It is one of another release's.
        ValueError: It is of another form; names the file and the program.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; write it with espnet-blora {program}")
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        found, kind = str(document["format"]), form.rpartition("/")[0]
        if found != form and found.rpartition("/")[0] == kind:
            raise OtherRelease(
                f"{path}: of another release (format {found}, this release reads {form}); make it "
                f"anew with espnet-blora {program}"
            )
        if found != form:
            raise ValueError(f"format {found}, this release reads {form}")
        yield document
    except OtherRelease:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"{path}: not what espnet-blora {program} writes ({what}); make it anew with that"
        ) from error


def _row(u: Utterance) -> list:
    scripts = {script: astuple(counts) for script, counts in u.scripts}
    return [u.id, astuple(u.counts), astuple(u.pier), scripts, u.speaker, u.pier_range]


def _utterance(
    key: str,
    counts: Sequence[int],
    pier: Sequence[int],
    scripts: Mapping[str, Sequence[int]],
    speaker: str,
    pier_range: Sequence[int] | None,
) -> Utterance:
    parts = tuple((script, _counts(values)) for script, values in scripts.items())
    ends = None if pier_range is None else (pier_range[0], pier_range[1])
    utterance = Utterance(key, _counts(counts), _counts(pier), parts, speaker, ends)
    if add_up(c for _, c in parts) != utterance.counts:
        raise ValueError(f"utterance {key!r}: its scripts do not add up to {counts}")
    if ends and not 0 <= ends[0] <= utterance.pier.errors <= ends[1] <= utterance.errors:
        raise ValueError(f"utterance {key!r}: PIER's errors {pier} are not within {pier_range}")
    return utterance


def _counts(values: Sequence[int]) -> Counts:
    if len(values) != 4 or not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"counts must be four whole numbers >= 0, found {values}")
    return shared_counts(*values)


def _contradictions(document: Mapping, score: SetScore) -> Iterator[str]:
    """Compare what a file states with what its utterances add up to."""
    ids = [u.id for u in score.utterances]
    if ids != sorted(set(ids)):
        yield "utterances: ids are double, or not sorted"
    for name, value in score.totals().items():
        if document[name] != value:
            yield f"{name}: it says {document[name]}, its utterances add up to {value}"
    for name in ("by_speaker", "by_language"):
        groups = (document.get(name) or {}).values()
        counts = add_up(_counts([row[n] for n in _NAMES]) for row in groups)
        if groups and counts != score.total:
            yield f"{name}: adds up to {counts}, the set has {score.total}"

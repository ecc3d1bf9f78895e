"""Preparation: from a corpus on disk to Kaldi directories with one 16 kHz FLAC file per utterance.

The files depend on the corpus alone, not on the order of directory listings, the number of
processes or the hash seed. A second run over the same corpus does nothing; a run after an
interruption goes on where the first one stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from espnet_blora.data import audio, clips, joining, kaldi
from espnet_blora.data.check import check_options
from espnet_blora.data.records import Corpus, Expected, Ledger, Utterance, write_entries
from espnet_blora.utils import atomic
from espnet_blora.utils.keyed import read_keyed

log = logging.getLogger(__name__)

_VERSION = 1  # raised when the same records and audio would give other files
_MARKER = ".prepared.json"
_LISTS = ("left_out.tsv", "notes.tsv")
_PUBLISHED = "published.json"
_FILES = ("wav.scp", "text", "utt2spk", "spk2utt", "utt2lang", "utt2dur", *_LISTS, _PUBLISHED)
_ID = re.compile(r"[!-~]{1,200}")
_FORBIDDEN = re.compile(r"(?<!\w)(?:<s>|</s>|#0)(?!\w)")  # symbols of Kaldi's own
# Losses that come from a bad copy of the corpus, not from odd transcripts.
_BAD_COPY = frozenset(
    {
        "no audio",
        "unreadable audio",
        "damaged audio",
        "not finite",
        "no audio there",
        "no such channel",
        "reaches beyond the recording",
    }
)
_ABSENT = frozenset({"no audio", "unreadable audio", "damaged audio"})  # a whole copy has it
_LOSABLE = 2  # utterances; so few in a tiny set do not mean a bad copy
MAX_LOST = 0.05  # share of a set for training or validation
_TRAINING = re.compile(r"(?:^|_)(?:train|valid|dev)(?:_|$)")  # in the name of such a set
_REPORT_SECONDS = 30.0
_BYTES_PER_SECOND = 2 * audio.SAMPLE_RATE


@dataclass(frozen=True)
class SetSummary:
    """What became of one set.

    Attributes:
        name: Of the set.
        directory: Its Kaldi directory.
        utterances: How many were written.
        seconds: Of all of them together.
        expected: Its published size.
        left_out: Reason in its own audio and text -> how often.
        notes: What was odd but kept -> how often.
        unchanged: All was there already and nothing was done.
    """

    name: str
    directory: Path
    utterances: int
    seconds: float
    expected: Expected
    left_out: Mapping[str, int]
    notes: Mapping[str, int]
    unchanged: bool

    def lines(self) -> list[str]:
        """Return lines for a person: found against expected, then what was left out."""
        counts = f"{self.utterances:,} utterances, {self.seconds / 3600:.2f} h"
        if published := str(self.expected):
            source = f", {self.expected.source}" if self.expected.source else ""
            counts += f" (published: {published}{source})"
        lines = [f"{self.directory}: {counts}{'; unchanged' if self.unchanged else ''}"]
        difference = self.utterances - (self.expected.utterances or self.utterances)
        if difference:
            lines.append(f"  differs by {difference:+,} utterances")
        lines += [f"  left out, {reason}: {n:,}" for reason, n in self.left_out.items()]
        lines += [f"  kept, {what}: {n:,}" for what, n in self.notes.items()]
        return lines


@dataclass(frozen=True)
class Summary:
    """What `prepare` did; `left_out` and `notes` count reports of the corpus's reader."""

    corpus: str
    root: Path
    sets: tuple[SetSummary, ...]
    left_out: Mapping[str, int]
    notes: Mapping[str, int]

    def lines(self) -> list[str]:
        """Return the report of the program, line by line."""
        lines = [f"{self.corpus}: read from {self.root}"]
        lines += [f"  left out in reading, {reason}: {n:,}" for reason, n in self.left_out.items()]
        lines += [f"  kept in reading, {what}: {n:,}" for what, n in self.notes.items()]
        for summary in self.sets:
            lines += summary.lines()
        if self.left_out or self.notes or any(s.left_out or s.notes for s in self.sets):
            places = ", ".join(str(s.directory) for s in self.sets)
            lines.append(f"each of these is named in {' or '.join(_LISTS)} of {places}")
        return lines


def prepare(
    corpus: Corpus,
    root: str | Path,
    sets: Sequence[str],
    data_dir: str | Path,
    clips_dir: str | Path,
    options: Mapping[str, str] | None = None,
    nj: int = 1,
    prefix: str = "",
    max_lost: float | None = None,
    count_tokens: Callable[[str], int] | None = None,
) -> Summary:
    """Write `data_dir/<prefix><set>` and `clips_dir/<prefix><set>/<id>.flac` for each set.

    Each directory holds wav.scp, text, utt2spk, spk2utt, utt2lang, utt2dur, `published.json` with
    the set's published size, and what the reader or this function left out (`left_out.tsv`) or
    found odd (`notes.tsv`) in this set; what no set can be told of is in the lists of all. Blanks
    in texts become single; control characters are removed, with a note.

    A set `<set>_join<SECONDS>` is made of a training set's segments (`espnet_blora.data.joining`);
    its `joined.tsv` says of which. No utterance of the other sets that are asked for lies in one of
    its own.

    Args:
        corpus: The corpus.
        root: The folder of its copy, as the user gave it.
        sets: Names of sets, `<set>_join<SECONDS>` among them.
        data_dir: Folder of the directories.
        clips_dir: Folder of the audio.
        options: KEY -> VALUE for the corpus.
        nj: Processes.
        prefix: Put before the names of sets.
        max_lost: Share of a set whose audio may be missing or broken. None: 0.05; in test sets,
            which are published by their size, no audio may be missing or unreadable.
        count_tokens: Number of Whisper's tokens of a text, for joined sets.

    Raises:
        FileNotFoundError: The corpus is not at `root`.
        ValueError: A set or an option is unknown, records break the contract of `Utterance`, or
            more audio is broken than `max_lost`.
        OSError: Nothing can be written.
    """
    options = dict(options or {})
    names = list(dict.fromkeys(sets))
    sources = {name: joining.parse_name(name) for name in names}  # the corpus's set, and the gap
    read = list(dict.fromkeys(source for source, _ in sources.values()))
    _check_request(corpus, read, options, str(clips_dir))
    folder = corpus.find(Path(root))
    ledger = Ledger()
    records = corpus.read(folder, read, ledger, options)
    homes = _homes(records)
    summaries = []
    for name, (source, gap) in sources.items():
        utterances, expected, joined = list(records[source]), corpus.sets[source], ""
        if gap is not None:
            assert count_tokens is not None
            others = [u for other in read if other != source for u in records[other]]
            made = joining.join(name, utterances, others, gap, count_tokens)
            utterances, expected, joined = made.utterances, Expected(), made.lines()
        utterances.sort(key=lambda u: u.id)
        _check_records(corpus, name, utterances)
        places = Path(data_dir, prefix + name), Path(clips_dir, prefix + name)
        part = _part(ledger, homes, source)
        preparation = _Set(name, utterances, *places, part, part.missing[source], joined)
        summaries.append(preparation.run(expected, nj, max_lost))
    return Summary(corpus.name, folder, tuple(summaries), ledger.counts(), ledger.note_counts())


def _homes(records: Mapping[str, Sequence[Utterance]]) -> dict[str, set[str]]:
    """Return id of an utterance, or file of its transcript -> sets."""
    homes: dict[str, set[str]] = {}
    for name, utterances in records.items():
        for u in utterances:
            homes.setdefault(u.id, set()).add(name)
            homes.setdefault(_file(u.where), set()).add(name)
    return homes


def _file(where: str) -> str:
    return where.rpartition(":")[0] or where


def _part(ledger: Ledger, homes: Mapping[str, set[str]], name: str) -> Ledger:
    """Return what a ledger says of one set, and what cannot be told to be of others."""
    part = Ledger()
    part.missing = ledger.missing
    for mine, all_of_them in ((part.skips, ledger.skips), (part.notes, ledger.notes)):
        for entry in all_of_them:
            sets = homes.get(entry.id) or homes.get(_file(entry.where)) or {name}
            if name in sets:
                mine.append(entry)
    return part


def _check_request(
    corpus: Corpus, names: Sequence[str], options: Mapping[str, str], clips_dir: str
) -> None:
    """Refuse unknown sets and options, and folders that Kaldi's files cannot name."""
    unknown = [name for name in names if name not in corpus.sets]
    if unknown or not names:
        raise ValueError(
            f"{corpus.name} has no set {', '.join(unknown) or 'without a name'}; "
            f"it has {', '.join(corpus.sets)}"
        )
    check_options(corpus, options)
    if any(char.isspace() for char in clips_dir):
        raise ValueError(f"audio folder {clips_dir!r} holds a blank, which ends a path in wav.scp")


def _check_records(corpus: Corpus, name: str, utterances: Sequence[Utterance]) -> None:
    """Refuse records without what `Utterance` promises: mistakes in own data or a corpus module."""
    seen: dict[str, Utterance] = {}
    for u in utterances:
        where = f"{u.where or corpus.name}: {name}: utterance {u.id!r}"
        if not _ID.fullmatch(u.id) or re.search(r"[()/]", u.id):
            raise ValueError(
                f"{where}: ids are 1 to 200 ASCII characters without blanks, '(', ')' and '/'"
            )
        if u.id in seen:
            raise ValueError(f"{where}: the id occurs twice, first at {seen[u.id].where or '?'}")
        seen[u.id] = u
        if not u.id.startswith(f"{u.speaker}-"):
            raise ValueError(f"{where}: must start with its speaker and '-': {u.speaker + '-'!r}")
        if corpus.languages and u.language not in corpus.languages:
            raise ValueError(
                f"{where}: language {u.language!r}; {corpus.name} has {', '.join(corpus.languages)}"
            )
        if (u.start is None) != (u.end is None):
            raise ValueError(f"{where}: start {u.start} and end {u.end}; give both or neither")
    if pair := kaldi.misplaced_speaker({u.id: u.speaker for u in utterances}):
        raise ValueError(
            f"{corpus.name}: {name}: sorted by id, speaker {pair[1]!r} comes after {pair[0]!r}, "
            "which Kaldi's tools refuse; give speakers names of one length or without '-'"
        )


@dataclass
class _Set:
    """One set on its way to disk."""

    name: str
    utterances: list[Utterance]  # sorted by id
    directory: Path
    folder: Path
    ledger: Ledger  # the reader's, of this set
    missing: int  # utterances without audio that were not read
    joined: str  # lines of the map of joined utterances

    def run(self, expected: Expected, nj: int, max_lost: float | None) -> SetSummary:
        """Cut the audio and write the directory, unless all is there already."""
        # Has an earlier run written the same?
        own = Ledger()
        texts = self._texts(own)
        chosen = [u for u in self.utterances if u.id in texts]
        stamps = {source: _stamp(source) for source in {u.audio for u in chosen}}
        keys = {u.id: _clip_key(u, stamps[u.audio]) for u in chosen}
        fingerprint = self._fingerprint(keys, own, expected)
        if marker := self._marker(fingerprint):
            log.info(f"{self.directory}: unchanged")
            return SetSummary(
                self.name, self.directory, **marker, expected=expected, unchanged=True
            )
        # Cut what is not cut yet, and write what could be cut.
        self.folder.mkdir(parents=True, exist_ok=True)
        with clips.Journal(self.folder) as book:
            cuts = self._cut(book, chosen, keys, nj)
            by_id = {u.id: u for u in chosen}
            kept = {}
            for cut in cuts:
                where = by_id[cut.id].where
                for what, detail in cut.notes:
                    own.note(where, cut.id, what, detail)
                if cut.reason:
                    own.skip(where, cut.id, cut.reason, cut.detail)
                else:
                    kept[cut.id] = cut.samples
            self._check_losses(own, len(kept), max_lost)
            self._write(kept, texts, by_id, own)
            published = json.dumps(asdict(expected), ensure_ascii=False)
            atomic.write(self.directory / _PUBLISHED, f"{published}\n")
            book.settle(keys)
        # The marker comes last: it says that the set is complete.
        marker = {
            "utterances": len(kept),
            "seconds": sum(kept.values()) / audio.SAMPLE_RATE,
            "left_out": own.counts(),
            "notes": own.note_counts(),
        }
        content = json.dumps({"fingerprint": fingerprint, **marker}, indent=1)
        atomic.write(self.directory / _MARKER, content + "\n")
        return SetSummary(self.name, self.directory, **marker, expected=expected, unchanged=False)

    def _texts(self, own: Ledger) -> dict[str, str]:
        """Return texts as Kaldi's tools accept them; utterances without one go to the ledger."""
        texts = {}
        for u in self.utterances:
            text = " ".join(u.text.split())
            if not text.isprintable() and (clean := _without_controls(text)) != text:
                own.note(u.where, u.id, "control characters removed", ascii(text))
                text = " ".join(clean.split())
            if not text:
                own.skip(u.where, u.id, "empty text")
            elif _FORBIDDEN.search(text):
                own.skip(u.where, u.id, "text holds <s>, </s> or #0", text)
            else:
                texts[u.id] = text
        return texts

    def _fingerprint(self, keys: Mapping[str, str], own: Ledger, expected: Expected) -> str:
        """Return a hash of everything on which the files depend."""
        digest = hashlib.sha256(f"{_VERSION} {self.folder} {expected!r}\n{self.joined}".encode())
        for u in self.utterances:
            fields = (u.id, u.speaker, u.language, u.text, str(u.audio), u.where, keys.get(u.id))
            digest.update(repr(fields).encode())
        for entry in sorted(self.ledger.skips + self.ledger.notes + own.skips + own.notes):
            digest.update(repr(tuple(entry)).encode())
        return digest.hexdigest()

    def _marker(self, fingerprint: str) -> dict | None:
        """Return the last run's marker, if this run would write the same and all is still there."""
        try:
            marker = json.loads((self.directory / _MARKER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if marker.pop("fingerprint", None) != fingerprint:
            return None
        if (
            not all((self.directory / name).is_file() for name in _FILES)
            or not self.folder.is_dir()
        ):
            return None
        there = {entry.name for entry in os.scandir(self.folder)}
        needed = (f"{key}.flac" for key in read_keyed(self.directory / "wav.scp"))
        return marker if all(name in there for name in needed) else None

    def _cut(
        self, book: clips.Journal, chosen: Sequence[Utterance], keys: Mapping[str, str], nj: int
    ) -> list[clips.Cut]:
        """Cut what is not cut yet; the results come sorted by id."""
        # What is left to do, by recording.
        done = {u.id: cut for u in chosen if (cut := book.lookup(u.id, keys[u.id]))}
        jobs: dict[Path, list[clips.Clip]] = {}
        for u in chosen:
            if u.id not in done:
                target = str(self.folder / f"{u.id}.flac")
                clip = clips.Clip(u.id, u.start, u.end, u.channel, target)
                jobs.setdefault(u.audio, []).append(clip)
        if done and jobs:
            log.info(f"{self.name}: {len(done):,} utterances were cut already")
        self._check_space([clip for job in jobs.values() for clip in job])
        # Cut, and report every now and then.
        todo, finished, samples = sum(map(len, jobs.values())), 0, 0
        started = reported = time.monotonic()
        for cuts in clips.cut_all(sorted(jobs.items()), nj):
            for cut in cuts:
                done[cut.id] = cut
                book.add(cut, keys[cut.id])
                samples += cut.samples
            finished += len(cuts)
            now = time.monotonic()
            if now - reported > _REPORT_SECONDS:
                reported, rest = now, (now - started) / finished * (todo - finished)
                hours = samples / audio.SAMPLE_RATE / 3600
                share = f"{finished:,}/{todo:,} cut, {hours:.1f} h"
                log.info(f"{self.name}: {share}, {rest:.0f} s remain")
        return [done[u.id] for u in chosen]

    def _check_space(self, todo: Sequence[clips.Clip]) -> None:
        """Log what the clips will need, and warn if the disk has less."""
        seconds = sum(c.end - c.start for c in todo if c.start is not None and c.end is not None)
        if not 0 < seconds < float("inf"):
            return
        need, free = 0.6 * seconds * _BYTES_PER_SECOND, shutil.disk_usage(self.folder).free
        log.info(
            f"{self.name}: {seconds / 3600:.1f} h to cut, about {need / 1e9:.2f} GB of FLAC in "
            f"{self.folder}"
        )
        if free < need:
            log.warning(f"{self.folder}: only {free / 1e9:.2f} GB are free; it may become full")

    def _check_losses(self, own: Ledger, kept: int, max_lost: float | None) -> None:
        """Refuse a set that lost too much of its audio, or all of it."""
        lost = [entry for entry in own.skips if entry.reason in _BAD_COPY]
        missing = self.missing
        total = len(self.utterances) + missing
        # By default a test set is whole, or it is another test set.
        share = MAX_LOST if max_lost is None else max_lost
        tolerable = len(lost) + missing <= max(_LOSABLE, share * total)
        if max_lost is None and not _TRAINING.search(self.name):
            tolerable &= not missing and all(entry.reason not in _ABSENT for entry in lost)
        if kept and tolerable:
            return
        counts = own.counts() | ({"without their recording": missing} if missing else {})
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.items()) or "none found"
        first = f"; the first: {lost[0].where} {lost[0].id}: {lost[0].detail}" if lost else ""
        raise ValueError(
            f"{self.name}: {kept:,} of {total:,} utterances have usable audio and text ({reasons})"
            f"{first}. Check your copy with check_corpus, or allow it with --max_lost SHARE "
            f"(here, and in run.sh; default: {MAX_LOST}, and 0 for test sets)"
        )

    def _write(
        self,
        kept: Mapping[str, int],
        texts: Mapping[str, str],
        by_id: Mapping[str, Utterance],
        own: Ledger,
    ) -> None:
        """Write the data directory and its lists of what was left out or found odd."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / _MARKER).unlink(missing_ok=True)
        entries = self.ledger.skips + own.skips, self.ledger.notes + own.notes
        for name, listed in zip(_LISTS, entries, strict=True):
            write_entries(self.directory / name, listed)
        if self.joined:
            atomic.write(self.directory / joining.MAP, self.joined)
        kaldi.write_data_dir(
            self.directory,
            {key: str(self.folder / f"{key}.flac") for key in kept},
            {key: texts[key] for key in kept},
            {key: by_id[key].speaker for key in kept},
            {key: by_id[key].language for key in kept},
            {key: samples / audio.SAMPLE_RATE for key, samples in kept.items()},
        )


def _without_controls(text: str) -> str:
    """Remove control characters, lone surrogates and byte order marks; joiners stay."""
    return "".join(c for c in text if c != "\ufeff" and unicodedata.category(c) not in ("Cc", "Cs"))


def _stamp(source: Path) -> str:
    """Return size and time of change of a source, or that it is missing."""
    try:
        stat = source.stat()
    except OSError:
        return "missing"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _clip_key(u: Utterance, stamp: str) -> str:
    """Return a hash of a clip's source; a corpus moved to another folder keeps its clips."""
    source = f"{_VERSION} {u.audio.name} {stamp} {u.start} {u.end} {u.channel}"
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:24]

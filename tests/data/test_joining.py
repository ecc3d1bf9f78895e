"""Joined training utterances: what is joined, what never is, and what is written of it."""

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import soundfile

from espnet_blora.bin import prepare_corpus
from espnet_blora.data import kaldi
from espnet_blora.data.joining import LONGEST, MOST_TOKENS, UNKNOWN, join, parse_name
from espnet_blora.data.prepare import prepare
from espnet_blora.data.records import Corpus, Expected, Utterance
from espnet_blora.text.tokens import mixed_tokens
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.vocabulary import Vocabulary, count_tokens
from tests.data.layouts import custom, speech


def segment(start, end, speaker="anna", text="one two", language="en", audio="a.wav", **more):
    id = f"{speaker}-{audio}-{round(start * 100):06d}"
    return Utterance(id, speaker, language, text, Path(audio), start, end, **more)


def made(utterances, others=(), gap=0.5, count=lambda text: len(text.split())):
    joined = join("train", utterances, others, gap, count)
    return [(u.start, u.end) for u in joined.utterances]


def test_neighbours_of_one_speaker_become_one_utterance():
    segments = [
        segment(1.0, 2.0, text="我们 去"),
        segment(2.3, 3.0, text="图书馆", language="zh"),
        segment(3.5, 4.0, text="now", language="zh"),
        segment(4.6, 5.0, text="later"),
    ]
    joined = join("train", segments, [], 0.5, count_tokens)
    first, last = joined.utterances
    assert (first.start, first.end, first.text) == (1.0, 4.0, "我们去图书馆 now")
    assert first.language == "zh"  # of two of the three
    assert first.id == "anna-a.wav-000100-x3" and first.id.startswith("anna-")
    assert last is segments[3]
    assert joined.parts == {first.id: [u.id for u in segments[:3]]}
    assert joined.lines() == f"{first.id}\t{' '.join(u.id for u in segments[:3])}\n"


@pytest.mark.parametrize(
    ("second", "others"),
    [
        (segment(2.6, 3.0), ()),  # the gap
        (segment(1.9, 3.0), ()),  # overlap
        (segment(2.3, 3.0, speaker="ben"), ()),
        (segment(2.3, 3.0, audio="b.wav"), ()),
        (segment(2.3, 3.0, channel=1), ()),
        (segment(2.3, 29.1), ()),  # 28.1 s
        (segment(2.3, 3.0, text="word " * (MOST_TOKENS - 1)), ()),
        (segment(2.3, 3.0), [segment(2.0, 2.2, speaker="ben")]),  # of another set, between them
        (segment(2.3, 3.0), [segment(0.5, 2.2, speaker="ben")]),  # across the gap
        (segment(2.3, 3.0), [segment(2.05, 2.1)]),  # the speaker's own, in the validation set
    ],
)
def test_what_is_never_joined(second, others):
    segments = [segment(1.0, 2.0), second]
    assert len(made(segments)) == (1 if others else 2)
    assert len(made(segments, others)) == 2


def test_the_limits_are_reached():
    assert made([segment(1.0, 2.0), segment(2.5, 29.0)]) == [(1.0, 29.0)]
    assert made([segment(1, 2), segment(2, 3, text="word " * (MOST_TOKENS - 2))]) == [(1, 3)]
    assert made([segment(1.0, 2.0), segment(2.0, 3.0)], gap=0.0) == [(1.0, 3.0)]


def test_what_cannot_be_joined_says_why():
    whole = Utterance("anna-1", "anna", "en", "one", Path("a.wav"))
    unnamed = segment(1, 2, speaker=UNKNOWN)
    for utterances in ([whole], [unnamed, segment(2, 3, speaker=UNKNOWN)]):
        with pytest.raises(ValueError, match="set train: nothing can be joined"):
            made(utterances)
    assert len(made([whole, segment(1, 2), unnamed, segment(2, 3, speaker=UNKNOWN)])) == 4


@pytest.mark.parametrize("seed", range(20))
def test_of_any_recordings_every_segment_is_there_once_and_the_limits_hold(seed):
    """Three speakers who talk over each other in two recordings; a tenth is validation data."""
    rng = random.Random(seed)
    segments = []
    for audio in ("a.wav", "b.wav"):
        clock, speaker = 0.0, "anna"
        for number in range(120):
            clock = max(clock + rng.choice([0.0, 0.1, 0.3, 0.3, 0.5, 0.5, 3.0, -0.4]), 0.0)
            speaker = rng.choice([speaker] * 9 + ["anna", "ben", "carla"])
            text = " ".join(rng.choices(["我", "们", "go", "now", "word"], k=rng.randint(1, 90)))
            start, clock = round(clock, 3), round(clock + rng.uniform(0.2, 9.0), 3)
            channel, language = rng.choice([None] * 9 + [1]), rng.choice(["en", "zh"])
            id = f"{speaker}-{audio}-{number:03d}"
            segments.append(
                Utterance(id, speaker, language, text, Path(audio), start, clock, channel)
            )
    rng.shuffle(segments)
    others, own = segments[:24], segments[24:]
    joined = join("train", own, others, 0.5, count_tokens)
    by_id = {u.id: u for u in own}

    # Each segment stands once, alone or as a part.
    parts = {u.id: joined.parts.get(u.id, [u.id]) for u in joined.utterances}
    assert Counter(id for ids in parts.values() for id in ids) == Counter([*by_id])
    assert any(len(ids) > 2 for ids in parts.values())
    assert [u.id for u in joined.utterances] == sorted(parts)
    for u in joined.utterances:
        of = [by_id[id] for id in parts[u.id]]
        if len(of) == 1:
            assert u is of[0]
            continue
        # One speaker in one recording, in order, with short gaps, within the limits.
        assert {(one.speaker, one.audio, one.channel) for one in of} == {
            (u.speaker, u.audio, u.channel)
        }
        assert (u.start, u.end) == (of[0].start, of[-1].end) and u.end - u.start <= LONGEST
        assert all(0 <= b.start - a.end <= 0.5 for a, b in pairwise(of))
        assert count_tokens(u.text) <= MOST_TOKENS
        assert mixed_tokens(u.text) == [t for one in of for t in mixed_tokens(one.text)]
        most = Counter(one.language for one in of)
        assert most[u.language] == max(most.values())
        # Nobody else is heard between the parts, whatever set that is in.
        for other in segments:
            if (other.audio, other.channel) == (u.audio, u.channel) and other.id not in parts[u.id]:
                for a, b in pairwise(of):
                    assert other.end <= a.end or other.start >= b.start, (other, a, b)


def test_names_of_sets():
    assert parse_name("cs_train_join1.5") == ("cs_train", 1.5)
    assert parse_name("devman") == ("devman", None)
    for name in ("valid_join1", "devman_join0.5", "test_join2"):
        with pytest.raises(ValueError, match=f"set {name}: only training sets"):
            parse_name(name)


def test_tokens_are_counted_as_they_are_trained_on():
    assert count_tokens("我们 go to") == len(Vocabulary.of(51866).encode("我们 go to"))


# ---- through preparation, on own data with segments ----


@pytest.fixture
def own_data(tmp_path):
    return custom.recordings(tmp_path / "own")


def test_the_training_set_is_joined_and_the_others_are_untouched(
    own_data, tmp_path, monkeypatch, kaldi_says
):
    monkeypatch.chdir(tmp_path)
    command = [
        "custom",
        "--corpus_dir",
        str(own_data),
        "--data_dir",
        "data",
        "--clips_dir",
        "clips",
    ]
    assert prepare_corpus.main([*command, "--sets", "train valid test"]) == 0
    plain = {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()}
    assert prepare_corpus.main([*command, "--sets", "train_join0.5 valid test"]) == 0
    assert all(path.read_bytes() == data for path, data in plain.items())

    folder = Path("data/train_join0.5")
    assert read_keyed(folder / "text") == {
        "anna-0-x3": "word 0 word 1 word 2",
        "anna-3": "word 3",
    }
    assert (folder / "joined.tsv").read_text() == "anna-0-x3\tanna-0 anna-1 anna-2\n"
    assert read_keyed(folder / "utt2dur") == {"anna-0-x3": "4.5000", "anna-3": "1.5000"}
    assert kaldi.validate(folder, mono_16k=True).utterances == 2
    assert kaldi_says(folder) == ""
    whole, _ = soundfile.read(own_data / "train" / "rec.wav", dtype="int16")
    clip, rate = soundfile.read(read_keyed(folder / "wav.scp")["anna-0-x3"], dtype="int16")
    assert rate == 16000 and (clip == whole[8000 : 5 * 16000]).all()

    # A second run does nothing, another gap is another set.
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare_corpus.main([*command, "--sets", "train_join0.5 valid test"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare_corpus.main([*command, "--sets", "train_join0.15"]) == 0
    assert len(read_keyed("data/train_join0.15/text")) == 3
    assert read_keyed(folder / "text").keys() == {"anna-0-x3", "anna-3"}


def test_a_set_that_is_not_for_training_is_refused(own_data, tmp_path, capsys):
    command = ["custom", "--corpus_dir", str(own_data), "--data_dir", f"{tmp_path}/data"]
    command += ["--clips_dir", f"{tmp_path}/clips", "--sets", "train test_join0.5"]
    assert prepare_corpus.main(command) == 2
    assert "test_join0.5" in capsys.readouterr().err and not (tmp_path / "data").exists()


def test_a_validation_utterance_between_two_is_not_heard_in_the_joined_one(tmp_path):
    """SEAME's validation set is drawn from the training's recordings."""
    audio = speech.write(tmp_path / "a.wav", speech.tone(6.0, 300))
    records = {
        "train": [segment(0.5, 2.0, audio=str(audio)), segment(2.4, 4.0, audio=str(audio))],
        "valid": [segment(2.0, 2.3, audio=str(audio))],
    }
    records = {
        name: [
            Utterance(f"anna-{u.start}", "anna", "en", u.text, audio, u.start, u.end) for u in of
        ]
        for name, of in records.items()
    }
    corpus = Corpus(
        "one", "one", "ONE", "", "", {"train": Expected(), "valid": Expected()}, ("en",),
        find=lambda path: path, read=lambda root, names, *_: {n: records[n] for n in names},
    )  # fmt: skip
    arguments = (tmp_path / "data", tmp_path / "clips")
    for sets, count in ((["train_join1", "valid"], 2), (["train_join1"], 1)):
        summary = prepare(corpus, tmp_path, sets, *arguments, count_tokens=count_tokens)
        assert summary.sets[0].utterances == count

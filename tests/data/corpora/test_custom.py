"""A user's own speech: every form is read, split by speaker where speakers are named; folders and
Kaldi directories that are not as they should be."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.data import kaldi
from espnet_blora.data.corpora import custom
from espnet_blora.data.prepare import prepare
from espnet_blora.data.records import Ledger
from espnet_blora.utils.keyed import read_keyed, write_keyed
from tests.data.layouts import custom as layout_of
from tests.data.layouts import speech

SETS = ("train", "valid", "test")


def read(root, sets=SETS, **options):
    ledger = Ledger()
    return custom.read(custom.find(root), sets, ledger, options), ledger


def everything(made):
    return {u.id: u for some in made.values() for u in some}


@pytest.fixture(scope="module", params=layout_of.FORMS)
def layout(request, tmp_path_factory):
    return layout_of.make(tmp_path_factory.mktemp(request.param), form=request.param)


@pytest.fixture
def clips(tmp_path):
    return layout_of.tones(tmp_path)


def test_every_form_is_read_as_laid_out(layout):
    made, _ = read(layout.root, **layout.options)
    found = everything(made)
    assert {id: u.text for id, u in found.items()} == layout.texts["all"]
    assert {id: u.language for id, u in found.items()} == layout.languages["all"]
    assert sum(map(len, made.values())) == 10
    assert all(u.audio.is_file() for u in found.values())
    for u in found.values():
        path, _, line = u.where.rpartition(":")
        stands = Path(path).read_text(encoding="utf-8-sig").split("\n")[int(line) - 1]
        plain = stands.replace('""', '"').replace("\u00a0", " ").replace(" ", "")
        assert u.text.replace(" ", "") in plain


def test_prepared_directories_are_kaldis_and_a_second_run_changes_nothing(
    layout, tmp_path, kaldi_says, tree
):
    def run():
        places = tmp_path / "data", tmp_path / "audio"
        return prepare(custom.CORPUS, layout.root, SETS, *places, layout.options)

    first = run().sets
    assert kaldi_says(first[0].directory) == ""
    for done in first:
        assert kaldi.validate(done.directory, mono_16k=True).utterances == done.utterances > 0
    before = tree(tmp_path / "data", tmp_path / "audio")
    assert all(done.unchanged for done in run().sets)
    assert tree(tmp_path / "data", tmp_path / "audio") == before


def test_no_speaker_is_in_two_sets_where_speakers_are_named(layout):
    made, ledger = read(layout.root, valid="2", test="2", **layout.options)
    speakers = [{u.speaker for u in some} for some in made.values()]
    alone = not (
        speakers[0] & speakers[1] or speakers[0] & speakers[2] or speakers[1] & speakers[2]
    )
    named = speakers[0] != {"unknown"}
    assert alone == named
    noted = "split by utterance: speakers may be in two sets" in ledger.note_counts()
    assert noted == (not named)


def test_the_order_of_listings_does_not_matter(layout, shuffled_listings):
    once, ledger = read(layout.root, **layout.options)
    for _ in range(3):
        again, other = read(layout.root, **layout.options)
        assert again == once
        assert (other.skips, other.notes) == (ledger.skips, ledger.notes)


def test_the_order_of_rows_does_not_matter_and_the_seed_does(clips):
    rows = [f"clips/a{i}.wav,text {i}" for i in range(10)]
    layout_of.table(clips, rows)
    options = {"language": "en", "valid": "3", "test": "3"}
    once = {name: [u.id for u in some] for name, some in read(clips, **options)[0].items()}
    layout_of.table(clips, rows[::-1])
    again = {name: [u.id for u in some] for name, some in read(clips, **options)[0].items()}
    assert once == again
    other = {
        name: [u.id for u in some] for name, some in read(clips, seed="1", **options)[0].items()
    }
    assert once != other
    alone, _ = read(clips, ["test"], **options)
    assert [u.id for u in alone["test"]] == once["test"]


@given(
    st.lists(st.integers(1, 40), min_size=3, max_size=20),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(0, 5),
)
def test_speakers_are_split_whole_and_every_set_has_one(counts, valid, test, seed):
    counts = {f"s{i}": n for i, n in enumerate(counts)}
    sizes = {"test": test, "valid": valid}
    chosen = custom._by_speaker(counts, sizes, random.Random(seed))
    assert set(chosen.values()) == {"test", "valid"}
    assert len(chosen) < len(counts)
    for part, size in sizes.items():
        mine = [counts[s] for s, where in chosen.items() if where == part]
        assert sum(mine) <= size or len(mine) == 1


def test_shares_and_counts(clips):
    layout_of.table(clips, [f"clips/a{i}.wav,text {i}" for i in range(10)])
    for valid, test, sizes in (
        ("2", "3", [5, 2, 3]),
        ("20%", "0.3", [5, 2, 3]),
        ("1%", "1%", [8, 1, 1]),
    ):
        made, _ = read(clips, language="en", valid=valid, test=test)
        assert [len(made[name]) for name in SETS] == sizes
    made, _ = read(clips, ["train", "valid"], language="en", test="0")
    assert [len(some) for some in made.values()] == [9, 1]
    with pytest.raises(ValueError, match="test=0"):
        read(clips, language="en", test="0")
    with pytest.raises(ValueError, match="valid=.* test="):
        read(clips, language="en", test="6", valid="4")
    with pytest.raises(ValueError, match="test=many"):
        read(clips, language="en", test="many")
    with pytest.raises(ValueError, match="seed=x"):
        read(clips, language="en", seed="x")


def test_one_speaker_who_says_nearly_all_is_told_of(clips):
    rows = [f"clips/a{i}.wav\tt{i}\ten\t{'big' if i < 8 else f's{i}'}" for i in range(10)]
    layout_of.table(clips, rows, "transcripts.tsv")
    made, _ = read(clips, valid="3", test="3")
    assert {u.speaker for u in made["train"]} == {"big"}
    rows = [f"clips/a{i}.wav\tt{i}\ten\t{'ab'[i % 2]}" for i in range(10)]
    layout_of.table(clips, rows, "transcripts.tsv")
    _, ledger = read(clips)
    (note,) = ledger.notes[-1:]
    assert note.detail == "2 speakers for 3 sets"


# --- folders


def folder(root, names):
    for name in names:
        speech.write(root / f"{name}.wav", speech.tone(0.3, 300))
        (root / f"{name}.txt").write_text(f"text of {name}\n", encoding="utf-8")
    return root


def test_folders_in_folders_and_what_has_no_partner(tmp_path):
    folder(tmp_path, [f"{d}/x{i}" for d in ("one", "two") for i in range(3)])
    (tmp_path / "README.txt").write_text("about this data\n")
    (tmp_path / "one" / "x1.txt").unlink()
    (tmp_path / "two" / "x2.txt").write_text(" \n")
    made, ledger = read(tmp_path, language="en")
    assert sorted(everything(made)) == [
        f"unknown-{name}" for name in ("one_x0", "one_x2", "two_x0", "two_x1")
    ]
    assert ledger.counts() == {"empty text": 1, "no transcript": 1, "text without audio": 1}


def test_a_folder_per_speaker(tmp_path):
    folder(
        tmp_path, [f"{who}/day{i}/x{i}" for who in ("anna", "ben", "我", "你") for i in range(3)]
    )
    made, ledger = read(tmp_path, language="en", speaker="folder")
    speakers = [{u.speaker for u in some} for some in made.values()]
    assert {"anna", "ben"} < set().union(*speakers)
    assert sum(map(len, speakers)) == len(set().union(*speakers)) == 4
    assert "anna-day0_x0" in everything(made)
    assert "split by utterance: speakers may be in two sets" not in ledger.note_counts()
    folder(tmp_path, ["alone"])
    made, ledger = read(tmp_path, language="en", speaker="folder")
    assert "unknown-alone" in everything(made)
    assert "split by utterance: speakers may be in two sets" in ledger.note_counts()


def test_a_folder_per_speaker_is_for_files(directory):
    with pytest.raises(ValueError, match=r"speaker=folder .*utt2spk"):
        read(directory, speaker="folder")
    with pytest.raises(ValueError, match="option speaker=x"):
        read(directory, speaker="x")


def test_two_audio_files_of_one_name(tmp_path):
    folder(tmp_path, ["a", "b"])
    speech.write(tmp_path / "a.flac", speech.tone(0.3, 300))
    with pytest.raises(ValueError, match=r"a\.wav: a\.flac "):
        read(tmp_path, language="en")


def test_m4a_beside_text(tmp_path):
    (tmp_path / "a.m4a").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"a\.m4a .*ffmpeg -i a\.m4a -ar 16000"):
        read(tmp_path, language="en")


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="wav.scp .*transcripts.tsv"):
        custom.find(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        custom.find(tmp_path / "x")
    (tmp_path / "a.wav").touch()
    with pytest.raises(FileNotFoundError, match="wav.scp .*transcripts.tsv"):
        custom.find(tmp_path / "a.wav")
    with pytest.raises(ValueError, match=r"no transcript \(1\).*a\.txt "):
        read(tmp_path, language="en")


# --- Kaldi directories


@pytest.fixture
def directory(tmp_path):
    layout_of.make(tmp_path, form="segments")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("wav.scp", "x sox a.wav -t wav - |", r"wav.scp:11: x is a command .*format_wav_scp.sh"),
        ("wav.scp", "x feats.ark:123", "wav.scp:11: x lies in an archive"),
        ("wav.scp", "x", "wav.scp:11: x names no audio file"),
        ("wav.scp", "rec-anna-000 a.wav", "wav.scp:11: 'rec-anna-000' is there already"),
        ("segments", "x rec-anna-000 1", "segments:11: x has 'rec-anna-000 1'; expected"),
        ("segments", "x rec-anna-000 2 1", "segments:11: x goes from 2.0 to 1.0 s"),
        ("segments", "x rec 1 2", "segments:11: x is cut from 'rec', not in wav.scp"),
        ("utt2lang", "x", None),
    ],
)
def test_wrong_kaldi_directories(directory, name, line, says):
    path = directory / name
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    if says is None:
        assert len(everything(read(directory)[0])) == 10
        return
    with pytest.raises(ValueError, match=says):
        read(directory)


def test_kaldi_directory_without_text_or_languages(directory):
    (directory / "utt2lang").unlink()
    with pytest.raises(ValueError, match=r"text:1: anna-000 .*language=<code>"):
        read(directory)
    (directory / "text").unlink()
    with pytest.raises(FileNotFoundError, match="/text.*wav.scp"):
        read(directory)


def test_kaldi_ids_without_partner_and_without_speaker(directory):
    ids = sorted(read_keyed(directory / "text"))
    write_keyed(directory / "utt2spk", {id: id for id in ids})
    for name, id in (("text", ids[0]), ("segments", ids[1])):
        keyed = read_keyed(directory / name)
        del keyed[id]
        write_keyed(directory / name, keyed)
    made, ledger = read(directory)
    assert set(everything(made)) == {f"unknown-{id}" for id in ids[2:]}
    assert ledger.counts() == {"no audio": 1, "no transcript": 1}


# --- inspection


def test_inspection(layout):
    items = {i.what: i for i in custom.inspect(layout.root, layout.options)}
    # the smallest speaker has two of the ten utterances
    assert items["train: utterances"].found == ("8" if layout.options else "6")
    assert items["hours"].ok is None
    assert items["languages"].found in ("en 7, zh 3", "zh 10", "en 6, zh 4")


def test_inspection_of_what_cannot_be_used(clips):
    layout_of.table(clips, ["clips/a0.wav,a,b,c,d"])
    items = {i.what: i for i in custom.inspect(clips, {})}
    assert items["utterances"].ok is False
    layout_of.table(clips, [f"clips/a{i}.wav,a" for i in range(12)])
    (clips / "clips" / "a3.wav").write_bytes(b"")
    items = {i.what: i for i in custom.inspect(clips, {"language": "en"})}
    assert items["hours"].ok is False
    assert "3 cannot be read" in items["hours"].found

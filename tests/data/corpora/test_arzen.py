"""ArzEn: marks, stale paths, spellings of recordings, splits, options."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.data.corpora import arzen as corpus
from espnet_blora.data.corpora.arzen import clean, unknown_marks
from espnet_blora.data.records import Ledger
from tests.data.layouts import arzen


@pytest.fixture
def layout(tmp_path):
    return arzen.make(tmp_path, 3)


def read(layout, names=("train", "dev", "test"), **options):
    ledger = Ledger()
    return corpus.read(corpus.find(layout.root), names, ledger, options), ledger


def edit(layout, file, *changes):
    path = layout.root / "ArzEn_SpeechCorpus_1.0" / file
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("raw", "kept", "bare"),
    [
        ("[HES] ايوه (LAUGH)", "ايوه", "ايوه"),
        ("[hes] ايوه (Laughter)", "ايوه", "ايوه"),
        ("[HES ايوه COUGH) طيب", "ايوه طيب", "ايوه طيب"),
        ("الـ noise ده", "ال noise ده", "ال noise ده"),
        ("(in the noise)", "(in the noise)", "in the noise"),
        ("بكتب c++ و C++، c#", "بكتب c++ و C++، c#", "بكتب c++ و C++ c#"),
        ("الـc++ + = # @ $ *", "الc++", "الc++"),
        ("((مش)) // عارف", "مش عارف", "مش عارف"),
        ("ايه؟ مين؛ ليه، done.", "ايه؟ مين؛ ليه، done.", "ايه مين ليه done"),
        ("%اه طيب %#امم", "طيب", "طيب"),
        ("don't … يا عم", "don't يا عم", "don't يا عم"),
        ("[UNK] طيب", "طيب", "طيب"),
        ("عِلْمٌ كِتـــاب", "علم كتاب", "علم كتاب"),
        ("\u200fايوه\u200e يا", "ايوه يا", "ايوه يا"),
        ("[HES] ...", "", ""),
        ("", "", ""),
    ],
)
def test_marks_go_and_words_stay(raw, kept, bare):
    assert clean(raw) == kept
    assert clean(raw, punctuation=False) == bare


def test_diacritics_and_fillers_can_be_kept():
    assert clean("عِلْم الـ project", diacritics=True) == "عِلْم الـ project"
    assert clean("%#امم طيب %اه", fillers=True) == "امم طيب اه"
    assert unknown_marks("[HES] [UNK] طيب [x y]") == ["[UNK]", "[x y]"]


@given(st.text(alphabet="ابc+#[](){}%=/*@$…، .HESاNOIعٌـ\u200f\ue000", max_size=40), st.booleans())
def test_no_mark_survives_and_cleaning_twice_is_cleaning_once(raw, punctuation):
    text = clean(raw, punctuation=punctuation)
    assert not re.search(r"\[|\]|[=@$*%…\ue000\ue001ـ]|\(\(|\)\)|//|\s\s|\[HES", text)
    assert "+" not in re.sub(r"[cC]\+\+", "", text)
    assert clean(text, punctuation=punctuation) == text
    assert text == text.strip()


def test_options_change_the_text_and_are_checked(layout):
    kept, _ = read(layout, diacritics="keep", punctuation="remove", fillers="keep")
    texts = [u.text for u in kept["train"]]
    assert texts[2] == "مِش عَارِف اه ليه هو امم مشي"
    assert "الـ project" in texts[0]
    with pytest.raises(ValueError, match="diacritics=perhaps: .*remove, keep"):
        read(layout, diacritics="perhaps")


def test_stale_paths_lead_to_recordings_whatever_the_suffix(layout):
    records, _ = read(layout)
    names = {name: {u.audio.name for u in records[name]} for name in records}
    assert names == {"train": {"C09-R90.WAV"}, "dev": {"C10-R91.WAV"}, "test": {"C11-R92.wav"}}
    assert all(u.audio.is_file() for us in records.values() for u in us)


def test_wav_scp_may_name_a_recording_otherwise_than_segments(layout):
    edit(
        layout,
        "ASR_files/segments",
        (" C09-R90 ", " S90-C09-R90 "),
    )
    edit(
        layout,
        "ASR_files/wav.scp",
        ("C09-R90 /", "S90-C09-R90 sox "),
        (".WAV\n", ".WAV -t wav - |\n"),
    )
    records, ledger = read(layout)
    assert {u.id: u.text for u in records["train"]} == layout.texts["train"]
    assert {u.audio.name for u in records["train"]} == {"C09-R90.WAV"}
    # the list says C09-R90, segments S90-C09-R90: they meet, and it is said
    assert ledger.note_counts()["segments spells it otherwise"] == 1


def test_the_file_that_wav_scp_names_comes_first(layout):
    folder = layout.root / "ArzEn_SpeechCorpus_1.0/recordings"
    (folder / "C09-R90.WAV").rename(folder / "interview1.WAV")
    edit(layout, "ASR_files/wav.scp", ("recordings/C09-R90.WAV", "recordings/interview1.wav"))
    records, _ = read(layout, ["train"])
    assert {u.audio.name for u in records["train"]} == {"interview1.WAV"}


def test_without_wav_scp_the_recordings_name_is_the_files(layout):
    (layout.root / "ArzEn_SpeechCorpus_1.0/ASR_files/wav.scp").unlink()
    records, _ = read(layout, ["dev"])
    assert {u.audio.name for u in records["dev"]} == {"C10-R91.WAV"}


def test_speaker_that_does_not_begin_the_id_is_put_there(layout):
    edit(layout, "ASR_files/utt2spk", (" S91\n", " F-17\n"))
    records, _ = read(layout, ["dev"])
    assert all(u.id.startswith("F-17-S91-C10-R91_") for u in records["dev"])
    edit(layout, "ASR_files/utt2spk", (f"{layout.ids('train')[0]} S90\n", ""))
    records, ledger = read(layout, ["train"])
    assert {u.speaker for u in records["train"]} == {"S90"}
    assert ledger.note_counts()["speaker taken from the id"] == 1


def test_unknown_mark_is_noted(layout):
    edit(layout, "ASR_files/text", ("[HES] شغال", "[MUSIC] شغال"))
    records, ledger = read(layout, ["train"])
    assert {u.id: u.text for u in records["train"]} == layout.texts["train"]
    assert [e.detail for e in ledger.notes if e.reason == "unknown mark left out"] == ["[MUSIC]"]


def test_recording_in_two_sets_is_refused(layout):
    path = layout.root / "ArzEn_SpeechCorpus_1.0/splits/test"
    path.write_text("C11-R92\nC09-R90.WAV\n")
    with pytest.raises(ValueError, match=r"splits/test:2: .*C09-R90 .*splits/train"):
        read(layout)


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("ASR_files/segments", "C09-R90 3.10", "C09-R90 3,10", r"segments:1: S90.*expected"),
        ("ASR_files/segments", "C09-R90 3.10", "C09-R90", r"segments:1: S90.*expected"),
        ("splits/dev", "C10-R91", "C10-R91 C11-R92", r"splits/dev:1: .*C10-R91 C11-R92"),
    ],
)
def test_malformed_tables_are_refused_with_their_line(layout, file, old, new, says):
    edit(layout, file, (old, new))
    with pytest.raises(ValueError, match=says):
        read(layout)


def test_lists_and_tables_that_lack_are_named(layout):
    home = layout.root / "ArzEn_SpeechCorpus_1.0"
    (home / "ASR_files/segments").rename(home / "elsewhere")
    with pytest.raises(FileNotFoundError, match="segments"):
        read(layout)
    (home / "recordings").rename(home / "audio")
    with pytest.raises(FileNotFoundError, match="lacks recordings"):
        corpus.find(layout.root)
    assert corpus.find(arzen.make(layout.root / "b", 1).root / "ArzEn_SpeechCorpus_1.0").is_dir()


def test_translations_ids_are_compared(layout):
    st_dir = str(layout.translations)
    _, ledger = read(layout, st_dir=st_dir)
    # three lines of C09-R90 are odd ones that ArzEn-ST does not have
    assert [e.id for e in ledger.notes if "ArzEn-ST" in e.id] == ["train against ArzEn-ST"]
    items = {
        item.what: item for item in corpus.inspect(corpus.find(layout.root), {"st_dir": st_dir})
    }
    assert items["dev against ArzEn-ST"].ok is True
    assert items["train against ArzEn-ST"].found == "3 ids in both, 0 only there, 3 only here"
    source = layout.translations / "data/transcriptions/test.src"
    source.write_text(source.read_text() + "S92-C11-R92_000000-000001 no tab\n")
    with pytest.raises(ValueError, match=r"test\.src:4: .*<id> TAB <text>"):
        read(layout, st_dir=st_dir)


def test_inspection_tells_dev_and_test_apart(layout):
    items = {item.what: item for item in corpus.inspect(corpus.find(layout.root), {})}
    assert items["dev / test"].found == "3 / 3"
    assert "1,402" in items["dev / test"].expected
    assert items["recordings"].ok is True
    assert items["dev utterances"].ok is None  # published second-hand
    assert items["all utterances"].ok is False

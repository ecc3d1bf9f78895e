"""MGB-2: Buckwalter, segments, XML, and what is wrong with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.data.corpora import mgb2
from espnet_blora.data.corpora.mgb2 import BUCKWALTER, to_arabic
from espnet_blora.data.records import Ledger
from tests.data.layouts import mgb2 as layout


def read(path, name, **options):
    ledger = Ledger()
    return mgb2.read(mgb2.find(path), [name], ledger, options)[name], ledger


def test_table_is_buckwalter_s():
    assert len(BUCKWALTER) == len(set(BUCKWALTER.values())) == 51
    assert all("\u0600" <= arabic <= "\u06ff" for arabic in BUCKWALTER.values())
    assert to_arabic("Al>wlAd ysmEwn AlmdrspF") == ("الأولاد يسمعون المدرسةً", [])
    assert to_arabic("$|*}&<'{`~oaiuKNF") == (
        "شآذئؤإءٱٰ" + "ّ" + "ْ" + "َ" + "ِ" + "ُ" + "ٍ" + "ٌ" + "ً",
        [],
    )


@given(st.lists(st.text(sorted(BUCKWALTER.values()), min_size=1), min_size=1))
def test_every_arabic_text_comes_back(words):
    back = str.maketrans({arabic: latin for latin, arabic in BUCKWALTER.items()})
    text = " ".join(words)
    assert to_arabic(text.translate(back)) == (text, [])


def test_words_that_cannot_be_arabic_are_left():
    assert to_arabic("qAl facebook 2016 .") == ("قال facebook 2016 .", ["facebook"])


def test_evaluation_segments_and_speakers(tmp_path):
    laid = layout.make(tmp_path, 3, sets=("test",))
    utterances, ledger = read(tmp_path, "test")
    first = utterances[0]
    assert first.speaker == "0A0B_C0D3_spk_0001"
    assert first.id == f"{first.speaker}-seg-0001234_{round(100 * first.end):07d}"
    assert (first.start, first.channel) == (12.34, None)
    assert first.audio.name == "0A0B-C0D3.wav"
    assert {u.id: u.text for u in utterances} == laid.texts["test"]
    assert ledger.counts() == {"empty text": 1, "not in segments": 1}


def test_paths_of_another_machine_and_foreign_words(tmp_path):
    layout.make(tmp_path, 1, sets=("dev",))
    folder = tmp_path / "mgb2" / "dev"
    scp = (folder / "wav.scp").read_text().replace("wav/", "/their/disk/")
    (folder / "wav.scp").write_text(scp)
    text = folder / "text.non_overlap_speech"
    text.write_text(text.read_text().replace("\n", " twitter\n", 1))
    utterances, ledger = read(tmp_path, "dev")
    assert utterances[0].audio.is_file()
    assert utterances[0].text.endswith(" twitter")
    assert [e.detail for e in ledger.notes] == ["twitter"]


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("segments.non_overlap_speech", "a b_1 1.0", ":1: 'b_1 1.0'; expected '<recording of wav"),
        ("segments.non_overlap_speech", "a other 1 2", ":1: 'other 1 2'; expected '<recording"),
        ("segments.non_overlap_speech", "a 0A0B-C0D3 1 x", ":1: 'x'; expected a number from 0"),
        ("segments.non_overlap_speech", "a 0A0B-C0D3 -1 2", ":1: '-1'; expected a number from 0"),
        ("segments.non_overlap_speech", "a 0A0B-C0D3 1 nan", ":1: 'nan'; expected a number"),
        ("text.non_overlap_speech", "a b\na c", ":2: 'a' is there already"),
    ],
)
def test_evaluation_lines_that_cannot_be_trusted(tmp_path, file, line, says):
    layout.make(tmp_path, 1, sets=("test",))
    (tmp_path / "mgb2" / "test" / file).write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read(tmp_path, "test")


def test_training_segments_by_error_rate(tmp_path):
    laid = layout.make(tmp_path, 4, sets=("train",))
    utterances, ledger = read(tmp_path, "train")
    assert {u.id: u.text for u in utterances} == laid.texts["train"]
    assert ledger.counts() == {"WMER above 80": 2, "empty text": 1, "no time": 1}
    assert {e.detail for e in ledger.skips if e.reason == "WMER above 80"} == {"80.1"}
    assert utterances[0].where.endswith("0A0B-C0D3.xml:0A0B_C0D3_utt_0_align")
    assert len(read(tmp_path, "train", wmer="100")[0]) == len(utterances) + 2
    assert len(read(tmp_path, "train", wmer="50")[0]) == len(utterances) - 2
    with pytest.raises(ValueError, match="option wmer: 'some'"):
        read(tmp_path, "train", wmer="some")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (' WMER="80.0"', "", "xml:0A0B_C0D3_utt_0_align: a segment without WMER"),
        ('starttime="12.34"', 'starttime="early"', "utt_0_align starttime: 'early'; expected a nu"),
        ("</body>", "", r"xml:\d+: not well-formed XML"),
    ],
)
def test_training_files_that_cannot_be_trusted(tmp_path, old, new, says):
    layout.make(tmp_path, 2, sets=("train",))
    file = tmp_path / "mgb2/train/xml/utf8/0A0B-C0D3.xml"
    content = file.read_text(encoding="utf-8")
    assert old in content
    file.write_text(content.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read(tmp_path, "train")


def test_a_segment_listed_twice_is_left_out_once(tmp_path):
    layout.make(tmp_path, 2, sets=("train",))
    file = tmp_path / "mgb2/train/xml/utf8/0A0B-C0D3.xml"
    content = file.read_text(encoding="utf-8")
    line = next(line for line in content.splitlines() if "utt_0_" in line)
    file.write_text(content.replace(line, f"{line}\n{line}"), encoding="utf-8")
    utterances, ledger = read(tmp_path, "train")
    assert len(utterances) == 2
    assert ledger.counts()["listed twice"] == 1

"""What is odd in one public corpus only."""

import shutil

import pytest
import soundfile

from espnet_blora.data import check
from espnet_blora.data.corpora import aishell, ascend, cs_fleurs, librispeech, talcs
from espnet_blora.data.corpora.common import inspect_sets
from espnet_blora.data.records import Ledger
from tests.data.layouts import aishell as aishell_layout
from tests.data.layouts import ascend as ascend_layout
from tests.data.layouts import cs_fleurs as cs_fleurs_layout
from tests.data.layouts import librispeech as librispeech_layout
from tests.data.layouts import speech
from tests.data.layouts import talcs as talcs_layout


def read(module, path, name, **options):
    ledger = Ledger()
    return module.read(module.find(path), [name], ledger, options)[name], ledger


def test_talcs_english_is_lower_case_unless_asked_for(tmp_path):
    talcs_layout.make(tmp_path, 2, sets=("test",))
    lower, ledger = read(talcs, tmp_path, "test")
    assert lower[0].text == "我们看 this one对吧"
    assert lower[0].id == f"{lower[0].speaker}-0" == f"{lower[0].audio.stem}-0"
    assert ledger.counts() == {"empty text": 1}
    kept, _ = read(talcs, tmp_path, "test", case="corpus")
    assert kept[0].text == "我们看 ＴＨＩＳ ONE对吧"


def test_talcs_stem_twice_is_an_error(tmp_path):
    folder = tmp_path / "test_set"
    folder.mkdir()
    (folder / "label.txt").write_text("210_1 你好\n210_1 再见\n", encoding="utf-8")
    with pytest.raises(ValueError, match="label.txt:2: '210_1' .*label.txt:1"):
        read(talcs, tmp_path, "test")


def test_ascend_prompt_and_durations(tmp_path):
    ascend_layout.make(tmp_path, 3, sets=("valid",))
    same, ledger = read(ascend, tmp_path, "valid")
    assert {u.language for u in same} == {"zh"}
    assert ledger.note_counts() == {"other duration than told": 1}
    assert ledger.notes[0].id == same[0].id
    assert same[0].text == "well, the goat said no"
    assert same[1].text == "对啊"
    own, _ = read(ascend, tmp_path, "valid", prompt="utterance")
    assert [u.language for u in own][:3] == ["en", "zh", "zh"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("waves/a.wav,你好,1.0,yue,9,1,x", ":2: language 'yue'; expected zh, en, mixed"),
        ("waves/a.wav,你好,long,zh,9,1,x", ":2: duration: 'long'; expected"),
        ("waves/a.wav,你好", ":2: 2 fields, expected 7"),
        ('waves/a.wav,"你好,1.0,zh,9,1,x', ":2: .*quotes do not pair"),
    ],
)
def test_ascend_rows_that_cannot_be_trusted(tmp_path, row, says):
    speech.write(tmp_path / "waves/a.wav", speech.tone(1.0, 300))
    header = "file_name,transcription,duration,language,original_speaker_id,session_id,topic\n"
    (tmp_path / "test_metadata.csv").write_text(header + row + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read(ascend, tmp_path, "test")


def test_ascend_unknown_words_are_not_trained_on(tmp_path):
    ascend_layout.make(tmp_path, 3, sets=("valid",))
    table = tmp_path / "ASCEND" / "validation_metadata.csv"
    words = table.read_text("utf-8").replace("嗯我 think", "嗯[UNK]我 [unk] think")
    table.write_text(words.replace("对 啊", "[UNK]"), encoding="utf-8")
    found, ledger = read(ascend, tmp_path, "valid")
    texts = [u.text for u in found]
    assert any(text.startswith("嗯我 think") for text in texts)
    assert not any("unk" in text.lower() for text in texts)
    assert ledger.note_counts()["[UNK] removed"] == 1
    assert ledger.counts()["empty text"] == 2


def test_ascend_still_packed(tmp_path):
    layout = ascend_layout.make(tmp_path, 1, sets=("test",))
    shutil.rmtree(ascend.find(layout.root) / "waves")
    with pytest.raises(FileNotFoundError, match="waves: .*waves.tar.bz2"):
        read(ascend, tmp_path, "test")
    parquet = tmp_path / "other" / "data"
    parquet.mkdir(parents=True)
    (parquet / "train-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(FileNotFoundError, match="parquet"):
        ascend.find(tmp_path / "other")


def test_librispeech_of_another_chapter_and_subset_as_root(tmp_path):
    librispeech_layout.make(tmp_path, 2, sets=("test_clean",))
    top = librispeech.find(tmp_path)
    assert librispeech.find(top / "test-clean") == top
    wanted = librispeech.find(tmp_path) / "test-clean/61/70001/61-70001.trans.txt"
    wanted.write_text("61-70001-0000 A\n62-70001-0000 B\n", encoding="utf-8")
    with pytest.raises(ValueError, match="trans.txt:2: .*'62-70001-0000'.* 61-70001-"):
        read(librispeech, tmp_path, "test_clean")
    wanted.unlink()
    with pytest.raises(FileNotFoundError, match="61-70001.trans.txt"):
        read(librispeech, tmp_path, "test_clean")
    items = {i.what: i for i in check.check(librispeech.CORPUS, top, {})}
    assert items["test_clean"].ok is False  # broken is not the same as absent
    assert items["dev_clean"].ok is None


def test_a_complete_copy_is_told_from_an_incomplete_one(tmp_path):
    layout = librispeech_layout.make(tmp_path, 4, sets=("test_clean",))
    sets = {"test_clean": librispeech.Expected(4, 0.1), "dev_clean": librispeech.Expected(5)}
    items = inspect_sets(librispeech.read, sets, librispeech.find(tmp_path), {})
    assert [(i.what, i.ok) for i in items] == [("test_clean", True), ("dev_clean", None)]
    assert items[0].expected == "4 utterances, 0.1 h"
    assert items[0].found == "4 utterances; left out: no audio 1, no transcript 1"
    next(layout.root.rglob("61-*-0000.flac")).unlink()
    items = inspect_sets(librispeech.read, sets, librispeech.find(tmp_path), {})
    assert items[0].ok is False
    for file in layout.root.rglob("*.flac"):
        file.unlink()
    unpublished = {"test_clean": librispeech.Expected()}
    items = inspect_sets(librispeech.read, unpublished, tmp_path / "LibriSpeech", {})
    assert (items[0].ok, items[0].found[:12]) == (False, "0 utterances")
    shutil.rmtree(tmp_path / "LibriSpeech" / "test-clean")
    items = inspect_sets(librispeech.read, sets, tmp_path / "LibriSpeech", {})
    assert [(i.what, i.ok) for i in items][-1] == ("sets", False)


def test_aishell_text_and_what_lacks_a_side(tmp_path):
    aishell_layout.make(tmp_path, 2, sets=("dev", "test"))
    utterances, ledger = read(aishell, tmp_path, "test")
    assert utterances[0].text == "我买了一件T恤"
    assert [e.id for e in ledger.skips] == ["S0764-BAC009S0764W0900"]
    assert ledger.skips[0].where.endswith("BAC009S0764W0900.wav")
    missing = [u.id for u in utterances if not u.audio.is_file()]
    assert missing == ["S0764-BAC009S0764W0901"]  # of this set's speaker, not of another's
    assert aishell.clean("ａ ｂ c 股 很 好") == "ABC股很好"


def test_aishell_still_packed(tmp_path):
    layout = aishell_layout.make(tmp_path, 1, sets=("test",))
    top = aishell.find(layout.root)
    shutil.rmtree(top / "wav" / "test" / "S0764")
    with pytest.raises(FileNotFoundError, match="wav/test: "):
        read(aishell, tmp_path, "test")
    shutil.rmtree(top / "wav")
    with pytest.raises(FileNotFoundError, match="wav/test: .*tar"):
        read(aishell, tmp_path, "test")


def test_cs_fleurs_all_pairs_and_one(tmp_path):
    cs_fleurs_layout.make(tmp_path, 2, pair="ara-eng")
    every, ledger = read(cs_fleurs, tmp_path, "read_test")
    assert {u.language for u in every} == {"ar"}
    assert ledger.counts() == {"language unknown to Whisper": 2}
    assert {e.detail for e in ledger.skips} == {"ceb-eng", "xho-eng"}
    with pytest.raises(ValueError, match="'hin-eng'.*: ara-eng, ceb-eng, xho-eng"):
        read(cs_fleurs, tmp_path, "read_test", pair="hin-eng")


def test_cs_fleurs_reads_folders_it_does_not_know(tmp_path):
    layout = cs_fleurs_layout.make(tmp_path, 2)
    top = cs_fleurs.find(layout.root)
    shutil.copytree(top / "read/test", top / "new/test7")
    assert list(cs_fleurs.folders(top)) == ["new_test7", "read_test", "xtts_train"]
    utterances, _ = read(cs_fleurs, tmp_path, "new_test7", pair="cmn-eng")
    assert {u.audio.parent.parent.name for u in utterances} == {"test7"}
    items = {i.what: i for i in cs_fleurs.CORPUS.inspect(top, {"pair": "cmn-eng"})}
    assert items["new_test7"].found.startswith("2 utterances")
    assert items["xtts_test2"].ok is None


def test_cs_fleurs_train_and_valid_share_no_id(tmp_path):
    cs_fleurs_layout.make(tmp_path, 8)
    both = {u.id: u for u in read(cs_fleurs, tmp_path, "xtts_train", pair="cmn-eng")[0]}
    sizes = {}
    for share in ("1", "5%", "0.5"):
        parts = {
            name: {u.id: u for u in read(cs_fleurs, tmp_path, name, pair="cmn-eng", valid=share)[0]}
            for name in ("train", "valid")
        }
        assert not parts["train"].keys() & parts["valid"].keys()
        assert parts["train"] | parts["valid"] == both
        sizes[share] = len(parts["valid"])
    assert sizes == {"1": 1, "5%": 1, "0.5": 4}  # of 8 and the one without audio
    with pytest.raises(ValueError, match="option valid=9: .*9 "):
        read(cs_fleurs, tmp_path, "valid", pair="cmn-eng", valid="9")
    test = read(cs_fleurs, tmp_path, "test", pair="cmn-eng")[0]
    assert test == read(cs_fleurs, tmp_path, "read_test", pair="cmn-eng")[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": "1"}', ":1: 'file_name' is None; expected a string"),
        (
            '{"id":"1","file_name":"a","text":"b","language":"arabic","speaker":"s"}',
            ":1: language 'arabic'; expected a pair such as ara-eng",
        ),
    ],
)
def test_cs_fleurs_lines_that_cannot_be_trusted(tmp_path, line, says):
    folder = tmp_path / "read" / "test"
    folder.mkdir(parents=True)
    (folder / "metadata.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read(cs_fleurs, tmp_path, "read_test")


def test_layout_waves_are_speech_at_16_khz(tmp_path):
    layout = librispeech_layout.make(tmp_path, 2, sets=("test_clean",))
    file = sorted(layout.root.rglob("61-*-0000.flac"))[0]
    assert soundfile.info(file).samplerate == speech.RATE

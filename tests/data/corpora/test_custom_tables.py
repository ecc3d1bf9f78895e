"""Tables of a user's own speech: what spreadsheets make of them, and what their owner is told."""

import json
import re
import zlib

import pytest

from espnet_blora.data.corpora import custom
from espnet_blora.data.prepare import prepare
from espnet_blora.data.records import Ledger
from espnet_blora.utils.keyed import read_keyed
from tests.data.layouts import custom as layout_of
from tests.data.layouts import speech

SETS = ("train", "valid", "test")


def read(root, **options):
    """All utterances by id, and the ledger."""
    ledger = Ledger()
    made = custom.read(custom.find(root), SETS, ledger, options)
    return {u.id: u for some in made.values() for u in some}, ledger


@pytest.fixture
def clips(tmp_path):
    return layout_of.tones(tmp_path)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["clips/a0.wav,yes, of course", "clips/a1.wav,ok"], r"csv:2: 2 fields, expected 3 as in"),
        (["clips/a0.wav,yes, of course"], r"csv:1: 'of course' .* put the text in double"),
        (
            ["clips/a0.wav,ok", "clips/a1.wav,yes, of course"],
            r"csv:2: 3 fields, expected 2 as in .* a text",
        ),
        (
            ["file,text", "clips/a0.wav,a,b,c,d"],
            r"csv:2: 5 fields, expected 2 as .* a text with a comma",
        ),
        (["clips/a0.wav\tok"], r"csv:1: 1 fields, .*are separated by commas"),
        (['clips/a0.wav,"yes'], r"csv:1: quotes do not pair up"),
        (['clips/a0.wav,"he said "no" twice"'], r"csv:1: quotes do not pair up .*doubled"),
        (["clips/a0.wav,a", "clips/a0.wav,b"], r"csv:2: .*is there already, at .*csv:1"),
        ([",a"], r"csv:1: '' names no audio file"),
        (["C:\\Users\\me\\a.wav,a"], r"csv:1: .*path of a Windows machine; write paths relative"),
        (["\\\\server\\a.wav,a"], r"csv:1: .*path of a Windows machine"),
        (["clips/x0.wav,a", "clips/x1.wav,b"], r"csv:1: .*x0.wav is not there, nor is any other"),
        (["clips/a0.wav,a,xx"], r"csv:1: 'xx' "),
        (["clips/a0.wav,a,english"], r"csv:1: 'english' .*did you mean en"),
        (["clips/a0.wav,a,Mandarin"], r"csv:1: 'mandarin' .*did you mean zh\? There are: en, zh"),
        (["clips/a0.wav, "], r"no utterance can be used: empty text \(1\); the first: .*csv:1"),
        ([""], r"no utterance can be used: none is there"),
        (["clips/a.m4a,a", "clips/b.M4A,b"], r"csv:1: a.m4a cannot .* 1 more .*ffmpeg -i a.m4a"),
    ],
)
def test_wrong_tables(clips, rows, says):
    layout_of.table(clips, rows)
    with pytest.raises(ValueError, match=says):
        read(clips, language="en")


def test_wrong_rows_are_told_together(clips):
    rows = [f"clips/a{i}.wav,t{i}" for i in range(4)]
    layout_of.table(clips, [*rows, "clips/a4.wav,a,b", "clips/a0.wav,again", ",nothing"])
    with pytest.raises(ValueError, match="3 wrong rows") as caught:
        read(clips, language="en")
    lines = str(caught.value).splitlines()[1:4]
    assert [re.findall(r"csv:(\d+)", line)[0] for line in lines] == ["5", "6", "7"]
    layout_of.table(clips, [*rows, *["x,y,z"] * 30])
    with pytest.raises(ValueError, match="20 wrong rows so far") as caught:
        read(clips, language="en")
    assert str(caught.value).count("3 fields") == 20


def test_manifests_of_json_lines(clips):
    rows = [
        {"audio_filepath": f"clips/a{i}.wav", "duration": 1.0, "text": f"t{i}"} for i in range(8)
    ]
    rows += [{"audio": {"path": f"clips/a{i}.wav"}, "sentence": f"t{i}"} for i in (8, 9)]
    rows[0] |= {"lang": "es", "speaker": "anna", "offset": 0}
    layout_of.table(clips, map(json.dumps, rows), "transcripts.jsonl")
    made, _ = read(clips, language="en")
    assert sorted(u.text for u in made.values()) == [f"t{i}" for i in range(10)]
    assert {u.language for u in made.values()} == {"en", "es"}
    assert [u.id for u in made.values() if u.speaker == "anna"] == ["anna-clips_a0"]


def test_parts_of_recordings_in_a_manifest(tmp_path):
    """As NeMo (offset, duration) and Whisper-Finetune (start_time, end_time) cut them."""
    wave = speech.tone(6.0, 300)
    speech.write(tmp_path / "talk.wav", wave)
    whole = {"audio_filepath": "talk.wav", "language": "en"}
    rows = [whole | {"offset": i, "duration": 0.75, "text": f"t{i}"} for i in range(4)]
    timed = {"path": "talk.wav", "start_time": 4.5, "end_time": 5.25}
    rows += [{"audio": timed, "sentence": "t4", "language": "en"}]
    layout_of.table(tmp_path, map(json.dumps, rows), "transcripts.jsonl")
    made, _ = read(tmp_path)
    spans = {u.text: (u.start, u.end) for u in made.values()}
    assert spans == {f"t{i}": (i, i + 0.75) for i in range(4)} | {"t4": (4.5, 5.25)}
    done = prepare(custom.CORPUS, tmp_path, SETS, tmp_path / "data", tmp_path / "cut", {})
    cut = [read_keyed(one.directory / "utt2dur") for one in done.sets]
    assert {seconds for some in cut for seconds in some.values()} == {"0.7500"}

    # A table says it in columns, and once in each part.
    csv = [f"talk.wav,t{i},{i},0.5" for i in (0, 0)]
    (tmp_path / "transcripts.jsonl").unlink()
    layout_of.table(tmp_path, ["file,text,offset,duration", *csv])
    with pytest.raises(ValueError, match=r"csv:3: 'talk.wav' is there already, at .*csv:2"):
        read(tmp_path, language="en")


def test_speakers_of_a_table_are_its_folders_where_none_are_named(tmp_path):
    names = [f"speech/{who}/day/{i}.wav" for who in ("anna", "ben", "carla") for i in range(3)]
    for name in names:
        speech.write(tmp_path / name, speech.tone(0.3, 300))
    rows = [f"{name},text {i},en" for i, name in enumerate(names)]
    layout_of.table(tmp_path, [*(f"{row}," for row in rows[:-1]), f"{rows[-1]},dora"])
    made, _ = read(tmp_path, speaker="folder")
    assert sorted(u.speaker for u in made.values()) == sorted(
        ["anna"] * 3 + ["ben"] * 3 + ["carla"] * 2 + ["dora"]
    )
    assert "anna-day_0" in made


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"audio_filepath": "clips/a0.wav"}', r"jsonl:1: none of text: .*the keys here: audio_fi"),
        ('{"text": "hello"}', "none of file: file, path"),
        ('{"path": "clips/a0.wav", "text": "x", "offset": 2.5}', "offset 2.5 without a duration"),
        ('{"path": "a.wav", "text": "x", "offset": "b", "duration": 1}', "'b' is not a time in se"),
        ('{"path": "a.wav", "text": "x", "offset": -1, "duration": 1}', "'-1' is not a time in se"),
        ("[1]", "jsonl:1: a list"),
        ('{"path": "clips/b.wav", "text": "x"}', "jsonl:1: .*b.wav"),
    ],
)
def test_wrong_manifests(clips, line, says):
    layout_of.table(clips, [line], "transcripts.jsonl")
    with pytest.raises(ValueError, match=says):
        read(clips, language="en")


def test_wrong_tsv(clips):
    layout_of.table(clips, ["clips/a0.wav  some text"], "transcripts.tsv")
    with pytest.raises(ValueError, match=r"tsv:1: 1 fields.*TAB"):
        read(clips, language="en")


def test_encodings_of_excel(clips):
    rows = [f"clips/a{i}.wav;caf\u00e9 {i}" for i in range(10)]
    layout_of.table(clips, rows, encoding="utf-8-sig", newline="\r\n")
    made, ledger = read(clips, language="fr")
    assert {u.text for u in made.values()} == {f"café {i}" for i in range(10)}
    assert ledger.note_counts() == {
        "byte order mark at the beginning passed over": 1,
        "fields separated by semicolons, as some Excels write": 1,
        "ids renamed to <speaker>-<name> in ASCII": 1,
        "split by utterance: speakers may be in two sets": 1,
    }
    layout_of.table(clips, rows, encoding="utf-16")
    with pytest.raises(ValueError, match=r"csv:1: UTF-16.*iconv"):
        read(clips, language="fr")
    layout_of.table(clips, rows, encoding="latin-1")
    with pytest.raises(ValueError, match=r"csv:1: .*UTF-8 .*0xe9"):
        read(clips, language="fr")


def test_texts_with_quotes_commas_and_line_breaks(clips):
    rows = [f"clips/a{i}.wav,t{i}" for i in range(3, 10)]
    rows += [
        'clips/a0.wav,"yes, ""of course"""',
        'clips/a1.wav,"two',
        'lines"',
        "clips/a2.wav,x\\y",
    ]
    layout_of.table(clips, rows)
    found = {u.id: u for u in read(clips, language="en")[0].values()}
    assert found["unknown-clips_a0"].text == 'yes, "of course"'
    assert found["unknown-clips_a1"].text == "two lines"
    assert found["unknown-clips_a1"].where.endswith("csv:9")
    layout_of.table(clips, [f'clips/a{i}.wav\t"t{i}"' for i in range(10)], "transcripts.tsv")
    (clips / "transcripts.csv").unlink()
    made, ledger = read(clips, language="en")
    assert made["unknown-clips_a0"].text == '"t0"'
    assert ledger.note_counts()["text in quotes, which count as text in a TSV"] == 10


def test_a_header_in_any_order_and_another_name_for_the_table(clips):
    rows = ["Speaker\tage\tSentence\tPath", *(f"s{i}\t9\tt{i}\tclips/a{i}.wav" for i in range(10))]
    path = layout_of.table(clips, rows, "mine.TSV")
    made, _ = read(path, language="en")
    assert made["s3-clips_a3"].text == "t3"
    with pytest.raises(ValueError, match="mine.TSV:2: clips/a0 .*language=<code>"):
        read(path)


def test_missing_files_are_prepares_to_judge(clips, tmp_path):
    rows = [f"clips/a{i}.wav,t{i}" for i in range(10)] + ["clips/gone.wav,t"]
    layout_of.table(clips, rows)
    made, _ = read(clips, language="en")
    assert len(made) == 11
    rows += [f"clips/gone{i}.wav,t" for i in range(20)]
    layout_of.table(clips, rows)
    with pytest.raises(ValueError, match="no audio"):
        prepare(custom.CORPUS, clips, SETS, tmp_path / "d", tmp_path / "w", {"language": "en"})


def test_two_tables_are_one_too_many(clips):
    layout_of.table(clips, ["clips/a0.wav,a"])
    layout_of.table(clips, ["clips/a0.wav\ta"], "transcripts.tsv")
    with pytest.raises(ValueError, match="transcripts.tsv and transcripts.csv"):
        read(clips, language="en")


def _sum(name):
    return f"_{zlib.crc32(name.encode()):08x}"


def test_names_that_are_no_ids(clips):
    speakers = ("张三", "李四", "Zoë B-C", "anna", "anna", "annabel")
    names = ("录音 (1)", "甲", "乙", "a1", "anna-2", "a3")
    for name in names:
        speech.write(clips / "clips" / f"{name}.wav", speech.tone(0.2, 300))
    rows = [f"clips/{n}.wav,{n},,{s}" for n, s in zip(names, speakers, strict=True)]
    layout_of.table(clips, rows)
    made, ledger = read(clips, language="zh")
    assert len(made) == 6
    assert len({u.speaker for u in made.values()}) == 5
    assert all(re.fullmatch(r"[\w.]+-[\w.\-]+", id, re.ASCII) for id in made)
    assert f"Zo_B_C-clips__{_sum('clips/乙')}" in made
    assert f"_{_sum('张三')}" in {u.speaker for u in made.values()}
    assert {"anna-clips_a1", "annabel-clips_a3", "anna-clips_anna-2"} <= set(made)
    assert ledger.note_counts()["ids renamed to <speaker>-<name> in ASCII"] == 1


def test_names_that_begin_with_their_speaker_stay(tmp_path):
    for name in ("anna-1", "annabel-1", "x-y-1", "ben_1"):
        speech.write(tmp_path / f"{name}.wav", speech.tone(0.2, 300))
    names = {"anna-1": "anna", "annabel-1": "anna", "x-y-1": "x-y", "ben_1": "ben"}
    layout_of.table(
        tmp_path, [f"{n}.wav\t{n}\ten\t{s}" for n, s in names.items()], "transcripts.tsv"
    )
    found = read(tmp_path)[0]
    assert set(found) == {"anna-1", "anna-annabel-1", "x_y-1", "ben-ben_1"}

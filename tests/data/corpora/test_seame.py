"""SEAME: the whole synthetic copy read back exactly, and what becomes of copies that are not so."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_blora.data import kaldi
from espnet_blora.data.corpora import seame
from espnet_blora.data.prepare import prepare
from espnet_blora.data.records import Ledger
from espnet_blora.data.registry import get_corpus
from espnet_blora.utils.keyed import read_keyed
from tests.data.layouts import seame as layout_of
from tests.data.layouts import speech

SETS = ("train", "valid", "devman", "devsge")


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return layout_of.make(tmp_path_factory.mktemp("seame"))


@pytest.fixture
def copy(layout, tmp_path):
    """A copy of transcripts and split that a test may change; audio files are empty."""
    shutil.copytree(
        layout.root, tmp_path / "LDC2015S04", copy_function=lambda a, b: _copy(Path(a), Path(b))
    )
    shutil.copytree(layout.options["split_dir"], tmp_path / "SEAME-dev-set")
    return tmp_path


def _copy(source, target):
    if source.suffix == ".flac":
        target.touch()
    else:
        shutil.copy(source, target)


def read(root, sets=SETS, **options):
    ledger = Ledger()
    options.setdefault("split_dir", str(root / "SEAME-dev-set"))
    return seame.read(seame.find(root / "LDC2015S04"), sets, ledger, options), ledger


def texts(made):
    return {name: {u.id: u.text for u in some} for name, some in made.items()}


def transcript(root, name="91NC91FBX_0101", phase="phaseII", style="conversation"):
    return root / "LDC2015S04" / "data" / style / "transcript" / phase / f"{name}.txt"


def test_everything_is_read_as_laid_out(layout):
    made, ledger = read(layout.root.parent)
    assert texts(made) == layout.texts
    assert {n: {u.id: u.language for u in some} for n, some in made.items()} == layout.languages
    assert ledger.counts() == layout.skips
    assert ledger.note_counts() == layout.notes
    assert [len(made[name]) for name in SETS] == [9, 1, 10, 10]


def test_records_carry_speaker_recording_and_seconds(layout):
    made, _ = read(layout.root.parent)
    everyone = [u for some in made.values() for u in some]
    speakers = {u.speaker for u in everyone}
    assert speakers == set("nc91f nc92m nc50f ni97m ui96f nc93f ui93f nc94m ni94m".split())
    for u in everyone:
        assert re.fullmatch(rf"{u.speaker}-\w+-\d{{6}}-\d{{6}}", u.id)
        assert u.audio.is_file()
        first, last = (int(part) for part in u.id.split("-")[2:])
        assert abs(u.start * 100 - first) <= 0.5 and abs(u.end * 100 - last) <= 0.5
        assert u.channel is None
        path, _, line = u.where.rpartition(":")
        stands = Path(path).read_text(encoding="utf-8").split("\n")[int(line) - 1].split("\t")
        assert [float(x) / 1000 for x in stands[1:3]] == [u.start, u.end]
    # beyond 999.99 s the list's ids have six digits, before five
    late = [u for u in made["devman"] if u.speaker == "ui93f"]
    assert late[0].start < 1000 < late[-1].start
    # one person in two pairs is one speaker
    pairs = {u.id.split("-")[1] for u in everyone if u.speaker == "nc91f"}
    assert pairs == {"91nc91fbx_0101", "92nc91fbp_0101"}


def test_noise_kept_as_espnet_writes_it(layout):
    made, ledger = read(layout.root.parent, noise="keep")
    assert texts(made) == layout.kept
    assert ledger.counts() == layout.skips


def test_no_order_of_a_directory_listing_matters(layout, shuffled_listings):
    once, ledger = read(layout.root.parent)
    for _ in range(3):
        again, other = read(layout.root.parent)
        assert once == again
        assert (ledger.skips, ledger.notes) == (other.skips, other.notes)
    for name in SETS:
        assert [u.id for u in once[name]] == sorted(u.id for u in once[name])


def test_a_set_is_the_same_whatever_else_is_asked_for(layout):
    made, _ = read(layout.root.parent)
    for name in SETS:
        alone, _ = read(layout.root.parent, [name])
        assert alone == {name: made[name]}


def test_more_utterances_and_fewer(tmp_path):
    for count in (4, 14):
        small = layout_of.make(tmp_path / str(count), utterances=count, seed=count)
        made, ledger = read(small.root.parent)
        assert texts(made) == small.texts
        assert ledger.counts() == small.skips
        assert ledger.note_counts() == small.notes


def test_data_directories_are_kaldis_and_a_second_run_changes_nothing(
    layout, tmp_path, kaldi_says, tree
):
    def run():
        places = tmp_path / "data", tmp_path / "audio"
        return prepare(seame.CORPUS, layout.root, SETS, *places, layout.options)

    for done in run().sets:
        assert kaldi_says(done.directory) == ""
        assert set(read_keyed(done.directory / "wav.scp")) == set(layout.texts[done.name])
        assert kaldi.validate(done.directory, mono_16k=True).languages == {"zh": done.utterances}
        assert done.left_out == {}
    before = tree(tmp_path / "data", tmp_path / "audio")
    assert all(done.unchanged for done in run().sets)
    assert tree(tmp_path / "data", tmp_path / "audio") == before


@pytest.mark.parametrize("place", ["devman", "devsge", "train"])
def test_half_of_the_audio_is_not_a_set(layout, tmp_path, place):
    """Recordings that are not there count against the sets of their utterances."""
    shutil.copytree(layout.root, tmp_path / "LDC2015S04")
    made, _ = read(layout.root.parent)
    gone = sorted({u.audio.name for u in made[place]})[::2]
    for path in tmp_path.rglob("*.flac"):
        if path.name in gone:
            path.unlink()
    lost = sum(u.audio.name in gone for u in made[place])
    folders = tmp_path / "data", tmp_path / "audio"
    arguments = (seame.CORPUS, tmp_path / "LDC2015S04", [place], *folders, layout.options)
    kept = len(made[place]) - lost
    if place != "train":  # of train, short and empty lines are not read, and some are valid's
        with pytest.raises(ValueError, match=rf"{place}: {kept} of \d+ .*--max_lost"):
            prepare(*arguments)
        assert prepare(*arguments, max_lost=0.9).sets[0].utterances == kept
    else:
        with pytest.raises(ValueError, match=r"train: .* without their recording.*--max_lost"):
            prepare(*arguments)


def test_audio_is_that_of_the_line(layout, tmp_path):
    """Also from 44.1 kHz stereo, and past 1000 s of 8 kHz."""
    prepare(seame.CORPUS, layout.root, SETS, tmp_path, tmp_path / "audio", layout.options)
    made, _ = read(layout.root.parent)
    for name in SETS:
        for u in made[name]:
            wave, rate = soundfile.read(tmp_path / "audio" / name / f"{u.id}.flac")
            assert rate == 16000
            assert abs(len(wave) / rate - (u.end - u.start)) < 0.002
            spoken = speech.say(u.text, "zh", voice=layout_of.VOICES[u.speaker])
            size = min(len(wave), len(spoken))
            assert np.corrcoef(wave[:size], spoken[:size])[0, 1] > 0.9, u.id


def test_validation_utterances_by_count(layout):
    made, _ = read(layout.root.parent, valid="4")
    assert [len(made["train"]), len(made["valid"])] == [6, 4]
    both = {u.id for u in made["train"] + made["valid"]}
    assert both == set(layout.texts["train"]) | set(layout.texts["valid"])
    with pytest.raises(ValueError, match="valid=10: .*10 "):
        read(layout.root.parent, valid="10")


def test_prompt_language_by_line(layout):
    made, _ = read(layout.root.parent, language="by_line")
    found = {u.text: u.language for some in made.values() for u in some}
    assert found["okay er can we start ah"] == "en"
    assert found["不是啊他说的"] == "zh"
    assert found["she's很 busy huh"] == "zh"  # CS


def test_reference_of_the_split(copy):
    path = copy / "SEAME-dev-set" / "dev_man" / "text"
    path.write_text(path.read_text(encoding="utf-8").replace("我 昨 天", "你 明 天"), "utf-8")
    ours, _ = read(copy, ["devman"])
    theirs, _ = read(copy, ["devman"], reference="split")
    changed = [(a.text, b.text) for a, b in zip(*ours.values(), *theirs.values(), strict=True)]
    assert ("我昨天去 library借书 lah然后就回家", "你明天去 library借书 lah然后就回家") in changed
    assert sum(a != b for a, b in changed) == 1


def test_phase_one(copy):
    made, ledger = read(copy, phase="I")
    assert [len(made[name]) for name in SETS] == [9, 1, 10, 10]
    # phase I has no line that leaves only the times, but one without a transcript in every file
    assert ledger.counts()["missing field"] == len(layout_of.RECORDINGS) + 1
    assert texts(made) == texts(read(copy)[0])


def test_phases_mixed_up_are_noticed(copy):
    folder = copy / "LDC2015S04" / "data" / "conversation" / "transcript"
    interview = copy / "LDC2015S04" / "data" / "interview" / "transcript"
    for top in (folder, interview):
        (top / "phaseII").rename(top / "old")
    with pytest.raises(FileNotFoundError, match="phase=I "):
        read(copy)
    for top in (folder, interview):
        (top / "phaseI").rename(top / "phaseII")
    with pytest.raises(ValueError, match="phase=I "):
        read(copy)
    for top in (folder, interview):
        (top / "old").rename(top / "phaseI")
    with pytest.raises(ValueError, match=r"\.txt:1: .* phase=II"):
        read(copy, phase="I")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"91NC91FBX_0101\t1.5\t2000\tCS\tok", "times '1.5' and '2000'; whole milliseconds"),
        (b"91NC91FBX_0101\t15\t2000\tCS\t\xff", r"not UTF-8 \(byte 0xff"),
    ],
)
def test_bad_lines_name_file_and_line(copy, bad, says):
    path = transcript(copy)
    path.write_bytes(path.read_bytes() + bad + b"\n")
    number = path.read_bytes().count(b"\n")
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}:{number}: {says}"):
        read(copy)


def test_wrong_times_are_told_together(copy):
    for name in ("91NC91FBX_0101", "93NC93FBX_0101"):
        with transcript(copy, name).open("a", encoding="utf-8") as file:
            file.write(f"{name}\t1.5\t2000\tCS\tok\n")
    with pytest.raises(ValueError, match="2 wrong rows") as caught:
        read(copy)
    assert len(re.findall(r"(91NC91|93NC93)FBX_0101\.txt:\d+: times", str(caught.value))) == 2


def test_other_encodings_are_told_together(copy):
    for name in ("91NC91FBX_0101", "93NC93FBX_0101"):
        with transcript(copy, name).open("ab") as file:
            file.write(f"{name}\t15\t2000\tCS\té\n".encode("latin-1") * 3)
    with pytest.raises(ValueError, match="2 wrong rows") as caught:
        read(copy)
    assert len(re.findall(r"not UTF-8 .*, as are 2 lines below", str(caught.value))) == 2


def test_odd_lines_are_listed(copy):
    path = transcript(copy)
    lines = [
        "91NC91FBX_0101\t90000\t91000\tXX\tno such language",
        "91NC91FBX_0101\t92000\t93000\tcs\tone\ttwo",
        "91NC91FB_0101\t94000\t95000\tEN\tmisspelt",
        "91NC91FBX_0101\t96000\t95000\tEN\tbackwards",
        "92nc91fbp_0101\t97000\t98000\tEN\telsewhere",
    ]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines))
    made, ledger = read(copy)
    found = {u.id: u.text for name in ("train", "valid") for u in made[name]}
    assert len(found) == 13
    assert found["nc91f-91nc91fbx_0101-009200-009300"] == "one two"
    assert found["nc91f-91nc91fbx_0101-009400-009500"] == "misspelt"
    assert found["nc91f-92nc91fbp_0101-009700-009800"] == "elsewhere"
    assert ledger.note_counts()["TAB inside the text"] == 1
    assert ledger.note_counts()["line of another recording; the file's name counts"] == 1
    assert ledger.counts()["missing field"] == 2
    assert ledger.counts()["shorter than 2 cs"] == 2


def test_lines_that_name_another_recording_than_their_file_are_noted(copy):
    path = transcript(copy)
    other = "93NC93FBX_0101\t{}\t{}\tEN\telsewhere\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(other.format(90000, 91000) + other.format(92000, 93000))
    _, ledger = read(copy)
    (note,) = [entry for entry in ledger.notes if "another recording" in entry.reason]
    assert (note.where, note.id, note.detail) == (str(path), "93nc93fbx_0101", "2 lines")


def test_speaker_of_a_test_set_in_train_is_noted(copy):
    path = copy / "SEAME-dev-set" / "train" / "wav_file.txt"
    path.write_text(path.read_text() + "./x/95nc95fbx_0101/95nc95fbx_0101.wav\n")
    for one in copy.rglob("93NC93FBX_0101.*"):
        shutil.copy(one, one.with_name(f"98NC93FBX_0101{one.suffix}"))
    moved = transcript(copy, "98NC93FBX_0101")
    moved.write_text(moved.read_text("utf-8").replace("93NC93", "98NC93"), "utf-8")
    path.write_text(path.read_text() + "./x/98nc93fbx_0101/98nc93fbx_0101.wav\n")
    _, ledger = read(copy)
    noted = [entry for entry in ledger.notes if entry.reason.startswith("speaker of a test set")]
    assert [(entry.id, entry.detail) for entry in noted] == [("nc93f", "devman")]


def test_no_line_of_a_test_set_is_trained_on(copy):
    path = copy / "SEAME-dev-set" / "train" / "wav_file.txt"
    path.write_text(path.read_text() + "./x/93nc93fbx_0101/93nc93fbx_0101.wav\n")
    made, ledger = read(copy, ["train", "valid"])
    trained = [u for u in made["train"] + made["valid"] if u.speaker == "nc93f"]
    assert [u.text for u in trained] == [layout_of.filler(28).clean]  # in no official list
    assert ledger.note_counts()["speaker of a test set is also in train"] == 1


def test_second_file_of_a_recording_and_missing_training_recording(copy, shuffled_listings):
    audio = copy / "LDC2015S04" / "data" / "interview" / "audio"
    (audio / "ni97mbp_0101.WAV").touch()
    (audio / "UI96FAZ_0105.flac").unlink()
    made, ledger = read(copy)
    counts = ledger.counts()
    second = [e for e in ledger.skips if e.reason == "second audio file of a recording"]
    assert [Path(entry.where).name for entry in second] == ["ni97mbp_0101.WAV"]
    assert counts["no audio"] == 2
    assert counts["training recording without audio or transcript"] == 1
    assert not any(u.speaker == "ui96f" for u in made["train"] + made["valid"])


@pytest.mark.parametrize(
    ("below", "given"),
    [
        ("LDC2015S04/data", "LDC2015S04"),
        ("LDC2015S04/data", "LDC2015S04/data"),
        ("LDC2015S04/data", "."),
        ("LDC2015S04/seame/data", "LDC2015S04"),
        ("seame/data", "."),
        ("seame", "."),
        (".", "."),
    ],
)
def test_the_copies_that_are_about(tmp_path, below, given):
    for style in seame.STYLES:
        (tmp_path / below / style / "audio").mkdir(parents=True)
    assert seame.find(tmp_path / given).resolve() == (tmp_path / below).resolve()


def test_two_discs_without_a_level_for_the_phase(copy):
    data = copy / "LDC2015S04" / "data"
    for number, style in enumerate(seame.STYLES, 1):
        target = copy / "discs" / f"seame_d{number}" / "data" / style
        shutil.copytree(data / style / "audio", target / "audio")
        shutil.copytree(data / style / "transcript" / "phaseII", target / "transcript")
    root = seame.find(copy / "discs")
    assert root == copy / "discs"
    options = {"split_dir": str(copy / "SEAME-dev-set")}
    whole, _ = read(copy)
    assert texts(seame.read(root, SETS, Ledger(), options)) == texts(whole)
    with pytest.raises(FileNotFoundError, match="conversation is in .*discs "):
        seame.find(copy / "discs" / "seame_d1")


def test_half_a_copy_is_named(tmp_path):
    (tmp_path / "seame_d1" / "data" / "conversation" / "audio").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="conversation is in "):
        seame.find(tmp_path)


def test_wrong_roots_say_what_was_looked_for(copy):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        seame.find(copy / "nowhere")
    with pytest.raises(FileNotFoundError, match="conversation/audio .*interview/audio"):
        seame.find(copy / "SEAME-dev-set" / "dev_man")
    data = copy / "LDC2015S04" / "data"
    with pytest.raises(FileNotFoundError, match=f"give {re.escape(str(data))} instead"):
        seame.find(data / "conversation")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"noise": "no"}, "noise=no: allowed are remove, keep"),
        ({"phase": "2"}, "phase=2: allowed are II, I"),
        ({"language": "en"}, "language=en: allowed are zh, by_line"),
        ({"reference": "dev"}, "reference=dev: allowed are phase2, split"),
        ({"phase": "I", "language": "by_line"}, "lines of phase I carry no language"),
        ({"valid": "five"}, "valid=five: a count"),
    ],
)
def test_bad_options(layout, options, says):
    with pytest.raises(ValueError, match=says):
        read(layout.root.parent, **options)


def test_inspection(layout):
    items = {i.what: i for i in seame.inspect(seame.find(layout.root), layout.options)}
    assert items["conversation: recordings"].found == "8"
    assert items["interview: transcripts, phase II"].found == "5"
    assert (items["train: recordings"].found, items["train: recordings"].ok) == ("6", False)
    assert items["devman: utterances found"] == seame.Item(
        "devman: utterances found", "10", "6,531", False
    )
    assert items["devsge: hours"].expected == "3.93"
    assert items["no audio"].found == "1"
    assert float(items["hours of audio"].found) > 0.2


def test_inspection_without_split_and_with_damaged_audio(copy):
    items = {
        i.what: i for i in seame.inspect(seame.find(copy), {"split_dir": str(copy / "nothing")})
    }
    assert "git clone" in items["official split"].found
    assert items["official split"].ok is False
    assert not (copy / "nothing").exists()
    assert items["hours of audio"].ok is False
    assert "12 unreadable" in items["hours of audio"].found


def test_many_lines(tmp_path):
    many = layout_of.make_lines(tmp_path, 5000)
    made, ledger = read(many.root.parent)
    assert sum(map(len, made.values())) + ledger.counts()["recording not in the split"] > 4500
    assert [len(made[name]) > 800 for name in ("devman", "devsge")] == [True, True]


def test_corpus_is_registered():
    corpus = get_corpus("seame")
    assert set(corpus.sets) == set(SETS)
    assert corpus.find is seame.find

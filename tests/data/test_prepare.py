"""Preparation writes what the corpus says, the same way always, and goes on where it stopped."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_blora.bin import prepare_corpus
from espnet_blora.data import clips, kaldi
from espnet_blora.data.prepare import prepare
from espnet_blora.data.records import Expected, Ledger, Utterance
from espnet_blora.scoring.job import open_job
from espnet_blora.utils.keyed import read_keyed
from tests.data.layouts import speech, toy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def layout(tmp_path):
    return toy.make(tmp_path / "corpus")


@pytest.fixture
def run(tmp_path, layout, monkeypatch):
    """Prepare the toy corpus with paths relative to a folder of its own."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def go(sets=("all",), corpus=toy.CORPUS, folder=".", **rest):
        Path(folder).mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        summary = prepare(corpus, layout.root, sets, "data", "clips", **rest)
        monkeypatch.chdir(tmp_path / "work")
        return summary

    return go


def test_what_is_written(run, layout, kaldi_says):
    summary = run(prefix="toy_")
    directory = Path("data/toy_all")
    assert read_keyed(directory / "text") == layout.texts["all"]
    assert read_keyed(directory / "utt2lang") == layout.languages["all"]
    wav = read_keyed(directory / "wav.scp")
    assert wav["s0-000"] == "clips/toy_all/s0-000.flac"
    for n, key in enumerate(f"s{n % 3}-{n:03d}" for n in range(6)):
        wave, rate = soundfile.read(wav[key])
        assert (rate, wave.shape) == (16000, (8000,))
        assert abs(speech.loudest_hz(wave) - (300 + 50 * n)) < 5
    assert set(read_keyed(directory / "utt2dur").values()) == {"0.5000"}
    assert kaldi.validate(directory, mono_16k=True).seconds == 3.0
    assert kaldi_says(directory) == ""
    left_out = (directory / "left_out.tsv").read_text("utf-8")
    assert left_out == "table.tsv:1\t\tskip\tmissing field\tnot whole\n"
    assert (directory / "notes.tsv").read_text("utf-8") == ""
    published = json.loads((directory / "published.json").read_text("utf-8"))
    assert published == {"utterances": 6, "hours": 0.5, "source": "nobody"}
    assert open_job(directory, directory).published == published
    (one,) = summary.sets
    assert (one.utterances, one.seconds, one.unchanged) == (6, 3.0, False)
    assert summary.lines() == [
        f"toy: read from {layout.root}",
        "  left out in reading, missing field: 1",
        "data/toy_all: 6 utterances, 0.00 h (published: 6 utterances, 0.5 h, nobody)",
        "each of these is named in left_out.tsv or notes.tsv of data/toy_all",
    ]


def test_a_second_run_does_nothing(run, tree, monkeypatch):
    run(("all", "two"))
    before = {p: p.stat().st_mtime_ns for p in Path().rglob("*")}
    monkeypatch.setattr(clips, "cut_all", None)
    summary = run(("all", "two"))
    assert [one.unchanged for one in summary.sets] == [True, True]
    assert [one.utterances for one in summary.sets] == [6, 2]
    assert {p: p.stat().st_mtime_ns for p in Path().rglob("*")} == before


def test_listings_processes_and_hash_seeds_do_not_matter(
    run, layout, tree, tmp_path, shuffled_listings
):
    run(folder="one")
    run(folder="two", nj=2)
    (tmp_path / "three").mkdir()
    code = (
        "import sys\nfrom pathlib import Path\nfrom espnet_blora.data.prepare import prepare\n"
        "from tests.data.layouts import toy\n"
        "prepare(toy.CORPUS, Path(sys.argv[1]), ['all'], 'data', 'clips')\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(layout.root)],
        cwd=tmp_path / "three",
        env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)},
        check=True,
    )
    folders = [Path("one"), Path("two"), tmp_path / "three"]
    one, two, three = (tree(folder / "data", folder / "clips") for folder in folders)
    assert one == two == three
    assert len(one) == 10 + 6 + 1


def test_an_interrupted_run_goes_on(run, tree, monkeypatch):
    run(folder="whole")
    real, cut = clips.cut_recording, []

    def dying(source, wanted):
        if len(cut) == 2:
            raise KeyboardInterrupt
        cut.append(source.name)
        return real(source, wanted)

    monkeypatch.setattr(clips, "cut_recording", dying)
    with pytest.raises(KeyboardInterrupt):
        run(folder="part")
    assert not Path("part/data").exists()
    os.chdir("..")  # the interrupted run stayed in its folder
    with Path("part/clips/all/cuts.jsonl").open("a") as file:
        file.write('["s2-00')  # a line the crash cut short
    Path("part/clips/all/.s2-002.flac.1.part").write_bytes(b"x")
    first, cut[:] = list(cut), []
    run(folder="part")
    assert [*first, *cut] == ["flac.flac", "sph.sph", "wav.wav"]
    assert tree(Path("part")) == {
        name.replace("whole", "part"): data for name, data in tree(Path("whole")).items()
    }


def test_only_what_changed_is_cut_again(run, layout, monkeypatch):
    run()
    table = layout.root / "table.tsv"
    lines = table.read_text("utf-8").splitlines(keepends=True)
    kept = [line.replace("want", "need") for line in lines if not line.startswith("s1-004")]
    table.write_text("".join(kept), encoding="utf-8")
    speech.write(layout.root / "audio" / "sph.sph", np.zeros((24000, 2)), 8000)
    cut, real = [], clips.cut_recording
    monkeypatch.setattr(clips, "cut_recording", lambda s, c: cut.extend(c) or real(s, c))
    (one,) = run().sets
    assert sorted(clip.id for clip in cut) == ["s2-002", "s2-005"]
    assert (one.utterances, dict(one.notes), one.unchanged) == (5, {"silent": 2}, False)
    assert read_keyed("data/all/text")["s0-003"] == "我们 need 3"
    assert sorted(p.name for p in Path("clips/all").glob("*.flac")) == [
        f"{key}.flac" for key in read_keyed("data/all/wav.scp")
    ]


@pytest.mark.parametrize("gone", ["data/all/utt2lang", "clips/all/s1-001.flac", "clips"])
def test_what_was_deleted_comes_back(run, tree, gone):
    run()
    before = tree(Path("data"), Path("clips"))
    path = Path(gone)
    if path.is_dir():
        path.rename("elsewhere")
    else:
        path.unlink()
    assert not run().sets[0].unchanged
    assert tree(Path("data"), Path("clips")) == before


def with_records(change, **fields):
    """The toy corpus with its records changed."""

    def read(*arguments):
        return {name: change(list(us)) for name, us in toy.read(*arguments).items()}

    return dataclasses.replace(toy.CORPUS, read=read, **fields)


def test_losses_are_listed_and_too_many_are_an_error(run, layout):
    (layout.root / "audio" / "wav.wav").write_bytes(b"no audio at all")
    summary = run(max_lost=0.05)
    assert dict(summary.sets[0].left_out) == {"unreadable audio": 2}
    assert "  left out, unreadable audio: 2" in summary.lines()
    assert "  differs by -2 utterances" in summary.lines()
    rows = [line.split("\t") for line in Path("data/all/left_out.tsv").read_text().splitlines()]
    assert [row[1:4] for row in rows][1:] == [
        ["s1-004", "skip", "unreadable audio"],
        ["s1-001", "skip", "unreadable audio"],
    ]
    assert "wav.wav: cannot be read as audio" in rows[1][4]
    (layout.root / "audio" / "sph.sph").unlink()
    with pytest.raises(ValueError, match=r"all: 2 of 6 .*\(2 no audio, 2 un"):
        run(max_lost=0.05)
    assert kaldi.validate("data/all").utterances == 4  # the old directory is as it was
    run(max_lost=0.7)
    assert kaldi.validate("data/all").utterances == 2
    (layout.root / "audio" / "flac.flac").unlink()
    with pytest.raises(ValueError, match="all: 0 of 6"):
        run(max_lost=1.0)


def test_lists_hold_what_concerns_their_set(run):
    """By id, else by the transcript's file; what no set can be told of is in all."""

    def read(root, sets, ledger, options):
        own = toy.read(root, ["all"], Ledger(), options)["all"]
        told = [dataclasses.replace(u, where=f"{u.speaker}.txt:1") for u in own]
        ledger.note("s0.txt:1", "s0-000", "odd", "of an utterance of one")
        ledger.note("s1.txt:9", "s1", "odd", "of its file")
        ledger.skip("s1.txt:5", "s1-009", "empty after cleaning")
        ledger.skip("elsewhere.txt:1", "x", "no audio")
        return {"one": told[:2], "two": told[2:4]}

    sets = {"one": Expected(), "two": Expected()}
    run(("one", "two"), dataclasses.replace(toy.CORPUS, sets=sets, read=read))

    def listed(name):
        return [row.split("\t")[1] for row in Path("data", name).read_text().splitlines()]

    assert listed("one/notes.tsv") == ["s0-000"] and listed("one/left_out.tsv") == ["x"]
    assert listed("two/notes.tsv") == ["s1"] and listed("two/left_out.tsv") == ["x", "s1-009"]


def read_all(root, sets, ledger, options):
    """Read all utterances into each set."""
    return dict.fromkeys(sets, toy.read(root, ["all"], ledger, options)["all"])


def test_by_default_a_test_set_is_whole(run, layout):
    sets = dict.fromkeys(("train_cs", "cs_valid", "dev", "devman", "test"), Expected())
    corpus = dataclasses.replace(toy.CORPUS, sets=sets, read=read_all)
    (layout.root / "audio" / "wav.wav").unlink()
    summary = run(("train_cs", "cs_valid", "dev"), corpus)
    assert [one.utterances for one in summary.sets] == [4, 4, 4]
    for name in ("devman", "test"):
        with pytest.raises(ValueError, match=rf"{name}: 4 of 6 .*\(2 no audio\).*--max_lost"):
            run((name,), corpus)
        assert run((name,), corpus, max_lost=0.05).sets[0].utterances == 4


def test_what_the_reader_missed_counts_as_lost(run):
    def read(root, sets, ledger, options):
        ledger.missing |= {"train": 3, "test": 1}
        return read_all(root, sets, ledger, options)

    sets = dict.fromkeys(("train", "valid", "test"), Expected())
    corpus = dataclasses.replace(toy.CORPUS, sets=sets, read=read)
    run(("valid",), corpus)
    with pytest.raises(ValueError, match=r"train: 6 of 9 .*\(3 without their recording\)"):
        run(("train",), corpus)
    with pytest.raises(ValueError, match=r"test: 6 of 7 .*\(1 without their recording\)"):
        run(("test",), corpus)
    assert [one.utterances for one in run(("train", "test"), corpus, max_lost=0.5).sets] == [6, 6]


def test_texts_are_fit_for_kaldi(run, kaldi_says):
    texts = [
        "a\u00a0b\u2028c ",
        "\ufeffx\x07 y\x07",
        "  \u3000",
        "say <s> now",
        "می\u200cروم",
        "ok",
    ]

    def change(us):
        return [dataclasses.replace(u, text=t) for u, t in zip(us, texts, strict=True)]

    (one,) = run(corpus=with_records(change)).sets
    assert list(read_keyed("data/all/text").values()) == ["a b c", "x y", "می\u200cروم", "ok"]
    assert dict(one.left_out) == {"empty text": 1, "text holds <s>, </s> or #0": 1}
    assert dict(one.notes) == {"control characters removed": 1}
    assert kaldi_says("data/all") == ""


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"id": "s0-a b"}, "utterance 's0-a b': ids are 1 to 200 ASCII"),
        ({"id": "s0-(a)"}, "without blanks, '('"),
        ({"id": "s0-../a"}, "and '/'"),
        ({"id": "s0-我"}, "ASCII"),
        ({"id": "s0-003"}, "the id occurs twice, first at table.tsv:7"),
        ({"speaker": "other"}, "must start with its speaker and '-': 'other-'"),
        ({"language": "fr"}, "language 'fr'; toy has zh, en"),
        ({"end": None}, "start 0.5 and end None"),
    ],
)
def test_records_that_break_the_contract(run, fields, says):
    corpus = with_records(lambda us: [dataclasses.replace(us[0], **fields), *us[1:]])
    with pytest.raises(ValueError, match=r"table.tsv:[47]: all: utterance") as caught:
        run(corpus=corpus)
    assert says in str(caught.value)
    assert not Path("data").exists()


def test_speakers_whose_order_kaldi_refuses(run, layout):
    def change(us: list[Utterance]) -> list[Utterance]:
        first = dataclasses.replace(us[0], id="a-z", speaker="a")
        return [first, dataclasses.replace(us[1], id="a-b-c", speaker="a-b"), *us[2:]]

    with pytest.raises(ValueError, match="'a' .*'a-b'"):
        run(corpus=with_records(change))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sets": ["nosuch"]}, "toy has no set nosuch; it has all, two"),
        ({"sets": []}, "toy has no set without a name"),
        ({"options": {"x": "1"}}, "toy has no option x; it has language: of all"),
        ({"nj": 0}, "nj must be at least 1"),
    ],
)
def test_wrong_requests(run, arguments, says):
    with pytest.raises(ValueError, match=says):
        run(**arguments)


def test_a_blank_in_the_audio_folder(layout, tmp_path):
    with pytest.raises(ValueError, match="my clips"):
        prepare(toy.CORPUS, layout.root, ["all"], tmp_path / "d", tmp_path / "my clips")


def program(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(prepare_corpus, "get_corpus", lambda name: toy.CORPUS)
    status = prepare_corpus.main(["toy", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_program(layout, tmp_path, monkeypatch, capsys):
    words = [
        "--corpus_dir",
        layout.root,
        "--data_dir",
        tmp_path / "d",
        "--clips_dir",
        tmp_path / "a",
    ]
    words += ["--nj", 1, "--sets"]
    status, out, _ = program(
        monkeypatch, capsys, *words, "two", "--corpus_option", "language=en", "--prefix", "p_"
    )
    assert status == 0
    assert "2 utterances" in out
    assert set(read_keyed(tmp_path / "d/p_two/utt2lang").values()) == {"en"}
    old = [str(word).replace("corpus_dir", "root").replace("clips", "audio") for word in words]
    assert program(monkeypatch, capsys, *old, "two", "--option", "language=en")[0] == 0
    for bad, says in (
        (
            ["all", "--corpus_option", "language"],
            "--corpus_option 'language': NAME=VALUE is expected",
        ),
        (["all two three"], "no set three"),
        (["all", "--corpus_dir", tmp_path / "nosuch"], "no table.tsv"),
    ):
        status, out, err = program(monkeypatch, capsys, *words, *bad)
        assert (status, out) == (2, "")
        assert err.startswith("prepare_corpus: error: ")
        assert err.count("\n") == 1
        assert says in err


@pytest.mark.parametrize("place", ["data", "audio"])
def test_a_folder_that_cannot_be_written_is_one_line(layout, tmp_path, monkeypatch, capsys, place):
    (tmp_path / "file").write_text("in the way")
    folders = {"data": tmp_path / "d", "audio": tmp_path / "a", place: tmp_path / "file" / "x"}
    words = ["--corpus_dir", layout.root, "--sets", "all", "--nj", 1]
    words += ["--data_dir", folders["data"], "--clips_dir", folders["audio"]]
    status, _, err = program(monkeypatch, capsys, *words)
    assert status == 2
    assert err.count("\n") == 1
    assert str(tmp_path / "file") in err


# A process of its own: the limit on the size of a file would also hold for the test runner's files.
ON_A_SMALL_DISK = """
import resource, signal, sys
from espnet_blora.bin import prepare_corpus
from tests.data.layouts import toy
prepare_corpus.get_corpus = lambda name: toy.CORPUS
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.exit(prepare_corpus.main(["toy", *sys.argv[1:]]))
"""


def test_a_full_disk_is_one_line(layout, tmp_path, monkeypatch, capsys):
    words = ["--corpus_dir", layout.root, "--sets", "all", "--nj", 1]
    words += ["--data_dir", tmp_path / "d", "--clips_dir", tmp_path / "a"]
    done = subprocess.run(
        [sys.executable, "-c", ON_A_SMALL_DISK, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    error = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert "could not write" in error
    assert "s0-000.flac" in error
    assert not list(tmp_path.rglob("*.part"))
    assert not list((tmp_path / "a").rglob("*.flac"))
    assert program(monkeypatch, capsys, *words)[0] == 0

"""The program: results and messages as a user sees them, and a status that says what happened."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_blora.bin import demo, transcribe
from espnet_blora.decoding import output, recogniser
from tests import experiments

PAGE = Path(__file__).resolve().parents[2] / "docs/transcribe.md"
RATE = 16000
SHORT = ("--max_tokens", "6", "--beam_size", "1", "--language", "en")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return experiments.whisper_file(tmp_path_factory.mktemp("whisper") / "w.safetensors")


@pytest.fixture(scope="module")
def blora(whisper, tmp_path_factory):
    return experiments.experiment(tmp_path_factory.mktemp("exp") / "asr_blora", whisper, "blora")[0]


def noise(seconds, seed=0):
    """Noise that is louder and softer as speech is."""
    samples = round(seconds * RATE)
    syllables = 0.1 + 0.9 * (np.arange(samples) // 1600 % 3 != 2)
    return 0.1 * syllables * np.random.default_rng(seed).standard_normal(samples)


@pytest.fixture
def audio(tmp_path, monkeypatch):
    """Two good files in the current folder."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", noise(1.0), RATE)
    soundfile.write("b.flac", noise(0.5, 1), RATE)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run it; return status, lines of standard error, standard output."""

    def go(*words):
        status = transcribe.main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return status, said.err.splitlines(), said.out

    return go


def results(folder="."):
    return {path.stem: json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))}


def test_an_experiment_on_some_files(audio, blora, run):
    status, lines, out = run("--asr_exp", blora, *SHORT, "a.wav", "b.flac", "--output_dir", "out")
    assert status == 0 and out == ""
    assert lines[0].startswith("[1/2] a.wav: 1.00 s, en, ") and len(lines) == 3
    assert lines[2].startswith("2 of 2 files transcribed: 1.5 s of audio in ")
    assert sorted(p.name for p in Path("out").iterdir()) == sorted(
        f"{stem}.{form}" for stem in "ab" for form in ("json", "srt", "vtt", "tsv", "txt")
    )
    found = results("out")
    assert found["a"]["segments"][0]["tokens"] and found["a"]["language"] == "en"
    assert Path("out/a.txt").read_text().split() == found["a"]["text"].split()


def test_bad_audio_beside_good(audio, blora, run):
    """Each bad file has a line with its name and what is wrong; the good ones are transcribed."""
    run("--asr_exp", blora, *SHORT, "a.wav", "b.flac", "--output_dir", "alone")
    stream = io.BytesIO()
    soundfile.write(stream, noise(2.0), RATE, format="FLAC")
    Path("cut.flac").write_bytes(stream.getvalue()[:20000])
    Path("empty.wav").write_bytes(b"")
    Path("text.wav").write_text("not audio")
    Path("folder.wav").mkdir()
    soundfile.write("nothing.wav", np.zeros(0), RATE)
    soundfile.write("nan.wav", np.full(1000, np.nan), RATE, subtype="FLOAT")
    soundfile.write("cd.wav", np.stack([noise(1.0), noise(1.0)], axis=1), 44100)
    soundfile.write("tiny.wav", noise(0.02), RATE)
    soundfile.write("long.wav", noise(65), RATE)
    bad = {
        "cut.flac": "damaged or cut off",
        "empty.wav": "the file is empty: fetch it again",
        "text.wav": "cannot be read as audio",
        "folder.wav": "a folder; name the files in it",
        "nothing.wav": "holds no samples",
        "nan.wav": "NaN or infinite samples, first at 0.00 s",
        "gone.wav": "no such audio file",
    }
    good = ["a.wav", "cd.wav", "tiny.wav", "long.wav", "b.flac"]
    status, lines, _ = run("--asr_exp", blora, *SHORT, *bad, *good, "--output_dir", "out")
    assert status == 1
    failed = {line.split()[2].rstrip(":"): line for line in lines if " FAILED " in line[:16]}
    assert failed.keys() == bad.keys()
    assert all(said in failed[name] for name, said in bad.items())
    assert lines[-1].startswith("5 of 12 files transcribed, 7 FAILED (named above): ")
    (cd,) = [line for line in lines if "cd.wav" in line]
    assert "; 2 channels, their mean is taken; 44100 Hz, resampled to 16000" in cd
    found = results("out")
    assert found.keys() == {"a", "b", "cd", "tiny", "long"}
    assert {"a": found["a"], "b": found["b"]} == results("alone")
    assert len(found["long"]["segments"]) == 3
    assert found["long"]["segments"][-1]["end"] == 65.0


def test_models_that_are_named_in_other_ways(audio, whisper, blora, run):
    """A plain Whisper is the experiment with its adapter turned down to nothing."""

    def score(*words):
        done = run(*words, *SHORT, "a.wav", "--output_format", "json", "--overwrite")
        assert done[0] == 0, done
        return results()["a"]["segments"][0]["avg_logprob"]

    plain, trained_ = score("--whisper", whisper, "--pad_to", "batch"), score("--asr_exp", blora)
    assert plain != trained_ and plain != score("--whisper", whisper)  # Whisper's own window
    assert plain == score("--asr_exp", blora, "--adapter_scale", "0")
    assert trained_ == score("--asr_exp", blora, "--model_file", "valid.acc.best.pth")
    assert trained_ == score("--asr_exp", blora / "valid.acc.best.pth")
    recogniser.open_experiment(blora, merge=False).adapter.save("x.safetensors")
    named = ("--adapter", "x.safetensors", "--whisper", whisper)
    assert trained_ == score(*named, "--pad_to", "batch")


def test_times_confidences_languages_and_formats(audio, blora, run):
    Path("utt2lang").write_text("a zh\n")
    status, lines, out = run(
        "--asr_exp", blora, "a.wav", "b.flac", "--language", "utt2lang", "--max_tokens", 6,
        "--word_timestamps", "--confidence", "--samples", 2, "--confidence_temperature", 1.5,
        "--rule", "espnet", "--beam_size", 2, "--output_format", "json,srt", "--verbose",
        "--threads", 1, "--no_repeat_ngram_size", 3, "--initial_prompt", "Acme",
    )  # fmt: skip
    assert status == 1
    assert any(
        "FAILED b.flac: no language is given for it; add the line 'b CODE'" in x for x in lines
    )
    assert sorted(p.name for p in audio.iterdir()) == [
        "a.json",
        "a.srt",
        "a.wav",
        "b.flac",
        "utt2lang",
    ]
    found = results()["a"]
    assert found["language"] == "zh" and len(found["segments"][0]["tokens"]) <= 6
    words = [word for segment in found["segments"] for word in segment["words"]]
    assert words and all(
        word.keys() == {"word", "start", "end", "probability", "confidence"} for word in words
    )
    assert out.splitlines()[0] == "a.wav" and len(out.splitlines()) == 2 + len(found["segments"])
    run(
        "--asr_exp", blora, "b.flac", "--max_tokens", 6, "--beam_size", 1, "--output_format", "json"
    )
    assert 0 < results()["b"]["language_probability"] <= 1


def test_nothing_is_overwritten_unless_asked(audio, blora, run):
    Path("a.txt").write_text("what was really said")
    status, lines, _ = run("--asr_exp", blora, *SHORT, "a.wav", "b.flac")
    assert status == 2
    assert len(lines) == 1 and lines[0].startswith("transcribe: error: a.txt ")
    assert "--overwrite" in lines[0]
    assert Path("a.txt").read_text() == "what was really said" and not results()
    assert run("--asr_exp", blora, *SHORT, "a.wav", "--overwrite")[0] == 0
    assert Path("a.txt").read_text() != "what was really said"


def test_what_is_done_is_left_out_and_what_is_not_is_done_anew(audio, blora, run):
    """A file is done when all its formats are there."""
    one = ("--asr_exp", blora, *SHORT, "--output_format", "json,srt")
    assert run(*one, "a.wav")[0] == 0
    before = Path("a.json").stat().st_mtime_ns
    Path("b.json").write_text("half of what there was to write")
    status, lines, _ = run(*one, "a.wav", "b.flac", "--skip_existing")
    assert status == 0 and lines[-1].startswith("1 of 1 files transcribed")
    assert Path("a.json").stat().st_mtime_ns == before
    assert results()["b"]["segments"] and Path("b.srt").exists()
    assert run(*one, "a.wav", "b.flac", "--skip_existing")[0] == 0
    assert run(*one, "a.wav")[0] == 2
    with pytest.raises(SystemExit, match="2"):
        run(*one, "a.wav", "--skip_existing", "--overwrite")


def test_results_that_cannot_be_written_cost_their_file_alone(audio, blora, run, monkeypatch):
    real = output.write

    def full(transcript, stem, formats):
        if stem.name == "a":
            raise OSError("a.json: no space left on the disk")
        real(transcript, stem, formats)

    monkeypatch.setattr(output, "write", full)
    status, lines, _ = run("--asr_exp", blora, *SHORT, "a.wav", "b.flac")
    assert status == 1 and results().keys() == {"b"}
    (failed,) = [line for line in lines if " FAILED " in line[:16]]
    assert "a.wav" in failed and "no space left" in failed


def test_standard_input(audio, blora, run, monkeypatch):
    data = Path("a.wav").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run("--asr_exp", blora, *SHORT, "-", "a.wav", "--output_format", "json")[0] == 0
    found = results()
    assert found["stdin"] == found["a"] and found["a"]["segments"]


def test_folders_are_kept_where_names_are_not_enough(audio, blora, run):
    for name in ("s1", "s2"):
        Path(name).mkdir()
        soundfile.write(f"{name}/a.wav", noise(0.5), RATE)
    files = ("s1/a.wav", "s2/a.wav", "--output_dir", "out", "--output_format", "txt")
    status, (line,), _ = run("--asr_exp", blora, *SHORT, *files)
    assert status == 2 and "s1/a.wav and s2/a.wav would both be written to out/a.*" in line
    assert run("--asr_exp", blora, *SHORT, *files, "--keep_folders")[0] == 0
    assert sorted(str(p) for p in Path("out").rglob("*.txt")) == ["out/s1/a.txt", "out/s2/a.txt"]


def test_odd_file_names(audio, whisper, run):
    odd = ["-dash.wav", "two\nlines.wav", os.fsdecode(b"latin\xff.wav"), "bad\n.wav"]
    for name in odd[:-1]:
        shutil.copy("a.wav", name)
    Path(odd[-1]).write_text("no audio")
    status, lines, out = run("--whisper", whisper, *SHORT, "--verbose", "--", *odd)
    assert status == 1 and len(lines) == len(odd) + 1
    assert {line.split()[1].rstrip(":") for line in lines[:-1]} == {
        "-dash.wav", r"two\nlines.wav", r"latin\udcff.wav", "FAILED"
    }  # fmt: skip
    assert r"bad\n.wav: cannot be read as audio" in "".join(lines)
    assert "two\\nlines.wav\n" in out and "latin\\udcff.wav\n" in out
    for name in odd[:-1]:
        assert Path(name).with_suffix(".srt").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which model? --asr_exp EXPERIMENT, --adapter FILE.safetensors --whisper SIZE, or"),
        (("--adapter", "x.safetensors"), "which model?"),
        (("--asr_exp", "nowhere"), "nowhere"),
        (("--adapter", "nowhere"), "nowhere"),
        (("--whisper", "enormous"), "enormous"),
        (("--whisper", "W", "--samples", "2"), "2 samples of a posterior, but this model has none"),
        (("--whisper", "W", "--language", "utt2lan"), "there is no file 'utt2lan', and language"),
        (("--whisper", "W", "--output_format", "doc"), "format doc; allowed: json, srt, vtt"),
        (("--whisper", "W", "--beam_size", "0"), "beam_size is 0; allowed: 1 or more"),
        (("--whisper", "W", "--batch_size", "0"), "batch_size is 0"),
        (("--whisper", "W", "--threads", "0"), "--threads 0: 1 or more"),
        (("--whisper", "W", "--device", "toaster"), "device is 'toaster'"),
        (("--whisper", "W", "--suppress_tokens", "x"), "suppress_tokens 'x'"),
        (("--whisper", "W", "a.wav"), "given twice"),
        (("--whisper", "W", "--output_dir", "b.flac"), "--output_dir: b.flac cannot be made (File"),
        (("--asr_exp", "EXP", "--pad_to", "30s"), "--pad_to: "),
    ],
)
def test_mistakes_in_the_options(audio, whisper, blora, run, words, said):
    words = [{"W": whisper, "EXP": blora}.get(word, word) for word in words]
    status, lines, out = run(*words, "a.wav")
    assert status == 2 and len(lines) == 1 and out == ""
    assert lines[0].startswith("transcribe: error: ") and said in lines[0]
    assert sorted(p.name for p in audio.iterdir()) == ["a.wav", "b.flac"]


def test_a_scale_is_a_finite_number_from_0_on(capsys):
    for bad in ("-1", "x", "inf"):
        with pytest.raises(SystemExit) as caught:
            transcribe.main(["a.wav", "--whisper", "W", "--adapter_scale", bad])
        said = capsys.readouterr().err
        assert caught.value.code == 2 and said.count("\n") == 1
        assert f"--adapter_scale: not a scale: found '{bad}'" in said


def test_the_page_is_right(audio, blora, capsys):
    """Its commands are ones that the program takes, its options exist, its Python runs."""
    page = PAGE.read_text(encoding="utf-8")
    commands = re.findall(r"^espnet-blora transcribe (.*?)(?:  +#.*)?$", page, re.M)
    assert len(commands) == 3
    for command in commands:
        transcribe.get_parser().parse_intermixed_args(command.split())
    options = set(re.findall(r"--\w+", page))
    parsers = transcribe.get_parser(), demo.get_parser()
    known = {name for p in parsers for a in p._actions for name in a.option_strings}
    assert len(options) > 20 and options <= known
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    Path("exp").mkdir()
    Path("exp/asr_blora").symlink_to(blora)
    exec(code.replace('Options(language="zh")', "Options(chunk_length=1)"), {})
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"a.wav", "b.flac"}


def test_help_and_mistakes_come_at_once():
    """Nothing heavy is imported before it is known what to do."""
    code = (
        "import sys; from espnet_blora.bin import transcribe; transcribe.get_parser(); "
        "assert not {'torch', 'numpy', 'espnet2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

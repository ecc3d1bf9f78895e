"""The program: files in, tables and plots out; mistakes are one line."""

import json

import numpy as np
import pytest

from espnet_blora.bin.calibrate import main
from espnet_blora.scoring.calibration.compare import Examined


@pytest.fixture
def files(tmp_path):
    """References and confidences of a validation and a test set; every system is overconfident."""
    generator = np.random.default_rng(0)
    for name in ("valid", "test"):
        (tmp_path / name).mkdir()
        texts = {f"u{n:02d}": [f"w{k}" for k in range(6)] for n in range(40)}
        lines = [f"{key} {' '.join(words)}\n" for key, words in texts.items()]
        (tmp_path / name / "text").write_text("".join(lines))
        speakers = [f"{key} s{int(key[1:]) % 4}\n" for key in texts]
        (tmp_path / name / "utt2spk").write_text("".join(speakers))
        for system, sure in (("mean", 0.95), ("samples8", 0.9)):
            with (tmp_path / name / f"{system}.jsonl").open("w") as file:
                for key, words in texts.items():
                    heard = [w if generator.random() < 0.7 else "x" for w in words]
                    entries = [{"word": w, "confidence": sure} for w in heard]
                    line = {"utterance": key, "text": " ".join(heard), "words": entries}
                    file.write(json.dumps({**line, "confidence": generator.random()}) + "\n")
    return tmp_path


def call(files, *more):
    test = files / "test"
    words = [f"mean={test / 'mean.jsonl'}", f"samples8={test / 'samples8.jsonl'}"]
    given = [x for word in words for x in ("--words", word)]
    return main(["--references", str(test / "text"), *given, "--samples", "50", *more])


def test_tables_plots_and_the_map(files, capsys):
    fit = ["--fit_references", str(files / "valid"), "--fit_words"]
    fit.append(f"mean={files / 'valid' / 'mean.jsonl'}")
    out = files / "out"
    assert call(files, *fit, "--output_dir", str(out)) == 0
    printed = capsys.readouterr().out
    assert "|figure|mean|samples8|mean + map|" in printed and "|samples8 − mean|" in printed
    assert "mean + map: p' = sigmoid(" in printed and "fitted on 240 validation tokens" in printed
    found = Examined.load(out / "calibration.json")
    mean, _, mapped = found.systems
    assert mean.estimates["ece"].value > 0.2 > 0.1 > mapped.estimates["ece"].value
    names = {"calibration.json", "calibration.md", "reliability.png", "risk_coverage.png"}
    assert {path.name for path in out.iterdir()} == names
    page = (out / "calibration.md").read_text("utf-8")
    assert "](reliability.png)" in page and "## test\n" in page and "|figure|mean|" in page


def test_whole_speakers(files, capsys):
    assert call(files, "--utt2spk", str(files / "test" / "utt2spk")) == 0
    assert "50 bootstrap draws of whole speakers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--words", "mean=x"], "--words: the name 'mean' stands twice"),
        (["--words", "file"], "--words 'file': NAME=VALUE is expected"),
        (["--words", "c=no.jsonl"], "no.jsonl: no such file"),
        (["--fit_words", "mean=x"], "belong together"),
        (["--fit_references", "x", "--fit_words", "other=x"], "names other, which --words does"),
        (["--samples", "0"], "--samples 0: 1 or more"),
        (["--bins", "0"], "bins must be 1 or more, found 0"),
        (["--unit", "x"], "unit 'x' is unknown"),
    ],
)
def test_mistakes_are_one_line(files, capsys, more, said):
    assert call(files, *more) == 2
    err = capsys.readouterr().err
    assert err.startswith("calibrate: error: ") and said in err and err.count("\n") == 1


def test_a_bad_line_is_named(files, capsys):
    path = files / "test" / "mean.jsonl"
    lines = path.read_text().replace("0.95", "NaN", 1)
    path.write_text(lines)
    assert call(files) == 2
    assert f"{path}:1: confidence of word" in capsys.readouterr().err

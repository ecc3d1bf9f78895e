"""Files of transcripts: byte for byte openai-whisper's, and nothing is overwritten in silence."""

import json

import pytest
from whisper.utils import get_writer

from espnet_blora.decoding.output import (
    FORMATS,
    existing,
    file_of,
    outputs,
    parse_formats,
    render,
)
from espnet_blora.decoding.transcript import Segment, Transcript, Word

SEGMENTS = (
    Segment(0.0, 3.26, " hello a -> b --> c", (7, 8), -0.25),
    Segment(3.26, 3599.9996, "花园 apple animal", (9,), -0.5),
    Segment(3600.0, 7322.123, "bye", (10,), -0.75, complete=False),
)
RESULT = Transcript("a.wav", 7322.2, "zh", 0.98765, SEGMENTS, ("2 channels",))


@pytest.mark.parametrize("form", ["srt", "vtt", "tsv", "txt"])
def test_the_same_bytes_as_openai_whisper(tmp_path, form):
    segments = [{"start": s.start, "end": s.end, "text": s.text} for s in SEGMENTS]
    get_writer(form, str(tmp_path))({"segments": segments}, "x/a.wav")
    expected = (tmp_path / f"a.{form}").read_bytes().decode()
    assert len(expected.splitlines()) >= 3
    assert render(RESULT, form) == expected


def test_srt_as_players_want_it():
    assert render(RESULT, "srt").startswith(
        "1\n00:00:00,000 --> 00:00:03,260\nhello a -> b -> c\n\n"
        "2\n00:00:03,260 --> 01:00:00,000\n花园 apple animal\n\n3\n"
    )


def test_subtitles_of_two_lines_and_empty_segments():
    text = "in this part of the country nobody ever asks why that is so"
    found = Transcript("a", segments=(Segment(0, 1, " ", (), 0), Segment(1, 2, text, (), 0)))
    assert render(found, "vtt") == (
        "WEBVTT\n\n00:01.000 --> 00:02.000\nin this part of the country\n"
        "nobody ever asks why that is so\n\n"
    )
    assert render(found, "txt") == text + "\n"
    blanks = Transcript("a", segments=(Segment(0, 1, "a\tb\n\nc", (), 0),))
    assert render(blanks, "tsv").endswith("1000\ta b c\n")
    long = Transcript("a", segments=(Segment(0, 1, text * 3, (), 0),))
    assert render(long, "srt").splitlines()[2] == text * 3


def test_nothing_said():
    nothing = Transcript("a.wav", 1.0, "en", segments=(Segment(0, 1, "", (), -0.1),))
    wanted = {"srt": "", "vtt": "WEBVTT\n\n", "tsv": "start\tend\ttext\n", "txt": ""}
    assert {form: render(nothing, form) for form in wanted} == wanted
    assert json.loads(render(nothing, "json"))["text"] == ""


def test_json_has_openai_whispers_keys_and_ours():
    found = json.loads(render(RESULT, "json"))
    assert found["text"] == "hello a -> b --> c 花园 apple animal bye"
    assert found["language"] == "zh" and found["language_probability"] == 0.9877
    assert found["duration"] == 7322.2 and found["notes"] == ["2 channels"]
    assert found["segments"][0] == {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": 3.26,
        "text": " hello a -> b --> c",
        "tokens": [7, 8],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 0.0,
        "no_speech_prob": 0.0,
        "complete": True,
    }
    assert [s["complete"] for s in found["segments"]] == [True, True, False]
    word = Word(" bye", 0.12345, 0.5, 0.5, 0.25)
    spoken = Segment(0, 1, "bye", (10,), -1.0, words=(word,), extra={"confidence": 0.123456})
    segment = Transcript("a", segments=(spoken,)).as_dict()["segments"][0]
    assert segment["confidence"] == 0.1235
    assert segment["words"] == [
        {"word": " bye", "start": 0.123, "end": 0.5, "probability": 0.5, "confidence": 0.25}
    ]


def test_formats():
    assert parse_formats("srt, JSON,srt") == ("srt", "json")
    assert parse_formats("txt,all") == FORMATS
    for wrong in ("", "doc", "srt;vtt"):
        with pytest.raises(ValueError, match="allowed: json, srt, vtt, tsv, txt"):
            parse_formats(wrong)
    with pytest.raises(ValueError, match="format 'doc'"):
        render(RESULT, "doc")


def test_two_inputs_of_one_name(tmp_path):
    inputs = ["s1/a.wav", "s2/a.wav", "s2/b.c.wav"]
    with pytest.raises(ValueError, match=r"s1/a\.wav and s2/a\.wav .* out/a\.\*: --keep_folders"):
        outputs(inputs, "out")
    kept = outputs(inputs, tmp_path, keep_folders=True)
    assert [str(p.relative_to(tmp_path)) for p in kept.values()] == ["s1/a", "s2/a", "s2/b.c"]
    for keep in (False, True):
        with pytest.raises(ValueError, match=r"a\.wav and a\.flac .*: rename one"):
            outputs(["a.wav", "a.flac"], "out", keep)
        with pytest.raises(ValueError, match="given twice"):
            outputs(["a.wav", "b.wav", "./a.wav"], "out", keep)
    with pytest.raises(ValueError, match=r"A\.wav and a\.wav"):
        outputs(["A.wav", "a.wav"], "out")
    assert outputs(["deep/a.wav"], "out", True) == outputs(["deep/a.wav"], "out")


def test_files_that_are_there(tmp_path):
    stem = outputs(["x/a.b.wav"], tmp_path)["x/a.b.wav"]
    assert existing([stem], FORMATS) == []
    file_of(stem, "txt").write_text("my own notes")
    assert [p.name for p in existing([stem], FORMATS)] == ["a.b.txt"]

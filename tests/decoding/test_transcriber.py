"""Files of any length, together: each gets what it gets alone, and a bad one harms no other."""

import dataclasses
import json
import weakref

import numpy as np
import pytest
import torch

from espnet_blora.decoding import batch, transcriber
from espnet_blora.decoding.batch import decode_posterior
from espnet_blora.decoding.chunking import Wave, cut
from espnet_blora.decoding.confidence import word_confidences
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.training_config import TrainedLengths
from espnet_blora.decoding.transcriber import Transcriber
from tests.decoding.small import LAYOUT, recogniser, utterances

WAVES, _ = utterances()
GREEDY = DecodingOptions(
    language="en",
    beam_size=1,
    max_tokens=6,
    batch_size=2,
    drop_quiet=False,
    temperature_increment_on_fallback=0.0,
)
SECOND = 16000


@pytest.fixture(scope="module")
def small():
    return recogniser()


def noise(seconds, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(seconds * SECOND), generator=generator)


def halves(seconds):
    """Noise with a gap in its middle, too short for a pause."""
    wave = noise(seconds)
    wave[len(wave) // 2 - 1280 : len(wave) // 2 + 1280] = 0
    return wave


def speech(seconds):
    """Noise that is louder and softer as speech is."""
    wave = noise(seconds)
    return wave * (0.1 + 0.9 * (torch.arange(len(wave)) // 1600 % 3 != 2))


def run(model, waves, **changes):
    options = dataclasses.replace(GREEDY, **changes)
    found = list(Transcriber(model, options).transcribe(waves))
    assert sorted(t.name for t in found) == sorted(waves)
    return {t.name: t for t in found}


def test_the_texts_are_those_of_decode(small):
    prompts = {uid: LAYOUT.prompt("en") for uid in WAVES}
    expected = batch.decode(small, WAVES, prompts, GREEDY)
    found = run(small, WAVES)
    for uid, hypotheses in expected.items():
        (segment,) = found[uid].segments
        assert segment.tokens == hypotheses[0].ids and segment.tokens
        assert segment.text == LAYOUT.decode(segment.tokens)
        assert segment.complete == hypotheses[0].ended
        assert segment.avg_logprob == pytest.approx(hypotheses[0].score / (len(segment.tokens) + 1))
        assert found[uid].duration == segment.end == len(WAVES[uid]) / SECOND
    assert len({t.text for t in found.values()}) > 1


@pytest.mark.parametrize("size", [1, 3, 16])
def test_neither_batches_nor_other_files_change_anything(small, size):
    waves = {**WAVES, "long": noise(7)}
    found = run(small, waves, chunk_length=3.0, batch_size=size)
    for name, wave in waves.items():
        alone = run(small, {name: wave}, chunk_length=3.0)[name]
        assert [s.tokens for s in alone.segments] == [s.tokens for s in found[name].segments]


def test_long_audio_is_cut_and_joined_with_times(small, monkeypatch):
    """Held are a few pieces at a time, and all of a file comes back in order."""
    monkeypatch.setattr(transcriber, "_POOL", 4 / 60)  # of batches of two: 4 s
    sizes, real = [], Transcriber._decode
    monkeypatch.setattr(
        Transcriber, "_decode", lambda self, pool: sizes.append(len(pool)) or real(self, pool)
    )
    wave = noise(23)
    found = run(small, {"long": wave, "a": WAVES["a"]}, chunk_length=1.0)
    pieces = cut(wave, SECOND)
    assert max(sizes) <= 6 and len(sizes) >= 5
    segments = found["long"].segments
    assert len(segments) == len(pieces) > 20
    ends = np.cumsum([len(piece) for piece in pieces]) / SECOND
    np.testing.assert_allclose([s.end for s in segments], ends)
    np.testing.assert_allclose([s.start for s in segments], [0, *ends[:-1]])
    for number in (0, 7, len(pieces) - 1):
        alone = run(small, {"piece": pieces[number]})["piece"]
        assert segments[number].tokens == alone.segments[0].tokens


def test_files_come_as_soon_as_they_are_complete(small):
    waves = {"long": halves(9), "b": noise(2), "c": noise(1)}
    heard = []
    made = Transcriber(small, dataclasses.replace(GREEDY, chunk_length=5.0), progress=heard.append)
    order = [t.name for t in made.transcribe(waves)]
    assert order == ["long", "b", "c"]  # pieces of 4.5 s go first, in batches of two
    assert heard == [9.0, 3.0]


def test_a_bad_file_harms_no_other(small, monkeypatch):
    class Changed(Wave):
        """A file that is shorter when it is read again."""

        @property
        def samples(self):
            return len(self.wave) + 1

    files = {
        "good": Wave.of(WAVES["a"]),
        "cut": Changed(noise(40).numpy()),
        "fine": Wave.of(WAVES["b"]),
    }

    def reader(name):
        if name == "none":
            raise FileNotFoundError("none: no such audio file")
        return files[name]

    monkeypatch.setattr(transcriber.AudioFile, "open", reader)
    made = Transcriber(small, GREEDY)
    found = {t.name: t for t in made.transcribe(["none", "good", "cut", "fine"])}
    assert len(found) == 4
    assert found["none"].error == "none: no such audio file"
    assert found["cut"].error.startswith("cut: 640001 samples were expected, 640000 are there")
    assert not found["cut"].segments
    alone = run(small, WAVES)
    assert found["good"].text == alone["a"].text and found["fine"].text == alone["b"].text
    assert not found["good"].error and found["good"].text


@pytest.mark.parametrize("kind", ["value", "memory"])
def test_what_the_model_cannot_decode_is_found_in_its_batch(small, monkeypatch, kind):
    real = transcriber.encode_batch

    def picky(model, waves, names):
        if "c" in names:
            error = torch.OutOfMemoryError("CUDA out of memory")
            raise error if kind == "memory" else ValueError("row 0: no token has a probability")
        return real(model, waves, names)

    monkeypatch.setattr(transcriber, "encode_batch", picky)
    found = run(small, WAVES, batch_size=4)
    said = "c: 0.6 s do not fit the memory of cpu" if kind == "memory" else "c: row 0: no token"
    assert found["c"].error.startswith(said)
    monkeypatch.undo()
    alone = run(small, WAVES)
    assert all(found[name].text == alone[name].text for name in "abd")


def test_a_try_that_failed_keeps_no_memory(small, monkeypatch):
    held, alive = [], []
    encode, search = transcriber.encode_batch, transcriber.find_texts

    def watched(model, waves, names):
        alive.append(sum(reference() is not None for reference in held))
        memory, lengths = encode(model, waves, names)
        held.append(weakref.ref(memory))
        return memory, lengths

    def too_large(model, encoded, *rest):
        if len(encoded[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return search(model, encoded, *rest)

    monkeypatch.setattr(transcriber, "encode_batch", watched)
    monkeypatch.setattr(transcriber, "find_texts", too_large)
    found = run(small, WAVES, batch_size=4)
    assert len(alive) == 7 and not any(alive)
    assert not any(transcript.error for transcript in found.values())


@pytest.mark.parametrize(
    ("wave", "said"),
    [
        (torch.zeros(0), "one or more"),
        (torch.zeros(2, 100), r"shape \(2, 100\)"),
        (torch.zeros(100, dtype=torch.int16), "int16"),
        (torch.tensor([0.0, float("nan")]), "NaN"),
    ],
)
def test_waves_that_are_none(small, wave, said):
    found = run(small, {"bad": wave, "a": WAVES["a"]})
    assert found["bad"].error.startswith("bad: ") and not found["a"].error
    with pytest.raises(ValueError, match=said):
        Wave.of(wave)


@pytest.mark.parametrize(
    ("changes", "rows"),
    [({}, 6), ({"word_timestamps": True}, 8), ({"language": "auto"}, 8), ({"samples": 0}, 2)],
)
def test_the_mean_is_encoded_where_it_is_needed(small, monkeypatch, changes, rows):
    encoded = []
    real = transcriber.encode_batch

    def counted(model, waves, names):
        encoded.append(len(waves))
        return real(model, waves, names)

    monkeypatch.setattr(transcriber, "encode_batch", counted)
    run(small, {uid: WAVES[uid] for uid in "ab"}, **{"samples": 3, "seed": 5} | changes)
    assert sum(encoded) == rows


@pytest.mark.parametrize("samples", [1, 320])
def test_hardly_any_audio(small, samples):
    found = run(small, {"tiny": noise(1)[:samples]}, word_timestamps=True, confidence=True)["tiny"]
    assert not found.error and found.segments
    json.dumps(found.as_dict(), allow_nan=False)


def test_languages(small):
    fixed = run(small, WAVES, language={"a": "zh", "b": "en", "x": "de", "c": "auto", "d": "en"})
    assert [fixed[uid].language for uid in "abd"] == ["zh", "en", "en"]
    assert [fixed[uid].language_probability is None for uid in "abcd"] == [True, True, False, True]
    heard = run(small, WAVES, language="auto")
    assert all(0 < t.language_probability < 1 for t in heard.values())
    assert fixed["c"].language == heard["c"].language
    given = run(small, WAVES, language={uid: t.language for uid, t in heard.items()})
    assert {u: t.text for u, t in given.items()} == {u: t.text for u, t in heard.items()}
    missing = run(small, WAVES, language={"a": "zh"})
    assert "add the line 'b CODE'" in missing["b"].error and not missing["a"].error
    by_stem = Transcriber(small, dataclasses.replace(GREEDY, language={"u1": "zh"}))
    assert by_stem._language("x/u1.flac") == "zh"
    trained = dataclasses.replace(small, language="fr")
    assert run(trained, {"a": WAVES["a"]}, language=None)["a"].language == "fr"


def test_the_language_of_long_audio_is_that_of_its_first_piece(small, monkeypatch):
    heard, real = [], transcriber.detect_language

    def remember(decoder, memory, lengths, *more):
        heard.append(lengths.tolist())
        return real(decoder, memory, lengths, *more)

    monkeypatch.setattr(transcriber, "detect_language", remember)
    found = run(small, {"long": halves(32), "a": WAVES["a"]}, language="auto")
    assert heard == [[799], [3]]
    assert len(found["long"].segments) == 2


def test_what_is_quiet_never_reaches_the_model(small):
    """Silence, hum and white noise of a minute have no text; pauses are left out of others."""
    at = torch.arange(60 * SECOND) / SECOND
    quiet = {
        "silence": torch.zeros(60 * SECOND),
        "hum": 0.1 * torch.sin(2 * torch.pi * 50 * at),
        "noise": noise(60),
    }
    said = torch.cat([torch.zeros(4 * SECOND), speech(1), torch.zeros(7 * SECOND), speech(2)])
    found = run(small, {**quiet, "said": said}, drop_quiet=True, language="auto", chunk_length=8)
    for name in quiet:
        assert found[name].text == "" and not found[name].segments and not found[name].error
        assert found[name].notes == ("60.0 s of silence or steady noise left out",)
    times = [(s.start, s.end) for s in found["said"].segments]
    assert times == [(3.76, 5.24), (11.76, 14.0)]
    assert "10.3 s of silence or steady noise left out" in found["said"].notes
    # unless that is asked for
    assert all(t.text for t in run(small, quiet, max_tokens=1).values())


def test_pieces_are_as_long_as_the_trainings_utterances(small):
    """At most as 95 % of them; put together up to their median; longer ones are noted."""
    trained = dataclasses.replace(small, lengths=TrainedLengths(2.0, 4.0, 6.0))
    wave = torch.cat([speech(t) for t in (1, 0.5, 1.2, 3.3, 8)])
    for at in (1, 1.5, 2.7, 6):
        wave[int((at - 0.15) * SECOND) : int((at + 0.15) * SECOND)] = 0
    found = run(trained, {"a": wave}, drop_quiet=True)["a"]
    assert [s.end for s in found.segments][:3] == [1.5, 2.7, 6.0]
    assert all(s.end - s.start <= 4 for s in found.segments) and len(found.segments) == 6
    assert found.notes == ()
    (segment,) = run(trained, {"a": wave}, chunk_length=30)["a"].segments
    assert segment.end == 14
    (note,) = run(trained, {"a": wave}, chunk_length=30)["a"].notes
    assert "14.0 s" in note and "6.0 s" in note
    # Where nothing is known of the training, a long piece is noted; none where a length is given.
    assert small.lengths is None
    (note,) = run(small, {"a": wave, "b": wave[: 9 * SECOND]})["a"].notes
    assert "14.0 s" in note and "--chunk_length" in note
    assert run(small, {"b": wave[: 9 * SECOND]})["b"].notes == ()
    assert run(small, {"a": wave}, chunk_length=14)["a"].notes == ()


@pytest.mark.parametrize(
    ("trained", "expected", "detected"),
    [
        ({"languages": ("fr",)}, {"fr"}, False),
        ({"languages": ("fr", "rw", "sw")}, {"fr", "sw"}, True),
        ({"languages": ("fr",), "language": "sw"}, {"sw"}, False),
    ],
)
def test_the_trainings_languages_are_the_default(small, trained, expected, detected):
    """The one that was trained on; of several, one of them is detected."""
    found = run(dataclasses.replace(small, **trained), WAVES, language=None).values()
    assert {t.language for t in found} <= expected
    assert all((t.language_probability is not None) == detected for t in found)


def test_a_doubtful_language_is_noted(small, monkeypatch):
    real = transcriber.detect_language

    def doubtful(*given):
        codes, shares = real(*given)
        return codes, [{code: share / 4 for code, share in row.items()} for row in shares]

    (sure,) = run(small, {"a": WAVES["a"]}, language="auto").values()
    assert sure.language_probability > 0.5 and sure.notes == ()
    monkeypatch.setattr(transcriber, "detect_language", doubtful)
    (found,) = run(small, {"a": WAVES["a"]}, language="auto").values()
    (note,) = found.notes
    assert f"{found.language} with a probability of {found.language_probability:.2f}" in note


def test_words_have_times_and_confidences(small):
    wave = noise(8)
    plain = run(small, {"x": wave}, chunk_length=3.0)["x"]
    found = run(small, {"x": wave}, chunk_length=3.0, word_timestamps=True, confidence=True)["x"]
    assert found.text == plain.text
    assert sum((s.tokens for s in found.segments), ()) == sum(
        (s.tokens for s in plain.segments), ()
    )
    words = [word for segment in found.segments for word in segment.words]
    assert words and all(0 <= w.start <= w.end <= 8 and 0 < w.probability <= 1 for w in words)
    assert all(0 < w.confidence <= 1 for w in words)
    for segment in found.segments:
        assert "".join(word.word for word in segment.words) == segment.text
        assert set(segment.extra) == {"confidence"} | {
            f"uncertainty_{part}" for part in ("total", "data", "model")
        }
        assert segment.extra["uncertainty_model"] == 0
    only = run(small, {"x": wave}, chunk_length=3.0, confidence=True)["x"]
    assert [s.text for s in only.segments] == [s.text for s in plain.segments]
    assert [w.confidence for s in only.segments for w in s.words] == [w.confidence for w in words]
    assert {w.start for s in only.segments for w in s.words} == {None}


def test_draws_are_those_of_decode_posterior(small):
    how = {"samples": 3, "seed": 5, "spread": 0.5, "word_confidence": "min"}
    found = run(small, WAVES, confidence=True, confidence_temperature=2.0, **how)
    prompts = {uid: LAYOUT.prompt("en") for uid in WAVES}
    options = dataclasses.replace(GREEDY, **how)
    (expected,) = decode_posterior(small, WAVES, prompts, options, (2.0,)).values()
    for uid, recognition in expected.items():
        (segment,) = found[uid].segments
        assert segment.tokens == recognition.hypothesis.ids
        assert segment.extra["confidence"] == pytest.approx(recognition.scores.confidence, rel=1e-4)
        assert segment.extra["uncertainty_model"] > 1e-4
        words = word_confidences(LAYOUT, recognition.scores, Transcriber.split, "min")
        wanted = [word.confidence for word in words]
        assert [word.confidence for word in segment.words] == pytest.approx(wanted, rel=1e-4)


def test_options_reach_the_search(small):
    plain = run(small, WAVES)
    first = {t.segments[0].tokens[0] for t in plain.values()}
    never = run(small, WAVES, suppress_tokens=",".join(map(str, first)))
    assert not first & {i for t in never.values() for s in t.segments for i in s.tokens}
    prompted = run(small, WAVES, initial_prompt="Acme")
    translated = run(small, WAVES, task="translate")
    texts = [{n: t.text for n, t in r.items()} for r in (plain, prompted, translated)]
    assert texts[0] != texts[1] and texts[0] != texts[2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"language": "klingon"}, "language 'klingon'"),
        ({"language": {"a": "klingon"}}, "language 'klingon'"),
        ({"suppress_tokens": "x"}, "suppress_tokens 'x'"),
    ],
)
def test_options_that_cannot_be(small, changes, said):
    with pytest.raises(ValueError, match=said):
        Transcriber(small, dataclasses.replace(GREEDY, **changes))


def test_draws_need_a_posterior():
    for model in (recogniser("lora"), recogniser(None)):
        with pytest.raises(ValueError, match="2 samples of a posterior, but this model has none"):
            Transcriber(model, DecodingOptions(samples=2))

"""Word times: openai-whisper's own alignment, in any batch, and near the truth."""

import os
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
import whisper
from whisper.timing import dtw, find_alignment
from whisper.timing import median_filter as openais_filter
from whisper.tokenizer import get_tokenizer

from espnet_blora.data.audio import loudness
from espnet_blora.data.espeak import Run, synthesise
from espnet_blora.decoding.prompts import build_prompt
from espnet_blora.decoding.silence import quiet_positions
from espnet_blora.decoding.timing import median_filter, warp, word_times
from espnet_blora.text.tokens import mixed_tokens
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.encoder import encode
from espnet_blora.whisper.vocabulary import Vocabulary

BASE = Path(__file__).parents[2] / "egs2/mini_cs/asr1/base/tiny_mini_cs.safetensors"
LAYOUT = Vocabulary.of(51865)
TEXTS = ["river garden orange finger kitchen", "我们喜欢咖啡 because tired", "help"]
CODES = ["en", "zh", "en"]
PROMPTS = [LAYOUT.prompt(code) for code in CODES]
SPOKEN = [
    [(word, "en") for word in TEXTS[0].split()],
    [("我们喜欢咖啡", "cmn"), ("because", "en"), ("tired", "en")],
    [("help", "en")],
]


@pytest.fixture(scope="module")
def model():
    return load_whisper(BASE).eval()


@pytest.fixture(scope="module")
def speech():
    """Waves at 16 kHz, and when each of the runs begins and ends in them (seconds)."""
    waves, truth = [], []
    for runs in SPOKEN:
        parts, times, at = [np.zeros(2205, np.float32)], [], 2205
        for part in synthesise([Run(text, code, "max") for text, code in runs], seed=1):
            loud = np.flatnonzero(np.abs(part) > 0.01 * np.abs(part).max())
            parts.append(part[loud[0] : loud[-1] + 662].astype(np.float32) / 32768)
            times.append((at / 22050, (at + len(parts[-1]) - 661) / 22050))
            at += len(parts[-1])
        waves.append(torch.from_numpy(soxr.resample(np.concatenate(parts), 22050, 16000)))
        truth.append(times)
    return waves, truth


def heads_of(model):
    return [tuple(pair) for pair in model.alignment_heads.to_dense().nonzero().tolist()]


@torch.no_grad()
def align(model, waves, texts=TEXTS, prompts=PROMPTS, split=mixed_tokens, pad_to="batch", **more):
    lengths = torch.tensor([len(wave) for wave in waves])
    wave = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    memory, memory_lengths = encode(model.encoder, wave, lengths, pad_to)
    ids = [LAYOUT.encode(text) for text in texts]
    more = {"positions": -(-lengths // 160) // 2, "heads": heads_of(model)} | more
    return word_times(
        model.decoder, memory, memory_lengths, prompts, ids, vocabulary=LAYOUT, split=split, **more
    )


def openais(model, wave, text, code):
    """The alignment of `whisper.timing`, with the words that it makes."""
    tokenizer = get_tokenizer(True, language=code, task="transcribe")
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(wave))
    return find_alignment(model, tokenizer, LAYOUT.encode(text), mel, -(-len(wave) // 160))


@pytest.mark.parametrize("heads", [None, [(2, 0), (0, 1)]])
def test_times_are_openais_in_the_window_of_30_s(model, speech, heads):
    waves, _ = speech
    old = model.alignment_heads
    try:
        if heads:
            mask = torch.zeros_like(old.to_dense())
            mask[tuple(zip(*heads, strict=True))] = True
            model.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
        wanted = [openais(model, *each) for each in zip(waves, TEXTS, CODES, strict=True)]
        words = {text: [w.word for w in row] for text, row in zip(TEXTS, wanted, strict=True)}
        found = align(model, waves, pad_to="30s", split=words.__getitem__)
    finally:
        model.register_buffer("alignment_heads", old, persistent=False)
    for row, theirs in zip(found, wanted, strict=True):
        assert len(row) == len(theirs)
        for one, other in zip(row, theirs, strict=True):
            assert abs(one.start - other.start) < 0.021 and abs(one.end - other.end) < 0.021
            assert one.probability == pytest.approx(other.probability, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3, 4), (6, 9, 40), (2, 1, 1500)])
def test_the_filter_is_openais(shape):
    for x in (torch.randn(shape), torch.randint(-2, 2, shape).float()):
        assert torch.equal(median_filter(x, 7), openais_filter(x, 7))


@pytest.mark.parametrize("steps", [0, 3])
def test_the_path_is_openais(steps):
    generator = np.random.default_rng(steps)
    shapes = [(1, 1), (1, 9), (9, 1), *generator.integers(1, 60, (60, 2))]
    for n, m in shapes:
        # few different costs: many ties
        costs = (
            generator.integers(-steps, steps, (n, m)) if steps else generator.normal(size=(n, m))
        )
        theirs = dtw(torch.from_numpy(costs).double())
        np.testing.assert_array_equal(warp(costs.astype(float)), theirs)


def test_alignment_leaves_torch_its_threads():
    program = (
        "import torch, numpy as np\n"
        "from espnet_blora.decoding.timing import _path\n"
        "torch.set_num_threads(1)\n"
        "_path(torch.randn(2, 9, 40) @ torch.randn(40, 40), 3, 5)\n"
        "print(torch.get_num_threads())"
    )
    environment = {name: v for name, v in os.environ.items() if name != "OMP_NUM_THREADS"}
    told = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["1"]


def test_neighbours_and_padding_change_nothing(model, speech):
    waves, _ = speech
    together = align(model, waves)
    assert [len(row) for row in together] == [5, 8, 1]
    for row in range(3):
        one = slice(row, row + 1)
        alone = align(model, waves[one], TEXTS[one], PROMPTS[one])[0]
        assert [w[:3] for w in alone] == [w[:3] for w in together[row]]
        assert [w.probability for w in alone] == pytest.approx(
            [w.probability for w in together[row]], rel=1e-3
        )
    assert align(model, waves[::-1], TEXTS[::-1], PROMPTS[::-1])[0][0][:3] == together[2][0][:3]


def test_what_stands_in_padded_memory_is_not_looked_at(model):
    generator = torch.Generator().manual_seed(0)
    memory = torch.randn(2, 60, 128, generator=generator)
    lengths = torch.tensor([60, 37])
    ids = [LAYOUT.encode(text) for text in TEXTS[:2]]
    aligned = partial(
        word_times,
        model.decoder,
        memory_lengths=lengths,
        prompts=PROMPTS[:2],
        texts=ids,
        vocabulary=LAYOUT,
        heads=heads_of(model),
        split=mixed_tokens,
        positions=lengths,
    )
    before = aligned(memory=memory)
    memory[1, 37:] = 100.0
    assert aligned(memory=memory) == before
    assert all(word.end <= 37 * 0.02 for word in before[1])


def test_empty_texts_have_no_words(model, speech):
    waves, _ = speech
    texts = ["", TEXTS[1], ""]
    found = align(model, waves, texts)
    assert found[0] == found[2] == [] and [w[:3] for w in found[1]] == [
        w[:3] for w in align(model, waves)[1]
    ]
    assert align(model, waves, ["", "", ""]) == [[], [], []]


def test_previous_text_is_left_out(model, speech):
    waves, _ = speech
    prompts = [build_prompt(LAYOUT, code, initial_prompt="names: apple") for code in CODES]
    assert align(model, waves, prompts=prompts) == align(model, waves)


def test_words_of_one_token_share_its_time(model, speech):
    row = align(model, speech[0])[1]
    wo, men = row[:2]  # one token
    assert (wo.word, men.word) == ("我", "们")
    assert wo.start < wo.end == men.start < men.end
    assert wo.end - wo.start == pytest.approx(men.end - men.start)
    assert wo.probability == men.probability
    assert all(one.end == other.start for one, other in pairwise(row))


def test_more_tokens_than_positions(model):
    """A tenth of a second cannot hold the text; times stay in order and inside."""
    rows = align(model, [torch.randn(1600) * 0.1], [TEXTS[0] * 3], PROMPTS[:1])
    times = [moment for word in rows[0] for moment in word[1:3]]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= 0.1
    one = align(model, [torch.randn(100) * 0.1], TEXTS[:1], PROMPTS[:1])
    assert all(0 <= word.start <= word.end <= 0.02 for word in one[0])


def test_times_are_near_the_truth(model, speech):
    """The base has heard these words in other sentences; 20 ms are a position."""
    waves, truth = speech
    rows = align(
        model,
        waves,
        split=phrases,
        quiet=[quiet_positions(loudness(wave.numpy())) for wave in waves],
    )
    inner, edges = [], []
    for row, times in zip(rows, truth, strict=True):
        assert len(row) == len(times)
        inner += [abs(word.start - begin) for word, (begin, _) in zip(row, times, strict=True)][1:]
        inner += [abs(word.end - end) for word, (_, end) in zip(row, times, strict=True)][:-1]
        edges += [abs(row[0].start - times[0][0]), abs(row[-1].end - times[-1][1])]
    assert np.median(inner) < 0.05 and max(inner) < 0.25
    assert max(edges) < 0.05


def phrases(text):
    """What was spoken at once."""
    return ["我们喜欢咖啡", "because", "tired"] if "我" in text else text.split()


def test_pauses_belong_to_no_word(model, speech):
    """Without `quiet` words touch, over the pause as well; with it none is in the pause."""
    waves, truth = speech
    moments = [moment for times in truth[0] for moment in times]
    at = int(8000 * (moments[3] + moments[4]))  # between garden and orange
    silence = torch.zeros(6400)
    longer = torch.cat([silence, waves[0][:at], silence, waves[0][at:], silence])
    quiet = [quiet_positions(loudness(longer.numpy()))]
    plain = align(model, [longer], TEXTS[:1], PROMPTS[:1], str.split)[0]
    found = align(model, [longer], TEXTS[:1], PROMPTS[:1], str.split, quiet=quiet)[0]
    assert plain[0].start == 0 and all(one.end == two.start for one, two in pairwise(plain))
    assert found[0].start == pytest.approx(0.4 + moments[0], abs=0.03)
    assert found[-1].end == pytest.approx(0.8 + moments[-1], abs=0.05)
    (pause,) = [(one.end, two.start) for one, two in pairwise(found) if two.start > one.end + 0.1]
    assert pause == pytest.approx((0.4 + moments[3], 0.8 + moments[4]), abs=0.05)


def test_a_text_that_fills_the_decoder(model):
    """The search may say as many tokens as there are positions, and one more."""
    ids = LAYOUT.encode(" apple") * 445
    memory = torch.randn(1, 200, 128, generator=torch.Generator().manual_seed(0))
    for n in (443, 444, 445):
        words = word_times(
            model.decoder, memory, None, PROMPTS[:1], [ids[:n]], LAYOUT, [(2, 0)], str.split, [200]
        )[0]
        assert len(words) == n and words[-1].end <= 4.0
        assert all(one.end == other.start for one, other in pairwise(words))
    with pytest.raises(ValueError, match="446 of the text; this Whisper has 448 positions"):
        word_times(
            model.decoder,
            memory,
            None,
            PROMPTS[:1],
            [[*ids, 1]],
            LAYOUT,
            [(2, 0)],
            str.split,
            [200],
        )

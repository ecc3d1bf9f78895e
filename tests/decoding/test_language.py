"""Languages: openai-whisper's probabilities, and each utterance's own in a batch."""

import pytest
import torch
import whisper

from espnet_blora.decoding.prompts import detect_language
from espnet_blora.whisper.encoder import encode
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.whispers import random_whisper


@pytest.fixture(scope="module", params=[51865, 51866])
def model(request):
    return random_whisper(vocab=request.param, context=32, seed=2)


def waves():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator) * 0.1 for n in (8000, 16000, 3000)]


def padded(model, pad_to):
    some = waves()
    batch = torch.nn.utils.rnn.pad_sequence(some, batch_first=True)
    lengths = torch.tensor([len(wave) for wave in some])
    return encode(model.encoder, batch, lengths, pad_to)


@torch.no_grad()
def test_probabilities_are_openais(model):
    codes, found = detect_language(
        model.decoder, *padded(model, "30s"), Vocabulary.of(model.dims.n_vocab)
    )
    mels = torch.stack([whisper.log_mel_spectrogram(whisper.pad_or_trim(w)) for w in waves()])
    _, wanted = whisper.detect_language(model, mels)
    for code, row, theirs in zip(codes, found, wanted, strict=True):
        assert code == max(theirs, key=theirs.get)
        assert row == pytest.approx(theirs, rel=1e-4)
        assert sum(row.values()) == pytest.approx(1.0)


@torch.no_grad()
def test_neighbours_and_new_languages_change_nothing(model):
    layout = Vocabulary.of(model.dims.n_vocab, ["rw"])
    memory, lengths = padded(model, "batch")
    codes, found = detect_language(model.decoder, memory, lengths, layout)
    assert len({round(row["en"], 7) for row in found}) == 3
    for row, wave in enumerate(waves()):
        alone, length = encode(model.encoder, wave.unsqueeze(0), torch.tensor([len(wave)]))
        one, probabilities = detect_language(model.decoder, alone, length, layout)
        assert one == [codes[row]] and "rw" not in probabilities[0]
        assert probabilities[0] == pytest.approx(found[row], rel=1e-4)

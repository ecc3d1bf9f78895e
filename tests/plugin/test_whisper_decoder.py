"""Whisper's halves as ESPnet modules, and the decoder as a scorer in ESPnet's own searches."""

import pytest
import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch
from espnet2.legacy.nets.beam_search import BeamSearch
from espnet2.legacy.nets.scorer_interface import BatchScorerInterface
from whisper.model import AudioEncoder, TextDecoder

from espnet_blora.plugin.whisper_parts import WhisperDecoder, WhisperEncoder
from espnet_blora.whisper.sizes import dims_of
from espnet_blora.whisper.vocabulary import Vocabulary

N_VOCAB, WIDTH, POSITIONS = 51865, 32, 24
LAYOUT = Vocabulary.of(N_VOCAB)
LENGTHS = torch.tensor([9000, 16000, 5000])


@pytest.fixture(scope="module")
def checkpoint(short_whisper):
    return short_whisper


def build(checkpoint, pad_to="batch", **decoder_conf):
    encoder = WhisperEncoder(whisper_model=checkpoint, pad_to=pad_to)
    decoder = WhisperDecoder(N_VOCAB, WIDTH, checkpoint, **decoder_conf)
    return encoder.eval().requires_grad_(False), decoder.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def halves(checkpoint):
    return build(checkpoint)


@pytest.fixture(scope="module")
def memory(halves):
    torch.manual_seed(1)
    waves = 0.1 * torch.randn(len(LENGTHS), int(LENGTHS.max()))
    return halves[0](waves, LENGTHS)[:2]


def search_of(kind, decoder, beam):
    search = kind(
        scorers={"decoder": decoder},
        weights={"decoder": 1.0},
        beam_size=beam,
        vocab_size=N_VOCAB,
        sos=LAYOUT.sot,
        eos=LAYOUT.eot,
    )
    return search.eval()


PROMPTS = [LAYOUT.prompt(code) for code in ("zh", "en", "de")]


def texts(found):
    return [[int(i) for i in nbest[0].yseq] for nbest in found]


def test_they_are_espnets_kinds_with_whispers_names(halves):
    encoder, decoder = halves
    assert isinstance(encoder, AbsEncoder)
    assert isinstance(decoder, BatchScorerInterface)
    assert type(encoder.encoders) is AudioEncoder
    assert type(decoder.decoders) is TextDecoder
    assert encoder.output_size() == WIDTH
    assert isinstance(encoder.get_submodule("encoders.blocks.0.attn.query"), torch.nn.Linear)
    assert isinstance(decoder.get_submodule("decoders.blocks.1.cross_attn.out"), torch.nn.Linear)


@torch.no_grad()
def test_training_forward_ignores_the_batch(halves):
    encoder, decoder = halves
    torch.manual_seed(2)
    waves = 0.1 * torch.randn(len(LENGTHS), int(LENGTHS.max()))
    tokens = torch.randint(0, LAYOUT.eot, (len(LENGTHS), 9))
    lengths = torch.tensor([9, 6, 4])
    hs, hlens, _ = encoder(waves, LENGTHS)
    logits, out = decoder(hs, hlens, tokens, lengths)
    assert out is lengths
    for row, n in enumerate(LENGTHS.tolist()):
        size = int(lengths[row])
        alone = encoder(waves[row : row + 1, :n], LENGTHS[row : row + 1])[:2]
        one, _ = decoder(*alone, tokens[row : row + 1, :size], lengths[row : row + 1])
        assert (logits[row, :size] - one[0]).abs().max() <= 1e-6 * one.abs().max()


@pytest.mark.parametrize("beam", [1, 4])
def test_batched_cached_search_equals_one_by_one_without_cache(checkpoint, halves, memory, beam):
    cached, (_, plain) = halves[1], build(checkpoint, use_cache=False)
    hs, hlens = memory
    batch = search_of(BatchBeamSearch, cached, beam)
    batch.set_hyp_primer(PROMPTS)
    together = batch(x=hs, x_lengths=hlens, maxlenratio=-10)
    assert len({tuple(t[4:]) for t in texts(together)}) == 3  # it does look at the audio
    for row, prompt in enumerate(PROMPTS):
        x = hs[row, : int(hlens[row])]
        for decoder in (plain, cached):
            for kind in (BatchBeamSearch, BeamSearch):
                search = search_of(kind, decoder, beam)
                search.set_hyp_primer(prompt)
                alone = search(x=x, maxlenratio=-10)
                assert texts([alone]) == texts([together[row]])
                assert float(alone[0].score) == pytest.approx(
                    float(together[row][0].score),
                    abs=1e-3,  # of logits up to a hundred
                )


def test_language_of_each_row_reaches_its_row(halves, memory, monkeypatch):
    decoder = halves[1]
    seen = []
    real = WhisperDecoder.batch_score

    def spy(self, ys, states, xs, xs_mask=None):
        seen.append(ys[:, :4].tolist())
        return real(self, ys, states, xs, xs_mask)

    monkeypatch.setattr(WhisperDecoder, "batch_score", spy)
    search = search_of(BatchBeamSearch, decoder, 2)
    search.set_hyp_primer(PROMPTS)
    search(x=memory[0], x_lengths=memory[1], maxlenratio=-3)
    wanted = [prompt for prompt in PROMPTS for _ in range(2)]
    assert len(seen) == 3
    assert all(rows == wanted for rows in seen)


def test_uncached_batches_use_the_mask(checkpoint, memory):
    _, plain = build(checkpoint, use_cache=False)
    hs, hlens = memory
    search = search_of(BatchBeamSearch, plain, 2)
    search.set_hyp_primer(PROMPTS)
    together = search(x=hs, x_lengths=hlens, maxlenratio=-5)
    for row, prompt in enumerate(PROMPTS):
        search.set_hyp_primer(prompt)
        alone = search(x=hs[row, : int(hlens[row])], maxlenratio=-5)
        assert texts([alone]) == texts([together[row]])


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("kind", [BatchBeamSearch, BeamSearch])
def test_positions_end_with_end_of_text(checkpoint, memory, kind, use_cache):
    _, decoder = build(checkpoint, use_cache=use_cache)
    search = search_of(kind, decoder, 3)
    search.set_hyp_primer(PROMPTS[0])
    assert int(memory[1][1]) > POSITIONS
    found = search(x=memory[0][1, : int(memory[1][1])])  # as many steps as encoder frames
    best = found[0].yseq.tolist()
    assert best[-1] == LAYOUT.eot
    assert LAYOUT.eot not in best[:-1]
    assert len(best) <= POSITIONS + 1
    assert any(len(hyp.yseq) == POSITIONS + 1 for hyp in found)


def test_hypotheses_pin_no_tensors_and_searches_do_not_mix(halves, memory):
    decoder = halves[1]
    search = search_of(BatchBeamSearch, decoder, 2)
    search.set_hyp_primer(PROMPTS[0])
    found = search(x=memory[0][0, : int(memory[1][0])], maxlenratio=-3)
    assert all(isinstance(i, int) for hyp in found for i in hyp.states["decoder"])
    decoder.release_cache()
    state = found[0].states["decoder"]
    with pytest.raises(RuntimeError, match="one batch search at a time"):
        decoder.batch_score(torch.tensor([PROMPTS[0]]), [state], memory[0][:1])
    decoder.batch_init_state(memory[0][:1])
    with pytest.raises(RuntimeError, match="another search"):
        decoder.batch_score(torch.tensor([PROMPTS[0]]), [state], memory[0][:1])


def test_vocabulary_of_another_size_is_an_error(checkpoint):
    with pytest.raises(ValueError, match="51866 tokens, but Whisper .*short.* has 51865"):
        WhisperDecoder(51866, WIDTH, checkpoint)
    with pytest.raises(ValueError, match="no multilingual Whisper has 5000 tokens"):
        WhisperDecoder(5000, WIDTH, checkpoint)
    with pytest.raises(ValueError, match="width 64.* takes 32"):
        WhisperDecoder(N_VOCAB, 64, checkpoint)
    with pytest.raises(ValueError, match=r"decoder_conf\.dropout_rate is 0\.1"):
        WhisperDecoder(N_VOCAB, WIDTH, checkpoint, dropout_rate=0.1)


@pytest.mark.parametrize("name", ["tiny", "large-v3", "large-v3-turbo"])
def test_published_sizes_on_the_meta_device(name):
    with torch.device("meta"):
        encoder = WhisperEncoder(whisper_model=name)
        decoder = WhisperDecoder(dims_of(name).n_vocab, encoder.output_size(), whisper_model=name)
    modules = dict(decoder.named_modules())
    assert f"decoders.blocks.{dims_of(name).n_text_layer - 1}.attn.query" in modules
    assert {p.device.type for p in (*encoder.parameters(), *decoder.parameters())} == {"meta"}

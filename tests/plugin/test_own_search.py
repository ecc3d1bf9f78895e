"""Our search against ESPnet's own over the decoder without cache, one utterance at a time."""

import pytest
import torch
from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch
from espnet2.legacy.nets.scorers.length_bonus import LengthBonus

from espnet_blora.decoding.search import search
from espnet_blora.plugin.whisper_parts import WhisperDecoder, WhisperEncoder
from espnet_blora.whisper.checkpoint import load_whisper, save_whisper
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.decoding.small import search_options
from tests.whispers import ending

LAYOUT = Vocabulary.of(51865)
CODES = ("zh", "en", "de", "en", "zh")
LENGTHS = torch.tensor([9000, 16000, 5000, 12000, 700])


@pytest.fixture(scope="module")
def halves(short_whisper, tmp_path_factory):
    """A lively Whisper with 24 positions whose texts end now and then by themselves."""
    whisper = ending(load_whisper(short_whisper), LAYOUT.eot)
    path = tmp_path_factory.mktemp("whisper") / "ending.safetensors"
    save_whisper(whisper, path, dtype=torch.float32)
    encoder = WhisperEncoder(whisper_model=str(path), pad_to="batch").eval()
    plain = WhisperDecoder(51865, 32, str(path), use_cache=False).eval()
    return encoder.requires_grad_(False), plain.requires_grad_(False)


@pytest.fixture(scope="module")
def memory(halves):
    torch.manual_seed(1)
    waves = 0.1 * torch.randn(len(LENGTHS), int(LENGTHS.max()))
    return halves[0](waves, LENGTHS)[:2]


def espnet(decoder, memory, prompt, options):
    """ESPnet's search, as `asr_inference` puts it together, over one memory."""
    found = BatchBeamSearch(
        scorers={"decoder": decoder, "length_bonus": LengthBonus(51865)},
        weights={"decoder": 1.0, "length_bonus": options.penalty},
        beam_size=options.beam_size,
        vocab_size=51865,
        sos=LAYOUT.sot,
        eos=LAYOUT.eot,
        normalize_length=options.normalize_length,
    ).eval()
    found.set_hyp_primer(prompt)
    nbest = found(x=memory, maxlenratio=options.maxlenratio, minlenratio=options.minlenratio)
    texts = []
    for hypothesis in nbest[: options.nbest]:
        ids = hypothesis.yseq.tolist()[len(prompt) :]
        texts.append((tuple(ids[: ids.index(LAYOUT.eot)]), float(hypothesis.score)))
    return texts


@pytest.mark.parametrize(
    "options",
    [
        search_options(),
        search_options(maxlenratio=0.2),
        search_options(maxlenratio=-7),
        search_options(beam_size=4, nbest=3),
        search_options(beam_size=4, nbest=4, maxlenratio=0.3),
        search_options(beam_size=3, nbest=2, maxlenratio=-60),
        search_options(beam_size=3, nbest=2, penalty=4.0, maxlenratio=-12),
        search_options(beam_size=3, nbest=2, penalty=-2.0),
        search_options(beam_size=3, nbest=3, normalize_length=True, maxlenratio=-9),
        search_options(beam_size=3, nbest=3, normalize_length=True, penalty=3.0, maxlenratio=-9),
        search_options(beam_size=3, nbest=2, minlenratio=-4, maxlenratio=-9),
        search_options(beam_size=3, nbest=2, minlenratio=0.4, maxlenratio=0.3),
    ],
    ids=lambda o: f"beam{o.beam_size}-{o.maxlenratio}-{o.minlenratio}-{o.penalty}",
)
def test_the_same_texts_and_scores(halves, memory, options):
    hs, hlens = memory
    prompts = [LAYOUT.prompt(code) for code in CODES]
    found = search(halves[1].decoders, hs, hlens, prompts, LAYOUT.eot, options)
    texts = set()
    for row, prompt in enumerate(prompts):
        wanted = espnet(halves[1], hs[row, : int(hlens[row])], prompt, options)
        assert [one.ids for one in found[row]] == [ids for ids, _ in wanted]
        scores = [one.score for one in found[row]]
        assert scores == pytest.approx([score for _, score in wanted], abs=2e-3)
        texts.update(one.ids for one in found[row])
    assert len(texts) >= 3  # the model does listen


def test_the_texts_compared_end_in_all_ways(halves, memory):
    hs, hlens = memory
    prompts = [LAYOUT.prompt(code) for code in CODES]
    options = search_options(beam_size=4, nbest=4, maxlenratio=0.5)
    found = search(halves[1].decoders, hs, hlens, prompts, LAYOUT.eot, options)
    ends = {(one.ended, len(one.ids) == 20) for nbest in found for one in nbest}
    assert ends >= {(True, False), (True, True), (False, False)}  # itself, positions, limit
    assert len({len(one.ids) for nbest in found for one in nbest}) >= 5

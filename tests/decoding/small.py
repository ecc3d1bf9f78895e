"""A recogniser small enough for a test: random weights, a wide posterior, texts of some tokens."""

import torch
from torch import Tensor
from whisper.model import Whisper

from espnet_blora import add_adapter
from espnet_blora.adapters import get_adapter
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.recogniser import Recogniser
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.whispers import random_whisper

LAYOUT = Vocabulary.of(51865)


def search_options(
    beam_size: int = 1, nbest: int = 1, rule: str = "espnet", **more
) -> DecodingOptions:
    """Options of a search, by default ESPnet's, greedy."""
    return DecodingOptions(beam_size=beam_size, nbest=nbest, rule=rule, **more)


def opened(whisper: Whisper, name: str = "small") -> Recogniser:
    """A Whisper, with its adapter if it has one, as a recogniser."""
    return Recogniser(
        whisper.encoder,
        whisper.decoder,
        LAYOUT,
        "batch",
        [(0, 0)],
        name,
        adapter=get_adapter(whisper),
    )


def recogniser(method: str | None = "blora", rho: float = -1.0) -> Recogniser:
    """A random Whisper with an adapter whose update matters, in evaluation mode."""
    whisper = random_whisper(context=24)
    whisper.decoder.token_embedding.weight.data[LAYOUT.eot] *= 4  # so that beams end
    if method is not None:
        own = {"rho_init_A": rho} if method == "blora" else {}
        adapter = add_adapter(whisper, method, rank=4, alpha=64, **own)
        for layer in adapter.layers.values():
            torch.nn.init.normal_(layer.lora_B, std=0.3)
    whisper.requires_grad_(False)
    return opened(whisper)


def utterances() -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Waves of noise and prompts, by utterance id."""
    generator = torch.Generator().manual_seed(1)
    lengths = {"d": 4000, "a": 700, "c": 9000, "b": 2500}
    waves = {uid: 0.1 * torch.randn(n, generator=generator) for uid, n in lengths.items()}
    return waves, {uid: LAYOUT.prompt("zh" if uid in "ab" else "en") for uid in waves}

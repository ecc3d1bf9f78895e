"""Random but lively Whispers: what they say depends on the audio, the language and the prefix."""

import pytest
import torch
from whisper.model import ModelDimensions, Whisper

from espnet_blora.whisper.checkpoint import save_whisper


def lively(n_text_ctx: int = 448, n_vocab: int = 51865, seed: int = 0) -> Whisper:
    """A random Whisper of width 32 that does not merely echo its last token.

    The output projection is the input embedding, so with plain random weights the residual
    connection makes every model repeat itself; large layers and a small embedding prevent that.
    """
    torch.manual_seed(seed)
    model = Whisper(ModelDimensions(80, 1500, 32, 2, 2, n_vocab, n_text_ctx, 32, 2, 2))
    decoder = model.decoder
    with torch.no_grad():
        decoder.positional_embedding.normal_(std=0.3)
        decoder.token_embedding.weight.mul_(0.3)
        for name, parameter in model.named_parameters():
            if ".blocks." in name and parameter.dim() > 1:
                parameter.mul_(4.0)
        decoder.ln.weight.mul_(20.0)  # logits far apart: rounding never decides a token
    return model.eval()


@pytest.fixture(scope="session")
def random_whisper(tmp_path_factory):
    """Path of a lively Whisper with 51,865 tokens and 448 positions."""
    path = tmp_path_factory.mktemp("whisper") / "random.safetensors"
    save_whisper(lively(), path, dtype=torch.float32)
    return str(path)


@pytest.fixture(scope="session")
def short_whisper(tmp_path_factory):
    """The same with only 24 text positions, whose end a search soon reaches."""
    path = tmp_path_factory.mktemp("whisper") / "short.safetensors"
    save_whisper(lively(n_text_ctx=24), path, dtype=torch.float32)
    return str(path)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory, random_whisper):
    """What training leaves behind: config.yaml and a checkpoint."""
    from tests.plugin.stage12 import make_experiment

    return make_experiment(tmp_path_factory, random_whisper)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A set with wav.scp and utt2lang."""
    from tests.plugin.stage12 import LANGUAGES, SAMPLES, write_data

    return write_data(tmp_path_factory.mktemp("data") / "test", SAMPLES, LANGUAGES)

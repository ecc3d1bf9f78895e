"""Random but lively Whispers: what they say depends on the audio, the language and the prefix."""

import pytest
import torch

from espnet_blora import plugin
from espnet_blora.plugin.settings import SCALE, WHISPER
from espnet_blora.whisper.checkpoint import save_whisper
from tests import experiments
from tests.plugin.token_yaml import quick_token_lists  # noqa: F401
from tests.whispers import lively


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
    """What training leaves behind: config.yaml and a checkpoint, for a process plugged in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WHISPER, random_whisper)
        patch.delenv(SCALE, raising=False)
        plugin.register()
    folder, _ = experiments.experiment(
        tmp_path_factory.mktemp("exp"), random_whisper, moved_by=0.001
    )
    return experiments.complete(folder)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A set with wav.scp and utt2lang."""
    from tests.plugin.stage12 import LANGUAGES, SAMPLES, write_data

    return write_data(tmp_path_factory.mktemp("data") / "test", SAMPLES, LANGUAGES)

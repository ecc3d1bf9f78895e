"""What ESPnet imports for other models waits until it is used, and is then the real thing."""

import subprocess
import sys

import pytest

from espnet_blora.plugin.late import LIBRARIES, late_imports

PROGRAM = """
import sys
from espnet_blora import plugin
plugin.register(whisper="tiny")
import espnet2.bin.asr_train
print(*sorted(set(sys.argv[1:]) & set(sys.modules)))
from espnet2.layers.create_adapter_fn import Wav2Vec2EncoderLayerStableLayerNorm as layer
import torch
print(isinstance(torch.nn.Linear(1, 1), layer), "transformers" in sys.modules)
import transformers, scipy.stats, hydra
print(type(transformers).__name__, scipy.stats.norm.cdf(0.0))
from espnet2.train import preprocessor
print(preprocessor.scipy.signal.convolve([1, 2], [3]))
"""


def test_a_training_starts_without_them_and_finds_them_when_they_are_used():
    words = [sys.executable, "-c", PROGRAM, *LIBRARIES]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[:2] == ["", "False True"]
    assert lines[2:] == ["_LazyModule 0.5", "[3 6]"]


def given(name, fromlist=(), caller="espnet2.some.module"):
    """Import as a module of that name would."""
    with late_imports():
        return __import__(name, {"__name__": caller}, None, fromlist)


def test_a_stand_in_is_a_function_a_class_and_a_base_class():
    late = given("scipy.stats", ("betabinom", "rv_discrete"))
    from scipy import stats

    assert late is not stats
    assert late.betabinom.logpmf(2, 5, 1.0, 2.0) == stats.betabinom.logpmf(2, 5, 1.0, 2.0)
    assert late.norm(1.0).mean() == 1.0
    assert isinstance(stats.norm, late.rv_continuous) and not isinstance(3, late.rv_continuous)

    class Own(late.rv_discrete):
        pass

    assert issubclass(Own, stats.rv_discrete)
    with pytest.raises(AttributeError, match="no_such"):
        late.no_such()


@pytest.mark.parametrize(
    ("name", "fromlist", "caller"),
    [
        ("scipy.stats", ("norm",), "transformers.loss"),  # not ESPnet's
        ("scipy.special", ("gamma",), "espnet2.some.module"),  # not in the table
        ("scipy.stats", (), "espnet2.some.module"),  # binds scipy
    ],
)
def test_others_get_the_library(name, fromlist, caller):
    assert given(name, fromlist, caller) is sys.modules[name if fromlist else "scipy"]
    with pytest.raises(ImportError):
        given("no_such_library_here", (), "espnet2.some.module")

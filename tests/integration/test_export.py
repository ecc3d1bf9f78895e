"""Exports of what recipes adapt, on real speech of mini_cs: each reader says what we say.

`benchmarks/export.py` does the same with trained experiments; here factors are moved at random.
"""

import pytest

from benchmarks.export import FORMATS, open_case
from espnet_blora.data.mini_cs import build
from espnet_blora.export import write
from tests import experiments
from tests.integration.conftest import TINY

pytestmark = pytest.mark.integration
METHODS = ["lora", "blora", "dama", "dora", None]  # None: all weights
HEARD = 50
ROUNDED = ("ct2 float16", "ct2 int8", "ggml")
EXACT = [name for name in FORMATS if name not in ROUNDED]


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    build(folder, ["test_cs"], scale=0.25)
    return folder / "test_cs"


@pytest.fixture(scope="module", params=METHODS, ids=str)
def case(request, speech, tmp_path_factory):
    method = request.param
    folder = tmp_path_factory.mktemp("exp") / str(method)
    moved_by = 0.001 if method is None else 0.01
    experiments.experiment(folder, str(TINY), method, moved_by=moved_by)
    return method, *open_case(folder, speech, HEARD)


@pytest.mark.parametrize("name", EXACT)
def test_its_reader_says_what_we_say(case, name, tmp_path):
    method, opened, _ = case
    kind, _, precision = name.partition(" ")
    alone = kind in write.ALONE
    if alone and method is None:
        pytest.skip("there is no adapter")
    assert len(set(opened.probe.ours.values())) > 3
    model = opened.adapter if alone else opened.whole

    place, precision = tmp_path / "out", precision or "float32"
    odd = write.export(kind, model, opened.base, place, opened.probe, precision)
    assert not odd
    assert (place / "README.md").is_file()


@pytest.fixture(scope="module", params=METHODS, ids=str)
def sure(request, tmp_path_factory):
    """What hardly moves the base, on sentences that the base knows well."""
    folder = tmp_path_factory.mktemp("sure")
    build(folder / "corpus", ["ret_en"], scale=0.25)
    experiments.experiment(folder / "exp", str(TINY), request.param, moved_by=0.0005)
    return open_case(folder / "exp", folder / "corpus/ret_en", HEARD)[0]


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_weights_say_it_on_nine_of_ten(sure, name, tmp_path):
    kind, _, precision = name.partition(" ")
    assert len(set(sure.probe.ours.values())) > 40
    model, place = sure.whole, tmp_path / "out"
    odd = write.export(kind, model, sure.base, place, sure.probe, precision or "float32")
    assert len(odd) <= 5

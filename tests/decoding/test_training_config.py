"""config.yaml read as text where it is plain: the same as a yaml parser, token for token."""

import pytest
import yaml

from espnet_blora.decoding import training_config
from espnet_blora.decoding.training_config import (
    TrainedLengths,
    find_checkpoint,
    read_training_config,
)
from espnet_blora.whisper.vocabulary import Vocabulary
from tests import experiments


@pytest.fixture
def folder(tmp_path):
    return experiments.write_config(tmp_path, "tiny", use_adapter=True, adapter_conf={"rank": 4})


def change(folder, old, new):
    path = folder / "config.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_it_reads_what_yaml_reads(folder, monkeypatch):
    path = folder / "config.yaml"
    wanted = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    real, parsed = training_config.load_yaml, []
    monkeypatch.setattr(
        training_config, "load_yaml", lambda text: (parsed.append(text), real(text))[1]
    )
    values, tokens = training_config._parse(path.read_text(encoding="utf-8"))
    assert tokens == wanted.pop("token_list") and values == wanted
    assert 0 < sum(map(len, parsed)) < 20_000  # of half a million characters
    config = read_training_config(path)
    assert config.vocabulary is Vocabulary.of(51865) and config.whisper == "tiny"
    assert config.adapter == ("lora", {"rank": 4}) and config.language is None


@pytest.mark.parametrize("entry", ["yes", "1.5", "'don''t'", '"\\t"', "~", "'null'", "Null", "a"])
def test_entries_that_yaml_reads_otherwise_are_left_to_it(entry):
    text = f"a: 1\ntoken_list:\n- {entry}\n- b\nc: 2\n"
    values, tokens = training_config._parse(text)
    assert (values, tokens) == ({"a": 1, "c": 2}, yaml.safe_load(f"[{entry}, b]"))


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\ntoken_list:\n    - x\n    - y\nc: 2\n",  # indented
        "a: 1\ntoken_list: [x, y]\nc: 2\n",
        'a: 1\ntoken_list:\n- x\n- "\\\n  y"\nc: 2\n',  # folded over two lines
        "a: 1\nc: 2\ntoken_list:\n- x\n- y\n",  # the last key
        "token_list:\n- x\n- y\na: 1\nc: 2\n",
    ],
)
def test_other_layouts_are_left_to_the_parser(text):
    assert training_config._parse(text) == ({"a": 1, "c": 2}, ["x", "y"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n- ĠGod\n", "\n- Ġgod\n", r"token_list:\d+: token 'Ġgod', but Whisper .*'ĠGod'"),
        ("\n- ĠGod\n", "\n", "51864 tokens, but Whisper's"),
        ("\n- <|30.00|>\n", "\n- <|30.00|>\n- <|ABC|>\n", "51866 tokens|only those of new"),
        ("\ntoken_list:\n", "\ntoken_list: tokens.txt\nother:\n", "token_list is str"),
        ("\nencoder: whisper", "\n", "encoder:, decoder: missing"),
        ("\nencoder: whisper", "\nencoder: {", "not readable as yaml"),
    ],
)
def test_other_files_are_refused(folder, old, new, message):
    path = change(folder, old, new)
    with pytest.raises(ValueError, match=message) as caught:
        read_training_config(path)
    assert str(path) in str(caught.value)


def test_two_whispers_are_one_too_many(folder):
    experiments.write_config(folder, "tiny", decoder_conf={"whisper_model": "base"})
    with pytest.raises(ValueError, match="Whisper 'tiny' with a decoder of 'base'"):
        _ = read_training_config(folder / "config.yaml").whisper


def test_which_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none of valid\.acc\.best\.pth, base\.pth; there"):
        find_checkpoint(tmp_path)
    for name in ("checkpoint.pth", "3epoch.pth", "base.pth"):
        (tmp_path / name).touch()
    assert find_checkpoint(tmp_path).name == "base.pth"
    (tmp_path / "valid.acc.best.pth").symlink_to("3epoch.pth")
    assert find_checkpoint(tmp_path).name == "valid.acc.best.pth"
    assert find_checkpoint(tmp_path / "gone", tmp_path / "3epoch.pth").name == "3epoch.pth"
    with pytest.raises(FileNotFoundError, match=r"7epoch\.pth; there are 3epoch\.pth, base\.pth"):
        find_checkpoint(tmp_path, "7epoch.pth")


def test_the_only_checkpoint_of_a_packed_model(tmp_path):
    (tmp_path / "8epoch.pth").touch()
    assert find_checkpoint(tmp_path).name == "8epoch.pth"
    (tmp_path / "checkpoint.pth").touch()  # a training that has not ended its first epoch's links
    with pytest.raises(FileNotFoundError, match=r"there are 8epoch\.pth.*--model_file"):
        find_checkpoint(tmp_path)


def test_what_was_trained_on(folder):
    path = folder / "config.yaml"
    for data, languages, lengths in (
        ({}, (), None),
        ({"training_data": None}, (), None),
        ({"training_data": {"seconds": {"median": 2.0, "most": 4.0, "longest": 6.0},
                            "languages": {"Chinese": 5}}}, ("zh",), TrainedLengths(2.0, 4.0, 6.0)),
        ({"training_data": {"seconds": None, "languages": {"zh": 5, "en": 1}}}, ("zh", "en"), None),
    ):  # fmt: skip
        experiments.write_config(folder, "tiny", **data)
        found = read_training_config(path)
        assert (found.languages, found.lengths) == (languages, lengths)
        assert found.language is None
    experiments.write_config(folder, "tiny", training_data={"languages": {"klingon": 1}})
    with pytest.raises(ValueError, match=r"config\.yaml: training_data: .*klingon"):
        _ = read_training_config(path).languages

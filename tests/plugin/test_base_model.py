"""The experiment of the unadapted base, as stage 12 needs it."""

import pytest
import torch
import yaml
from espnet2.tasks.asr import ASRTask

from espnet_blora.bin import base_model
from espnet_blora.decoding.training_config import DATA
from espnet_blora.plugin.base_model import write_base_model
from tests.plugin.tiny import BLORA, config, shared, whisper_file


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    return shared(tmp_path_factory)


@pytest.fixture
def training_yaml(tmp_path):
    path = tmp_path / "train.yaml"
    told = {"data": "data/said"}  # of a training with an adapter alone
    path.write_text(yaml.safe_dump(config(**BLORA, retain=told)), encoding="utf-8")
    return path


def test_the_base_is_decodable_and_has_no_adapter(experiment, training_yaml, tmp_path, monkeypatch):
    folder = tmp_path / "asr_none"
    status = base_model.main(
        [
            *("--asr_config", str(training_yaml), "--token_list", str(experiment.tokens)),
            *("--output_dir", str(folder), "--whisper", str(experiment.whisper)),
            *("--model_file", "valid.acc.best.pth", "--seed", "3"),
        ]
    )
    assert status == 0
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "valid.acc.best.pth"]
    assert (folder / "valid.acc.best.pth").stat().st_size < 5000
    model, args = ASRTask.build_model_from_file(
        folder / "config.yaml", folder / "valid.acc.best.pth"
    )
    assert args.use_adapter is False and args.seed == 3 and not getattr(args, "retain", None)
    assert args.token_type == args.bpemodel == "whisper_multilingual"
    assert len(args.token_list) == 51865
    assert not any("lora" in name for name in model.state_dict())

    # Training's own config.yaml has the same keys, so that every program reads it alike; only what
    # its data were is not to be said of a base that heard none.
    trained = experiment.train_here("base_keys", max_epoch=1)
    theirs = yaml.load((trained / "config.yaml").read_text(), Loader=yaml.CSafeLoader)
    assert theirs.keys() == {*vars(args), DATA}

    other = whisper_file(tmp_path, seed=9)
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    (folder / "config.yaml").write_text(
        text.replace(str(experiment.whisper), str(other)), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="another base model"):
        ASRTask.build_model_from_file(folder / "config.yaml", folder / "valid.acc.best.pth")


def test_the_program_ends_in_one_line(tmp_path, capsys):
    line = f"--config none.yaml --token_list none.txt --output_dir {tmp_path} --whisper tiny"
    assert base_model.main(line.split()) == 2
    text = capsys.readouterr().err
    assert text.startswith("base_model: error: --asr_config: no file none.yaml")
    assert text.count("\n") == 1


def test_what_a_user_may_get_wrong(experiment, training_yaml, tmp_path, monkeypatch):
    good = {
        "asr_config": str(training_yaml),
        "token_list": str(experiment.tokens),
        "output_dir": str(tmp_path / "exp"),
        "whisper": str(experiment.whisper),
    }
    with pytest.raises(FileNotFoundError, match="--asr_config: no file"):
        write_base_model(**{**good, "asr_config": "none.yaml"})
    with pytest.raises(FileNotFoundError, match="--token_list: no file"):
        write_base_model(**{**good, "token_list": "none.txt"})
    with pytest.raises(ValueError, match="is a path"):
        write_base_model(**good, model_file="a/b.pth")
    with pytest.raises(ValueError, match="unadapted base"):
        write_base_model(**good, options=["--use_adapter", "true"])
    with pytest.raises(SystemExit):
        write_base_model(**good, options=["--no_such_option", "1"])
    monkeypatch.delenv("ESPNET_BLORA_WHISPER", raising=False)
    with pytest.raises(ValueError, match="which Whisper"):
        write_base_model(**{**good, "whisper": None})
    trained = tmp_path / "trained"
    trained.mkdir()
    torch.save({}, trained / "checkpoint.pth")
    with pytest.raises(ValueError, match="holds a trained model"):
        write_base_model(**{**good, "output_dir": str(trained)})
    training_yaml.write_text("- a\n- b\n")
    with pytest.raises(ValueError, match="expected a yaml mapping"):
        write_base_model(**good)

"""Yaml files and single settings become one configuration; mistakes are named."""

import pytest
import yaml

from espnet_blora.bin import make_config


@pytest.fixture
def layers(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 0\nconf: {rank: 8, targets: [q, k]}\nx: 1\n")
    (tmp_path / "b.yaml").write_text("conf: {rank: 4, alpha: 8}\nx: null\n")
    return [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]


def made(tmp_path, *arguments):
    assert make_config.main([*arguments, "--output", str(tmp_path / "new" / "out.yaml")]) == 0
    return yaml.safe_load((tmp_path / "new" / "out.yaml").read_text())


def test_later_files_lie_over_earlier_ones(layers, tmp_path):
    conf = {"rank": 4, "alpha": 8, "targets": ["q", "k"]}
    assert made(tmp_path, *layers) == {"seed": 0, "conf": conf, "x": None}


def test_settings_lie_over_all_files_and_keep_their_types(layers, tmp_path):
    settings = ["conf.rank=2", "conf.targets=[v, mlp.0]", "lr=1e-3", "amp=false", "name=base", "n="]
    found = made(tmp_path, *layers, *(word for s in settings for word in ("--set", s)))
    assert found["conf"] == {"rank": 2, "alpha": 8, "targets": ["v", "mlp.0"]}
    assert (found["lr"], found["amp"], found["name"], found["n"]) == (0.001, False, "base", None)


def refused(tmp_path, capsys, *arguments):
    """The line that a mistake gets."""
    assert make_config.main([*arguments, "--output", str(tmp_path / "new" / "out.yaml")]) == 2
    assert not (tmp_path / "new").exists()
    return capsys.readouterr().err


def test_numbers_of_files_are_numbers_too(tmp_path):
    (tmp_path / "a.yaml").write_text("lr: 1e-3\nsymbol: <|x|>\n")
    assert made(tmp_path, str(tmp_path / "a.yaml")) == {"lr": 0.001, "symbol": "<|x|>"}


@pytest.mark.parametrize("setting", ["beta", "=1", "a..b=1", "a=[1"])
def test_bad_settings_are_named(layers, tmp_path, capsys, setting):
    assert f"--set {setting!r}" in refused(tmp_path, capsys, *layers, "--set", setting)


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2\n", "- 1\n", None])
def test_bad_files_are_named(tmp_path, capsys, text):
    if text is not None:
        (tmp_path / "bad.yaml").write_text(text)
    assert f"{tmp_path}/bad.yaml: " in refused(tmp_path, capsys, str(tmp_path / "bad.yaml"))


def test_a_file_lies_over_what_it_includes(tmp_path):
    (tmp_path / "below.yaml").write_text("include: adapter_lora.yaml\nadapter_conf: {alpha: 8}\n")
    (tmp_path / "own.yaml").write_text("include: ./below.yaml\nadapter_conf: {rank: 4}\n")
    found = made(tmp_path, str(tmp_path / "own.yaml"))
    assert found["adapter"] == "lora" and "include" not in found
    assert (found["adapter_conf"]["rank"], found["adapter_conf"]["alpha"]) == (4, 8)
    assert found["adapter_conf"]["target_modules"] == ["query", "key"]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("adapter_blroa.yaml", "'adapter_blora.yaml'"), ("xyz", "train.yaml"), ("./a.yaml", "itself")],
)
def test_bad_includes_are_named(tmp_path, capsys, name, remedy):
    (tmp_path / "a.yaml").write_text(f"include: {name}\n")
    message = refused(tmp_path, capsys, str(tmp_path / "a.yaml"))
    assert f"{tmp_path}/a.yaml: include" in message and remedy in message

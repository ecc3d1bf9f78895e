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
    make_config.main([*arguments, "--output", str(tmp_path / "new" / "out.yaml")])
    return yaml.safe_load((tmp_path / "new" / "out.yaml").read_text())


def test_later_files_lie_over_earlier_ones(layers, tmp_path):
    conf = {"rank": 4, "alpha": 8, "targets": ["q", "k"]}
    assert made(tmp_path, *layers) == {"seed": 0, "conf": conf, "x": None}


def test_settings_lie_over_all_files_and_keep_their_types(layers, tmp_path):
    settings = ["conf.rank=2", "conf.targets=[v, mlp.0]", "lr=1e-3", "amp=false", "name=base", "n="]
    found = made(tmp_path, *layers, *(word for s in settings for word in ("--set", s)))
    assert found["conf"] == {"rank": 2, "alpha": 8, "targets": ["v", "mlp.0"]}
    assert (found["lr"], found["amp"], found["name"], found["n"]) == (0.001, False, "base", None)


@pytest.mark.parametrize("setting", ["beta", "=1", "a..b=1", "a=[1"])
def test_bad_settings_are_named(layers, tmp_path, setting):
    with pytest.raises(SystemExit, match=r"--set '") as caught:
        made(tmp_path, *layers, "--set", setting)
    assert setting in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("text", "says"), [("a: [1", "no yaml"), ("- 1\n", "holds list"), (None, "no such")]
)
def test_bad_files_are_named(tmp_path, text, says):
    if text is not None:
        (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(SystemExit, match=rf"bad\.yaml: {says}"):
        made(tmp_path, str(tmp_path / "bad.yaml"))


def test_a_file_lies_over_what_it_includes(tmp_path):
    (tmp_path / "below.yaml").write_text("include: adapter_lora.yaml\nadapter_conf: {alpha: 8}\n")
    (tmp_path / "own.yaml").write_text("include: ./below.yaml\nadapter_conf: {rank: 4}\n")
    found = made(tmp_path, str(tmp_path / "own.yaml"))
    assert found["adapter"] == "lora" and "include" not in found
    assert (found["adapter_conf"]["rank"], found["adapter_conf"]["alpha"]) == (4, 8)
    assert found["adapter_conf"]["target_modules"] == ["query", "key"]


@pytest.mark.parametrize(
    ("name", "says"), [("nosuch.yaml", "shared ones are .*adapter_blora"), ("./a.yaml", "itself")]
)
def test_bad_includes_are_named(tmp_path, name, says):
    (tmp_path / "a.yaml").write_text(f"include: {name}\n")
    with pytest.raises(SystemExit, match=f"a.yaml: include.*{says}"):
        made(tmp_path, str(tmp_path / "a.yaml"))

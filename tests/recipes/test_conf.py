"""The recipe's yaml shows every option that an adapter has, says what it does, and is accepted."""

import re
from pathlib import Path

import pytest
import yaml

from espnet_blora.adapters import METHODS, parse_config

CONF = Path(__file__).resolve().parents[2] / "egs2" / "mini_cs" / "asr1" / "conf"
EPOCH = 600 // 16  # whole batches of the training set


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_option_stands_there_with_a_comment(method):
    text = (CONF / f"adapter_{method}.yaml").read_text(encoding="utf-8")
    block = text.partition("\nadapter_conf:")[2].partition("\noptim_conf:")[0]
    described = re.findall(r"^    (?:# )?(\w+): \S.*? #", block, re.MULTILINE)
    assert sorted(described) == sorted(METHODS[method].config.options())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_it_is_a_valid_configuration(method):
    conf = yaml.safe_load((CONF / f"adapter_{method}.yaml").read_text(encoding="utf-8"))
    assert conf["use_adapter"] is True and conf["adapter"] == method
    config = parse_config(method, conf["adapter_conf"])
    for key, value in conf["adapter_conf"].items():
        found = getattr(config, key)
        assert (list(found) if isinstance(found, tuple) else found) == value, key


def test_where_no_other_default_is_named_it_is_the_methods_own():
    text = (CONF / "adapter_blora.yaml").read_text(encoding="utf-8")
    named = dict(re.findall(r"^    (\w+): .*\[(.*)\]$", text, re.MULTILINE))
    conf = yaml.safe_load(text)["adapter_conf"]
    own = parse_config("blora", {})
    assert {"beta", "log_every", "target_modules"} <= set(named)
    for option, value in conf.items():
        default = getattr(own, option)
        plain = list(default) if isinstance(default, tuple) else default
        if option in named:
            assert named[option].split(",")[0] in str(default), option
        else:
            assert plain == value, option


def test_what_is_commented_out_works_when_put_in():
    conf = yaml.safe_load((CONF / "adapter_blora.yaml").read_text())["adapter_conf"]
    linear = conf | {"schedule": "linear", "warmup_steps": 40, "prior_std_A": 0.02}
    assert parse_config("blora", linear).prior_std_B == conf["prior_std"]
    cyclic = conf | {"schedule": "cyclic", "cycle_steps": 100}
    assert parse_config("blora", cyclic).cycle_ramp == 0.5
    tokens = conf | {"kl_reduction": "sum_over_tokens", "num_tokens": 6000}
    assert parse_config("blora", tokens).num_tokens == 6000


def test_each_epoch_has_statistics():
    conf = yaml.safe_load((CONF / "adapter_blora.yaml").read_text())["adapter_conf"]
    assert conf["log_every"] <= EPOCH

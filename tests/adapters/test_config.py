import json
import re

import pytest

from espnet_blora.adapters.methods.blora import PRESETS, BloraConfig
from espnet_blora.adapters.registry import METHODS, parse_config


def test_defaults_are_those_of_the_paper_where_it_gives_them():
    config = parse_config("blora", {})
    assert (config.rank, config.alpha, config.scaling) == (32, 64.0, 2.0)
    assert (config.prior_std_A, config.prior_std_B, config.beta) == (0.01, 0.01, 0.5)
    assert config.rho_init_A == (-5.5, -4.5) and config.rho_init_B == -50.0
    assert not config.train_sigma_B and not config.noisy_B and config.sampling == "weight"


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("paper", {"target_modules": ("query", "key"), "rank": 32, "beta": 0.5}),
        ("code", {"target_modules": ("query", "value"), "alpha": 64.0, "dropout_rate": 0.05}),
    ],
)
def test_presets(preset, expected):
    config = parse_config("blora", {"preset": preset})
    assert expected.items() <= vars(config).items()
    assert config.kl_reduction == "per_matrix_mean" and config.prior_std == 0.01
    assert config.sampling == "flipout"


def test_explicit_keys_override_the_preset():
    config = parse_config("blora", {"preset": "paper", "rank": 8, "target_modules": ["out"]})
    assert (config.rank, config.target_modules, config.beta) == (8, ("out",), 0.5)
    config = parse_config("blora", {"preset": "any_size", "kl_reduction": "global_mean"})
    assert config.num_tokens is None


@pytest.mark.parametrize(
    ("method", "conf", "alpha"),
    [
        ("lora", {}, 64.0),
        ("lora", {"rank": 8}, 16.0),
        ("lora", {"rank": 8, "alpha": 64}, 64.0),
        ("blora", {"preset": "paper", "rank": 4}, 8.0),
        ("pissa", {"rank": 8}, 8.0),
        ("dama", {}, 32.0),
    ],
)
def test_alpha_is_twice_the_rank_unless_given(method, conf, alpha):
    config = parse_config(method, conf)
    assert config.alpha == config.as_dict()["alpha"] == alpha  # a file holds the number itself


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"preset": "code", "prior_std_B": 0.1},
        {"bayesian_factors": "A"},
        {"train_sigma_B": True, "schedule": "cyclic", "cycle_steps": 10},
        {"kl_reduction": "sum_over_tokens", "num_tokens": 1000, "rho_init_A": -4},
    ],
)
def test_options_survive_json(conf):
    config = parse_config("blora", conf)
    again = parse_config("blora", json.loads(json.dumps(config.as_dict())))
    assert again == config


@pytest.mark.parametrize(
    ("method", "conf", "words"),
    [
        ("lora", {"rnak": 4}, ["rnak", "did you mean 'rank'", "target_modules"]),
        ("lora", {"beta": 0.1}, ["'beta'", "allowed"]),
        ("lora", {"rank": 0}, ["rank is 0", ">= 1"]),
        ("lora", {"r": 4}, ["'r'; did you mean 'rank'"]),
        ("lora", {"rank": "8"}, ["rank is '8' (this is text: write it without quotes)"]),
        ("lora", {"rank": True}, ["rank is True"]),
        ("lora", {"rank": 4.0}, ["rank is 4.0", "whole number"]),
        ("lora", {"alpha": 0}, ["alpha is 0", "> 0"]),
        ("lora", {"alpha": float("nan")}, ["alpha is nan"]),
        ("lora", {"dropout_rate": 1.0}, ["dropout_rate is 1.0", "< 1"]),
        ("lora", {"target_modules": "query"}, ["target_modules is 'query'", "list"]),
        ("lora", {"target_modules": []}, ["target_modules is []"]),
        ("lora", {"target_modules": ["a..b"]}, ["'a..b'"]),
        ("lora", {"target_modules": ["a", "a"]}, ["twice"]),
        ("blora", {"preset": "papers"}, ["preset is 'papers'", "code, paper"]),
        ("blora", {"sampling": "lrt"}, ["sampling is 'lrt'", "flipout, flipout_by_utterance"]),
        ("blora", {"prior_std": 0}, ["prior_std is 0", "> 0"]),
        ("blora", {"prior_std_B": -1}, ["prior_std_B is -1"]),
        ("blora", {"prior_std": "automatic"}, ["prior_std is 'automatic'", "a number > 0, auto"]),
        ("blora", {"prior_floor": 0}, ["prior_floor is 0", "> 0"]),
        ("blora", {"beta": "1e-2"}, ["beta is '1e-2'", "1.0e-2"]),
        ("blora", {"beta": -1}, ["beta is -1", ">= 0"]),
        ("blora", {"kl_reduction": "sum"}, ["kl_reduction", "sum_over_tokens"]),
        ("blora", {"kl_reduction": "sum_over_tokens"}, ["needs num_tokens"]),
        ("blora", {"num_tokens": 5}, ["num_tokens is 5", "remove it"]),
        ("blora", {"schedule": "linear"}, ["needs warmup_steps"]),
        ("blora", {"schedule": "cyclic", "cycle_steps": 0}, ["cycle_steps is 0"]),
        ("blora", {"warmup_steps": 5}, ["warmup_steps is 5", "linear"]),
        ("blora", {"cycle_ramp": 0.0}, ["cycle_ramp is 0.0"]),
        ("blora", {"rho_init_A": [1, -1]}, ["rho_init_A", "low <= high"]),
        ("blora", {"rho_init_A": [1]}, ["rho_init_A", "[low, high]"]),
        ("blora", {"rho_init_A": -50}, ["rho_init_A is -50", "vanishes"]),
        ("blora", {"train_sigma_B": True, "rho_init_B": -50}, ["rho_init_B", "vanishes"]),
        ("blora", {"train_sigma_B": 1}, ["train_sigma_B is 1", "true or false"]),
        ("blora", {"bayesian_factors": "B"}, ["bayesian_factors is 'B'"]),
        ("blora", {"bayesian_factors": "A", "train_sigma_B": True}, ["bayesian_factors: AB"]),
        ("blora", {"seed": -1}, ["seed is -1"]),
        ("blora", {"seed": 2**70}, [f"seed is {2**70}", f"<= {2**63 - 1}"]),
        ("blora", {"log_every": 0}, ["log_every is 0"]),
        ("blora", {"kl_dtype": "float16"}, ["kl_dtype is 'float16'"]),
    ],
)
def test_each_bad_option_is_named_with_what_is_allowed(method, conf, words):
    with pytest.raises(ValueError, match=f"adapter_conf of {method}") as caught:
        parse_config(method, conf)
    for word in words:
        assert word in str(caught.value)


def test_unknown_method_names_near_misses():
    with pytest.raises(ValueError, match="bloora.*did you mean 'blora'.*known: lora, blora"):
        parse_config("bloora", {})
    with pytest.raises(ValueError, match="mapping"):
        parse_config("lora", ["rank"])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_documents_every_option(method):
    """Each option is an entry of `Attributes:` in its class or one above (docs/generate.py)."""
    config = METHODS[method].config
    documented = "".join(cls.__doc__ or "" for cls in config.__mro__[:-1])
    entries = set(re.findall(r"^ {8}(\w+): ", documented, re.MULTILINE))
    assert [key for key in config.options() if key not in entries] == []
    assert config.method == method and set(config.structural) <= set(config.options())


def test_presets_are_options():
    for preset in PRESETS.values():
        assert preset.keys() <= set(BloraConfig.options())

"""The package's public functions, as its docstring shows them."""

import textwrap

import pytest
import torch

import espnet_blora


def test_the_docstring_is_true(build, x, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    blocks = espnet_blora.__doc__.split("\n\n")
    code = textwrap.dedent("\n".join(block for block in blocks if block.startswith("    ")))
    names = {"model": build(), "fresh_model": build(), "task_loss": torch.tensor(1.0)}
    exec(code, names)
    assert float(names["loss"].detach()) > 1.0
    names["model"].eval()
    assert torch.equal(names["model"](x), names["fresh_model"].eval()(x))
    assert names["adapter"].model is names["fresh_model"]
    present = espnet_blora.get_adapter(names["model"])
    assert present.model is names["model"]
    assert list(present.state.named) == ["default", "noisy", "both"]
    assert present.state.name == "both"


def test_names_are_listed_and_others_refused():
    assert {"__version__", "add_adapter", "load_adapter"} <= set(dir(espnet_blora))
    with pytest.raises(AttributeError, match="add_adaptor"):
        espnet_blora.add_adaptor  # noqa: B018

"""The generated parts of docs/ hold every method, every option and every room."""

import dataclasses
import doctest
import importlib.util
import re
from pathlib import Path

import pytest

from espnet_blora.adapters import METHODS
from espnet_blora.decoding import DecodingOptions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sections(generate):
    """Text of the adapters' page by heading."""
    parts = re.split(r"^## (.+)$", generate.adapter_page(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_each_of_its_options(sections, generate, name):
    config = METHODS[name].config
    for option in config.options():
        default = generate.yaml_value(generate.default_of(config, option))
        rows = (
            rf"\| `{option}` \| `{re.escape(default)}` \| \S",
            rf"`{option}` \(`{re.escape(default)}`\)",
        )
        assert any(re.search(row, sections[name]) for row in rows), option


def test_an_option_is_explained_where_the_page_points(sections):
    """Each `Explained under X` names a section that has the option in its table."""
    for text in sections.values():
        for home, options in re.findall(r"^Explained under (.+?): (.+)\.$", text, re.MULTILINE):
            heading = "Options of every method" if home == "every method" else home.strip("`")
            for option in re.findall(r"`(\w+)` \(", options):
                assert f"| `{option}` |" in sections[heading], (home, option)


def test_each_decoding_option_stands_on_its_page(generate):
    page = generate.decoding_page()
    for field in dataclasses.fields(DecodingOptions):
        default = generate.yaml_value(field.default)
        (row,) = re.findall(rf"^\| `{field.name}` \|.*", page, re.MULTILINE)
        assert f"| `{default}` |" in row
        assert generate.documented(DecodingOptions)[field.name].split("<")[0] in row


def test_attributes_are_read_from_a_docstring(generate):
    class Options:
        """Options of a test.

        Attributes:
            beam: Width
                of the beam.
            low, high (float): Limits.

        Raises:
            ValueError: never.
        """

    assert generate.documented(Options) == {
        "beam": "Width of the beam.",
        "low": "Limits.",
        "high": "Limits.",
    }


def test_an_option_without_a_text_is_an_error(generate):
    @dataclasses.dataclass
    class Options:
        """Nothing."""

        beam: int = 1

    with pytest.raises(ValueError, match="'beam'"):
        generate.option_table(Options, ["beam"])


def test_the_examples_of_the_docstrings_are_right(generate):
    assert doctest.testmod(generate).attempted >= 4
    assert doctest.testmod(generate).failed == 0


def test_the_picture_has_each_room(generate):
    picture = generate.floor_plan()
    rooms = {path.parent.name for path in ROOT.glob("espnet_blora/*/__init__.py")}
    assert len(rooms) >= 9
    for room in rooms:
        assert f">{room}/<" in picture


def test_floors_refuse_a_circle(generate):
    with pytest.raises(ValueError, match="a, b"):
        generate.floors("ab", {("a", "b"), ("b", "a")})

"""The quick yaml of these tests does what PyYAML does, to the letter."""

import io

import pytest
import yaml
from espnet2.utils.yaml_no_alias_safe_dump import NoAliasSafeDumper, yaml_no_alias_safe_dump

from espnet_blora.whisper.vocabulary import Vocabulary
from tests.plugin import token_yaml
from tests.plugin.tiny import BLORA, config

TOKENS = Vocabulary.of(51865).token_list()


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_config_is_espnets_to_the_letter(place):
    most = config(**BLORA)
    tokens = TOKENS[-1500:]
    data = {
        "first": {"token_list": tokens, **most},
        "middle": {**most, "token_list": tokens, "version": "202611", "nothing": None},
        "last": {**most, "token_list": tokens},
    }[place]
    wanted = token_yaml._dump(
        data, None, NoAliasSafeDumper, allow_unicode=True, indent=4, sort_keys=False
    )
    file = io.StringIO()
    assert yaml_no_alias_safe_dump(data, file, indent=4, sort_keys=False) is None
    assert file.getvalue() == wanted == yaml_no_alias_safe_dump(data, indent=4, sort_keys=False)
    for loader in (yaml.CSafeLoader, yaml.SafeLoader):
        found = yaml.load(wanted, Loader=loader)
        assert found == token_yaml._load(wanted, loader) == data
        assert list(found) == list(data)
    found["token_list"].clear()
    assert yaml.safe_load(io.StringIO(wanted)) == data


def test_the_whole_list_is_written_as_yaml_writes_it():
    data = {"token_list": TOKENS, "x": 1}
    options = {"allow_unicode": True, "sort_keys": False}
    text = token_yaml.dump(data, Dumper=yaml.CSafeDumper, **options)
    assert text == token_yaml._dump(data, None, yaml.CSafeDumper, **options)
    assert yaml.load(text, Loader=yaml.CSafeLoader) == data


def test_another_list_is_read_as_it_stands():
    data = {"a": 1, "token_list": TOKENS[:1500]}
    text = token_yaml.dump(data, Dumper=yaml.CSafeDumper, sort_keys=False)
    assert token_yaml.load(text, yaml.CSafeLoader) == data
    changed = text.replace("- '!'\n", "- '?!'\n", 1)
    assert changed != text
    assert token_yaml.load(changed, yaml.CSafeLoader)["token_list"][0] == "?!"
    longer = token_yaml.load(text + "- more\n", yaml.CSafeLoader)["token_list"]
    assert longer == [*data["token_list"], "more"]

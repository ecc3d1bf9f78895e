"""yaml that reads and writes a long `token_list` once: 51,865 lines in every tiny config.yaml.

`dump` and `load` do what PyYAML's do, to the letter (test_token_yaml.py). A list of tokens is
written and read on its own and its text kept; the rest of the file goes through PyYAML each time.
"""

import pytest
import yaml

LONG = 1000
_dump, _load = yaml.dump, yaml.load
_text_of: dict[tuple, str] = {}  # (tokens, dumper, options) -> their lines
_tokens_of: dict[str, list[str]] = {}  # lines -> tokens


def dump(data, stream=None, Dumper=yaml.Dumper, **options):
    """`yaml.dump`; fast for a mapping with a long token_list whose keys are not sorted."""
    tokens = data.get("token_list") if isinstance(data, dict) else None
    if not isinstance(tokens, list) or len(tokens) < LONG or options.get("sort_keys", True):
        return _dump(data, stream, Dumper, **options)
    keys = list(data)
    place = keys.index("token_list")
    parts = [{key: data[key] for key in some} for some in (keys[:place], keys[place + 1 :])]
    known = (tuple(tokens), Dumper, *sorted(options.items()))
    if known not in _text_of:
        _text_of[known] = _dump({"token_list": tokens}, None, Dumper, **options)
        _tokens_of[_text_of[known]] = list(tokens)
    before, after = (_dump(part, None, Dumper, **options) if part else "" for part in parts)
    text = before + _text_of[known] + after
    if stream is None:
        return text
    stream.write(text)
    return None


def load(stream, Loader):
    """`yaml.load`; fast for text with a token list that `dump` wrote."""
    text = stream if isinstance(stream, str | bytes) else stream.read()
    for lines, tokens in _tokens_of.items() if isinstance(text, str) else ():
        before, here, after = text.partition(lines)
        if here and before[-1:] in ("", "\n") and (after[:1] or "x").isalpha():  # then it is whole
            return _load(f"{before}token_list: []\n{after}", Loader) | {"token_list": list(tokens)}
    return _load(text, Loader)


@pytest.fixture(autouse=True, scope="session")
def quick_token_lists():
    """For a conftest.py: most of a tiny training's time went into the lines of its config.yaml."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "dump", dump)
        patch.setattr(yaml, "load", load)
        yield

"""Whisper's token ids by size: read from the tokenizer, unique as strings, exact as text."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whisper.tokenizer import LANGUAGES, get_tokenizer

from espnet_blora.whisper import vocabulary
from espnet_blora.whisper.vocabulary import (
    N_PROMPT,
    Vocabulary,
    read_token_list,
)

SIZES = {51865: 99, 51866: 100}
SAMPLES = [
    "hello, world",
    "今天我们 meeting 几点开始？",
    "मेरी किताब कहाँ है",
    "مَرْحَبًا كيف حالك",
    "¿Qué tal? ¡Olé!",
    "日本語のテスト、カタカナ",
    "한국어 시험",
    "ภาษาไทย",
    "<|endoftext|><|zh|> stays text",
    "  two  blanks\tand\ntabs ",
    "!",
    "👩‍🚀 𝔘𝔫𝔦",
]


@pytest.mark.parametrize(("n_vocab", "n_languages"), SIZES.items())
def test_layout_is_the_tokenizers(n_vocab, n_languages):
    layout = Vocabulary.of(n_vocab)
    tokenizer = get_tokenizer(multilingual=True, num_languages=n_languages)
    assert len(layout.languages) == n_languages == len(set(layout.languages.values()))
    assert tokenizer.encoding.n_vocab == n_vocab
    for code, index in layout.languages.items():
        assert tokenizer.encoding.decode([index]) == f"<|{code}|>"
        prompt = layout.prompt(code)
        assert len(prompt) == N_PROMPT
        assert tokenizer.encoding.decode(prompt) == (
            f"<|startoftranscript|><|{code}|><|transcribe|><|notimestamps|>"
        )


def test_the_two_layouts_differ_where_a_wrong_prompt_would_be_silent():
    old, new = Vocabulary.of(51865), Vocabulary.of(51866)
    assert old.prompt("zh")[:2] == new.prompt("zh")[:2]
    assert old.transcribe + 1 == new.transcribe
    assert new.languages["yue"] == old.translate
    assert set(LANGUAGES) - set(old.languages) == {"yue"}


@pytest.mark.parametrize("n_vocab", SIZES)
def test_token_list_is_printable_unique_and_complete(n_vocab, tmp_path):
    layout = Vocabulary.of(n_vocab)
    tokens = layout.token_list()
    assert len(tokens) == n_vocab == len(set(tokens))
    assert all(token.isprintable() and not any(c.isspace() for c in token) for token in tokens)
    assert tokens[0] == "!"
    assert tokens[layout.eot : layout.eot + 2] == ["<|endoftext|>", "<|startoftranscript|>"]
    assert tokens[-1] == "<|30.00|>"
    path = tmp_path / "tokens.txt"
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    assert read_token_list(path) == tokens
    assert Vocabulary.of_tokens(read_token_list(path)) is layout


def test_text_tokens_are_the_bytes_of_the_tokenizer():
    layout = Vocabulary.of(51865)
    tokens = layout.token_list()
    encoding = layout.tokenizer.encoding
    for index in range(0, layout.eot, 97):
        text = encoding.decode_single_token_bytes(index).decode("latin-1")
        assert tokens[index] == text.translate(vocabulary._alphabet())
        printable = [c for c in text if c.isascii() and c.isprintable() and c != " "]
        assert [c for c in tokens[index] if c.isascii()] == printable


def round_trip(layout: Vocabulary, text: str) -> None:
    ids = layout.encode(text)
    assert all(0 <= i < layout.eot for i in ids)
    assert layout.decode(ids) == text
    assert layout.ids(layout.tokens(ids)) == ids
    assert layout.decode(layout.ids(layout.tokens(ids))) == text


@pytest.mark.parametrize("text", SAMPLES)
def test_round_trip_of_scripts(text):
    round_trip(Vocabulary.of(51865), text)
    assert Vocabulary.of(51865).encode(text) == Vocabulary.of(51866).encode(text)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_round_trip_of_anything(text):
    round_trip(Vocabulary.of(51866), text)


def test_control_tokens_are_no_text():
    layout = Vocabulary.of(51865)
    ids = [*layout.prompt("en"), *layout.encode("ab"), layout.timestamp_begin, layout.eot]
    assert layout.decode(ids) == "ab"
    assert "\ufffd" in layout.decode(layout.encode("𝔘")[:1])  # half a character


def test_readable_tokens_are_lines_of_text():
    layout = Vocabulary.of(51865)
    names = layout.readable_tokens()
    assert len(names) == layout.n_vocab
    assert all(name.isprintable() for name in names)
    ids = [*layout.prompt("zh"), *layout.encode("你好 meeting")]
    text = "<|startoftranscript|><|zh|><|transcribe|><|notimestamps|>你好 meeting"
    assert "".join(names[i] for i in ids) == text


@pytest.mark.parametrize("language", ["zh", "ZH", "Chinese", "mandarin"])
def test_language_by_code_or_name(language):
    assert Vocabulary.of(51865).language_code(language) == "zh"


def test_unknown_language_and_size():
    with pytest.raises(ValueError, match=r"'yue' needs a larger vocabulary than .* 51865"):
        Vocabulary.of(51865).prompt("yue")
    with pytest.raises(ValueError, match=r"'xx' is not one of Whisper's .*allowed: .* zh"):
        Vocabulary.of(51866).prompt("xx")
    with pytest.raises(ValueError, match=r"51864 .* English-only .*`small.en`"):
        Vocabulary.of(51864)
    with pytest.raises(ValueError, match=r"no multilingual Whisper has 100 .* 51865 or 51866"):
        Vocabulary.of(100)


def test_a_foreign_token_list_is_refused_by_line():
    tokens = Vocabulary.of(51865).token_list()
    with pytest.raises(ValueError, match=r"here: 51864 tokens, .* 51865 or 51866.*stage 5"):
        Vocabulary.of_tokens(tokens[:-1], "here")
    tokens[7] = "x"
    with pytest.raises(ValueError, match=r"here:8: token 'x', .* has '\('"):
        Vocabulary.of_tokens(tokens, "here")
    with pytest.raises(ValueError, match="'nonsense token' .*whisper_multilingual"):
        Vocabulary.of(51865).ids(["nonsense token"])


def test_new_languages_stand_behind_the_published_vocabulary():
    old = Vocabulary.of(51865)
    layout = Vocabulary.of(51865, ["rw", "fy"])
    assert (layout.n_vocab, layout.size, old.size) == (51865, 51867, 51865)
    assert layout.prompt("fy") == [layout.sot, 51866, layout.transcribe, layout.notimestamps]
    assert layout.prompt("zh") == old.prompt("zh")
    assert layout.token_list() == [*old.token_list(), "<|rw|>", "<|fy|>"]
    assert layout.tokens([51865]) == ["<|rw|>"] and layout.ids(["<|fy|>"]) == [51866]
    assert layout.decode([*layout.prompt("rw"), *layout.encode("muraho")]) == "muraho"
    assert len(layout.readable_tokens()) == layout.size
    assert layout.stamp.endswith("99 languages, new: rw fy")
    assert layout != old and layout != Vocabulary.of(51865, ["fy", "rw"])
    assert Vocabulary.of(51865, ["yue"]).languages["yue"] == 51865  # this size lacks it


def test_a_token_list_tells_its_vocabulary_by_what_stands_in_it_not_by_its_length():
    added = Vocabulary.of(51865, ["rw"])
    assert len(added.token_list()) == len(Vocabulary.of(51866).token_list())
    assert Vocabulary.of_tokens(added.token_list()) is added
    assert Vocabulary.of_tokens(Vocabulary.of(51866).token_list()) is Vocabulary.of(51866)
    both = Vocabulary.of(51866, ["rw", "kab"])
    assert Vocabulary.of_tokens(both.token_list()) is both


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["x"], "here: 51867 tokens, .* 51865 or 51866, and tokens of new languages behind them"),
        (["<|rw|>", "x"], "here:51868: token 'x'; behind Whisper's 51866 tokens only those of new"),
        (["<|rw|>", "<|rw|>"], "new language 'rw' is named twice"),
        (["<|en|>"], "new language 'en' is one that this Whisper has: leave it out"),
    ],
)
def test_what_may_not_stand_behind_the_vocabulary(more, says):
    with pytest.raises(ValueError, match=says):
        Vocabulary.of_tokens([*Vocabulary.of(51866).token_list(), *more], "here")


@pytest.mark.parametrize("code", ["r", "RW", "fy-NL", "kiny", ""])
def test_a_new_language_is_a_code(code):
    with pytest.raises(ValueError, match=r"new language '.*': a code of 2 or 3 letters"):
        Vocabulary.of(51865, [code])


def test_a_copy_is_the_same_object():
    layout = Vocabulary.of(51866)
    assert pickle.loads(pickle.dumps(layout)) is layout
    new = Vocabulary.of(51865, ["rw"])
    assert pickle.loads(pickle.dumps(new)) is new
    assert len(pickle.dumps(layout)) < 200  # workers do not receive the tables

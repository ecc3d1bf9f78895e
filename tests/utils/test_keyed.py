"""Files of `key value` lines: read whole and looked up alike; all bad lines in one error."""

import re
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from espnet_blora.utils import keyed
from espnet_blora.utils.keyed import KeyedText, read_keyed

LINES = st.lists(
    st.lists(
        st.sampled_from(
            [b"a", b"B", b" ", b"\t", "\u4f60\u00a0".encode(), b"\xff", b"\r", b"\x1c"]
        ),
        max_size=5,
    ).map(b"".join),
    max_size=6,
)


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("keyed") / "text"


def outcome(read, path):
    try:
        return dict(read(path)), None
    except ValueError as error:
        return None, str(error)


@given(LINES, st.booleans())
@example([b"\xef\xbb\xbfa 1"], True)
@example([b"a x", b"", b"b"], False)
def test_lookup_and_reading_whole_agree(path, lines, ends):
    path.write_bytes(b"\n".join(lines) + (b"\n" if ends else b""))
    read, looked_up = outcome(read_keyed, path), outcome(KeyedText, path)
    assert read == looked_up
    if read[0] is not None:
        assert len(KeyedText(path)) == len(path.read_bytes().splitlines())


@given(LINES)
def test_blocks_do_not_matter(path, lines):
    path.write_bytes(b"\n".join(lines) + b"\n")
    whole = outcome(KeyedText, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyed, "_BLOCK", 3)
        assert outcome(KeyedText, path) == outcome(read_keyed, path) == whole


def test_lookup(tmp_path):
    (tmp_path / "text").write_text("b two  words \nc\n\u4f60\t\u597d\u5417 x", encoding="utf-8")
    found = KeyedText(tmp_path / "text")
    assert list(found) == ["b", "c", "\u4f60"] and len(found) == 3
    assert dict(found) == {"b": "two  words", "c": "", "\u4f60": "\u597d\u5417 x"}
    assert found.where("\u4f60") == f"{tmp_path / 'text'}:3"
    assert "c" in found and "d" not in found and found.get("d") is None
    with pytest.raises(KeyError):
        found["d"]
    (tmp_path / "empty").write_bytes(b"")
    assert not KeyedText(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such file; a list"):
        KeyedText(tmp_path / "nothing")


def test_values_are_not_kept_in_memory(tmp_path):
    value = "x" * 10_000
    (tmp_path / "text").write_text("".join(f"u{n} {value}\n" for n in range(500)))  # 5 MB
    tracemalloc.start()
    try:
        found = KeyedText(tmp_path / "text")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 500 and found["u499"] == value
    assert held < 300_000


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a 1\na 2\nb\nb\na\n",
         ":2: duplicate id 'a', first seen on line 1 (and 2 more: lines 4, 5)"),
        (b"a\r\n" * 9, ":1: carriage return; convert the file with: sed -i 's/\\r//g' "
         "(and 8 more: lines 2, 3, 4, 5, 6, ...)"),
        (b"\n a\n", ":1: empty id; every line must start with an id, then a blank "
         "(and 1 more: lines 2)"),
        (b"a \xff\nb\xfe\nb\x1f 1\n", ":1: not UTF-8 (byte 0xff at column 3); convert the file "
         "with iconv -t UTF-8 (and 1 more: lines 2)"),
        (b"a \xff\nb\x1f 1\n", ":2: id 'b\\x1f' contains '\\x1f'; ids hold neither blanks nor"),
    ],
)  # fmt: skip
def test_all_bad_lines_come_in_one_error(path, data, says):
    path.write_bytes(data)
    for read in (read_keyed, KeyedText):
        with pytest.raises(ValueError, match=re.escape(f"{path}{says}")):
            read(path)


def test_a_delete_sign_in_an_id_is_allowed():
    keyed.check_key("a\x7fb", "here")
    with pytest.raises(ValueError, match="here: id"):
        keyed.check_key("a\u3000b", "here")

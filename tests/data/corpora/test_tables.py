"""Rows come back as they were written, with their lines' numbers; damage names its line."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.data.corpora import tables

# what a field of a table without quotes may hold
FIELDS = st.text(st.characters(exclude_characters="\t\n\r\ufeff", exclude_categories=("Cs",)))
# Windows' line ends come back as Unix's, in quoted fields too
QUOTED = st.text(st.characters(exclude_characters="\r\ufeff\0", exclude_categories=("Cs",)))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("tables") / "table"


@given(rows=st.lists(st.tuples(st.text("ab", min_size=1), FIELDS, FIELDS), max_size=5))
def test_tsv_round_trip(file, rows):
    lines = ["x\ty\tz", *("\t".join(row) for row in rows)]
    for end, start in (("\n", ""), ("\r\n", "\ufeff")):
        file.write_bytes((start + "".join(line + end for line in lines)).encode())
        read = list(tables.tsv(file, ("y",)))
        assert [tuple(row.fields.values()) for row in read] == rows
        assert [row.where for row in read] == [f"{file}:{n}" for n in range(2, len(rows) + 2)]
        assert all(list(row.fields) == ["x", "y", "z"] for row in read)


@given(rows=st.lists(st.tuples(st.text("ab,", min_size=1), QUOTED), max_size=5))
def test_csv_round_trip_with_line_breaks_in_fields(file, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("x", "y"), *rows])
    file.write_bytes(text.getvalue().encode())
    read = list(tables.csv_rows(file, ("x", "y")))
    assert [tuple(row.fields.values()) for row in read] == rows
    line = 2
    for row, (_, value) in zip(read, rows, strict=True):
        assert row.where == f"{file}:{line}"
        line += 1 + value.count("\n")


@given(entries=st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text())))
def test_json_round_trip(file, entries):
    for entry in entries:
        entry["id"] = "a"
    file.write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    read = list(tables.json_lines(file, ("id",)))
    assert [entry for _, entry in read] == entries


@given(
    entries=st.dictionaries(
        st.from_regex(r"[!-~]{1,9}", fullmatch=True), FIELDS.map(str.strip), max_size=5
    ),
    gap=st.sampled_from(" \t"),
)
def test_keyed_round_trip(file, entries, gap):
    file.write_text("".join(f"{k}{gap}{v}\n" for k, v in entries.items()), encoding="utf-8")
    assert {key: value for _, key, value in tables.keyed(file)} == entries


@pytest.mark.parametrize(
    ("read", "content", "says"),
    [
        (tables.lines, b"a\n\xff\n", r":2: not UTF-8 \(byte 0xff at column 1\)"),
        (tables.keyed, b"a x\n a y\n", ":2: begins with a blank"),
        (tables.keyed, b"a x\nb\na y\n", ":3: 'a' is there already, at .*:1$"),
        (tables.tsv, b"x\ty\n1\t2\n1\n", ":3: 1 fields, expected 2"),
        (tables.tsv, b"x\ty\n1\t2\t3\n", ":2: 3 fields, expected 2"),
        (tables.tsv, b"x\tx\n", ":1: column x is there twice"),
        (lambda f: tables.tsv(f, ("z",)), b"x\ty\n", ":1: no column z; the header has: x, y"),
        (lambda f: tables.tsv(f, columns=("x",)), b"1\n2\t3\n", ":2: 2 fields"),
        (lambda f: tables.csv_rows(f, ()), b'x,y\n1,"2\n3\n', ":2: .*quotes do not pair"),
        (lambda f: tables.csv_rows(f, ()), b'x,y\n1,2\n"3"4,5\n', ":3: .*quotes do not pair"),
        (lambda f: tables.csv_rows(f, ()), b"x,y\n1,2,3\n", ":2: 3 fields, expected 2"),
        (lambda f: tables.json_lines(f, ()), b'{"a": 1}\n{"a"\n', ":2: not JSON"),
        (lambda f: tables.json_lines(f, ()), b"[" * 100000, ":1: not JSON"),
        (lambda f: tables.json_lines(f, ()), b"[1]\n", ":1: a list; expected an object"),
        (lambda f: tables.json_lines(f, ("b",)), b'{"a": 1}\n', ":1: 'b' is None"),
        (lambda f: tables.json_lines(f, ("a",)), b'\n{"a": 1}\n', ":2: 'a' is 1; expected a str"),
    ],
)
def test_damage_names_its_line(file, read, content, says):
    file.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        list(read(file))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.tsv"):
        list(tables.tsv(tmp_path / "gone.tsv"))

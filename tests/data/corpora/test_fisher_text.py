"""Fisher's transcripts: TDF lines, tags, what counts as code-switched."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.data.corpora import fisher_text
from espnet_blora.data.corpora.fisher_text import (
    clean,
    foreign_spans,
    half_foreign,
    has_foreign_mark,
)
from tests.data.layouts.fisher import COMMENTS, EN, HEADER

CELL = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), max_size=12
).filter(lambda cell: fisher_text.is_data(cell))


@pytest.mark.parametrize(
    ("raw", "text", "spans"),
    [
        (f"al {EN} mall </foreign> sí.", "al mall sí.", ["mall"]),
        ('<foreign lang="Italian"> ciao </foreign>', "ciao", ["ciao"]),
        (f"{EN} a </foreign> y {EN} b </foreign>", "a y b", ["a", "b"]),
        ('<foreign lang+"English"> ok </foreign>', "ok", ["ok"]),
        ('<foreign lan="English"> ok </foreign>', "ok", ["ok"]),
        (f"{EN} ok /foreign> sí", "ok sí", ["ok"]),
        (f"{EN} meeting {EN} a las dos", "meeting a las dos", ["meeting"]),
        (f"{EN} ok sí", "ok sí", ["ok sí"]),
        (f"ok </foreign> sí {EN} yes </foreign>", "ok sí yes", ["yes"]),
        (f"<laugh> a {EN} b </laugh> c </foreign> d", "a b c d", ["b"]),
        (f"{EN} <lname>Smith</lname> </foreign>", "Smith", ["Smith"]),
        ('<foreing lang="English"> ok </foreing>', "ok", []),
        ("langengullís> ok </foreign>", "ok", []),
        ("<foreign langengullís> ok </foreign>", "ok", ["ok"]),
        ('<foreign lang="English" mall </foreign> sí', "mall sí", ["sí"]),
        (f"{EN}(())</foreign> y", "y", []),
        (f"{EN} </foreign> y", "y", []),
        (f"{EN} (( )) </foreign> y", "y", ["(( ))"]),  # the published rule takes it
        (f"{EN} <laugh/> </foreign> y", "y", []),
    ],
)
def test_foreign_tags(raw, text, spans):
    assert clean(raw) == text
    assert foreign_spans(raw) == spans
    assert has_foreign_mark(raw)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<laugh> ajá </laugh> (( no sé ))", "ajá no sé"),
        ("el ñandú, ¿la cigüeña? ¡sí!", "el ñandú, ¿la cigüeña? ¡sí!"),
        ("<lname>Pérez</lname> <cough/> .", "Pérez."),
        ("<background> sí </background> no", "sí no"),
        ("{ruido} +claro+ *pues* #mira# [aparte] a/b", "claro pues mira a b"),
        ("es- esto <laugh", "es- esto"),
        ("formal, forense y foreign", "formal, forense y foreign"),
        ("<sneeze/> ()", ""),
        ("(( ))", ""),
        ("...", ""),
        ("", ""),
    ],
)
def test_other_marks(raw, text):
    assert clean(raw) == text
    assert foreign_spans(raw) == []
    assert not has_foreign_mark(raw)


PIECES = st.sampled_from(
    [EN, "</foreign>", "/foreign>", "<foreing", "<laugh>", "</laugh>", "<breath/>", "((", "))",
     "()", "<", ">", "<!", "<![", "<?", "&amp", "&#", '"', "=", "{", "]", "ñ", "sí", "a", ","]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map(" ".join) | st.text(max_size=30))
def test_any_transcript_is_cleaned_and_looked_at(raw):
    text = clean(raw)
    assert not re.search(r"[<>(){}\[\]+*/#]", text)
    assert text == " ".join(text.split())
    assert all(span.strip() == span and span for span in foreign_spans(raw))
    half_foreign([raw], foreign_spans(raw))


@pytest.mark.parametrize(
    ("segments", "half"),
    [
        ([f"{EN} so </foreign> ¿vienes?"], True),
        ([f"{EN} so </foreign> ¿y vienes?"], False),
        ([f"{EN} so </foreign>", "vienes"], True),
        ([f"{EN} all of it </foreign>"], False),
        # a sign that stands alone is deleted, and leaves an empty word that is counted
        ([f"{EN} so </foreign> , vienes"], False),
        ([f"{EN} oh so </foreign> - vienes"], True),
    ],
)
def test_half_foreign_counts_words_as_the_published_split_did(segments, half):
    assert half_foreign(segments, foreign_spans(" ".join(segments))) is half


LINE = "a_fsp.sph\t1\t15.2\t16.0\tLuis Alberto\tmale\tnative\tsí (( no ))\t0\t5\t-1"


@pytest.mark.parametrize("end", ["", "\t", "\t\t"])
def test_empty_fields_at_the_end_may_be_stripped(end):
    segment = fisher_text.parse_segment(LINE + end, "a.tdf:4")
    assert segment == ("a_fsp.sph", 1, 15.2, 16.0, "Luis Alberto", "sí (( no ))", "a.tdf:4")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("\t0\t5\t-1", "\t0\t5", "10 fields, expected 13"),
        ("\t-1", "\t-1\t\t\t", "14 fields, expected 13"),
        ("\t1\t", "\tB\t", "channel 'B'; expected 0 or 1"),
        ("\t1\t", "\t-1\t", "channel '-1'"),
        ("15.2", "15,2", "time: '15,2'; expected"),
        ("16.0", "nan", "time: 'nan'; expected a number from 0"),
        ("15.2", "-3", "time: '-3'"),
    ],
)
def test_malformed_line_is_refused_with_its_place(old, new, says):
    with pytest.raises(ValueError, match=f"a.tdf:4: .*{says}"):
        fisher_text.parse_segment(LINE.replace(old, new), "a.tdf:4")


@given(
    st.integers(0, 1),
    st.floats(0, 1e5),
    st.floats(0, 1e5),
    st.lists(CELL, min_size=3, max_size=3),
    st.integers(0, 2),
)
def test_a_written_line_is_read_again(channel, start, end, cells, stripped):
    speaker, dialect, transcript = cells
    fields = ["a.sph", str(channel), repr(start), repr(end), speaker, "male", dialect, transcript]
    fields += ["0", "1", "-1", "", ""]
    segment = fisher_text.parse_segment("\t".join(fields[: len(fields) - stripped]), "a.tdf:9")
    assert segment == ("a.sph", channel, start, end, speaker, transcript, "a.tdf:9")


@given(st.text(max_size=60) | st.lists(CELL, min_size=8, max_size=15).map("\t".join))
def test_any_line_is_read_or_refused_with_its_place(line):
    try:
        fisher_text.parse_segment(line, "a.tdf:7")
        says = "a.tdf:7: "
    except ValueError as refusal:
        says = str(refusal)
    assert says.startswith("a.tdf:7: ")


def test_numbers_count_data_lines_from_one(tmp_path):
    path = tmp_path / "a.tdf"
    lines = [HEADER, *COMMENTS, LINE, ";;MM in\tbetween", "", LINE.replace("sí", "no"), LINE]
    path.write_bytes("\r\n".join(lines).encode())
    data = fisher_text.read_tdf(path)
    assert [s and (s.transcript, s.where) for s in data] == [
        ("sí (( no ))", f"{path}:4"),
        None,
        ("no (( no ))", f"{path}:7"),
        ("sí (( no ))", f"{path}:8"),
    ]
    path.write_bytes(path.read_bytes().replace(b"\t16.0", b"\t"))
    with pytest.raises(ValueError, match=rf"{path}:4: time: ''"):
        fisher_text.read_tdf(path)

"""Bangor Miami: CHAT's marks, the rule of the sets, the published table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.data.corpora import miami as corpus
from espnet_blora.data.corpora.miami import clean, is_switched, marked_words
from espnet_blora.data.records import Ledger
from tests.data.layouts import miami


@pytest.fixture
def layout(tmp_path):
    return miami.make(tmp_path)


def read(layout, names=("cs_test", "mono_test", "mono_train"), **options):
    ledger = Ledger()
    return corpus.read(corpus.find(layout.root), names, ledger, options), ledger


def ids(records):
    return {name: [u.id for u in records[name]] for name in records}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("que@s:spa no@s:spa venía@s:spa . \x151234_3456\x15", "que no venía."),
        ('hello . \x15%snd:"fixture1"_12_34\x15', "hello."),
        ("<I was> [//] I am [/] am here", "I was I am am here"),
        ("(.) so (..) (1.5) well (...) yes", "so well yes"),
        ("o_k O_K San_Antonio", "ok OK San Antonio"),
        ("&th &=laughs &-um the", "um the"),
        ("(es)tá (be)cause ag(osto)", "está because agosto"),
        ("xxx no xxx . yyy", "no."),
        ("www .", "www."),
        ("0is it 0 ?", "it 0?"),
        ("no:: [=! yelling] [?] [% note]", "no"),
        ('+" he@s:eng&spa said +"/.', "he said"),
        ("and +...", "and"),
        ("really +/?", "really?"),
        ("+, so ++ yes ,, no ‡ ok „ ah", "so yes, no, ok, ah"),
        ("“sí@s:spa” «no»", "sí no"),
        ("[- spa] <hola [>]> !", "hola!"),
        ("it's five@s:eng+spa .", "it's five."),
        (". , +//.", ""),
    ],
)
def test_marks_go_and_words_stay(raw, text):
    assert clean(raw) == text


@pytest.mark.parametrize(
    ("raw", "switched"),
    [
        ("que@s:spa there", True),
        ("eh@s:eng&spa there", False),
        ("eh@s:eng&spa+eng there", False),
        ("shopear@s:spa+eng ahora", True),
        ("ciao@s:ita bella", True),
        ("[- spa] no hay", False),
        ("no [=! x@s:spa] more", False),
    ],
)
def test_a_mark_of_one_language_makes_a_switch(raw, switched):
    assert is_switched(raw) is switched


def test_marked_words_keep_their_language():
    raw = '<que@s:spa [/] que@s:spa> "yes@s:eng" eh@s:eng&spa.'
    assert marked_words(raw) == [
        ("que", "spa"),
        ("que", "spa"),
        ("yes", "eng"),
        ("eh", "eng&spa"),
    ]


@given(st.text(alphabet='abñ01_@s:&+()[]<>/.?!,"x \x15\t-=‡', max_size=40))
def test_no_mark_survives_any_text(raw):
    text = clean(raw)
    assert not set(text) & set('[]<>()"\x15_+‡')
    assert "  " not in text
    assert text == text.strip()
    is_switched(raw)


@given(st.lists(st.text(alphabet="@*%ABC:\t .\x15_12é-", max_size=20), max_size=8))
def test_any_file_is_read_or_refused_with_its_line(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("chat") / "any.cha"
    path.write_text("\n".join(["@Languages:\teng, spa", *lines]), encoding="utf-8")
    try:
        chat = corpus.read_chat(path)
    except ValueError as refusal:
        says = str(refusal)
        chat = corpus.Chat("any", [], [])
    else:
        says = f"{path}:"
    assert says.startswith(f"{path}:")
    assert [line.number for line in chat.lines] == list(range(len(chat.lines)))
    assert all(line.times is None or len(line.times) == 2 for line in chat.lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@Languages:\teng\nhello\n", r"a\.cha:2: 'hello'; expected a line that begins with"),
        ("@Begin\n*ABC:\thi .\n", r"a\.cha:1: no @Languages"),
        ("\tcontinued\n", r"a\.cha:1: continues a line"),
        ("@Languages:\teng\n%eng:\tx\n", r"a\.cha:2: %eng belongs to an utterance"),
        ("@Languages:\teng\n*ABC:\t\xff\n".encode("latin-1"), r"a\.cha:2: not UTF-8"),
    ],
)
def test_malformed_transcript_is_refused_with_its_line(tmp_path, text, says):
    path = tmp_path / "a.cha"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=says):
        corpus.read_chat(path)


def test_several_time_marks_span_first_to_last():
    line = corpus.Line(0, "ABC", "one \x1510_20\x15 two \x1530_40\x15", "a.cha:1")
    assert line.times == (10, 40)


def test_times_and_speakers(layout):
    records, _ = read(layout)
    first = records["cs_test"][0]
    assert (first.id, first.speaker) == ("fixture1_ABC-p00000", "fixture1_ABC")
    assert first.start == 1.234
    assert first.audio.name == "fixture1.wav"
    assert records["mono_train"][0].audio.name == "fixture2.mp3"


def test_the_published_table_gives_the_same_sets(layout):
    computed, _ = read(layout)
    published, ledger = read(layout, miami_mapping=str(layout.mapping))
    assert ids(published) == ids(computed)
    assert ledger.counts() == {}


def test_the_published_table_decides(layout):
    rows = layout.mapping.read_text().splitlines()
    swapped = [
        row.replace("test,", "train,", 1)
        if ",test,fixture1" in row and row.endswith("mono")
        else row
        for row in rows
    ]
    layout.mapping.write_text("\n".join(swapped) + "\n")
    records, _ = read(layout, miami_mapping=str(layout.mapping))
    assert not records["mono_test"]
    assert conversations(records["mono_train"]) == {"fixture1", "fixture2", "fixture4"}


def conversations(utterances):
    return {u.id.split("_")[0] for u in utterances}


@pytest.mark.parametrize("published", [False, True])
def test_train_and_valid_divide_mono_train_by_conversation(layout, published):
    options = {"miami_mapping": str(layout.mapping)} if published else {}
    names = ("train", "valid", "mono_train")
    records, ledger = read(layout, names, **options)
    train, valid = (conversations(records[name]) for name in names[:2])
    assert train and valid and not train & valid
    both = sorted(records["train"] + records["valid"], key=lambda u: u.id)
    assert both == sorted(records["mono_train"], key=lambda u: u.id)
    for name in names:
        alone, of_it = read(layout, [name], **options)
        assert alone[name] == records[name]
        assert of_it.skips == ledger.skips


def places(**sizes):
    lines = corpus.Line(0, "ABC", "hola", "a.cha:1")
    return [
        corpus._Place("mono_train", lines, corpus.Chat(name, [], []))
        for name, size in sizes.items()
        for _ in range(size)
    ]


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(1, 99), min_size=2, max_size=4))
def test_valid_is_the_fewest_conversations_that_hold_a_tenth(sizes):
    held_out = corpus._held_out(places(**sizes))
    assert held_out == corpus._held_out(reversed(places(**sizes)))
    of = sum(sizes[name] for name in held_out)
    total = sum(sizes.values())
    assert 0 < len(held_out) < len(sizes)
    assert of >= total / 10 or len(held_out) == len(sizes) - 1
    # a tenth is not held without one of them
    assert any(of - sizes[name] < total / 10 for name in held_out)


def test_one_conversation_alone_gives_no_training_sets(layout):
    for path in (layout.root / "beta").glob("fixture[34].cha"):
        path.unlink()
    assert read(layout)[0]["mono_train"]
    with pytest.raises(ValueError, match=r"mono_train .*1 .*fixture2"):
        read(layout, ["valid"])
    items = {i.what: i for i in corpus.inspect(corpus.find(layout.root), {})}
    assert items["train and valid"].ok is False


def test_shifted_line_numbers_are_found_by_their_times(layout):
    rows = layout.mapping.read_text().splitlines()
    table = [row.split(",") for row in rows[1:]]
    for row in table:
        row[3] = str(int(row[3]) + 1)
    layout.mapping.write_text("\n".join([rows[0], *(",".join(row) for row in table)]))
    records, ledger = read(layout, miami_mapping=str(layout.mapping))
    assert ids(records) == ids(read(layout)[0])
    assert ledger.counts() == {}
    table[0][4] = "99.5"
    table[1][2] = "fixture9"
    layout.mapping.write_text("\n".join([rows[0], *(",".join(row) for row in table)]))
    _, ledger = read(layout, miami_mapping=str(layout.mapping))
    assert ledger.counts() == {"no such line in the transcript": 1, "no transcript": 1}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (",cs\n", ",both\n", r"mapping\.csv:2: split 'test', cs_type 'both'"),
        (",1.234,", ",early,", r"mapping\.csv:2: line '0', offset 'early'"),
        ("file_line_num", "line", r"mapping\.csv:1: no column file_line_num"),
    ],
)
def test_malformed_table_is_refused(layout, old, new, says):
    text = layout.mapping.read_text()
    assert old in text
    layout.mapping.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=says):
        read(layout, miami_mapping=str(layout.mapping))


def test_other_languages_are_prompted_in_english_and_noted(layout):
    path = layout.root / "beta/fixture1.cha"
    path.write_text(path.read_text().replace("@Languages:\teng, spa", "@Languages:\tita, spa"))
    records, ledger = read(layout, ["cs_test"])
    assert records["cs_test"][0].language == "en"
    assert ledger.note_counts()["language is neither English nor Spanish: en"] > 0


def test_transcripts_may_be_given_alone(layout):
    root = corpus.find(layout.root / "beta")
    records = corpus.read(root, ["cs_test"], Ledger(), {})
    assert records["cs_test"][0].audio.is_file()


def test_inspection_judges_the_published_sets_only(layout):
    root = corpus.find(layout.root)
    computed = {i.what: i for i in corpus.inspect(root, {})}
    published = {i.what: i for i in corpus.inspect(root, {"miami_mapping": str(layout.mapping)})}
    assert computed["mono_test utterances"].ok is None
    assert published["mono_test utterances"].ok is False
    assert computed["in no set: no translation"].found == "1"

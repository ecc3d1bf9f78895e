"""SEAME's marks: what each becomes, and that no text whatever leaves one behind."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from espnet_blora.data.corpora.seame_text import clean
from tests.data.layouts.seame import TEXTS, filler

BRACKET = "malformed bracket repaired"


@pytest.mark.parametrize("text", [*TEXTS, *map(filler, range(30))], ids=lambda t: t.raw)
def test_texts_of_the_synthetic_corpus(text):
    assert clean(text.raw).text == text.clean
    assert clean(text.raw, "keep").text == text.tagged
    assert len(clean(text.raw).notes) == text.notes


@pytest.mark.parametrize(
    ("raw", "removed", "kept", "note"),
    [
        # particles and hesitations stay as words
        ("[啊] 好 (erm) so", "啊好 erm so", None, None),
        # noise: every spelling
        ("(ppl)", "", "<noise>", None),
        ("<ppb>a(ppc)b< ppo >", "a b", "<noise> a <noise> b <noise>", None),
        ("ppl ppc 好 ppb", "好", "<noise>好 <noise>", None),
        ("<v-noise> 好", "好", "<noise>好", None),
        ("(ppl", "", "<noise>", BRACKET),
        ("(ppl0 so", "so", "<noise> so", BRACKET),
        ("ppb) so", "so", "<noise> so", BRACKET),
        ("[ppl] so", "so", "<noise> so", None),
        ("(PPL)", "", "<noise>", None),
        ("(ppx)", "", "<noise>", None),
        ("(ppl然后", "然后", "<noise>然后", BRACKET),
        ("（ｐｐｌ）好", "好", "<noise>好", None),
        ("pp\x01l", "", "<noise>", None),
        ("-ppl-", "", "<noise>", None),
        # no noise: words that only look like it
        ("pplease (ppt", "pplease", "pplease <noise>", BRACKET),
        ("snapple apps hippo", "snapple apps hippo", None, None),
        ("ppl's", "ppl's", None, None),
        # not understood
        ("<unk>", "", "<unk>", None),
        ("<unl> < unk > <unk >", "", "<unk> <unk> <unk>", None),
        ("<unk movie title>好<unk place>", "好", "<unk>好 <unk>", None),
        ("<unk 好的", "好的", "<unk>好的", BRACKET),
        ("unk> 好", "好", "<unk>好", BRACKET),
        ("(unk) [unk] unk", "", "<unk> <unk> <unk>", None),
        ("<unk 好> a", "好 a", "<unk>好 a", None),
        ("trunk unkind", "trunk unkind", None, None),
        # malformed brackets
        ("[[ah] [lah loh]", "ah lah loh", None, BRACKET),
        ("(huh]", "huh", None, BRACKET),
        ("#nasi lemak", "nasi lemak", None, BRACKET),
        ("a > b", "a b", None, BRACKET),
        # other tags are kept as words, and said
        ("<laugh> 好", "laugh好", None, "unknown tag kept as words"),
        # characters
        ("ＡＢＣ１２，好。", "abc12好", None, None),
        ("a\u3000b\u00a0c\td\u2009e", "a b c d e", None, None),
        ("a\u200bb\ufeffc\x00d\u00ade", "abcde", None, None),
        ("café CAFE\u0301", "cafe cafe", None, None),
        ("it’s o'clock 'tis dogs' rock'n'roll", "it's o'clock tis dogs rock'n'roll", None, None),
        ("well-known e=mc2 3.5 ~*×——·", "well known e mc2 3 5", None, None),
        ("我 们 go 去 la 吧", "我们 go去 la吧", None, None),
        ("...", "", None, None),
        ("", "", None, None),
    ],
)
def test_marks(raw, removed, kept, note):
    assert clean(raw) == (removed, (note,) if note else ())
    assert clean(raw, "keep") == (removed if kept is None else kept, (note,) if note else ())


MARKS = '()[]{}<>【】#=~*×-—·.,!?，。？！、…/\\"&%@_|^`“”'
_PIECES = (
    "(ppl) (ppl0 ppb) <ppo> ppc <v-noise> <noise> <unk> < unk > <unl> <unk place> unk unl ( ) [ ] "
    "< > 【 】 # = ' ’ - · × [lah] (er) 我 昨天 借书 か \u3099 é e\u0301 \u0301 İ ß Σ "
    "ﬁ ＫＴＶ （ ｐｐｌ 3 0 ppl x \u3000 \u00a0 \x07 \u200b \ue000 \ue001 \u1fef \U0001f600"
)
PIECES = st.sampled_from(_PIECES.split(" ")) | st.sampled_from([" ", "\u3000", "\u00a0", "\t", ""])
TEXT = st.text(max_size=30) | st.lists(PIECES, max_size=12).map("".join)


@given(TEXT, st.sampled_from(["remove", "keep"]))
@example("é\u0301", "remove")
@example("'ppl'", "remove")
@example("unk\u0302", "keep")
@example("×PPL", "remove")
@example("İ\u3099", "remove")
@example("<(PP0)UNL", "keep")
def test_any_text_comes_out_clean_and_cleaning_again_changes_nothing(raw, noise):
    text = clean(raw, noise).text
    assert clean(text, noise) == (text, ())
    plain = re.sub("<noise>|<unk>", "", text) if noise == "keep" else text
    assert not set(plain) & set(MARKS)
    left = {c for c in plain if unicodedata.category(c)[0] not in "LMN" and c not in " '"}
    assert not left
    assert "'" not in re.sub(r"(?<=[^\W\d_])'(?=[^\W\d_])", "", plain)
    assert text == " ".join(text.split())
    assert not re.search(r"<noise> ?<noise>", text)
    if noise == "keep":
        assert clean(text).text == clean(raw).text


def test_unknown_style_is_refused():
    with pytest.raises(ValueError, match="noise='drop': .*remove .*keep"):
        clean("a", "drop")

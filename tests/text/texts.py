"""Texts that hypothesis draws: many scripts, marks, signs that treatments look at, and anything."""

from hypothesis import strategies as st

SNIPPETS = [
    *("<noise>", "< unk >", "[lah]", "(ppl)", "(ppl0", "ppb)", "<<a>b>", "[[a]b]", "#nasi-lemak#"),
    *("don't", "I'm", "a\u2019b", "Hello,", "İI", "Straße", "3rd", "1,000", "007", "12", "٣", "३"),
    *("乾坤", "乾燥", "頭髮", "發", "著名", "薴", "か\u3099", "カー", "\u845b\ufe00", "東西", "后"),
    *("كِتَابٌ", "أإآٱ", "مدرسة", "على", "ؤئ", "ا\u064e\u0654", "ـ", "ا\u0640\u0654", "ۖ"),
    *("मेरी", "किताब", "தமிழ்", "বাংলা", "ภาษาไทย", "שָׁלוֹם", "한국어", "Tiếng", "e\u0301", "é\u0301"),
    *(
        "\u00ad",
        "\u200b",
        "\u200d",
        "\ufeff",
        "\u0301",
        "\u0345",
        "´",
        "`",
        "\u1ffd",
        "\u1fef",
        "ŉ",
    ),
    *(
        " ",
        "  ",
        "\u3000",
        "\t",
        "\u00a0",
        ".",
        "，",
        "。",
        "-",
        "'",
        "''",
        "%",
        "½",
        "²",
        "ﬁ",
        "Ａ",
    ),
]
TEXTS = st.lists(st.one_of(st.sampled_from(SNIPPETS), st.text(max_size=3)), max_size=12).map(
    "".join
)
NAMES = [
    *("none", "basic", "basic_without_tags", "arabic", "arabic_lenient", "mandarin", "turkish"),
    *("seame", "espnet_compatible", "basic+spell_digits=en", "basic+spell_digits=th"),
    *("none+simplified", "none+nfc", "none+no_punctuation", "none+nfc+no_tags+ascii_digits"),
    *("seame+spell_digits=en", "none+no_arabic_marks+no_tatweel+hamza", "none+nfkc+no_seame_tags"),
]

"""What a treatment should give, written plainly: a loop over characters, no tables, no caches."""

import unicodedata

from espnet_blora.text import arabic, digits, punctuation, tags
from espnet_blora.text.chinese import simplifier
from espnet_blora.text.scripts import INHERITED, is_han_kana, script_of

FOLDED = {
    "alef": arabic.ALEF,
    "alef_maksura": arabic.ALEF_MAKSURA,
    "teh_marbuta": arabic.TEH_MARBUTA,
    "hamza": arabic.HAMZA,
}


def treat(treatment, text):
    form = treatment.form
    if not any(getattr(treatment, name) for name in vars(treatment) if name in FIELDS_OFF) and (
        treatment.punctuation and treatment.arabic_marks and treatment.tatweel
    ):
        return text
    if form and not treatment.punctuation:
        text = text.replace("\u00b4", "'").replace("\u1ffd", "'")
    text = _normal(form, text)
    if treatment.tags == "removed":
        text = tags.without_tags(text)
    elif treatment.tags == "seame":
        text = tags.without_angle_tags(text)
    if treatment.spell_digits:
        text = digits.speller(treatment.spell_digits)(text)
    if treatment.case == "ascii":
        text = "".join(c.lower() if "A" <= c <= "Z" else c for c in text)
    elif treatment.case:
        if treatment.case == "turkish":
            text = text.replace("I", "ı").replace("İ", "i")
        text = text.casefold()
    text = _normal(form, text)
    while True:
        before = text
        text = _normal(form, "".join(_character(treatment, c) for c in text))
        if text == before:
            break
    if treatment.tags == "seame":
        text = tags.without_breath_marks(text)
    if not treatment.punctuation:
        text = "".join(_apostrophe(text, i) if c == "'" else c for i, c in enumerate(text))
    text = " ".join(text.split())
    return simplifier()(text) if treatment.simplified else text


FIELDS_OFF = {
    *("form", "tags", "case", "alef", "alef_maksura", "teh_marbuta", "hamza"),
    *("ascii_digits", "simplified", "spell_digits"),
}


def _normal(form, text):
    return unicodedata.normalize(form, text) if form else text


def _character(treatment, char):
    for flag, table in FOLDED.items():
        if getattr(treatment, flag):
            char = table.get(char, char)
    if treatment.tags == "seame" and char in "éÉ":
        return "e" if char == "é" else "E"
    if not treatment.arabic_marks and char in arabic.MARKS:
        return ""
    if not treatment.tatweel and char == "\u0640":
        return ""
    if treatment.ascii_digits and unicodedata.category(char) == "Nd":
        return str(int(char))
    if treatment.punctuation:
        return char
    if char in punctuation.APOSTROPHES:
        return "'"
    category = unicodedata.category(char)
    if category == "Cf":
        return " " if char == "\u200b" else ""
    return " " if category[0] in "PS" else char


def _apostrophe(text, i):
    around = text[i - 1 : i] + text[i + 1 : i + 2] if i else ""
    inside = len(around) == 2 and all(unicodedata.category(c)[0] in "LM" for c in around)
    bases = [
        next((c for c in side if script_of(c) != INHERITED), "")
        for side in (text[:i][::-1], text[i + 1 :])
    ]
    return "'" if inside and not any(map(is_han_kana, filter(None, bases))) else " "


def mixed_tokens(text):
    tokens = []
    for chunk in unicodedata.normalize("NFC", text).split():
        after_han, word = False, ""
        for char in chunk:
            if is_han_kana(char):
                tokens += [word, char] if word else [char]
                word, after_han = "", True
            elif after_han and script_of(char) == INHERITED:
                tokens[-1] += char
            else:
                word, after_han = word + char, False
        tokens += [word] if word else []
    return tokens

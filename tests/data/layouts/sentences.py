"""Invented sentences of several languages and mixtures, for synthetic corpora."""

import itertools
import random
import re

# Beginnings and ends that go with each other; nothing of them is in any corpus.
_PARTS = {
    "en": (
        ("the old ferry", "my neighbour's goat", "every second lamp", "a quiet baker"),
        ("left before noon", "is painted green", "knows the way home", "sleeps by the well"),
    ),
    "zh": (
        ("老船长今天", "邻居的山羊", "那盏旧台灯", "村里的面包师"),
        ("很早就出门了", "喜欢吃青草", "放在窗户旁边", "认识回家的路"),
    ),
    "zh-en": (
        ("我觉得这个 lighthouse", "你的 backpack", "老师说 homework", "那个 penguin"),
        ("真的很 amazing", "不见了 sorry", "明天要交 okay", "在看 television 吧"),
    ),
    "es": (
        ("El viejo barco", "La cabra del vecino", "Cada segunda lámpara", "Un panadero callado"),
        ("salió antes del mediodía.", "está pintada de verde.", "conoce el camino.", "duerme."),
    ),
    "ar": (
        ("القارب القديم", "ماعز الجار", "المصباح الثاني", "خباز القرية"),
        ("خرج قبل الظهر", "يعرف طريق البيت", "قرب النافذة", "ينام عند البئر"),
    ),
    "ar-en": (
        ("القارب القديم very slow", "ماعز الجار is", "المصباح the second", "خباز القرية always"),
        ("خرج before noon", "يعرف the way", "قرب the window", "ينام early"),
    ),
    "rw": (
        ("Ubwato bwa kera", "Ihene yacu", "Itara rya kabiri", "Umutetsi ucecetse"),
        ("bwagiye kare.", "izi inzira.", "riri ku idirishya.", "araryamye hafi."),
    ),
    "lg": (
        ("Eryato ekkadde", "Embuzi ya muliraanwa", "Ettaala eyookubiri", "Omufumbi omusirifu"),
        ("lyagenze nkya.", "emanyi ekkubo.", "eri ku ddirisa.", "yeebase awo."),
    ),
    "fa": (
        ("کشتی کهنه", "بز همسایه", "چراغ دوم", "نانوای ده"),
        (
            "ظهر می\u200cرود",
            "راه خانه را می\u200cداند",
            "کنار پنجره است",
            "زود می\u200cخوابد",
        ),
    ),
}


def draw(kind: str, count: int, seed: int = 0) -> list[str]:
    """Draw different sentences; at most 16 of a kind."""
    blank = "" if kind == "zh" else " "
    every = [blank.join(parts) for parts in itertools.product(*_PARTS[kind])]
    return random.Random(f"{kind} {seed}").sample(every, count)


def written(text: str) -> str:
    """How Whisper writes such a sentence: no blank before a Han character."""
    return re.sub(" (?=[\u4e00-\u9fff])", "", text)

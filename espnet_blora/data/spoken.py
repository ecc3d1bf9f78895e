"""Speech of no corpus, where no old audio is at hand: plain sentences, spoken by espeak-ng.

About three minutes of a language, by four voices. For languages that have no sentences here numbers
are read, which espeak-ng can in each of its languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import soxr

from espnet_blora.data import audio, espeak
from espnet_blora.utils import atomic
from espnet_blora.utils.keyed import read_keyed

VOICES = ("m1", "f2", "m3", "f4")
RATES = (140, 155, 170, 190)  # words per minute
_ESPEAK = {"zh": "cmn", "no": "nb"}  # Whisper's code -> espeak-ng's, where they differ
_NUMBERS = 16  # lines of numbers, of a language without sentences

SENTENCES = {
    "en": (
        "The train to the coast leaves at half past nine.",
        "She put the old letters back into the wooden box.",
        "We walked along the river until it was dark.",
        "Could you tell me where the nearest pharmacy is?",
        "The children built a small house under the apple tree.",
        "It has been raining since yesterday afternoon.",
        "My brother works in a hospital on the other side of town.",
        "There are three cups and a blue plate on the table.",
        "He forgot his keys and had to wait outside the door.",
        "The meeting was moved to the second floor.",
        "In winter the lake is covered with ice.",
        "I would like a glass of water and some bread, please.",
        "Nobody knew why the music had stopped.",
        "The price of vegetables went up again this month.",
        "They asked many questions, but we had few answers.",
        "A large grey bird was sitting on the roof.",
    ),
    "zh": (
        "去海边的火车九点半出发。",
        "她把旧信放回木盒子里。",
        "我们沿着河一直走到天黑。",
        "请问最近的药店在哪里？",
        "孩子们在苹果树下搭了一个小房子。",
        "从昨天下午开始一直在下雨。",
        "我哥哥在城市另一边的医院工作。",
        "桌子上有三个杯子和一个蓝色的盘子。",
        "他忘了带钥匙，只好在门外等。",
        "会议改到二楼去开了。",
        "冬天的时候湖面会结冰。",
        "我想要一杯水和一点面包，谢谢。",
        "没有人知道音乐为什么停了。",
        "这个月蔬菜的价格又涨了。",
        "他们问了很多问题，我们却没有答案。",
        "一只灰色的大鸟站在屋顶上。",
    ),
    "es": (
        "El tren a la costa sale a las nueve y media.",
        "Ella guardó las cartas viejas en la caja de madera.",
        "Caminamos por el río hasta que se hizo de noche.",
        "¿Me puede decir dónde está la farmacia más cercana?",
        "Los niños hicieron una casita debajo del manzano.",
        "Llueve desde ayer por la tarde.",
        "Mi hermano trabaja en un hospital al otro lado de la ciudad.",
        "Hay tres tazas y un plato azul en la mesa.",
        "Olvidó las llaves y tuvo que esperar en la puerta.",
        "La reunión se pasó al segundo piso.",
        "En invierno el lago se cubre de hielo.",
        "Quisiera un vaso de agua y un poco de pan, por favor.",
        "Nadie sabía por qué había parado la música.",
        "El precio de las verduras subió otra vez este mes.",
        "Hicieron muchas preguntas y tuvimos pocas respuestas.",
        "Un gran pájaro gris estaba sentado en el tejado.",
    ),
    "de": (
        "Der Zug an die Küste fährt um halb zehn ab.",
        "Sie legte die alten Briefe zurück in die Holzkiste.",
        "Wir gingen am Fluss entlang, bis es dunkel war.",
        "Können Sie mir sagen, wo die nächste Apotheke ist?",
        "Die Kinder bauten ein kleines Haus unter dem Apfelbaum.",
        "Seit gestern Nachmittag regnet es ohne Pause.",
        "Mein Bruder arbeitet in einem Krankenhaus am anderen Ende der Stadt.",
        "Auf dem Tisch stehen drei Tassen und ein blauer Teller.",
        "Er vergaß seine Schlüssel und musste vor der Tür warten.",
        "Die Sitzung wurde in den zweiten Stock verlegt.",
        "Im Winter ist der See mit Eis bedeckt.",
        "Ich hätte gern ein Glas Wasser und etwas Brot, bitte.",
        "Niemand wusste, warum die Musik aufgehört hatte.",
        "Das Gemüse ist diesen Monat wieder teurer geworden.",
        "Sie stellten viele Fragen, aber wir hatten wenige Antworten.",
        "Ein großer grauer Vogel saß auf dem Dach.",
    ),
    "fr": (
        "Le train pour la côte part à neuf heures et demie.",
        "Elle a remis les vieilles lettres dans la boîte en bois.",
        "Nous avons marché le long de la rivière jusqu'à la nuit.",
        "Pouvez-vous me dire où se trouve la pharmacie la plus proche ?",
        "Les enfants ont construit une petite maison sous le pommier.",
        "Il pleut depuis hier après-midi.",
        "Mon frère travaille dans un hôpital de l'autre côté de la ville.",
        "Il y a trois tasses et une assiette bleue sur la table.",
        "Il a oublié ses clés et a dû attendre devant la porte.",
        "La réunion a été déplacée au deuxième étage.",
        "En hiver, le lac est couvert de glace.",
        "Je voudrais un verre d'eau et un peu de pain, s'il vous plaît.",
        "Personne ne savait pourquoi la musique s'était arrêtée.",
        "Le prix des légumes a encore augmenté ce mois-ci.",
        "Ils ont posé beaucoup de questions, mais nous avions peu de réponses.",
        "Un grand oiseau gris était posé sur le toit.",
    ),
}


def lines_of(language: str) -> tuple[str, ...]:
    """Return what is said in a language, by Whisper's code: sentences, or numbers."""
    if language in SENTENCES:
        return SENTENCES[language]
    rng = np.random.default_rng(0)
    lines = rng.integers(0, 10000, (_NUMBERS, 4)) // np.array([1, 10, 100, 1000])
    return tuple(", ".join(map(str, line)) for line in lines)


def speak(folder: Path, languages: Sequence[str]) -> None:
    """Write a Kaldi directory without text: `wav.scp`, `utt2lang`, and the audio they name.

    One of these languages that is there is left as it is. The same call gives the same bits.

    Args:
        folder: The directory.
        languages: Whisper's codes.

    Raises:
        ValueError: espeak-ng has no voice for a language.
        RuntimeError: espeak-ng fails.
    """
    voices = {code: _ESPEAK.get(code, code) for code in languages}
    if unknown := [code for code, voice in voices.items() if voice not in espeak.languages()]:
        raise ValueError(
            f"nothing can be spoken in {', '.join(unknown)}: espeak-ng has no such voice; name "
            "other languages, or give recordings of these"
        )
    table = folder / "utt2lang"
    if table.is_file() and {*read_keyed(table).values()} == {*languages}:
        return
    folder.mkdir(parents=True, exist_ok=True)
    places, codes = [], []
    for code, voice in voices.items():
        for number, (line, kind) in enumerate(product(lines_of(code), range(len(VOICES)))):
            run = espeak.Run(line, voice, VOICES[kind], RATES[(kind + number) % len(RATES)])
            (wave,) = espeak.synthesise([run], seed=number)
            heard = soxr.resample(wave / 32768.0, espeak.SAMPLE_RATE, audio.SAMPLE_RATE)
            name = f"{code}-{number:03d}"
            audio.write(folder / f"{name}.wav", heard)
            places.append(f"{name} {folder / name}.wav\n")
            codes.append(f"{name} {code}\n")
    atomic.write(folder / "wav.scp", "".join(places))
    atomic.write(table, "".join(codes))

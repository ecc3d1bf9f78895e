"""A page on which an adapted model is tried: base and adapted side by side, in a browser.

Gradio serves it (extra `ui`), to this machine alone unless another host is asked for. What users
send is kept in a temporary folder that goes with the process.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from espnet_blora.adapters.repair import Repair
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.output import render
from espnet_blora.decoding.recogniser import (
    Recogniser,
    base_spec,
    base_state,
    open_experiment,
    open_whisper,
)
from espnet_blora.decoding.scaling import open_repair
from espnet_blora.decoding.transcriber import AUTO, Transcriber
from espnet_blora.decoding.transcript import Transcript, Word
from espnet_blora.utils import atomic
from espnet_blora.utils.keyed import read_keyed

LOCAL = "127.0.0.1"
MOST_SCALE = 1.5
MOST_STRENGTH = 2.0
EXAMPLES = 4
FORMATS = ("json", "srt")
KEPT = 3600
"""Seconds after which what users have sent is removed."""
STYLE = """
.heard { line-height: 1.9; font-size: 1.05rem; overflow-wrap: anywhere; }
.heard span { border-radius: 4px; padding: 1px 0;
  background: color-mix(in srgb, #c77700 calc((1 - var(--sure)) * 60%), transparent); }
.heard .differs { font-weight: 700; text-decoration: underline 3px; text-underline-offset: 4px; }
.base .differs { text-decoration-color: #d1495b; }
.adapted .differs { text-decoration-color: #2274a5; }
footer { display: none !important; }
"""
LEGEND = (
    "Words that only one of the two has are bold and underlined. The darker the ground of a word, "
    "the less sure the model is of it."
)


@dataclass(frozen=True)
class Opened:
    """An experiment to try.

    Attributes:
        adapted: Its model, the update factored, so that its scale can be turned.
        base: The Whisper without it, where all weights were trained: there is no scale to turn.
        repair: Of its update, where moments of audio are known.
    """

    adapted: Recogniser
    base: Recogniser | None = None
    repair: Repair | None = None

    @classmethod
    def of(
        cls,
        folder: str,
        whisper: str | None,
        device: str,
        moments: tuple[Path, Path] | None = None,
    ) -> Opened:
        """Open an experiment.

        Args:
            folder: As of `open_experiment`.
            whisper: As of `open_experiment`.
            device: As of `open_experiment`.
            moments: Files of moments of old and of new-domain audio, to repair with.

        Raises:
            FileNotFoundError: A file is not there.
            ValueError: The adapter cannot be repaired, or a file does not fit it.
        """
        packed = moments is None
        adapted = open_experiment(
            folder, whisper=whisper, device=device, merge=False, packed=packed
        )
        base, state = None, None
        if adapted.adapter is None:
            spec = base_spec(folder, whisper)
            base = open_whisper(spec, device=device, pad_to=adapted.pad_to)
            state = base_state(folder, whisper) if moments else None
        repair = open_repair(adapted, *moments, state) if moments else None
        return cls(adapted, base, repair)

    @property
    def languages(self) -> list[tuple[str, str]]:
        """Choices of a language: what is shown, and what the search takes."""
        several = self.adapted.languages
        trained = self.adapted.language or (several[0] if len(several) == 1 else "")
        first = [(f"as trained ({trained})", trained)] if trained else []
        codes = sorted(self.adapted.vocabulary.languages)
        return [*first, ("detect it", AUTO), *((code, code) for code in codes if code != trained)]


class Desk:
    """What stands behind the page: the experiments, and one at a time who is served.

    Args:
        experiments: By the name that is shown.
        folder: Takes the files to download.
    """

    def __init__(self, experiments: Mapping[str, Opened], folder: Path) -> None:
        self.experiments = experiments
        self.folder = folder
        self._one = threading.Lock()

    def both(
        self,
        path: str,
        name: str,
        language: str,
        scale: float,
        strength: float = 0.0,
        progress: Callable[[float], None] | None = None,
    ) -> tuple[Transcript, Transcript]:
        """Return what base and adapted model hear in a file.

        Args:
            path: The file.
            name: Of the experiment.
            language: A code, or `auto`.
            scale: Of the adapter's update; without an adapter it counts for nothing.
            strength: mu of the repair; without one it counts for nothing.
            progress: Called with the seconds of audio of every batch that is done.

        Raises:
            ValueError: The file cannot be read, or the language is none of the model's.
        """
        opened = self.experiments[name]
        adapter = opened.adapted.adapter
        found = []
        options = DecodingOptions(language=language, confidence=True, word_timestamps=True)
        with self._one:  # scale and repair are the model's, not the caller's
            for recogniser, factor in (
                (opened.base or opened.adapted, 0.0),
                (opened.adapted, scale),
            ):
                with ExitStack() as turned:
                    if adapter is not None:
                        turned.enter_context(adapter.scaled(factor))
                    if opened.repair is not None and recogniser is opened.adapted:
                        turned.enter_context(opened.repair.applied(strength))
                    (one,) = Transcriber(recogniser, options, progress).transcribe([path])
                if one.error:
                    raise ValueError(one.error.replace(path, Path(path).name))
                found.append(one)
        return found[0], found[1]

    def files(self, transcript: Transcript) -> list[str]:
        """Write a transcript as `FORMATS`; return the files."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        stem = Path(transcript.name).stem
        paths = [folder / f"{stem}.{form}" for form in FORMATS]
        for path, form in zip(paths, FORMATS, strict=True):
            atomic.write(path, render(transcript, form), sync=False)
        return [str(path) for path in paths]


def side_by_side(base: Transcript, adapted: Transcript) -> tuple[str, str]:
    """Return both texts as HTML: their words, marked where they differ, shaded where unsure."""
    words = [_words(base), _words(adapted)]
    before, after = ([word.word.strip() for word in side] for side in words)
    same: tuple[set[int], set[int]] = (set(), set())
    for a, b, length in SequenceMatcher(None, before, after, False).get_matching_blocks():
        same[0].update(range(a, a + length))
        same[1].update(range(b, b + length))
    left, right = (
        _html(side, alike, kind)
        for side, alike, kind in zip(words, same, ("base", "adapted"), strict=True)
    )
    return left, right


def _words(transcript: Transcript) -> list[Word]:
    return [word for segment in transcript.segments for word in segment.words or ()]


def _html(words: Sequence[Word], alike: set[int], kind: str) -> str:
    spans = [
        Markup('{}<span class="{}" style="--sure: {}" title="{}">{}</span>').format(
            " " * word.word.startswith(" "),
            "" if n in alike else "differs",
            f"{1.0 if word.confidence is None else word.confidence:.2f}",
            _sure(word),
            word.word.strip(),
        )
        for n, word in enumerate(words)
    ]
    text = Markup("").join(spans) if spans else escape("(nothing was said)")
    return str(Markup('<p class="heard {}" dir="auto">{}</p>').format(kind, text))


def _sure(word: Word) -> str:
    parts = [f"{100 * word.confidence:.0f} % sure"] if word.confidence is not None else []
    if word.start is not None and word.end is not None:
        parts.append(f"{word.start:.2f} to {word.end:.2f} s")
    return ", ".join(parts)


def examples_of(folders: Iterable[Path]) -> list[str]:
    """Return the first audio files of sets of a recipe.

    Raises:
        FileNotFoundError: A folder has no wav.scp.
    """
    found = []
    for folder in folders:
        if not (folder / "wav.scp").is_file():
            raise FileNotFoundError(f"{folder}: no wav.scp in it; a recipe's set is needed")
        paths = [path for path in read_keyed(folder / "wav.scp").values() if Path(path).is_file()]
        found += paths[:EXAMPLES]
    return found


def page(desk: Desk, examples: Sequence[str] = ()) -> Any:
    """Return the page as Gradio's `Blocks`.

    Args:
        desk: What answers.
        examples: Audio files to choose from.

    Raises:
        ValueError: Gradio is not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio as gr
    except ImportError as error:
        raise ValueError(
            "the page needs gradio; install it: pip install 'espnet_blora[ui]'"
        ) from error

    def hear(
        path: str | None,
        name: str,
        language: str,
        scale: float,
        strength: float,
        progress=gr.Progress(),  # noqa: B008
    ):
        if path is None:
            raise gr.Error("Record or upload audio first.", title="No audio")
        heard = [0.0]

        def count(seconds: float) -> None:
            heard[0] += seconds
            progress(None, desc=f"{heard[0]:.0f} s of audio heard, by both models")

        try:
            base, adapted = desk.both(path, name, language, scale, strength, count)
        except (ValueError, OSError) as error:
            raise gr.Error(str(error), title="This cannot be transcribed") from error
        return *side_by_side(base, adapted), *desk.files(adapted)

    def turn_to(name: str):
        opened = desk.experiments[name]
        choices = opened.languages
        return (
            gr.Dropdown(choices=choices, value=choices[0][1]),
            gr.Slider(interactive=opened.base is None),
            gr.Slider(visible=opened.repair is not None),
        )

    names = list(desk.experiments)
    first = desk.experiments[names[0]]
    with gr.Blocks(
        title="Base and adapted", analytics_enabled=False, delete_cache=(KEPT // 6, KEPT)
    ) as blocks:
        gr.Markdown("# What the base hears, what the adapted model hears")
        with gr.Row():
            with gr.Column(min_width=280):
                audio = gr.Audio(
                    sources=["upload", "microphone"], type="filepath", label="audio", buttons=[]
                )
                if examples:
                    gr.Examples([[path] for path in examples], [audio], label="from the test sets")
            with gr.Column(min_width=280):
                name = gr.Dropdown(names, value=names[0], label="experiment")
                choices = first.languages
                language = gr.Dropdown(choices, value=choices[0][1], label="language")
                scale = gr.Slider(
                    0.0, MOST_SCALE, 1.0, step=0.05, label="scale of the update (0: the base)",
                    interactive=first.base is None,
                )  # fmt: skip
                strength = gr.Slider(
                    0.0, MOST_STRENGTH, 0.0, step=0.05, visible=first.repair is not None,
                    label="strength of the repair (0: as trained; more: more of the base is kept)",
                )  # fmt: skip
                go = gr.Button("Transcribe", variant="primary")
        with gr.Row():
            with gr.Column(min_width=280):
                gr.Markdown("### base")
                left = gr.HTML(elem_id="base")
            with gr.Column(min_width=280):
                gr.Markdown("### adapted")
                right = gr.HTML(elem_id="adapted")
        gr.Markdown(LEGEND)
        with gr.Row():
            downloads = [gr.DownloadButton(form.upper(), elem_id=form) for form in FORMATS]
        go.click(hear, [audio, name, language, scale, strength], [left, right, *downloads])
        name.change(turn_to, [name], [language, scale, strength])
    return blocks


def serve(blocks: Any, host: str, port: int | None, most_mb: int) -> str:
    """Begin to serve the page, in threads of its own; return its address.

    Args:
        blocks: Of `page`.
        host: `LOCAL`, or another address of this machine for others to reach it.
        port: By default a free one from 7860 on.
        most_mb: Largest file that is taken, in MB.

    Raises:
        ValueError: The port is taken.
    """
    try:
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            css=STYLE,
            max_file_size=most_mb * 10**6,
            show_error=True,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise ValueError(f"--host {host} --port {port}: {error}") from error
    return str(address)

"""The parts of the documentation that are made from the code: option tables, pictures, a notebook.

`docs/conf.py` calls `write_all` before each build, so no table can fall behind the code. To see
the parts alone: `python3 docs/generate.py FOLDER`.
"""

import dataclasses
import inspect
import itertools
import json
import re
import runpy
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# An option's entry in a docstring: its name or names, perhaps a type in brackets, a colon, text.
ENTRY = re.compile(r"^(\w+(?:, \w+)*)(?: \([^)]*\))?:(?:\s+|$)(.*)$")


# ---- options, from dataclasses ----


def documented(cls: type) -> dict[str, str]:
    """Return what the docstring of one class says of each of its attributes, as one line each."""
    text = inspect.cleandoc(cls.__doc__ or "")
    block = text.partition("\nAttributes:\n")[2]
    lines = itertools.takewhile(lambda line: not line or line.startswith(" "), block.splitlines())
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in textwrap.dedent("\n".join(lines)).splitlines():
        entry = ENTRY.match(line)
        if entry:
            names = entry[1].split(", ")
            texts.update(dict.fromkeys(names, entry[2]))
        else:
            texts.update({name: f"{texts[name]} {line.strip()}".strip() for name in names})
    return texts


def owner(cls: type, option: str) -> type:
    """Return the class that defines a field, or that defines it anew for `cls`."""
    return next(c for c in cls.__mro__ if option in inspect.get_annotations(c))


def text_of(cls: type, option: str) -> str:
    """Return the meaning of an option: the nearest docstring in the class's line that has it."""
    for candidate in cls.__mro__:
        text = documented(candidate).get(option)
        if text:
            return text
    raise ValueError(f"{cls.__name__}: no docstring says what '{option}' is (block Attributes:)")


def default_of(cls: type, option: str) -> Any:
    """Return an option's default; `required` when it has none."""
    field = next(f for f in dataclasses.fields(cls) if f.name == option)
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return "required"


def yaml_value(value: Any) -> str:
    """Return a value as one writes it in yaml.

    >>> yaml_value(("query", "value")), yaml_value(None), yaml_value(False), yaml_value(0.5)
    ('[query, value]', 'null', 'false', '0.5')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {yaml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(yaml_value(item) for item in value) + "]"
    return str(value) if value != "" else "''"


def _escaped(cell: str) -> str:
    """Return text for a cell; code in backticks needs no escape but that of a bar."""
    parts = re.split(r"(`[^`]*`)", cell.replace("|", "\\|"))
    return "".join(p if p.startswith("`") else p.replace("<", "&lt;") for p in parts)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; a bar ends no cell, and what looks like HTML is text.

    >>> print(table(["a"], [["x|y <z>"]]), end="")
    | a |
    | --- |
    | x\\|y &lt;z> |
    """
    escaped = ([_escaped(cell) for cell in row] for row in rows)
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *escaped]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def option_table(cls: type, options: Iterable[str]) -> str:
    """Return the table of some options of a dataclass: name, default, meaning."""
    return table(
        ("option", "default", "meaning"),
        ((f"`{o}`", f"`{yaml_value(default_of(cls, o))}`", text_of(cls, o)) for o in options),
    )


def summary(thing: Any) -> str:
    """Return the first paragraph of the docstring of a class or a module, as one line."""
    return " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split())


# ---- the adapters' page ----


def adapter_page() -> str:
    """Return every method of `METHODS` with every option of its configuration."""
    from espnet_blora.adapters.config import AdapterConfig
    from espnet_blora.adapters.methods.blora import PRESETS
    from espnet_blora.adapters.registry import METHODS

    # Where an option is explained: at the method that a class configures, else at the first that
    # inherits it.
    home = {
        source: name
        for name, method in reversed(METHODS.items())
        for source in method.config.__mro__
        if dataclasses.is_dataclass(source) and source is not AdapterConfig
    }
    home |= {method.config: name for name, method in reversed(METHODS.items())}
    parts = [
        table(
            ("method", "what it is"),
            ((f"[`{n}`](#{n})", method_summary(n, m)) for n, m in METHODS.items()),
        ),
        "## Options of every method\n",
        option_table(AdapterConfig, AdapterConfig.options()),
    ]
    for name, method in METHODS.items():
        config = method.config
        parts += [f"## {name}\n", method_summary(name, method) + "\n", facts(name, method)]
        own, shared = [], {}
        for option in config.options():
            source = owner(config, option)
            if home.get(source) == name:
                own.append(option)
            else:
                where = "every method" if source is AdapterConfig else f"`{home[source]}`"
                shared.setdefault(where, []).append(option)
        if own:
            parts.append(option_table(config, own))
        for where, options in shared.items():
            values = (f"`{o}` (`{yaml_value(default_of(config, o))}`)" for o in options)
            parts.append(f"Explained under {where}: {', '.join(values)}.\n")
        if name == "blora":
            keys = list(dict.fromkeys(key for preset in PRESETS.values() for key in preset))
            values = (
                [f"`{k}`", *(f"`{yaml_value(p[k])}`" if k in p else "" for p in PRESETS.values())]
                for k in keys
            )
            parts += [
                "What the presets set; an option that is given beside `preset` overrides it:\n",
                table(("option", *(f"`preset: {p}`" for p in PRESETS)), values),
            ]
    return "\n".join(parts)


def method_summary(name: str, method: Any) -> str:
    """Return one sentence on a method: the title of its file, or of its configuration."""
    module = sys.modules[method.config.__module__]
    if module.__name__.endswith(f".{name}"):
        return summary(module)
    text, source = summary(method.config), ""
    opening = re.match(r"Options of `\w+`( \(arXiv [^)]*\))?[:;] ", text)
    if opening:
        text, source = text[opening.end() :], opening[1] or ""
    return text.removesuffix(".") + source + "."


def facts(name: str, method: Any) -> str:
    """Return one line of what the registry promises for a method."""
    equation = (method.layer.__doc__ or "").splitlines()[0].partition("; ")[0].removesuffix(".")
    words = [
        f"`adapter: {name}`",
        f"`{equation}`" if equation.startswith("y = ") else "",
        "has a posterior over its factors (a KL joins the loss)" if method.bayesian else "",
        "adds a term of its own to the loss" if method.loss_term and not method.logs_only else "",
        "can be merged into the base weight" if method.merges else "cannot be merged",
        "" if method.identity else "a fresh adapter changes the output slightly",
        "needs the extra `peft`" if ".hf" in method.layer.__module__ else "",
    ]
    structural = ", ".join(f"`{key}`" for key in method.config.structural)
    if structural:
        words.append(f"a checkpoint must agree in {structural}")
    return "; ".join(word for word in words if word) + ".\n"


# ---- the decoding options' page ----


def decoding_page() -> str:
    """Return every decoding option, group by group."""
    from espnet_blora.decoding.options import GROUPS, describe_options

    parts = []
    for group in GROUPS:
        rows = (
            [f"`{o.name}`", o.type, f"`{yaml_value(o.default)}`", o.allowed, o.help]
            for o in describe_options()
            if o.group == group
        )
        parts += [
            f"## {group.capitalize()}\n",
            table(("option", "type", "default", "allowed", "meaning"), rows),
        ]
    return "\n".join(parts)


# ---- the floor plan ----

# The floors are computed; what stands here is the one line under each name.
ROOMS = {
    "bin": "one thin program per file",
    "run": "plug in, then start ESPnet",
    "plugin": "all that touches ESPnet",
    "report": "tables, plots, the page",
    "decoding": "search, transcription, draws",
    "export": "merged and converted models",
    "scoring": "errors, PIER, retention",
    "data": "Kaldi directories, corpora",
    "adapters": "layers, ELBO, files: pure torch",
    "whisper": "its encoder, decoder, cache",
    "text": "scripts, tokens, normalisation",
}
GROUND = "utils"
Point = tuple[float, float]


def room_graph() -> tuple[dict[str, int], set[tuple[str, str]]]:
    """Return the number of modules per room, and which room imports which."""
    import grimp

    graph = grimp.build_graph("espnet_blora", cache_dir=None)
    sizes: dict[str, int] = {}
    arrows = set()
    for module in graph.modules:
        if "." not in module:
            continue
        room = module.split(".")[1]
        if not module.endswith((".__init__", f"espnet_blora.{room}")) or room == "run":
            sizes[room] = sizes.get(room, 0) + 1
        for imported in graph.find_modules_directly_imported_by(module):
            if "." in imported and imported.split(".")[1] != room:
                arrows.add((room, imported.split(".")[1]))
    return sizes, arrows


def floors(rooms: Iterable[str], arrows: set[tuple[str, str]]) -> dict[str, int]:
    """Return the floor of each room: one above the highest that it imports.

    >>> floors("abc", {("a", "b"), ("b", "c")}) == {"c": 0, "b": 1, "a": 2}
    True
    """
    rooms = set(rooms)
    levels: dict[str, int] = {}
    while len(levels) < len(rooms):
        ready = [
            room
            for room in rooms - set(levels)
            if all(b in levels for a, b in arrows if a == room and b in rooms)
        ]
        if not ready:
            raise ValueError(f"a circle of imports among {', '.join(sorted(rooms - set(levels)))}")
        for room in ready:
            below = [levels[b] for a, b in arrows if a == room and b in levels]
            levels[room] = max(below, default=-1) + 1
    return levels


def essential(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the arrows that no other path implies (the transitive reduction).

    >>> sorted(essential({("a", "b"), ("b", "c"), ("a", "c")}))
    [('a', 'b'), ('b', 'c')]
    """

    def reaches(start: str, end: str, without: tuple[str, str]) -> bool:
        seen, stack = set(), [start]
        while stack:
            room = stack.pop()
            following = [b for a, b in arrows if a == room and (a, b) != without]
            if end in following:
                return True
            stack += [b for b in following if b not in seen]
            seen.update(following)
        return False

    return {arrow for arrow in arrows if not reaches(*arrow, without=arrow)}


def port(
    room: str,
    other: str,
    arrows: Iterable[tuple[str, str]],
    place: Mapping[str, Point],
    end: int,
) -> float:
    """Return where on a box's edge an arrow begins (end 0) or ends (1), as a share of its width."""
    others = [arrow[1 - end] for arrow in arrows if arrow[end] == room]
    others.sort(key=lambda name: place[name][0])
    return (others.index(other) + 1) / (len(others) + 1)


def floor_plan() -> str:
    """Return the picture of the rooms as SVG: a room stands above what it imports."""
    sizes, arrows = room_graph()
    rooms = [room for room in ROOMS if room in sizes]
    missing = sorted(set(sizes) - set(ROOMS) - {GROUND, "version"})
    if missing:
        raise ValueError(f"docs/generate.py: ROOMS says nothing of {', '.join(missing)}")
    arrows = {(a, b) for a, b in arrows if a in rooms and b in rooms}
    levels = floors(rooms, arrows)
    width, box, gap, rise = 980, 212, 28, 118
    top = max(levels.values())
    height = (top + 1) * rise + 60

    # Each floor is centred, a little to a side or not; its rooms stand where the arrows are short
    # and pass behind no other room.
    drawn = sorted(essential(arrows))

    def spots(rows: Iterable[Iterable[str]], shifts: Iterable[int]) -> dict[str, Point]:
        place = {}
        for level, (row, shift) in enumerate(zip(rows, shifts, strict=True)):
            left = (width - len(row) * box - (len(row) - 1) * gap) / 2 + shift
            for i, room in enumerate(row):
                place[room] = (left + i * (box + gap), (top - level) * rise + 20)
        return place

    def ends(place: Mapping[str, Point], a: str, b: str) -> tuple[Point, Point]:
        start = place[a][0] + box * port(a, b, drawn, place, 0), place[a][1] + 62
        return start, (place[b][0] + box * port(b, a, drawn, place, 1), place[b][1] - 3)

    def cost(place: Mapping[str, Point]) -> float:
        total = 0.0
        for a, b in drawn:
            (x1, y1), (x2, y2) = ends(place, a, b)
            total += abs(x1 - x2)
            for t in (i / 12 for i in range(1, 12)):  # along the curve
                x = x1 + (x2 - x1) * (3 * t**2 - 2 * t**3)
                y = y1 + (y2 - y1) * (1.5 * t - 1.5 * t**2 + t**3)
                total += 120 * sum(
                    left - 6 < x < left + box + 6 and above - 4 < y < above + 66
                    for room, (left, above) in place.items()
                    if room not in (a, b)
                )
        return total

    rows = [[room for room in rooms if levels[room] == level] for level in range(top + 1)]
    shifts = itertools.product((0, -(box + gap) // 2, (box + gap) // 2), repeat=top)
    orders = itertools.product(*(itertools.permutations(row) for row in rows))
    candidates = (spots(order, (0, *s)) for order, s in itertools.product(orders, shifts))
    place = min(candidates, key=cost)

    lines = []
    for a, b in drawn:
        (x1, y1), (x2, y2) = ends(place, a, b)
        middle = (y1 + y2) / 2
        lines.append(
            f'<path d="M{x1:g},{y1:g} C{x1:g},{middle:g} {x2:g},{middle:g} {x2:g},{y2:g}" '
            'fill="none" stroke="#6b7280" stroke-width="1.5" marker-end="url(#head)"/>'
        )
    for room in rooms:
        x, y = place[room]
        modules = "one module" if sizes[room] == 1 else f"{sizes[room]} modules"
        name = room + (".py" if room == "run" else "/")
        lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{box}" height="62" rx="6" fill="#ffffff" '
            'stroke="#374151"/>'
            f'<text x="{x + 12:g}" y="{y + 24:g}" font-weight="bold" font-size="15">{name}</text>'
            f'<text x="{x + box - 12:g}" y="{y + 24:g}" text-anchor="end" font-size="11" '
            f'fill="#6b7280">{modules}</text>'
            f'<text x="{x + 12:g}" y="{y + 47:g}" font-size="12.5">{ROOMS[room]}</text>'
        )
    ground = height - 52
    lines.append(
        f'<rect x="20" y="{ground}" width="{width - 40}" height="36" rx="6" fill="#e5e7eb" '
        f'stroke="#374151"/><text x="36" y="{ground + 23}" font-size="13.5">'
        f'<tspan font-weight="bold" font-size="15">{GROUND}/</tspan>  the ground floor that every '
        "room may import: atomic files, keyed files, users' mistakes, the frame of programs</text>"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="system-ui, sans-serif" fill="#111827" '
        'role="img" aria-label="The rooms of espnet_blora; a room stands above what it imports">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#6b7280"/></marker></defs>'
        f'<rect width="{width}" height="{height}" fill="#f9fafb"/>' + "\n".join(lines) + "</svg>\n"
    )


def why_picture() -> str:
    """Return the picture of `why.md`."""
    return runpy.run_path(str(Path(__file__).with_name("why_plot.py")))["picture"]()


# ---- the notebook ----


def notebook_page() -> str:
    """Return the notebook as a page: its texts, its code, and what the code has shown."""
    path = Path(__file__).with_name("notebooks") / "adapt_a_whisper.ipynb"
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            shown = "".join(output.get("text") or output["data"]["text/plain"]).rstrip()
            parts.append(f"```text\n{shown}\n```")
    return "\n\n".join(parts) + "\n"


# ---- all of them ----

PARTS = {
    "notebook.md": notebook_page,
    "adapter_options.md": adapter_page,
    "decoding_options.md": decoding_page,
    "floor_plan.svg": floor_plan,
    "why.svg": why_picture,
}


def write_all(folder: Path) -> None:
    """Write every part into a folder; a file whose text has not changed is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in PARTS.items():
        text, path = make(), folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    write_all(Path(sys.argv[1]))

"""Blocks as Markdown, as GitHub shows it; no text of others can break out of its cell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from espnet_blora.report.blocks import Block, Bullets, Cards, Folded, Page, Picture, Prose
from espnet_blora.report.tables import Table, literal, markdown, table


def page(made: Page) -> str:
    """Return the text of a page."""
    parts = [f"# {made.title}"]
    parts += [f"> **Warning**: {_prose(text)}" for text in made.warnings]
    if made.headline:
        parts.append("\n".join(f"- {_prose(text)}" for text in made.headline))
    for section in made.sections:
        parts.append(f"## {literal(section.title)}")
        parts += blocks(section.blocks)
    return "\n\n".join(parts) + "\n"


def blocks(made: Iterable[Block]) -> Iterator[str]:
    """Yield the text of blocks, to be parted by empty lines."""
    for block in made:
        if isinstance(block, Prose):
            yield _prose(block.text)
        elif isinstance(block, Bullets):
            yield "\n".join(f"- {_prose(item)}" for item in block.items)
        elif isinstance(block, Picture):
            yield f"![{literal(block.alt)}]({block.file})"
        elif isinstance(block, Cards):
            cards = _of_cards(block)
            yield markdown(cards.head, cards.rows)
        elif isinstance(block, Folded):
            yield f"<details><summary>{literal(block.title)}</summary>"
            yield from blocks(block.blocks)
            yield "</details>"
        else:
            if block.caption:
                yield _prose(block.caption)
            yield markdown(block.head, block.rows)


def _prose(text: str) -> str:
    """Keep `**` and backticks; escape what would start an HTML tag outside of code."""
    pieces = " ".join(text.split()).split("`")
    return "`".join(
        piece if n % 2 else re.sub(r"<(?=[A-Za-z/!?])", r"\\<", piece)
        for n, piece in enumerate(pieces)
    )


def _of_cards(made: Cards) -> Table:
    names = [fact.name for fact in made.cards[0].facts] if made.cards else []
    rows = [[c.title, *(f.value for f in c.facts), c.verdict] for c in made.cards]
    return table(["system", *names, "gate"], rows)

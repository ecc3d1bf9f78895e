"""Markdown and HTML from the same blocks; nobody's words become markup."""

import re

import pytest

from espnet_blora.report.page import (
    Bullets,
    Card,
    Cards,
    Cell,
    Folded,
    Page,
    Picture,
    Prose,
    Section,
    ground,
    page_html,
    page_markdown,
    table,
)

EVIL = '<script>alert("1")</script> | `x` **y** <img src=x> $z$ [a](b)\x00\n\u202e'
PAGE = Page(
    "A page",
    ["Mind <b>this</b>"],
    ["**Bold** `code` 5 %"],
    [
        Section(
            f"Title {EVIL}",
            [
                Prose("a < b and <i>c</i> in `<code>`"),
                Bullets(["one"]),
                Picture("a.png", "alt", "<svg>wide</svg>", "<svg>narrow</svg>"),
                Cards([Card(EVIL, "red", {"f": Cell("1"), "g": Cell("–")}, Cell("0.5 (passed)"))]),
                Folded(EVIL, [table(["x"], [[EVIL]])]),
                table(
                    ["n", "words"],
                    [
                        ["1,200.5", Cell("ab<", marks=(("a", False), ("b<", True)), foreign=True)],
                        [Cell("−3 (x)", tone="bad", heat=0.7), Cell("5", sort=7.5)],
                    ],
                    "A caption",
                ),
            ],
        )
    ],
)


def test_html_escapes_everything():
    text = page_html(PAGE)
    body = text[text.index("<body>") :]
    assert body.count("<script>") == 1 and "<img" not in body and "<i>" not in body
    assert (
        "&lt;script&gt;alert(&#34;1&#34;)" in body and "\x00" not in body and "\u202e" not in body
    )
    assert "Mind &lt;b&gt;" in body
    assert "<strong>Bold</strong> <code>code</code> 5\u00a0%" in body
    assert "<svg>wide</svg>" in body and "<svg>narrow</svg>" in body
    assert "a<mark>b&lt;</mark>" in body and "<dt>g</dt>" not in body
    assert 'class="bad worse-4" data-sort="-3"' in re.sub(" +", " ", body)
    assert 'data-sort="1200.5"' in body and 'data-sort="7.5"' in body


def test_html_is_one_file_without_network():
    text = page_html(PAGE)
    assert not re.search(r'(?:src|href)="(?!#)|url\((?!#)|@import|https?://', text)
    assert "default-src 'none'" in text and "script-src 'sha256-" in text


def test_the_scripts_digest_is_that_of_the_script():
    import base64
    import hashlib

    text = page_html(PAGE)
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"sha256-{digest}" in text and "aria-sort" in script


def test_markdown_escapes_cells_and_tags():
    text = page_markdown(PAGE)
    assert "<script>" not in text and "<img" not in text and "\x00" not in text
    assert "Mind \\<b>this" in text and "a < b and \\<i>c" in text and "`<code>`" in text
    assert "|&lt;script&gt;alert(" in text and "\\| \\`x\\` \\*\\*y\\*\\*" in text
    assert "![alt](a.png)" in text and "> **Warning**" in text
    assert text.count("<details><summary>") == text.count("</details>") == 1


def test_both_hold_the_same_figures():
    numbers = [r"1,200.5", "0.5 (passed)", "A caption", "one"]
    for text in (page_html(PAGE), page_markdown(PAGE)):
        assert all(number in text for number in numbers)


@pytest.mark.parametrize(("heat", "name"), [(0.05, ""), (0.21, "worse-1"), (-1.0, "better-5")])
def test_ground(heat, name):
    assert ground(heat) == name

"""The catalog's page: one HTML file with its style, its code and the catalog document, which needs nothing else.

The code is the `.js` files of this folder, one after the other in the order of `SCRIPTS`, in one function; the style is
the `.css` files. Both are allowed by their hashes, and nothing else is.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from materializer.catalog.page.parts import parts
from materializer.catalog.page.plain import plain

STYLES = ("tokens.css", "frame.css", "parts.css", "screens.css", "media.css")
SCRIPTS = (
    "dom.js",
    "format.js",
    "inflate.js",
    "data.js",
    "marks.js",
    "search.js",
    "code.js",
    "getit.js",
    "charts.js",
    "values.js",
    "graph.js",
    "layout.js",
    "drawing.js",
    "lineage.js",
    "facets.js",
    "table.js",
    "lists.js",
    "views.js",
    "home.js",
    "feature.js",
    "view.js",
    "service.js",
    "relation.js",
    "findings.js",
    "selection.js",
    "lookup.js",
    "searchbox.js",
    "main.js",
)
_FOLDER = Path(__file__).parent


def html(document: dict[str, Any], *, served: bool = False) -> bytes:
    """The page of a catalog document, as UTF-8. The same document gives the same bytes.

    With `served` it may ask the server that it came from (`POST /v1/features`), and nobody else.
    """
    project = document["project"]
    top, data = parts(document)
    filled = {
        "policy": policy(served=served),
        "title": escape(f"{project['name']} features"),
        "name": escape(str(project["name"])),
        "served": "yes" if served else "no",
        "style": _style(),
        "script": _script(),
        "head": top,
        "data": "\n".join(data),
        "plain": plain(document),
    }
    text = _read("page.html")
    pieces = text.split("{{")
    out = [pieces[0]]
    for piece in pieces[1:]:
        name, _, after = piece.partition("}}")
        out += [filled[name], after]
    return "".join(out).encode("utf-8", "replace")


def policy(*, served: bool = False) -> str:
    """The page's Content-Security-Policy: its own style and code by their hashes, and nothing else. It stands in the
    file; a server may send it as a header too."""
    rules = [
        "default-src 'none'",
        f"script-src '{_digest(_script())}'",
        f"style-src '{_digest(_style())}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if served:
        rules.append("connect-src 'self'")
    return "; ".join(rules)


@cache
def _style() -> str:
    return "\n".join(_read(name) for name in STYLES)


@cache
def _script() -> str:
    return "(() => {\n'use strict';\n" + "\n".join(_read(name) for name in SCRIPTS) + "\n})();"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()

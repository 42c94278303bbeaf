"""The catalog as a plain list, for readers without JavaScript."""

from __future__ import annotations

from html import escape
from typing import Any


def plain(document: dict[str, Any]) -> str:
    """Views with their features and services, as HTML of headings and lists alone. A browser that runs the page's code
    does not even parse it (it stands in a `noscript`)."""
    views, services = document["views"], document.get("services") or []
    count = sum(len(view["features"]) for view in views)
    lines = [
        '<div class="plain">',
        f"<h1>{_text(document['project']['name'])}</h1>",
        f"<p>{len(views)} feature views, {count} features, as of {_moment(document['project']['built_at'])}. With"
        " JavaScript this page searches, draws lineage and shows statistics; the list is the same.</p>",
    ]
    if not views:
        lines.append("<p>No feature view yet: one is a dbt model with entities under meta.feature_view.</p>")
    for view in views:
        owner = view.get("owner") or {}
        facts = [f"Keys: {', '.join(view['entities'])}."]
        if owner:
            facts.append(f"Owner: {owner.get('name') or owner.get('group') or owner.get('email')}.")
        if view.get("tags"):
            facts.append(f"Tags: {', '.join(view['tags'])}.")
        if view.get("problem"):
            facts.append(f"Problem: {view['problem']}.")
        lines += [
            f"<section><h2>{_text(view['name'])}</h2>",
            f"<p>{_text(view.get('description') or 'No description.')}</p>",
            f"<p>{_text(' '.join(facts))}</p>",
            "<dl>",
            *(
                f"<dt><code>{_text(feature['name'])}</code> {_text(feature.get('type') or '')}</dt>"
                f"<dd>{_text(feature.get('description') or 'No description.')}</dd>"
                for feature in view["features"]
            ),
            "</dl></section>",
        ]
    if services:
        lines.append("<section><h2>Feature services</h2><dl>")
        for service in services:
            lines.append(f"<dt>{_text(service['name'])}</dt><dd>{_text(', '.join(service['features']))}</dd>")
        lines.append("</dl></section>")
    lines.append("</div>")
    return "\n".join(lines)


def _moment(text: str) -> str:
    return f"{_text(text[:16]).replace('T', ' ')} UTC"


def _text(value: object) -> str:
    return escape(str(value), quote=True)

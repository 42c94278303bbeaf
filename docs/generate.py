"""Writes docs/macros.md and docs/tests.md from the macros' properties (macros/**/*.yml) and signatures.

    python docs/generate.py

What the pages say of a macro and its arguments is what dbt's own docs show. A test fails where a page is older than
that, where a public macro or an argument has no description, and where an example passes an unknown argument.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
_SIGNATURE = re.compile(r"\{%-?\s*(macro|test)\s+([a-z]\w*)\((.*?)\)\s*-?%\}", re.DOTALL)
_NOTE = "<!-- Written by docs/generate.py from macros/**/*.yml: change those, then run `python docs/generate.py`. -->\n"

_MACROS = """# The macros

{note}
They are called with the package's name, `{{{{ feature_store.latest('user_purchases') }}}}`, in a model, an analysis, or
`dbt show --inline`. A feature view that a macro reads becomes a `ref()` of the model by itself, so the DAG is right
without a hint. A wrong name, duration or reference stops `dbt compile` with one sentence that says what exists. The
tests are on [a page of their own](tests.md).

| macro | in one sentence |
| --- | --- |
"""
_TESTS = """# The tests

{note}
The package's generic tests, for `data_tests:` of a feature view or of its columns, beside dbt's own. They read which
columns are keys and timestamps from `meta.feature_view`. They take dbt's `config:` (`severity: warn`, `where:`,
`tags:`, `store_failures: true`).

| test | in one sentence |
| --- | --- |
"""

EXAMPLES = {
    "window_aggregates": """
{{ feature_store.window_aggregates(
    relation=ref('purchases'),
    entities='user_id',
    timestamp='purchased_at',
    aggregates=[
        {'name': 'purchase_count', 'function': 'count'},
        {'name': 'spent', 'function': 'sum', 'expression': 'amount', 'where': 'not refunded'},
    ],
    windows=['1 day', '7 days'],
) }}
""",
    "aggregate_as_of": """
{{ feature_store.aggregate_as_of(
    spine=ref('labels'),
    relation=ref('purchases'),
    entities='user_id',
    timestamp='purchased_at',
    aggregates=[{'name': 'purchase_count', 'function': 'count'}],
    windows=['7 days'],
) }}
""",
    "point_in_time_join": """
{{ feature_store.point_in_time_join(
    spine=ref('labels'),
    features=['user_purchases:purchase_count', 'item_features:price'],
) }}
""",
    "latest": """
{{ feature_store.latest('user_purchases') }}
""",
    "record_builds": """
on-run-end:
  - "{{ feature_store.record_builds() }}"
""",
    "feature_statistics": """
{{ feature_store.feature_statistics('user_purchases', features=['avg_order_value'], buckets=20) }}
""",
    "feature_drift_measures": """
{{ feature_store.feature_drift_measures('user_purchases', period='7 days') }}
""",
    "feature_difference": """
{{ feature_store.feature_difference('user_purchases.v1', 'user_purchases.v2') }}
""",
    "feature_difference_examples": """
{{ feature_store.feature_difference_examples('user_purchases.v1', 'user_purchases.v2', examples=5) }}
""",
    "feature_freshness": """
{{ feature_store.feature_freshness(['user_purchases', 'item_features']) }}
""",
    "feature_services": """
{% for service in feature_store.feature_services() %}{{ service }} {% endfor %}
""",
    "feature_views": """
{% for reference, view in feature_store.feature_views().items() %} ... {% endfor %}
""",
    "test_feature_view": """
models:
  - name: user_purchases
    data_tests:
      - feature_store.feature_view
""",
    "test_feature_freshness": """
models:
  - name: user_purchases
    data_tests:
      - feature_store.feature_freshness:
          arguments: {max_age: 6 hours}
""",
    "test_feature_null_fraction": """
models:
  - name: user_purchases
    columns:
      - name: avg_order_value
        data_tests:
          - feature_store.feature_null_fraction:
              arguments: {maximum: 0.05}
""",
    "test_feature_drift": """
models:
  - name: user_purchases
    columns:
      - name: avg_order_value
        data_tests:
          - feature_store.feature_drift:
              arguments: {period: 7 days, maximum: 0.25}
              config: {severity: warn}
""",
}


@dataclass(frozen=True)
class Macro:
    """A public macro: its name as dbt has it (`test_...` for a test), its file, its arguments with their defaults (None
    where one is required), and its properties."""

    name: str
    path: Path
    signature: dict[str, str | None]
    properties: dict

    @property
    def is_test(self) -> bool:
        return self.name.startswith("test_")

    @property
    def shown(self) -> str:
        return self.name.removeprefix("test_")

    @property
    def description(self) -> str:
        said = " ".join(self.properties.get("description", "").split())
        return re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", said)


def public_macros() -> list[Macro]:
    """The macros that users call, in the order of EXAMPLES."""
    properties = {
        entry["name"]: entry
        for path in sorted((ROOT / "macros").rglob("*.yml"))
        for entry in yaml.safe_load(path.read_text())["macros"]
    }
    found = []
    for path in sorted((ROOT / "macros").rglob("[a-z]*.sql")):
        for kind, name, arguments in _SIGNATURE.findall(path.read_text()):
            if "__" not in name:
                name = f"test_{name}" if kind == "test" else name
                found.append(Macro(name, path.relative_to(ROOT), _arguments(arguments), properties.get(name, {})))
    order = list(EXAMPLES)
    return sorted(found, key=lambda macro: (order.index(macro.name) if macro.name in order else len(order), macro.name))


def _arguments(text: str) -> dict[str, str | None]:
    pairs = [part.partition("=") for part in re.split(r",(?![^\[{(]*[\]})])", text) if part.strip()]
    return {name.strip(): default.strip() if equals else None for name, equals, default in pairs}


def pages() -> dict[Path, str]:
    """The pages by their path."""
    macros = public_macros()
    return {
        ROOT / "docs" / "macros.md": _page(_MACROS, [macro for macro in macros if not macro.is_test], "sql"),
        ROOT / "docs" / "tests.md": _page(_TESTS, [macro for macro in macros if macro.is_test], "yaml"),
    }


def _page(head: str, macros: list[Macro], language: str) -> str:
    lines = [head.format(note=_NOTE)]
    lines += [f"| [`{m.shown}`](#{m.shown}) | {_cell(_first_sentence(m.description))} |\n" for m in macros]
    for macro in macros:
        lines.append(f"\n## {macro.shown}\n\n{textwrap.fill(macro.description, 120, break_on_hyphens=False)}\n\n")
        lines.append(f"```{language}\n{EXAMPLES.get(macro.name, '').strip()}\n```\n")
        described = {argument["name"]: argument for argument in macro.properties.get("arguments", [])}
        # `model` and `column_name` of a test come from the place where it stands.
        names = [name for name in macro.signature if not (macro.is_test and name in ("model", "column_name"))]
        if names:
            lines.append("\n| argument | type | default | what it is |\n| --- | --- | --- | --- |\n")
        for name in names:
            default = macro.signature[name]
            shown = "required" if default is None else f"`{default}`"
            said = described.get(name, {})
            lines.append(f"| `{name}` | {said.get('type', '')} | {shown} | {_cell(said.get('description', ''))} |\n")
        lines.append(f"\nIts SQL: [{macro.path}](../{macro.path})\n")
    return "".join(lines)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.write_text(text)
        print(f"{path.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()

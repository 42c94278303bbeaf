"""The one Jinja environment there is here: text of a project, a manifest or a repository cannot leave it."""

from __future__ import annotations

from typing import Any

from jinja2.sandbox import SandboxedEnvironment, SecurityError

# A power with more bits than this, or a text or list repeated to more parts, serves nobody but a bomb.
_MOST_BITS = 100_000
_MOST_PARTS = 10_000_000


class Sandbox(SandboxedEnvironment):
    """As dbt's: no attribute that leads to Python's own machinery, no ``str.format`` around it, short ranges only.

    What it forbids raises `SecurityError`, a ``jinja2.TemplateError``.
    """

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            too_large = left.bit_length() * abs(right) > _MOST_BITS
        else:
            sized, times = (left, right) if isinstance(right, int) else (right, left)
            too_large = isinstance(times, int) and hasattr(sized, "__len__") and len(sized) * times > _MOST_PARTS
        if too_large:
            raise SecurityError(f"the result of {operator} would be too large")
        return super().call_binop(context, operator, left, right)

"""What a macro finds when it is rendered without dbt: namespaces, `adapter`, `exceptions`, and what is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from materializer.errors import InputError

# Of dbt's context: what it knows only while it runs.
ONLY_DBT = (
    "api", "builtins", "config", "context", "dbt_metadata_envs", "flags", "invocation_id",
    "load_agate_table", "load_result", "on_run_end_results", "pre_hooks", "post_hooks", "render", "run_started_at",
    "selected_resources", "sql", "store_raw_result", "store_result", "submit_python_job", "this", "thread_id",
    "try_or_compiler_error", "validate", "write",
)  # fmt: skip


class Offered:
    """What the store offers of dbt's `adapter` or `exceptions`; all else of it only dbt has."""

    def __init__(self, name: str, **parts: Callable[..., Any]) -> None:
        self.__name = name
        self.__dict__ |= parts

    def __getattr__(self, name: str) -> OnlyDbt:
        return OnlyDbt(f"{self.__name}.{name}")


class OnlyDbt:
    """Something of dbt's context that the store has not: whatever a macro does with it stops with a sentence."""

    def __init__(self, name: str) -> None:
        self.__name = name

    def __getattr__(self, name: str) -> OnlyDbt:
        # What Jinja's sandbox asks of anything before it is called is no use of it.
        if name.startswith("__") or name in ("unsafe_callable", "alters_data"):
            raise AttributeError(name)
        return OnlyDbt(f"{self.__name}.{name}")

    def __refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise InputError(
            f"A macro of the dbt project uses `{self.__name}`, which only dbt has: the store renders the package's "
            "macros without dbt, so a version of the project's own may not need it."
        )

    __call__ = __str__ = __iter__ = __bool__ = __len__ = __getitem__ = __eq__ = __add__ = __radd__ = __refuse  # type: ignore[assignment]
    __hash__ = object.__hash__


class Namespace:
    """``feature_store.some_macro`` in a template: an item, for in the sandbox no attribute begins with ``_``."""

    def __init__(self, find: Callable[[str], Callable[..., Any]]) -> None:
        self._find = find

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._find(name)

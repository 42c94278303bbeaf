"""Which dbt project is meant, as dbt finds it."""

from __future__ import annotations

import os
from pathlib import Path


def dbt_setting(name: str) -> str | None:
    """What the environment says of a dbt option: ``DBT_ENGINE_<name>``, else ``DBT_<name>``; empty is not set."""
    return os.environ.get(f"DBT_ENGINE_{name}") or os.environ.get(f"DBT_{name}") or None


def project_in_reach() -> Path | None:
    """The dbt project that is meant where none is named: the environment's, else the current folder's or its nearest
    parent's; None where there is none."""
    named = dbt_setting("PROJECT_DIR")
    if named:
        return Path(named)
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "dbt_project.yml").is_file()), None)

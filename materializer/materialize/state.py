"""Where the materializer keeps what it must remember: a folder, beside the warehouse where that is a file."""

from __future__ import annotations

import os
from pathlib import Path

from materializer.project.settings import Project

SETTING = "FEATURE_STORE_STATE"


def state_folder(project: Project) -> Path:
    """The folder of a project's target: what `FEATURE_STORE_STATE` names, else beside a DuckDB file, else
    ``.feature_store/<target>`` in the project. Raises WarehouseError where a DuckDB target is no file."""
    if named := os.environ.get(SETTING):
        return Path(named).expanduser().resolve()
    if project.connection.get("type") == "duckdb":
        from materializer.warehouse.duckdb_profile import profile_settings

        file = profile_settings(project).state_beside
        return file.with_name(file.name + ".feature_store")
    return project.folder / ".feature_store" / project.target

"""Where the materializer keeps what it must remember: a folder, beside the warehouse where that is a file, or a URL."""

from __future__ import annotations

import os
from pathlib import Path

from materializer.project.settings import Project
from materializer.project.storage import Remote, is_url, place

SETTING = "FEATURE_STORE_STATE"


def state_folder(project: Project) -> Path | Remote:
    """The folder of a project's target: what `FEATURE_STORE_STATE` names (a folder, or a URL such as
    ``s3://bucket/prefix``), else beside a DuckDB file, else ``.feature_store/<target>`` in the project. Raises
    WarehouseError where a DuckDB target is no file."""
    if named := os.environ.get(SETTING):
        where = place(named if is_url(named) else Path(named).expanduser(), project.connection)
        return where if isinstance(where, Remote) else where.resolve()
    if project.connection.get("type") == "duckdb":
        from materializer.warehouse.duckdb_profile import profile_settings

        file = profile_settings(project).state_beside
        return file.with_name(file.name + ".feature_store")
    return project.folder / ".feature_store" / project.target

"""Which dbt project is meant, as dbt finds it, and what dbt's last run there tells: ``target/run_results.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


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


def last_run(target_folder: Path) -> Mapping[str, Any]:
    """The `args` and `metadata` of the dbt command that last ran; empty where none did, or its file is damaged."""
    try:
        content = json.loads((target_folder / "run_results.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    parts = content if isinstance(content, dict) else {}
    return {key: parts[key] for key in ("args", "metadata") if isinstance(parts.get(key), dict)}


def began(run: Mapping[str, Any]) -> float | None:
    """When a run began, in seconds since 1970."""
    metadata = run.get("metadata") or {}
    try:
        text = metadata.get("invocation_started_at") or metadata["generated_at"]
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (KeyError, ValueError, AttributeError, TypeError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()


def ran_in(run: Mapping[str, Any], project_folder: Path) -> Path | None:
    """The folder in which dbt ran, where its ``--project-dir`` tells."""
    named = (run.get("args") or {}).get("project_dir")
    if not isinstance(named, str) or Path(named).is_absolute():
        return None
    parts = Path(named).parts  # without dots alone
    if ".." in parts or parts != project_folder.parts[len(project_folder.parts) - len(parts) :]:
        return None
    return project_folder.parents[len(parts) - 1] if parts else project_folder

"""What dbt's last run in a project tells of itself: ``target/run_results.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


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

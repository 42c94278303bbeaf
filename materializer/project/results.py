"""What dbt's last command said of models and tests: ``target/run_results.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def run_results(target_folder: Path) -> tuple[dict[str, dict[str, Any]], str | None]:
    """By unique id: `status`, `failures`, `seconds`, `message` (its first sentence) and `at`, when it was done; and
    when the command was done. Nothing where there is no such file."""
    try:
        content = json.loads((target_folder / "run_results.json").read_bytes())
        found = {str(one["unique_id"]): _result(one) for one in content["results"]}
        return found, content["metadata"].get("generated_at")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, None


def _result(one: dict[str, Any]) -> dict[str, Any]:
    timing = one.get("timing") or []
    lines = [line.strip() for line in str(one.get("message") or "").splitlines() if line.strip()]
    # dbt's first line names the model and its file; what follows is the error.
    message = " ".join(lines[1:3] if len(lines) > 1 and one.get("status") == "error" else lines[:1])
    return {
        "status": str(one.get("status")),
        "failures": one.get("failures"),
        "seconds": round(float(one.get("execution_time") or 0), 2),
        "message": message,
        "at": timing[-1].get("completed_at") if timing else None,
    }

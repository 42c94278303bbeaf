"""What git says of a dbt project: its revision, and whether files differ from it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Untracked files that make a dbt project another one. Data files and results that lie about do not.
_SOURCES = (".sql", ".py", ".yml", ".yaml")


@dataclass(frozen=True)
class GitState:
    """The revision of a project's folder; `dirty` says that files differ from it, or are not in git yet."""

    revision: str
    dirty: bool


def git_state(folder: Path) -> GitState | None:
    """The state of `folder`; None where there is no git, or the folder is in no repository with a commit."""
    revision = _git(folder, "rev-parse", "--verify", "HEAD")
    status = _git(folder, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    if revision is None or status is None:
        return None
    changed = [entry for entry in status.split("\0") if entry]
    dirty = any(not entry.startswith("??") or entry.endswith(_SOURCES) for entry in changed)
    return GitState(revision.strip(), dirty)


def _git(folder: Path, *args: str) -> str | None:
    # Looking must not take the lock that somebody's commit needs; a hook's own GIT_DIR is not this project's.
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args],
            capture_output=True, text=True, timeout=30, check=True, env={**surroundings, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout

"""git, asked about a dbt project: nothing that the repository's own settings name is run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Untracked files that make a dbt project another one. Data files and results that lie about do not.
_SOURCES = (".sql", ".py", ".yml", ".yaml")
# Programs that a repository's settings may name, and git would run on status and on a checkout.
_NO_PROGRAMS = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, "protocol.ext.allow": "never"}
# And those that would fetch what a partial clone lacks: the user's own may.
_NO_TRANSPORT = {"core.sshcommand": "false", "core.gitproxy": "", "credential.helper": ""}


@dataclass(frozen=True)
class GitState:
    """The revision of a project's folder; `dirty` says that files differ from it, or are not in git yet."""

    revision: str
    dirty: bool


def git_state(folder: Path) -> GitState | None:
    """The state of `folder`; None where there is no git, or the folder is in no repository with a commit."""
    try:
        revision = run_git(folder, "rev-parse", "--verify", "HEAD")
        status = run_git(
            folder, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all",
            "--ignore-submodules=dirty", "--", ".",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    changed = [entry for entry in status.split("\0") if entry]
    dirty = any(not entry.startswith("??") or entry.endswith(_SOURCES) for entry in changed)
    return GitState(revision.strip(), dirty)


def run_git(folder: Path, *args: str, timeout: float | None = 30) -> str:
    """What a git command says on stdout.

    Raises:
        OSError, subprocess.SubprocessError, UnicodeDecodeError: where there is no git, or it fails.
    """
    # A hook's own GIT_DIR is not this project's. Looking must not take the lock that somebody's commit needs.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_TERMINAL_PROMPT": "0"}
    settings = [*_NO_PROGRAMS.items(), *_switched_off(folder, environment)]
    environment["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (name, value) in enumerate(settings):
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return _git(folder, args, environment, timeout)


def _switched_off(folder: Path, environment: dict[str, str]) -> list[tuple[str, str]]:
    """Settings against the filters and transports that the repository itself sets up; the user's own stay."""
    try:
        asked = ("config", "--local", "--includes", "--name-only", "--null", "--get-regexp")
        names = _git(folder, (*asked, r"^(filter|core|credential)\."), environment, 30).split("\0")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return []
    filters = {name.rpartition(".")[0] for name in names if name.startswith("filter.")}
    off = (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false"))
    found = [(f"{one}.{part}", value) for one in sorted(filters) for part, value in off]
    return found + [(name, value) for name, value in _NO_TRANSPORT.items() if name in names]


def _git(folder: Path, args: tuple[str, ...], environment: dict[str, str], timeout: float | None) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *args],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=True,
    )  # fmt: skip
    return done.stdout

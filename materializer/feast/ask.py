"""What Feast says of a repository: asked in the Python where Feast is installed, or read from a file of its answer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from materializer.errors import InputError
from materializer.feast.ask_feast import FORMAT
from materializer.feast.definitions import Repository
from materializer.feast.read import definitions

SCRIPT = Path(__file__).with_name("ask_feast.py")
# Seconds in which Feast has to answer: importing it takes ten, asking a warehouse for columns some more.
TIMEOUT = 600


def repository_of(path: Path, python: str | None = None) -> Repository:
    """The definitions of a repository.

    Args:
        path: its folder, or its ``feature_store.yaml``; or a file that ``ask_feast.py`` has written.
        python: the Python in which Feast is; default that of the ``feast`` command, or another on the PATH.

    Raises:
        InputError: where there is no repository, no Feast, or Feast cannot read it.
    """
    path = path.expanduser().resolve()
    if path.suffix == ".json":
        return _read(path, f"{path}")
    folder = path.parent if path.name == "feature_store.yaml" else path
    if not (folder / "feature_store.yaml").is_file():
        below = sorted(found.parent for found in folder.glob("*/feature_store.yaml"))[:3] if folder.is_dir() else []
        hint = f"; there is one in {' and '.join(map(str, below))}" if below else ""
        raise InputError(f"There is no feature_store.yaml in {folder}, so it is no Feast repository{hint}.")
    python = _python(python, folder)
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "feast.json"
        # To files, not to pipes: a process that the repository leaves behind cannot keep this one waiting.
        with answer.open("wb") as out:
            try:
                ran = subprocess.run(
                    [python, str(SCRIPT), str(folder)],
                    cwd=scratch, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL, timeout=TIMEOUT,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise InputError(
                    f"Feast has not read {folder} in {TIMEOUT} seconds, and was ended: {_by_hand(python, folder)}."
                ) from None
            except OSError as error:
                raise InputError(f"{python} cannot be run: {error.strerror}.") from None
        if ran.returncode:
            raise InputError(
                f"{python} ended with exit code {ran.returncode} while it read {folder}: {_by_hand(python, folder)}."
            )
        return _read(answer, f"what {python} says of {folder}")


def _by_hand(python: str, folder: Path) -> str:
    return f"to see what it says, run {python} {SCRIPT} {folder}"


def _python(given: str | None, folder: Path) -> str:
    """The Python to ask."""
    if given:
        if not (found := shutil.which(given)):
            raise InputError(f"There is no {given} to ask: --feast-python is the path of a Python that has Feast.")
        return found
    feast = shutil.which("feast")
    beside = [str(Path(place).with_name("python")) for place in (feast, feast and Path(feast).resolve()) if place]
    candidates = [*beside, sys.executable, *filter(None, map(shutil.which, ("python3", "python")))]
    look = "import importlib.util as u, sys; sys.exit(u.find_spec('feast') is None)"
    for python in dict.fromkeys(candidates):
        if shutil.which(python) and not subprocess.run([python, "-c", look], cwd="/", capture_output=True).returncode:
            return python
    raise InputError(
        "No Python with Feast was found: name it with --feast-python, or run ask_feast.py where Feast is (python "
        f"{SCRIPT} {folder} > feast.json) and give feast.json to --from-feast."
    )


def _read(path: Path, what: str) -> Repository:
    try:
        answer = json.loads(path.read_bytes())
        version, error = answer["format"], answer.get("error")
    except OSError as failed:
        raise InputError(f"{path} cannot be read: {failed.strerror}.") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{what} is no answer of ask_feast.py.") from None
    if error:
        by = f"Feast {answer.get('feast')}" if answer.get("feast") else "Feast"
        raise InputError(f"{by} cannot read the repository: {error}.")
    if version != FORMAT:
        raise InputError(f"{what} is of format {version}; format {FORMAT} is read: make it anew with {SCRIPT}.")
    try:
        return definitions(answer)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{what} is no answer of ask_feast.py.") from None

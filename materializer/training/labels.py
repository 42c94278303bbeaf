"""Where the labels of a training set lie: how its record names them, and what such a name may lead to."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path, PurePosixPath, PureWindowsPath

import pyarrow as pa

from materializer.errors import COMMAND_LINE, InputError, WarehouseError, worded
from materializer.project.settings import Project
from materializer.project.storage import Remote, is_url
from materializer.training.record import SpineFacts, TrainingRecord
from materializer.training.spine import Spine, file_sha256, read_spine
from materializer.warehouse import query_apart


def path_from(spine: Path | Remote, record: Path | Remote) -> str:
    """How a record names its labels. No path of this machine is told on object storage."""
    if isinstance(spine, Remote):
        return (isinstance(record, Remote) and spine.path_from(record.parent)) or str(spine)
    if isinstance(record, Remote):
        return spine.name
    return Path(os.path.relpath(spine.resolve(), record.resolve().parent)).as_posix()


def recorded_spine(project: Project, record: TrainingRecord, source: Path | Remote) -> tuple[Spine, pa.Table | None]:
    """The labels that a record names; of its SELECT the rows, too. A record travels: what it says is not the user's.
    Raises InputError where they are not there, or a record may not name them."""
    if record.spine.kind == "rows":
        raise worded(
            InputError,
            lambda say: (
                f"{record.output.file} was made from rows in memory: give them again, with {say.spine_option}"
                + (" as a file." if say is COMMAND_LINE else ".")
            ),
        )
    if record.spine.path is not None:
        return read_spine(_recorded_file(project, record.spine, source), project.connection), None
    if record.spine.sql is None:
        raise worded(InputError, lambda say: f"{source} names no labels: name them with {say.spine_option}.")
    try:
        return Spine(record.spine.sql), query_apart(project, record.spine.sql)
    except WarehouseError as error:
        refused = str(error)
        raise worded(
            InputError,
            lambda say: (
                f"The SELECT in {source} gives no labels, since a record's is one SELECT over the warehouse's own "
                f"tables and reads no file. {refused} If you trust it, pass it with {say.spine_option}."
            ),
        ) from None


def _recorded_file(project: Project, spine: SpineFacts, source: Path | Remote) -> Path | Remote:
    """A file beside the record, below it or in the project; another one only if its bytes are those that were read."""
    named = str(spine.path)
    path: Path | Remote | None
    if isinstance(source, Remote):
        path = source.parent.found_at(named)  # never in another bucket
        near = path is not None and path.path.startswith(source.parent.path + "/")
    else:
        path = source.parent / named
        near = any(path.resolve().is_relative_to(folder.resolve()) for folder in (source.parent, project.folder))
    absolute = PurePosixPath(named).is_absolute() or PureWindowsPath(named).anchor or is_url(named)
    if absolute or path is None:
        wrong = f"{source} names its labels as {named}, not by where they lie from it"
    elif not _there(path):
        wrong = f"{path}, the spine that {source.name} names, is not there any more"
    elif not near and _sha256_of(path) != spine.sha256:
        wrong = (
            f"{path}, the spine that {source.name} names, lies outside of its folder and of the project, and is not "
            "the file that was read"
        )
    else:
        return path
    raise worded(InputError, lambda say: f"{wrong}: name it with {say.spine_option}.")


def _there(path: Path | Remote) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None


def _sha256_of(path: Path | Remote) -> str:
    try:
        with path.fetched() if isinstance(path, Remote) else nullcontext(path) as copy:
            return file_sha256(copy)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None

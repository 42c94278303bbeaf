"""How streams do, for the doctor: the process that keeps views online, and messages that were no events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from materializer.errors import FeatureStoreError
from materializer.online.connect import connect, plain_errors
from materializer.online.heartbeat import last_beat
from materializer.online.topology import server_time
from materializer.printable import number_of
from materializer.project.duration import format_age
from materializer.project.manifest import load_manifest
from materializer.project.relation import Relation
from materializer.project.settings import Project
from materializer.stream.source import StreamedSource, streamed_sources
from materializer.warehouse import open_warehouse, quoted

# A process that keeps views online says so every few seconds.
_SILENT = timedelta(seconds=30)


def sources(project: Project) -> Mapping[str, StreamedSource]:
    """The project's streamed sources; none where they are declared wrongly, as `feature-store stream` says."""
    try:
        return streamed_sources(load_manifest(project))
    except FeatureStoreError:
        return {}


def process(url: str, namespace: str) -> tuple[str, bool]:
    """What the process that keeps the streamed views online said of itself last, and whether that is a warning."""
    with plain_errors(url):
        client = connect(url)
        last = last_beat(client, namespace)
        now = server_time(client, namespace)
    if last is None:
        return "no `feature-store stream` keeps views online in this namespace", False
    ago = now - datetime.fromtimestamp(last.at, timezone.utc)
    if ago > _SILENT:
        said = f"{last.by} was heard of {format_age(ago)} ago, and nobody since"
        return f"{said}: start `feature-store stream`", True
    waiting = [f"'{name}' is not kept online: {why.rstrip('.')}" for name, why in last.views.items() if why]
    broken = [
        f"{count:,} ids of {name} came with several of what they determine"
        for name, count in last.broken.items()
        if count
    ]
    kept = f"{last.by} keeps {number_of(len(last.views) - len(waiting), 'view')} online"
    delay = "" if last.delay is None else f", the last events {last.delay:.1f} s after they had landed"
    lag = "".join(f"; {count:,} messages of {name} are not read yet" for name, count in last.lag.items() if count)
    return ". ".join((kept + delay + lag, *waiting, *broken)), bool(waiting or broken)


def dead_letters(project: Project, streamed: Mapping[str, StreamedSource]) -> tuple[str, bool]:
    """What messages of the last day were no events, and whether there are any."""
    first = next(iter(streamed.values()))
    names = (first.schema,) if project.connection.get("type") == "postgres" else (first.database, "main")
    relation = Relation(".".join(map(quoted, (*names, "dead_letters"))))
    with open_warehouse(project) as warehouse:
        if not warehouse.columns(relation):
            return "nothing has landed yet", False
        found = warehouse.query(
            f"select source, reason, count(*) as n from {relation}\n"
            "where _landed_at > current_timestamp - interval '1 day' group by source, reason order by n desc"
        ).to_pylist()
    if not found:
        return "none in the last day", False
    total, most = sum(row["n"] for row in found), found[0]
    said = f"{total:,} in the last day, most often of {most['source']}: {most['reason']}"
    return f"{said} (all are in {relation})", True

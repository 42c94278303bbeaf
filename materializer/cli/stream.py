"""``feature-store stream``: land the events of Kafka topics as rows of dbt sources."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from materializer.cli.common import open_store, output_option, print_json, say, store_options


@click.command()
@click.option("--brokers", metavar="HOST:PORT,...", help="Default: FEATURE_STORE_KAFKA, else those of --kafka-config.")
@click.option("--kafka-config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A file of the client's settings, name=value a line, by librdkafka's names.")  # fmt: skip
@click.option("--batch", "most", type=click.IntRange(1, 10_000_000),
              help="Messages a batch at most; default: 5000, and 100000 of each partition on Spark.")  # fmt: skip
@click.option("--linger", type=click.FloatRange(0.001, 600),
              help="Seconds that a batch is waited for; default: 0.1, and 5 on Spark.")  # fmt: skip
@click.option("--until-idle", type=click.FloatRange(0.1), metavar="SECONDS",
              help="End when nothing came for so long; without it, run until stopped.")  # fmt: skip
@click.option(
    "--from-time",
    metavar="MOMENT",
    help="Begin topics of which nothing has landed at their first message of this moment (ISO 8601) or later.",
)
@click.option(
    "--from-offset",
    "offsets",
    multiple=True,
    metavar="TOPIC:PARTITION=OFFSET",
    help="Begin a partition of which nothing has landed at this offset; may be given several times.",
)
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Show metrics for Prometheus on this port.")
@click.option("--land-only", is_flag=True, help="Land events, and leave it to `materialize` to bring them online.")
@click.option("--explain", is_flag=True, help="Say of each view whether it streams, or why not; and end.")
@click.option("--verify", is_flag=True,
              help="Compare what is online with a full build of all that has landed; and end.")  # fmt: skip
@output_option
@store_options
def stream(
    brokers: str | None,
    kafka_config: Path | None,
    most: int | None,
    linger: float | None,
    until_idle: float | None,
    from_time: str | None,
    offsets: tuple[str, ...],
    metrics_port: int | None,
    land_only: bool,
    explain: bool,
    verify: bool,
    output: str,
    **where: Any,
) -> None:
    """Land the events of topics as rows of dbt sources, each exactly once, and keep the views that stream online.

    A source's table says what it holds: `config: {meta: {stream: {topic: purchases, key: user_id}}}`. Models select
    from it as from any other; `dbt build` and `materialize` run beside this, in any order. SIGTERM ends it after its
    batch.

    \b
        feature-store stream --brokers localhost:9092 --project-dir dbt_project
    """
    store = open_store(**where)
    if explain:
        return _explain(store, output)
    if verify:
        return _verify(store, output)

    from materializer.project.duration import parse_moment
    from materializer.stream.job import run_stream
    from materializer.stream.settings import settings_of

    settings = settings_of(kafka_config) if kafka_config else {}
    if named := brokers or os.environ.get("FEATURE_STORE_KAFKA"):
        settings["bootstrap.servers"] = named
    if "bootstrap.servers" not in settings:
        raise click.UsageError("No Kafka broker is named: add --brokers HOST:PORT, or set FEATURE_STORE_KAFKA.")
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: stopped.append(got))
    started = time.strftime("%H:%M:%S")
    counts = run_stream(
        store.project, store.namespace, store.landing_clock(), settings, kafka_config, most, linger, until_idle,
        metrics_port, None if land_only else store.online_store, parse_moment(from_time) if from_time else None,
        offsets, stop=lambda: bool(stopped),
        say=lambda sentence: say(f"{time.strftime('%H:%M:%S')}  {sentence}", err=True),
    )  # fmt: skip
    landed, dead = sum(counts.landed.values()), sum(counts.dead.values())
    if output == "json":
        return print_json({"landed": counts.landed, "dead_letters": counts.dead})
    return say(f"Since {started} {landed:,} events landed; {dead:,} messages were none and are among the dead letters.")


def _explain(store: Any, output: str) -> None:
    from materializer.stream.explain import explain

    views = explain(store.project)
    if output == "json":
        return print_json({"views": [asdict(one) for one in views]})
    for one in views:
        if one.keys:
            say(f"{one.view}: streams by {' and '.join(one.keys)}, from {' and '.join(one.sources or ())}.")
        else:
            say(f"{one.view}: does not stream, as {one.why}.")
        for line in (
            one.place and f"{one.place}  {one.text}".rstrip(),
            one.mend and f"To mend it: {one.mend}.",
            *one.warnings,
        ):
            if line:
                say(f"    {line}")
    return None


def _verify(store: Any, output: str) -> None:
    from materializer.stream.verify import verify

    found = verify(store.project, store.namespace, store.online_store())
    if output == "json":
        print_json({"views": [asdict(one) for one in found]})
    else:
        for one in found:
            said = f"{_entities(one.entities)}, {one.values:,} values compared; {_entities(one.different)} with others"
            say(f"{one.view}: {f'not compared, as {one.problem}' if one.problem else said}.")
            for name, count in sorted(one.close.items()):
                say(f"    {count:,} values of {name} are equal to 1e-9, not to the bit.")
            for sentence in one.shown:
                say(f"    {sentence}")
    if not found:
        say("No view of this project streams: `feature-store stream --explain` says why.", err=output == "json")
    if any(one.different or one.problem for one in found):
        raise SystemExit(1)


def _entities(count: int) -> str:
    return f"{count:,} {'entity' if count == 1 else 'entities'}"

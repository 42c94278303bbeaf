"""``feature-store serve``: features over HTTP."""

from __future__ import annotations

import ipaddress
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from materializer.cli.common import say
from materializer.errors import InputError
from materializer.project.locate import project_in_reach

_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=6566, show_default=True, type=click.IntRange(0, 65535), help="Feast's own by default.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="How many processes serve.")
@click.option("--redis-url", help="Default: as every command takes it (FEATURE_STORE_REDIS_URL ...).")
@click.option("--namespace", help="Default: the only one there is.")
@click.option("--api-keys", type=_file, help="A JSON file of the keys that may ask; make entries with --new-key.")
@click.option("--new-key", metavar="NAME", help="Print a new key and its entry for --api-keys, and serve nothing.")
@click.option("--tls-cert", type=_file, help="The certificate chain, PEM.")
@click.option("--tls-key", type=_file, help="Its key, PEM.")
@click.option("--insecure", is_flag=True, help="Listen on other addresses than this machine's own without keys.")
@click.option("--max-entities", default=10_000, show_default=True, type=click.IntRange(1), help="In one request.")
@click.option("--max-features", default=2_000, show_default=True, type=click.IntRange(1), help="In one request.")
@click.option("--max-body", default=4 * 1024 * 1024, show_default=True, type=click.IntRange(1), help="In bytes.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second, by key and worker.")
@click.option("--audit-log", type=_file, help="Append a JSON line for every request: who asked for what.")
@click.option(
    "--audit-reads/--no-audit-reads", default=True, help="Whether answered reads are in it, or refusals alone."
)
@click.option("--log-features", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Log served features there, as Parquet, for `feature-store skew`.")  # fmt: skip
@click.option("--log-sample", default=0.1, show_default=True, type=click.FloatRange(0, 1, min_open=True),
              help="With --log-features: the share of requests.")  # fmt: skip
@click.option("--log-seconds", default=60.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="With --log-features: how long a row waits for its file.")  # fmt: skip
@click.option("--catalog", "catalog_file", type=_file, metavar="FILE",
              help="The catalog.json shown at /. Default: the project's, where there is one.")  # fmt: skip
@click.option("--push", is_flag=True, help="Take events too (POST /v1/push/SOURCE), into the project's landing.")
@click.option("--target", "-t", help="With --push: the target of the dbt profile. Default: the profile's own.")
def serve(
    host: str,
    port: int,
    workers: int,
    redis_url: str | None,
    namespace: str | None,
    api_keys: Path | None,
    new_key: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure: bool,
    max_entities: int,
    max_features: int,
    max_body: int,
    rate: float | None,
    audit_log: Path | None,
    audit_reads: bool,
    log_features: Path | None,
    log_sample: float,
    log_seconds: float,
    catalog_file: Path | None,
    push: bool,
    target: str | None,
) -> None:
    """Serve features over HTTP. Needs Redis alone: no dbt project, no warehouse.

    \b
        feature-store serve --workers 2
        curl localhost:6566/v1/features -H 'content-type: application/json' \\
          -d '{"features": ["user_features:age"], "entities": [{"user_id": 1}]}'

    GET /docs says what else there is.
    """
    try:
        import uvicorn

        from materializer.online.urls import public_name
        from materializer.online.urls import redis_url as default_url
        from materializer.serve.app import Settings, application
        from materializer.serve.asked import Limits
        from materializer.serve.keys import new_key as make_key
        from materializer.serve.protocol import Protocol
    except ImportError as error:
        raise InputError(
            f"This needs the extra `server` ({error.name} is missing): pip install 'dbt-feature-store[server]'."
        ) from None
    if new_key:
        return _print_key(*make_key(new_key, ["*"], ["*"]))
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together.")
    if not api_keys and not insecure and not _is_loopback(host):
        raise click.UsageError(
            f"On {host} anybody who reaches this machine could read all features: name the keys that may with "
            "--api-keys, or say --insecure."
        )
    limits = Limits(max_body, max_entities, max_features, rate)
    keys_file, audit_file, log_folder = (path and str(path) for path in (api_keys, audit_log, log_features))
    folder = project_in_reach()
    if push and not folder:
        raise click.UsageError("--push lands events for a dbt project, and there is none here: set DBT_PROJECT_DIR.")
    shown = catalog_file or (Path(folder) / "target" / "feature_store" / "catalog.json" if folder else None)
    settings = Settings(
        namespace, keys_file, limits, audit_file, audit_reads, log_folder, log_sample, log_seconds,
        shown and str(shown.resolve()), str(Path(folder).resolve()) if push and folder else None, target,
    )  # fmt: skip
    url = default_url(redis_url, folder)
    os.environ["FEATURE_STORE_REDIS_URL"] = url
    os.environ["FEATURE_STORE_SERVE"] = json.dumps(asdict(settings))
    scheme = "https" if tls_cert else "http"
    say(f"Serving features from Redis at {public_name(url)} on {scheme}://{host}:{port}; {scheme}://{host}:{port}/docs")
    say(
        "Keys are needed to ask."
        if api_keys
        else "Anybody who reaches this address may read all features: no --api-keys."
    )
    with tempfile.TemporaryDirectory(prefix="feature-store-metrics-") as folder:
        if workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        else:
            os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
            application(settings, url)  # what is wrong with the settings is said before the port is taken
        uvicorn.run(
            "materializer.serve.app:from_environment", factory=True, host=host, port=port, workers=workers,
            ssl_certfile=tls_cert, ssl_keyfile=tls_key, access_log=False, log_level="warning", server_header=False,
            timeout_graceful_shutdown=30, http=Protocol,
        )  # fmt: skip
    return None


def _print_key(text: str, key: object) -> None:
    import msgspec

    say(f"The key, shown this once: {text}")
    say('Its entry for the file of --api-keys, {"keys": [...]}; in place of "*" name services and views:')
    say(msgspec.json.encode(key).decode())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

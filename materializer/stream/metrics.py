"""What a stream does, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from materializer.errors import InputError
from materializer.stream.consume import Counts


class Metrics:
    """Shown on a port of this machine, or nowhere. Raises InputError where another process has the port."""

    def __init__(self, port: int | None) -> None:
        registry = CollectorRegistry()
        self._landed = Counter("feature_store_stream_landed", "Events that landed.", ["source"], registry=registry)
        self._dead = Counter(
            "feature_store_stream_dead_letters", "Messages that are none.", ["source"], registry=registry
        )
        self._lag = Gauge("feature_store_stream_lag", "Messages that were not read yet.", ["source"], registry=registry)
        self._waited = Counter("feature_store_stream_waits", "Times the landing was waited for.", registry=registry)
        self._before = Counts()
        self._server = None
        if port is not None:
            try:
                self._server, self._thread = start_http_server(port, "127.0.0.1", registry)
            except OSError as error:
                raise InputError(f"Port {port} cannot be had for the metrics: {error.strerror}.") from None

    def show(self, counts: Counts, lag: Mapping[str, int]) -> None:
        """Take over the stream's counts."""
        for counter, values, before in (
            (self._landed, counts.landed, self._before.landed),
            (self._dead, counts.dead, self._before.dead),
        ):
            for source, value in values.items():
                counter.labels(source).inc(value - before[source])
        self._waited.inc(counts.waited - self._before.waited)
        self._before = deepcopy(counts)
        for source, value in lag.items():
            self._lag.labels(source).set(value)

    def close(self) -> None:
        if self._server is not None:
            with suppress(OSError):
                self._server.shutdown()
                self._server.server_close()

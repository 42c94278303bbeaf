"""What a stream does, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from materializer.errors import InputError
from materializer.stream.consume import Counts
from materializer.stream.online import Counts as OnlineCounts


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
        self._computed = Counter(
            "feature_store_stream_entities", "Entities computed and written.", ["view"], registry=registry
        )
        self._refused = Counter(
            "feature_store_stream_refusals", "Rows that a newer one kept out.", ["view"], registry=registry
        )
        self._removed = Counter("feature_store_stream_removals", "Entities removed.", ["view"], registry=registry)
        self._kept = Gauge("feature_store_stream_view_kept", "Whether a view is kept.", ["view"], registry=registry)
        self._broken = Gauge(
            "feature_store_stream_broken_ids", "Ids that did not decide what they should.", ["source"],
            registry=registry,
        )  # fmt: skip
        self._delay = Gauge(
            "feature_store_stream_delay_seconds", "From landing until online, of the last events.", registry=registry
        )
        self._before = Counts()
        self._online = OnlineCounts()
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

    def show_online(self, counts: OnlineCounts) -> None:
        """Take over those of the views."""
        for counter, values, before in (
            (self._computed, counts.computed, self._online.computed),
            (self._refused, counts.kept_out, self._online.kept_out),
            (self._removed, counts.removed, self._online.removed),
        ):
            for view, value in dict(values).items():
                counter.labels(view).inc(value - before[view])
        self._online = deepcopy(counts)
        for view in (*counts.waiting, *counts.computed):
            self._kept.labels(view).set(view not in counts.waiting)
        for source, value in counts.broken.items():
            self._broken.labels(source).set(value)
        if counts.delay is not None:
            self._delay.set(counts.delay)

    def close(self) -> None:
        if self._server is not None:
            with suppress(OSError):
                self._server.shutdown()
                self._server.server_close()

"""What ``/metrics`` tells Prometheus. Labels are routes and names of what is published, never what callers send."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from materializer.online.response import OnlineResponse, Status, events_of

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_AGES = (1, 10, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
# Features and statuses beyond these are counted as one, `other`.
_MOST_FEATURES = 8_000
_STATUSES = tuple(Status)


class Metrics:
    """The counters of one process; with several workers, what is shown is the sum of all."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("feature_store_requests", "Requests by route and status.", ["route", "status"],
                                 registry=registry)  # fmt: skip
        self._seconds = Histogram("feature_store_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS,
                                  registry=registry)  # fmt: skip
        self._entities = Counter("feature_store_entities", "Entities asked for.", ["route"], registry=registry)
        self._values = Counter("feature_store_values", "Values by feature and status.", ["feature", "status"],
                               registry=registry)  # fmt: skip
        self._age = Histogram("feature_store_age_seconds", "Age of a view's row when it was read.",
                              ["view"], buckets=_AGES, registry=registry)  # fmt: skip
        live = {"registry": registry, "multiprocess_mode": "mostrecent"}
        self._rows = Gauge("feature_store_view_rows", "Rows of a published view.", ["view"], **live)
        self._view_age = Gauge("feature_store_view_published_timestamp_seconds", "When a view was published last.",
                               ["view"], **live)  # fmt: skip
        self._revision = Gauge("feature_store_registry_changes", "How often this server saw the registry change.",
                               registry=registry, multiprocess_mode="max")  # fmt: skip
        self._logged = Counter("feature_store_log_rows", "Served rows that were logged.", registry=registry)
        self._files = Counter("feature_store_log_files", "Files of served rows that were written.", registry=registry)
        self._dropped = Counter("feature_store_log_dropped", "Served rows of the sample that were not logged.",
                                ["why"], registry=registry)  # fmt: skip
        self._children: dict[tuple[Any, ...], Any] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._child(self._requests, route, str(status)).inc()
        self._child(self._seconds, route).observe(seconds)

    def served(self, route: str, references: list[str], entities: int, response: OnlineResponse) -> None:
        """Count values by their status, and note how old each view's first row is."""
        self._child(self._entities, route).inc(entities)
        views: dict[str, list[bytes | None]] = {}
        for reference, (_, _, statuses, moments) in zip(references, response.columns.values(), strict=True):
            views.setdefault(reference.partition(":")[0], moments)
            left = len(statuses)
            for status in _STATUSES:
                if count := statuses.count(status):
                    self._child(self._values, reference, status).inc(count)
                    left -= count
                    if not left:
                        break
        for view, moments in views.items():
            (event,) = events_of(moments[:1])
            if event is not None:
                self._child(self._age, view).observe(time.time() - event.timestamp())

    def published(self, views: dict[str, tuple[int, datetime]]) -> None:
        """What is published: rows and moment of each view."""
        self._revision.inc()
        for view, (rows, moment) in views.items():
            self._rows.labels(view).set(rows)
            self._view_age.labels(view).set(moment.timestamp())

    def logged(self, rows: int) -> None:
        """A file of the log of served features was written."""
        self._files.inc()
        self._logged.inc(rows)

    def not_logged(self, why: str, rows: int) -> None:
        """Rows are not in the log: the ``queue`` was full, the ``disk`` refused, or a ``value`` could not be logged."""
        self._dropped.labels(why).inc(rows)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        registry = self._registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)

    def _child(self, metric: Any, *labels: str) -> Any:
        """The counter of these labels; looked up once, for that takes longer than to count."""
        found = self._children.get((metric, *labels))
        if found is None:
            if metric is self._values and len(self._children) >= _MOST_FEATURES:
                labels = ("other", labels[1])
            self._children[metric, *labels] = found = metric.labels(*labels)
        return found

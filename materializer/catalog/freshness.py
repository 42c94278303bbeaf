"""Freshness: how old a view's newest event, load and materialization are, and whether that is within its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from materializer.errors import FeatureStoreError, OnlineStoreError
from materializer.online.connect import plain_errors
from materializer.online.published import published_at, published_texts
from materializer.online.topology import OnlineStore
from materializer.online.urls import public_name
from materializer.printable import number_of
from materializer.project.definitions import FeatureView
from materializer.project.duration import format_duration, macro_moment
from materializer.project.render import MacroRenderer
from materializer.warehouse import Warehouse
from materializer.warehouse.moments import to_rows
from materializer.warehouse.typed import with_columns

STATUSES = ("pass", "warn", "error")
# How bad each is; of what could not be asked nothing is known.
_RANKS = ("pass", "unknown", "warn", "error")


@dataclass(frozen=True)
class Freshness:
    """How fresh one view is.

    `status` is ``pass``, ``warn`` or ``error``, and `reasons` say why it is not better, the worst first. Rows,
    entities, `newest_event` and `newest_load` are of what a reader can see at `checked_at`, None for a view that cannot
    be read; `expired_entities` are those whose latest row is older than the ttl, None without one. `last_materialized`
    is the last run that succeeded, `last_run_error` what the last run failed with and `last_run_seconds` how long it
    took; these are of online views only.
    `published` says whether Redis has the view, None where Redis was not reached or not asked. `of_rows` and `of_runs`
    are the status and the reasons by the warehouse's rows alone, and by what is online alone (None for a view that is
    not). Moments are UTC.
    """

    view: str
    status: str
    reasons: tuple[str, ...]
    checked_at: datetime
    online: bool
    rows: int | None = None
    entities: int | None = None
    expired_entities: int | None = None
    newest_event: datetime | None = None
    newest_load: datetime | None = None
    last_materialized: datetime | None = None
    last_run_error: str | None = None
    last_run_seconds: float | None = None
    published: bool | None = None
    ttl: timedelta | None = None
    warn_after: timedelta | None = None
    error_after: timedelta | None = None
    of_rows: tuple[str, str] = ("pass", "")
    of_runs: tuple[str, str] | None = None

    @property
    def reason(self) -> str:
        """The reasons in one line; '' where there is nothing to say."""
        return "; ".join(self.reasons)

    @property
    def event_age(self) -> timedelta | None:
        """How long ago the newest event was."""
        return self._age(self.newest_event)

    @property
    def load_age(self) -> timedelta | None:
        """How long ago the newest row became known."""
        return self._age(self.newest_load)

    @property
    def materialization_age(self) -> timedelta | None:
        """How long ago the last run that succeeded ended."""
        return self._age(self.last_materialized)

    def _age(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else max(self.checked_at - moment, timedelta(0))


@dataclass(frozen=True)
class _Finding:
    status: str
    reason: str


# What is found of a view's rows, and the facts of `Freshness` behind it.
OfRows = tuple[_Finding, dict[str, Any]]


@dataclass(frozen=True)
class _Online:
    """What Redis has published, by view; None where it cannot be asked, and then `trouble` says why."""

    moments: Mapping[str, datetime] | None
    trouble: str = ""


def get_freshness(
    warehouse: Warehouse,
    manifest: Mapping[str, Any],
    views: Sequence[FeatureView],
    log: Sequence[Mapping[str, Any]],
    namespace: str,
    client: Callable[[], OnlineStore],
    url: str,
) -> list[Freshness]:
    """See `materializer.FeatureStore.get_freshness`; `log` is the log of runs."""
    moment = datetime.now(timezone.utc)
    macros = MacroRenderer(manifest, warehouse.columns)

    def ask(view: FeatureView) -> OfRows:
        return of_rows(view, warehouse, macros, moment)

    return judge(views, ask, log, namespace, client, url, moment)


def judge(
    views: Sequence[FeatureView],
    ask: Callable[[FeatureView], OfRows],
    log: Sequence[Mapping[str, Any]],
    namespace: str,
    client: Callable[[], OnlineStore],
    url: str,
    moment: datetime,
) -> list[Freshness]:
    """The freshness of views at a moment; `ask` says what the rows of one are like (`of_rows`, or `not_asked`)."""
    # Redis is asked once, and only where there is something to ask for.
    online = _published(client, url, namespace) if any(view.online for view in views) else _Online(None)
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for entry in log:
        runs.setdefault(str(entry.get("view")), []).append(entry)
    results = []
    for view in views:
        found, facts = ask(view)
        findings = [found]
        if view.online:
            known = runs.get(view.reference, ())
            said, more = _materialized(view, known, online, namespace, public_name(url), moment)
            findings += said
            facts = facts | more
        results.append(_judged(view, findings, facts, moment))
    return results


def report(results: Iterable[Freshness], checked_at: datetime | None = None) -> dict[str, Any]:
    """The results as one JSON object, as the command prints and a webhook gets it. Ages and limits are in seconds."""
    results = list(results)
    moment = checked_at or (results[0].checked_at if results else datetime.now(timezone.utc))
    return {
        "checked_at": _iso(moment),
        "text": summary(results),
        "views": [
            {
                "view": one.view,
                "status": one.status,
                "reason": one.reason,
                "online": one.online,
                "rows": one.rows,
                "entities": one.entities,
                "expired_entities": one.expired_entities,
                "newest_event": _iso(one.newest_event),
                "event_age_seconds": _seconds(one.event_age),
                "newest_load": _iso(one.newest_load),
                "load_age_seconds": _seconds(one.load_age),
                "last_materialized": _iso(one.last_materialized),
                "materialization_age_seconds": _seconds(one.materialization_age),
                "last_run_error": one.last_run_error,
                "published": one.published,
                "ttl_seconds": _seconds(one.ttl),
                "warn_after_seconds": _seconds(one.warn_after),
                "error_after_seconds": _seconds(one.error_after),
            }
            for one in results
        ],
    }


def summary(results: Sequence[Freshness]) -> str:
    """One line for people: the counts, then what is wrong."""
    counts = ", ".join(
        f"{number} {status}" for status in reversed(STATUSES) if (number := sum(r.status == status for r in results))
    )
    wrong = sorted((r for r in results if r.status != "pass"), key=lambda r: -STATUSES.index(r.status))
    said = "".join(f"; {r.view}: {r.reason}" for r in wrong)
    return f"{number_of(len(results), 'feature view')}: {counts or 'none'}{said}"


def not_asked(why: str) -> OfRows:
    """What is known of the rows of a view that nobody asked about."""
    return _Finding("unknown", why.rstrip(".")), {}


def of_rows(
    view: FeatureView, warehouse: Warehouse, macros: MacroRenderer, moment: datetime, known: bool = False
) -> OfRows:
    """What the warehouse says of one view. One that cannot be read does not keep the others from being judged.
    `known`: its columns were looked up already."""
    try:
        if not known:
            with_columns(view, warehouse)
        sql = macros.render("feature_freshness", view.reference, as_of=macro_moment(moment))
        (row,) = to_rows(warehouse.query(sql))
    except FeatureStoreError as error:
        return _Finding("error", str(error).rstrip(".")), {}
    return _Finding(row["status"], row["reason"]), {
        "rows": row["rows_visible"],
        "entities": row["entities"],
        "expired_entities": row["expired_entities"],
        "newest_event": _utc(row["newest_event"]),
        "newest_load": _utc(row["newest_load"]),
    }


def _materialized(
    view: FeatureView,
    runs: Sequence[Mapping[str, Any]],
    online: _Online,
    namespace: str,
    server: str,
    moment: datetime,
) -> tuple[list[_Finding], dict[str, Any]]:
    """What the materialization log and the published registry say of an online view."""
    succeeded = [datetime.fromisoformat(run["at"]) for run in runs if not run.get("error")]
    at = online.moments.get(view.reference) if online.moments is not None else None
    last = max([*succeeded, *([at] if at else [])], default=None)
    error = runs[-1].get("error") if runs else None
    # A run from elsewhere, which only Redis knows of, may have put it right since (the log has whole seconds).
    if error and at and at >= datetime.fromisoformat(runs[-1]["at"]) + timedelta(seconds=1):
        error = None
    facts = {
        "last_materialized": last,
        "last_run_error": error,
        "last_run_seconds": runs[-1].get("seconds") if runs else None,
        "published": None if online.moments is None else at is not None,
    }
    findings = []
    if online.moments is not None and at is None:
        why = f"Redis at {server} has nothing of it in namespace {namespace}"
        lost = "it was materialized, but " if last else "it was never materialized: "
        findings.append(_Finding("error", f"{lost}{why}: run `materialize`"))
    elif last is None:
        findings.append(_Finding("warn", f"it is not known whether it was ever materialized: {online.trouble}"))
    else:
        findings += _too_old(view, moment - last)
        if online.moments is None:
            findings.append(_Finding("pass", f"only the runs from here are known: {online.trouble}"))
    if error:
        findings.append(_Finding("warn", f"the last run failed: {error.rstrip('.')}"))
    return findings, facts


def _too_old(view: FeatureView, age: timedelta) -> list[_Finding]:
    """What a last materialization of this age means: by then everything online is at least as old."""
    if view.ttl and age > view.ttl:
        what = f"the ttl ({format_duration(view.ttl)}), so every value online is outside it"
        return [_Finding("error", f"the last materialization is older than {what}")]
    for name, limit, status in (("error_after", view.error_after, "error"), ("warn_after", view.warn_after, "warn")):
        if limit and age > limit:
            return [_Finding(status, f"the last materialization is older than {name} ({format_duration(limit)})")]
    return []


def _judged(view: FeatureView, findings: Sequence[_Finding], facts: dict[str, Any], moment: datetime) -> Freshness:
    """The worst status of all that was found, and every reason, the worst first."""
    status, reasons = _worst(findings)
    rows, runs = _worst(findings[:1]), _worst(findings[1:]) if view.online else None
    return Freshness(
        view.reference, status, reasons, moment, view.online,
        ttl=view.ttl, warn_after=view.warn_after, error_after=view.error_after,
        of_rows=(rows[0], "; ".join(rows[1])), of_runs=runs and (runs[0], "; ".join(runs[1])), **facts,
    )  # fmt: skip


def _worst(findings: Sequence[_Finding]) -> tuple[str, tuple[str, ...]]:
    """The worst status, and all reasons, the worst first."""
    ranked = sorted(findings, key=lambda finding: -_RANKS.index(finding.status))
    return ranked[0].status if ranked else "pass", tuple(one.reason for one in ranked if one.reason)


def _published(client: Callable[[], OnlineStore], url: str, namespace: str) -> _Online:
    """When each published view was last published. Redis that does not answer is no reason to stop."""
    try:
        with plain_errors(url):
            texts = published_texts(client(), namespace)
    except OnlineStoreError as error:
        return _Online(None, str(error).rstrip("."))
    moments = {name: published_at(text) for name, text in texts.items()}
    if texts and not any(moments.values()):
        return _Online(None, f"Redis at {public_name(url)} holds a registry that `materialize` did not write")
    return _Online({name: moment for name, moment in moments.items() if moment is not None})


def _utc(moment: datetime | str | None) -> datetime | None:
    """What is older than Python can say, "since ever" for one, is its first moment."""
    if isinstance(moment, str):
        moment = datetime.min
    return None if moment is None else moment.replace(tzinfo=timezone.utc)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())

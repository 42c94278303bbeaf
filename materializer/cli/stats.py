"""``feature-store stats``: what the values of features look like, and whether they drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click

from materializer.catalog import webhook
from materializer.cli.common import (
    open_store,
    output_option,
    print_json,
    print_rows,
    say,
    store_options,
    webhook_option,
)
from materializer.printable import clipped

if TYPE_CHECKING:
    from materializer.catalog.statistics import Exceeded, FeatureDrift, FeatureStatistics, Statistics

_BLOCKS = "▁▂▃▄▅▆▇█"


@click.command()
@click.argument("views", nargs=-1, metavar="[VIEW[:FEATURE] ...]")
@click.option("--feature", "-f", "features", multiple=True, help="Only this feature of each VIEW; repeatable.")
@click.option("--start", help="Only rows with their event at or after this moment (UTC).")
@click.option("--end", help="Only rows with their event before this moment (UTC).")
@click.option("--compare", metavar="PERIOD", help="Drift against an earlier period: '7 days', or FROM..TO.")
@click.option("--max-psi", type=click.FloatRange(0), help="With --compare: the population stability index allowed.")
@click.option("--max-js", type=click.FloatRange(0, 1), help="With --compare: the Jensen-Shannon divergence allowed.")
@click.option(
    "--max-null-change", type=click.FloatRange(0, 1), help="With --compare: how far the share of NULL may move."
)
@click.option("--min-rows", type=click.IntRange(1), default=100, show_default=True,
              help="With --compare: with fewer rows in either period no limit counts.")  # fmt: skip
@webhook_option("when drift is above a limit")
@store_options
@output_option
@click.pass_context
def stats(
    context: click.Context,
    views: tuple[str, ...],
    features: tuple[str, ...],
    start: str | None,
    end: str | None,
    compare: str | None,
    max_psi: float | None,
    max_js: float | None,
    max_null_change: float | None,
    min_rows: int,
    url: str | None,
    output: str,
    **where: Any,
) -> None:
    """Statistics of features, from the warehouse: of every view, or of those named.

    With --compare '7 days' the newest seven days are compared with the seven before. Exits with 1 where drift is above
    a limit.

    \b
        feature-store stats user_features --project-dir dbt_project
        feature-store stats item_features:price --compare '7 days' --max-psi 0.2
        feature-store stats item_features --compare 2026-01-01..2026-01-08 --start 2026-02-01 --end 2026-02-08
    """
    limits = {"max_psi": max_psi, "max_js": max_js, "max_null_change": max_null_change}
    if compare is None and any(limit is not None for limit in limits.values()):
        raise click.UsageError("--max-psi, --max-js and --max-null-change are limits of drift: add --compare.")
    if features and not views:
        raise click.UsageError("--feature needs the VIEW that has it.")
    store = open_store(**where)
    names = _asked(views, features) or {view.reference: [] for view in store.list_feature_views()}
    found = [store.get_statistics(view, of or None, start, end, compare) for view, of in names.items()]
    exceeded = [over for one in found for over in one.exceeded(**limits, few_rows=min_rows)]
    said = [f"{o.view}:{o.feature}: {o.measure} {o.value:.4g} is above {o.limit:g}" for o in exceeded]
    if output == "json":
        document: dict[str, Any] = {"views": [one.to_dict() for one in found]}
        if compare is not None:
            document["exceeded"] = [asdict(over) for over in exceeded]
        print_json(document)
    else:
        for number, one in enumerate(found):
            if number:
                say()
            _print_figures(one) if one.drift is None else _print_drift(one, exceeded, min_rows)
        for line in said:
            say(line, err=True)
    if exceeded:
        if url:
            over = [asdict(one) for one in exceeded]
            webhook.send(url, {"text": f"Drift: {'; '.join(said)}.", "exceeded": over})
        context.exit(1)


def _asked(views: Sequence[str], features: Sequence[str]) -> dict[str, list[str]]:
    """The features asked for by view; none stands for all of its features."""
    asked: dict[str, list[str]] = {}
    whole = set()
    for text in views:
        view, colon, feature = text.partition(":")
        asked.setdefault(view, []).extend([feature] if colon else features)
        if not colon and not features:
            whole.add(view)
    return {view: [] if view in whole else of for view, of in asked.items()}


def _print_figures(one: Statistics) -> None:
    rows = one.features[0].row_count if one.features else 0
    say(f"{one.view}: {rows:,} rows{_period(one.start, one.end)}")
    say()
    print_rows(
        ["feature", "type", "nulls", "distinct", "min", "median", "max", "mean", "stddev", "values"],
        [
            [
                f.feature, _short_type(f), _share(f.null_fraction), f.distinct_count, _short(f.minimum),
                _number(f.p50, f.kind), _short(f.maximum), _number(f.mean, f.kind), _spread(f), _picture(f),
            ]
            for f in one
        ],
    )  # fmt: skip


def _print_drift(one: Statistics, exceeded: Sequence[Exceeded], min_rows: int) -> None:
    drift = one.drift or ()
    now, before = (drift[0].rows_now, drift[0].rows_before) if drift else (0, 0)
    say(f"{one.view}: {now:,} rows{_period(one.start, one.end)}")
    say(f"compared with {before:,} rows{_period(one.baseline_start, one.baseline_end)}")
    say()
    over = {item.feature for item in exceeded if item.view == one.view}
    print_rows(
        ["feature", "type", "PSI", "JS", "nulls before", "nulls now", "verdict"],
        [
            [
                d.feature, _short_type(d),
                _measure(d.population_stability_index), _measure(d.jensen_shannon_divergence),
                _share(d.null_fraction_before), _share(d.null_fraction_now),
                "above the limit" if d.feature in over else d.verdict(min_rows),
            ]
            for d in drift
        ],
    )  # fmt: skip


def _period(start: datetime | None, end: datetime | None) -> str:
    """`` from 2026-01-01 to 2026-01-08``; whole seconds are enough for the eye."""
    bounds = [(word, moment) for word, moment in (("from", start), ("to", end)) if moment]
    return "".join(f" {word} {f'{moment:%Y-%m-%d %H:%M:%S}'.removesuffix(' 00:00:00')}" for word, moment in bounds)


def _picture(figures: FeatureStatistics) -> str | None:
    """The histogram in block characters, or the most frequent values, or the length of vectors."""
    if figures.kind in ("text", "boolean") and figures.top_values:
        shown = [
            f"{_short('' if top.value is None else top.value)} {_share(top.count / figures.row_count)}"
            for top in figures.top_values[:3]
        ]
        return ", ".join(shown)
    if figures.mean_norm is not None:
        return f"norm {_number(figures.mean_norm)}"
    if not figures.histogram:
        return None
    most = max(bucket.count for bucket in figures.histogram)
    return "".join(
        _BLOCKS[-(-bucket.count * len(_BLOCKS) // most) - 1] if bucket.count else "·" for bucket in figures.histogram
    )


def _spread(figures: FeatureStatistics) -> str | None:
    """The standard deviation; of times as a duration."""
    if figures.stddev is not None and figures.kind in ("date", "timestamp"):
        return str(timedelta(seconds=round(figures.stddev)))
    return _number(figures.stddev)


def _number(value: float | None, kind: str = "float") -> str | None:
    if value is None:
        return None
    if kind in ("date", "timestamp"):
        try:
            return f"{datetime.fromtimestamp(round(value), timezone.utc):%Y-%m-%d %H:%M:%S}".removesuffix(" 00:00:00")
        except (OverflowError, ValueError, OSError):
            return f"{value:.6g}"
    return f"{value:.6g}"


def _short(value: Any) -> str | None:
    """A minimum or maximum: exact, but for the tail of doubles."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (datetime, date)):
        return value.isoformat(" ", "seconds") if isinstance(value, datetime) else value.isoformat()
    return None if value is None else clipped(str(value), 20) or "''"


def _short_type(of: FeatureStatistics | FeatureDrift) -> str:
    return of.data_type.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ").partition("(")[0].lower()


def _share(share: float | None) -> str | None:
    if not share:
        return None if share is None else "0%"
    return f"{100 * share:.3g}%" if share < 0.9995 else f"{100 * share:.4g}%"


def _measure(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"

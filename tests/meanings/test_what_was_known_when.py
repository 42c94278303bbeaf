"""ttl, load times and delays: which row is the truth at a moment, to the microsecond."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.meanings.conftest import Shop, at

NOON = at("2024-05-01 12:00")
MICROSECOND = timedelta(microseconds=1)
WEEK = timedelta(days=7)


def test_a_row_is_seen_from_its_own_moment_on_not_before(shop: Shop) -> None:
    shop.fill("users", [{"user_id": 1, "event_timestamp": NOON, "points": 1}])
    assert shop.values("users:points", {"user_id": 1}, NOON - MICROSECOND, NOON, NOON + MICROSECOND) == [None, 1, 1]


def test_strictly_before_leaves_out_the_row_of_the_moment_itself(shop: Shop) -> None:
    shop.fill(
        "users",
        [
            {"user_id": 1, "event_timestamp": NOON - MICROSECOND, "points": 0},
            {"user_id": 1, "event_timestamp": NOON, "points": 1},
        ],
    )
    moments = (NOON - MICROSECOND, NOON, NOON + MICROSECOND)
    assert shop.values("users:points", {"user_id": 1}, *moments) == [0, 1, 1]
    assert shop.values("users:points", {"user_id": 1}, *moments, allow_exact_matches=False) == [None, 0, 1]


def test_strictly_before_is_about_events_a_row_loaded_at_the_very_moment_counts(shop: Shop) -> None:
    shop.fill("loaded", [{"user_id": 1, "event_timestamp": NOON - WEEK, "loaded_at": NOON, "points": 1}])
    assert shop.values("loaded:points", {"user_id": 1}, NOON, allow_exact_matches=False) == [1]


def test_ttl_counts_both_of_its_ends(shop: Shop) -> None:
    shop.fill("weekly", [{"user_id": 1, "event_timestamp": NOON, "visits": 1}])
    moments = (NOON - MICROSECOND, NOON, NOON + WEEK, NOON + WEEK + MICROSECOND)
    assert shop.values("weekly:visits", {"user_id": 1}, *moments) == [None, 1, 1, None]


def test_a_row_that_is_too_old_does_not_bring_back_an_older_one(shop: Shop) -> None:
    shop.fill("weekly", [{"user_id": 1, "event_timestamp": NOON - timedelta(days=n), "visits": n} for n in (8, 9)])
    assert shop.values("weekly:visits", {"user_id": 1}, NOON) == [None]


def test_rows_that_were_not_loaded_yet_are_not_seen_unless_the_filter_is_switched_off(shop: Shop) -> None:
    shop.fill(
        "loaded",
        [
            {"user_id": 1, "event_timestamp": NOON, "loaded_at": NOON, "points": 1},
            {"user_id": 1, "event_timestamp": NOON + timedelta(hours=1), "loaded_at": NOON + WEEK, "points": 2},
            {"user_id": 1, "event_timestamp": NOON + timedelta(hours=2), "loaded_at": None, "points": 3},
        ],
    )
    moments = (NOON + timedelta(hours=3), NOON + WEEK - MICROSECOND, NOON + WEEK)
    assert shop.values("loaded:points", {"user_id": 1}, *moments) == [1, 1, 2]
    unfiltered = shop.values("loaded:points", {"user_id": 1}, *moments, filter_by_created_timestamp=False)
    assert unfiltered == [3, 3, 3]


def test_a_correction_counts_from_its_load_on_and_the_latest_load_wins(shop: Shop) -> None:
    shop.fill(
        "loaded",
        [
            {"user_id": 1, "event_timestamp": NOON, "loaded_at": NOON + timedelta(hours=loaded), "points": points}
            for loaded, points in ((1, 10), (3, 30), (2, 20))
        ],
    )
    moments = [NOON + timedelta(hours=hours) for hours in range(5)]
    assert shop.values("loaded:points", {"user_id": 1}, *moments) == [None, 10, 20, 30, 30]


def test_a_late_row_does_not_hide_a_newer_one_that_came_before_it(shop: Shop) -> None:
    shop.fill(
        "loaded",
        [
            {"user_id": 1, "event_timestamp": NOON, "loaded_at": NOON, "points": 2},
            {"user_id": 1, "event_timestamp": NOON - WEEK, "loaded_at": NOON + timedelta(hours=1), "points": 1},
        ],
    )
    assert shop.values("loaded:points", {"user_id": 1}, NOON, NOON + timedelta(hours=2)) == [2, 2]


def test_a_row_without_an_event_time_is_never_seen_and_hides_nothing(shop: Shop) -> None:
    shop.fill(
        "loaded",
        [
            {"user_id": 1, "event_timestamp": NOON, "loaded_at": NOON, "points": 1},
            {"user_id": 1, "event_timestamp": None, "loaded_at": NOON + timedelta(hours=1), "points": 2},
        ],
    )
    moments = (NOON, NOON + timedelta(hours=1), NOON + WEEK)
    assert shop.values("loaded:points", {"user_id": 1}, *moments) == [1, 1, 1]
    assert shop.values("loaded:points", {"user_id": 1}, *moments, filter_by_created_timestamp=False) == [1, 1, 1]


@pytest.mark.parametrize(("after", "expected"), [(timedelta(hours=2) - MICROSECOND, None), (timedelta(hours=2), 5)])
def test_a_delayed_row_is_seen_from_the_delay_on_to_the_microsecond(
    shop: Shop, after: timedelta, expected: int | None
) -> None:
    shop.fill("settled", [{"user_id": 1, "event_timestamp": NOON, "amount": 5}])
    assert shop.values("settled:amount", {"user_id": 1}, NOON + after) == [expected]


def test_microseconds_before_1970_are_as_good_as_any(shop: Shop) -> None:
    early = datetime.fromisoformat("1969-12-31T23:59:59.999999+00:00")
    shop.fill("users", [{"user_id": 1, "event_timestamp": early, "points": 1}])
    assert shop.values("users:points", {"user_id": 1}, early - MICROSECOND, early) == [None, 1]

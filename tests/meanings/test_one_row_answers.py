"""Where several rows tie, one of them answers, whole: the same on every run, for any features, and online."""

from __future__ import annotations

import itertools
from typing import Any

from tests.meanings.conftest import Shop, ago

FEATURES = ["zulu", "alpha", "mike", "tags"]
# In the order of greatness: by alpha first, then mike, tags, zulu, whatever the order of the columns.
TIED: list[dict[str, Any]] = [
    {"alpha": None, "mike": True, "tags": [9], "zulu": "z"},
    {"alpha": -0.0, "mike": True, "tags": [9], "zulu": "z"},
    {"alpha": 0.0, "mike": None, "tags": [9], "zulu": "z"},
    {"alpha": 0.0, "mike": False, "tags": [9], "zulu": "z"},
    {"alpha": 0.0, "mike": True, "tags": None, "zulu": "z"},
    {"alpha": 0.0, "mike": True, "tags": [], "zulu": "z"},
    {"alpha": 0.0, "mike": True, "tags": [None, 9], "zulu": "z"},
    {"alpha": 0.0, "mike": True, "tags": [1], "zulu": "z"},
    {"alpha": 0.0, "mike": True, "tags": [1, 2], "zulu": None},
    {"alpha": 0.0, "mike": True, "tags": [1, 2], "zulu": ""},
    {"alpha": 0.0, "mike": True, "tags": [1, 2], "zulu": "Z"},
    {"alpha": 0.0, "mike": True, "tags": [1, 2], "zulu": "a"},
    {"alpha": 0.0, "mike": True, "tags": [1, 2], "zulu": "é"},
    {"alpha": float("inf"), "mike": False, "tags": None, "zulu": None},
    {"alpha": float("nan"), "mike": None, "tags": None, "zulu": None},
]


def shown(row: dict[str, Any], features: list[str]) -> str:
    return repr([row[name] for name in features])


def test_of_two_tied_rows_the_greater_one_answers_whole_offline_and_online(shop: Shop) -> None:
    """Every two rows of the list above, one user a pair, in both orders in the table."""
    pairs = [
        pair
        for lower, upper in itertools.combinations(range(len(TIED)), 2)
        for pair in ((lower, upper), (upper, lower))
    ]
    event = ago(days=1)
    shop.fill(
        "ties",
        [{"user_id": user, "event_timestamp": event, **TIED[n]} for user, pair in enumerate(pairs) for n in pair],
    )
    users = list(range(len(pairs)))
    asked = [f"ties:{name}" for name in FEATURES]
    offline = shop.training({"user_id": users, "event_timestamp": [ago()] * len(users)}, asked)
    store = shop.store()
    store.materialize(["ties"])
    online = store.get_online_features(asked, {"user_id": users}).to_arrow()
    for answer in (offline.to_pylist(), online.to_pylist()):
        assert [shown(row, FEATURES) for row in answer] == [shown(TIED[max(pair)], FEATURES) for pair in pairs]


def test_whichever_features_are_asked_for_they_come_from_that_same_row(shop: Shop) -> None:
    event = ago(days=1)
    rows = [{"user_id": 1, "event_timestamp": event, **row} for row in TIED[:13]]
    shop.fill("ties", [*rows[7:], *rows[:7]])
    for features in [list(some) for n in (1, 2) for some in itertools.combinations(FEATURES, n)]:
        spine = {"user_id": [1], "event_timestamp": [ago()]}
        (answer,) = shop.training(spine, [f"ties:{name}" for name in features]).to_pylist()
        assert shown(answer, features) == shown(TIED[12], features)


def test_rows_that_are_alike_in_everything_give_one_row(shop: Shop) -> None:
    row = {"user_id": 1, "event_timestamp": ago(days=1), **TIED[5]}
    shop.fill("ties", [row] * 3)
    answer = shop.training({"user_id": [1, 1], "event_timestamp": [ago(), ago()]}, ["ties:zulu"])
    assert answer.column("zulu").to_pylist() == ["z", "z"]

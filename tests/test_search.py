"""`search`: what there is, by any word that is said of it, the best match first."""

from __future__ import annotations

import pyarrow as pa
import pytest

from materializer.catalog.search import search
from materializer.project.definitions import Entity, Feature, FeatureService, FeatureView
from tests.support.command import run
from tests.support.shop import built_shop

USER, ITEM = Entity("user_id", "Who buys.", pa.int64()), Entity("item_id", "What is sold.", pa.string())
VIEWS = [
    FeatureView(
        "user_purchases", (USER,),
        (Feature("purchase_count_7d", "How many in a week.", pa.int64()),
         Feature("avgOrderValue", "Money spent for each order.", pa.float64())),
        tags={"team": "growth", "recommendation": ""}, owner="ml_team", description="What a user bought lately.",
    ),
    FeatureView(
        "item_prices", (ITEM,), (Feature("price", "Of one piece, before any purchase.", pa.decimal128(10, 2)),),
        tags={"team": "pricing"}, owner="shop_team", description="What things cost.",
    ),
    FeatureView(
        "user_item", (USER, ITEM), (Feature("taste", "", pa.list_(pa.float32())),), owner="ml_team", version=2,
    ),
]  # fmt: skip
SERVICES = [FeatureService("ranker", ("item_prices:price",), "Orders the page.", "Ann", {"stage": "beta"})]


def found(text: str = "", **filters: str) -> list[str]:
    return [match.reference for match in search(VIEWS, SERVICES, text, **filters)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # by name, whole or in part, in any spelling of it
        ("price", ["item_prices:price", "item_prices", "ranker"]),
        ("PRICE", ["item_prices:price", "item_prices", "ranker"]),
        ("user_purchases:purchase_count_7d", ["user_purchases:purchase_count_7d", "user_purchases"]),
        ("order value", ["user_purchases:avgOrderValue", "user_purchases"]),
        ("ordervalue", ["user_purchases:avgOrderValue", "user_purchases"]),
        ("purch count", ["user_purchases:purchase_count_7d", "user_purchases"]),
        ("user_item.v2", ["user_item.v2", "user_item.v2:taste"]),
        # by tag, with its value or without
        ("pricing", ["item_prices", "item_prices:price"]),
        ("beta", ["ranker"]),
        # by owner, entity, description
        ("shop_team", ["item_prices", "item_prices:price"]),
        ("ann", ["ranker"]),
        ("money", ["user_purchases:avgOrderValue"]),
        # by type, in both languages
        ("decimal128", ["item_prices:price"]),
        ("numeric", ["item_prices:price"]),
        # every word has to be found
        ("price money", []),
        # a slip of the finger, where nothing else is found
        ("purchse", ["user_purchases", "user_purchases:purchase_count_7d"]),
        ("nothing_of_the_kind", []),
    ],
)
def test_words_find(text: str, expected: list[str]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"kind": "service"}, ["ranker"]),
        ({"entity": "item_id", "kind": "view"}, ["item_prices", "user_item.v2"]),
        ({"entity": "item_id", "kind": "service"}, ["ranker"]),
        ({"entity": "user_id", "kind": "service"}, []),
        ({"owner": "ML_Team", "kind": "feature"},
         ["user_item.v2:taste", "user_purchases:avgOrderValue", "user_purchases:purchase_count_7d"]),
        ({"type": "bigint"}, ["user_purchases:purchase_count_7d", "user_id"]),
        ({"type": "int64", "kind": "feature"}, ["user_purchases:purchase_count_7d"]),
        ({"type": "float"}, ["user_item.v2:taste", "user_purchases:avgOrderValue"]),
    ],
)  # fmt: skip
def test_filters_leave(filters: dict[str, str], expected: list[str]) -> None:
    assert found(**filters) == expected


def test_a_name_counts_more_than_a_sentence_that_mentions_it() -> None:
    assert found("purchase", kind="feature") == [
        "user_purchases:purchase_count_7d",  # its own name
        "user_purchases:avgOrderValue",  # its view's
        "item_prices:price",  # a word of its description
    ]


def test_a_match_says_where_it_was_found() -> None:
    (match,) = search(VIEWS, SERVICES, "price piece", kind="feature")
    assert (match.found_in, match.type, match.owner) == (("name", "description"), "decimal128(10, 2)", "shop_team")


def test_the_command_prints_the_best_first_and_says_how_many_more_there_are() -> None:
    asked = ["--project-dir", str(built_shop().folder)]
    matches = run("feature-store", "search", "age", *asked, "--output", "json").json
    assert [match["reference"] for match in matches][:2] == ["item_features:age", "user_features:age"]
    text = run("feature-store", "search", "user", "--limit", "1", *asked).out.splitlines()
    assert text[1].startswith("view") and text[-1].startswith("... and ") and len(text) == 3
    assert run("feature-store", "search", "nothing_of_the_kind", *asked).out == "Nothing was found.\n"
    refused = run("feature-store", "search", *asked)
    assert (refused.code, refused.out) == (2, "") and "Give a word to search for" in refused.err

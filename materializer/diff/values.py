"""The values of two built views compared, by the macro ``feature_difference``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from materializer.diff.result import FeatureValues, Values
from materializer.errors import InputError, NotFoundError
from materializer.project.relation import Relation
from materializer.project.render import MacroRenderer
from materializer.warehouse import Warehouse
from materializer.warehouse.moments import to_rows


def compare_values(
    warehouse: Warehouse,
    manifest: Mapping[str, Any],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    sample: int | None,
    examples: int = 3,
    foreign: bool = False,
) -> Values:
    """How the latest values of two views' models differ, over all entities or a sample of them.

    Args:
        manifest: whose macros are taken, unless one of the manifests is `foreign`: then the package's own are.
        old, new: the models' nodes; both relations are in this warehouse.

    Raises:
        NotFoundError: where a relation is not built.
        InputError: where the views have other join keys, or no feature in common.
    """
    for node in (old, new):
        if not warehouse.columns(Relation(node["relation_name"])):
            raise NotFoundError(f"{node['relation_name']} is not in the warehouse: run `dbt build`.")
    # A graph of these two alone, in which a reference says which is which.
    nodes = {
        name: {**node, "name": name, "version": None, "latest_version": None}
        for name, node in (("old", old), ("new", new))
    }
    renderer = MacroRenderer({**manifest, "nodes": nodes}, warehouse.columns, package_only=foreign)
    try:
        sql = renderer.render("feature_difference", "old", "new", sample=sample)
    except InputError as error:
        sentence = str(error).removeprefix("feature_difference: ")
        raise InputError(sentence[:1].upper() + sentence[1:]) from None
    counted = warehouse.query(sql).to_pylist()
    differing = [row["feature"] for row in counted if row["differing"]]
    shown: dict[str, list[dict[str, Any]]] = {}
    if differing:
        sql = renderer.render("feature_difference_examples", "old", "new", differing, sample=sample, examples=examples)
        for row in to_rows(warehouse.query(sql)):
            shown.setdefault(row.pop("feature"), []).append(row)
    totals = ("only_old", "only_new")
    features = tuple(
        FeatureValues(
            **{name: value for name, value in row.items() if name not in totals},
            examples=tuple(shown.get(row["feature"], ())),
        )
        for row in counted
    )
    return Values(counted[0]["entities"], counted[0]["only_old"], counted[0]["only_new"], features)

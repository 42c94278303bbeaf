"""Column lineage between nodes: versions, ephemeral models, snapshots, seeds, exposures, and what cannot be followed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from materializer.errors import InputError, NotFoundError
from materializer.project.graph import Graph
from materializer.sql.drawings import as_dot, as_json, as_mermaid, as_text, label
from materializer.sql.lineage import Column, Lineage, downstream, lineage_of, upstream
from tests.support.hand_made import manifest_of
from tests.support.soak import first

VIEW = {"meta": {"feature_view": {"entities": ["id"]}}}
SOURCES = {"raw.t": ["id", "a", "b"], "raw.u": ["id", "x"]}


def graph_of(models: dict[str, Any], sources: Any = None, **more: Any) -> Graph:
    return Graph(manifest_of(models, SOURCES if sources is None else sources, **more))


def labels(columns: tuple[Column, ...]) -> set[str]:
    return {label(column) for column in columns}


def sources_of(graph: Graph, reference: str) -> set[str]:
    (lineage,) = lineage_of(graph, reference)
    assert not lineage.unresolved, lineage.unresolved
    return labels(lineage.sources)


def reasons(lineage: Lineage) -> str:
    return " ".join(one.reason for one in lineage.unresolved)


# Between models.


def test_a_column_is_followed_through_models_and_stars() -> None:
    models = {
        "stg": "select id, a as renamed from {raw.t}",
        "mid": "with s as (select * from {stg}) select *, renamed + 1 as more from s",
        "view": "select m.* exclude (renamed) from {mid} as m join {raw.u} as u using (id)",
    }
    graph = graph_of(models)
    assert sources_of(graph, "view:more") == {"raw.t:a"}
    (lineage,) = lineage_of(graph, "view:more")
    assert labels(lineage.values) == {"mid:more", "stg:renamed", "raw.t:a"}
    assert labels(lineage.filters) >= {"raw.t:id", "raw.u:id"}
    steps = {(label(edge.target), edge.expression) for edge in lineage.edges if edge.kind == "value"}
    assert {("mid:more", "renamed + 1"), ("stg:renamed", "a"), ("mid[s]:renamed", "*")} <= steps


def test_versions_are_told_apart_and_a_bare_name_is_the_latest() -> None:
    version = {"latest_version": 2, "config": VIEW}
    graph = graph_of(
        {
            "view.v1": {"sql": "select id, a as f from {raw.t}", **version},
            "view.v2": {"sql": "select id, b as f from {raw.t}", **version},
            "use": 'select f from "db"."main"."view_v1"',
        }
    )
    assert sources_of(graph, "view:f") == {"raw.t:b"}
    assert sources_of(graph, "view.v1:f") == {"raw.t:a"}
    assert sources_of(graph, "use:f") == {"raw.t:a"}


def test_an_ephemeral_model_is_a_model_although_its_sql_stands_in_its_readers() -> None:
    inlined = 'with __dbt__cte__eph as ( select id, a + b as s from "db"."raw"."t" ) select s from __dbt__cte__eph'
    models: dict[str, Any] = {
        "eph": {
            "sql": "select id, a + b as s from {raw.t}",
            "config": {"materialized": "ephemeral"},
            "relation_name": None,
        },
        "m": {"sql": inlined, "depends_on": {"nodes": ["model.shop.eph"]}},
    }
    (lineage,) = lineage_of(graph_of(models), "m:s")
    assert Column("model.shop.eph", "s") in lineage.values
    assert labels(lineage.sources) == {"raw.t:a", "raw.t:b"}
    assert labels(downstream(graph_of(models), "source.shop.raw.t", "a").values) == {"eph:s", "m:s"}
    del models["eph"]["sql"]  # not compiled by itself: then what stands in the reader counts
    assert sources_of(graph_of(models), "m:s") == {"raw.t:a", "raw.t:b"}


def test_an_incremental_model_that_reads_itself_is_not_a_circle() -> None:
    sql = 'select id, a from {raw.t} where b > (select max(b2) from "db"."main"."inc") union all select id, a from "db"."main"."inc"'
    graph = graph_of({"inc": {"sql": sql.replace("b2", "a"), "config": {"materialized": "incremental"}}})
    assert sources_of(graph, "inc:a") == {"raw.t:a"}


def test_a_snapshot_has_the_columns_that_dbt_adds() -> None:
    config = {
        "unique_key": ["id"],
        "strategy": "timestamp",
        "updated_at": "b",
        "snapshot_meta_column_names": {"dbt_valid_to": "until"},
    }
    graph = graph_of({"s": {"sql": "select * from {raw.t}", "resource_type": "snapshot", "config": config}})
    assert sources_of(graph, "s:a") == {"raw.t:a"}
    assert sources_of(graph, "s:dbt_valid_from") == {"raw.t:b"}
    assert sources_of(graph, "s:until") == {"raw.t:b"}
    assert sources_of(graph, "s:dbt_scd_id") == {"raw.t:id"}


def test_lineage_ends_at_seeds_as_at_sources() -> None:
    models = {
        "kinds": {"resource_type": "seed", "columns": {"kind": {"name": "kind"}, "label": {"name": "label"}}},
        "m": "select t.a, k.* from {raw.t} t left join {kinds} k on k.kind = t.b",
    }
    assert sources_of(graph_of(models), "m:label") == {"kinds:label"}
    assert sources_of(graph_of(models), "m:a") == {"raw.t:a"}


def test_columns_of_a_star_over_an_undeclared_source_are_taken_from_the_warehouse() -> None:
    models = {"m": "select * from {raw.p} union all select * from {raw.q}"}
    built = {"p": ["id", "one"], "q": ["id", "other"]}
    known = Graph(manifest_of(models), lambda node: built.get(node["name"]))
    assert sources_of(known, "m:one") == {"raw.p:one", "raw.q:other"}
    (unknown,) = lineage_of(Graph(manifest_of(models)), "m:one")
    assert "go by position: the columns of a star in there are not known" in reasons(unknown)


def test_counting_rows_names_what_is_counted() -> None:
    models = {
        "clean": "select id from {raw.t} where a > 1",
        "view": "select id, count(*) as n, 1 as one from {clean} group by id",
    }
    (lineage,) = lineage_of(graph_of(models), "view:n")
    assert not lineage.sources and not lineage.constants
    assert labels(lineage.counted) == {"clean:*", "raw.t:*"}
    assert labels(lineage.filters) == {"raw.t:a", "clean:id", "raw.t:id"}
    (constant,) = lineage_of(graph_of(models), "view:one")
    assert [one.expression for one in constant.constants] == ["1"] and not constant.sources


def test_a_struct_made_in_one_model_is_read_field_by_field_in_the_next() -> None:
    models = {
        "packed": "select id, {'p': a, 'q': b} as s from {raw.t}",
        "view": "select s.p as f, s.q as g from {packed}",
    }
    graph = graph_of(models)
    assert sources_of(graph, "view:f") == {"raw.t:a"}
    assert labels(downstream(graph, "source.shop.raw.t", "a").values) == {"packed:s", "view:f"}
    assert labels(downstream(graph, "model.shop.packed", "s").values) == {"view:f", "view:g"}


def test_a_table_called_without_its_schema_is_the_model_of_that_name_beside_the_reader() -> None:
    assert sources_of(
        graph_of({"stg": "select a from {raw.t}", "m": "select a from main.stg", "n": "select a from stg"}), "n:a"
    ) == {"raw.t:a"}


# Forward.

FORWARD = {
    "stg": "select id, a, b from {raw.t}",
    "other": "select u.id, u.x from {raw.u} as u where exists (select 1 from {stg} s where s.id = u.id)",
    "view": {"sql": "select id, sum(a) as total, max(b) as most from {stg} group by id", "config": VIEW},
    "far": "select total * 2 as doubled from {view}",
}
EXPOSURES = {
    "service": {"type": "ml", "depends_on": ["view"], "config": {"meta": {"features": ["view:total", "view:most"]}}},
    "board": {"type": "dashboard", "depends_on": ["far"]},
}


def test_forward_a_column_reaches_features_services_and_dashboards() -> None:
    lineage = downstream(graph_of(FORWARD, exposures=EXPOSURES), "source.shop.raw.t", "a")
    assert labels(lineage.values) == {"stg:a", "view:total", "far:doubled", "service (view:total)", "board"}
    assert not lineage.filters and not lineage.unresolved


def test_forward_a_key_decides_over_rows_of_what_it_does_not_flow_into() -> None:
    lineage = downstream(graph_of(FORWARD, exposures=EXPOSURES), "source.shop.raw.t", "id")
    assert labels(lineage.values) == {"stg:id", "view:id"}
    assert labels(lineage.filters) == {
        "view:*",
        "other:*",
        "far:*",
        "service (view:total)",
        "service (view:most)",
        "board",
    }


def test_forward_what_cannot_be_read_is_named_for_it_may_use_the_column() -> None:
    models = {
        **FORWARD,
        "py": {
            "sql": "def model(dbt, session): ...",
            "language": "python",
            "depends_on": {"nodes": ["model.shop.stg"]},
        },
    }
    lineage = downstream(graph_of(models), "source.shop.raw.t", "a")
    assert "Model 'py' is written in Python" in reasons(lineage)


# What cannot be followed is said by name.

UNRESOLVED: dict[str, tuple[dict[str, Any], str]] = {
    "not compiled": ({"m": {"sql": None, "columns": {"z": {"name": "z"}}}}, "holds no compiled SQL of model 'm': run `dbt compile`"),
    "unparsable": ({"m": "select z from from ((", "x": "select 1 as one"}, "compiled SQL of model 'm' cannot be read in line 1"),
    "python": ({"m": {"sql": "def model(dbt, session): pass", "language": "python"}}, "Model 'm' is written in Python"),
    "no query": ({"m": "create table x as select 1 as z"}, "compiled SQL of model 'm' is not a SELECT"),
    "a deleted column": ({"stg": "select a from {raw.t}", "m": "select s.gone as z from {stg} s"}, "model 'stg' has no column 'gone'; it has: a."),
    "a deleted column, not qualified": ({"stg": "select a from {raw.t}", "m": "select gone as z from {stg}"}, "There is no column 'gone' in what its outermost SELECT reads (model 'stg')."),
    "a column of two": ({"m": "select z from {raw.p} join {raw.q} on true"}, "'z' in its outermost SELECT is ambiguous: source 'raw.p' and source 'raw.q' may have it"),
    "a star over two": ({"m": "select * from {raw.p} join {raw.q} on true"}, "'z' in its outermost SELECT is ambiguous"),
    "an unknown table": ({"m": "select z from elsewhere.table_of_others"}, "elsewhere.table_of_others is neither a model nor a source"),
    "a file": ({"m": "select z from read_csv('files/x.csv')"}, "('files/x.csv') is neither a model nor a source"),
    "branches of different widths": ({"m": "select a as z from {raw.t} union all select id, x from {raw.u}"}, "The branches of the union in its outermost SELECT have 1 and 2 columns."),
    "an alias or a column": ({"m": "select a + 1 as b, b * 2 as z from {raw.p}"}, "'b' in its outermost SELECT is taken for its alias, but may be a column of source 'raw.p'"),
    "through another model": ({"stg": {"sql": None}, "m": "select z from {stg}"}, "holds no compiled SQL of model 'stg'"),
    "names by position over an unknown star": ({"m": "with w(y, z) as (select * from {raw.p}) select z from w"}, "goes by its position"),
    "two models that read each other": ({"n": 'select z from "db"."main"."m"', "m": "select z from {n}"}, "made from each other in a circle: model 'm', model 'n', model 'm'"),
    "two stars over each other": ({"n": 'select * from "db"."main"."m"', "m": "select * from {n}"}, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", UNRESOLVED)
def test_what_cannot_be_followed_is_said_by_name(case: str) -> None:
    models, sentence = UNRESOLVED[case]
    graph = graph_of(models)
    try:
        lineage = upstream(graph, "model.shop.m", "z")
    except NotFoundError:
        assert not sentence
        return
    assert sentence in reasons(lineage), lineage.unresolved
    assert not lineage.sources or case in ("branches of different widths", "an alias or a column")
    assert "not resolved:" in as_text(lineage) and as_json(lineage)["unresolved"]


def test_a_deleted_column_does_not_take_the_others_with_it() -> None:
    graph = graph_of({"stg": "select id, a from {raw.t}", "m": "select id, a, gone from {stg}"})
    assert sources_of(graph, "m:a") == {"raw.t:a"}


def test_long_chains_of_models_and_ctes_are_followed_to_their_end() -> None:
    models: dict[str, Any] = {"m0": "select * from {raw.unknown}"}
    for number in range(1, 400):
        models[f"m{number}"] = f"with s as (select * from {{m{number - 1}}}) select * from s"
    (lineage,) = lineage_of(graph_of(models), "m399:anything")
    assert labels(lineage.sources) == {"raw.unknown:anything"} and not lineage.unresolved
    ctes = ", ".join(f"c{n} as (select * from c{n - 1})" for n in range(1, 400))
    (lineage,) = lineage_of(graph_of({"m": f"with c0 as (select a from {{raw.t}}), {ctes} select * from c399"}), "m:a")
    assert labels(lineage.sources) == {"raw.t:a"}
    wide = " union all ".join(["select a from {raw.t}", "select x from {raw.u}"] * 200)
    assert sources_of(graph_of({"m": wide}), "m:a") == {"raw.t:a", "raw.u:x"}


def test_an_expression_too_deep_to_read_is_said_so() -> None:
    graph = graph_of({"m": f"select {'abs(' * 3000}a{')' * 3000} as z, b from {{raw.t}}"})
    lineage = upstream(graph, "model.shop.m", "z")
    assert lineage.unresolved and not lineage.sources


# References.


def test_names_that_are_not_there_are_answered_with_those_that_are() -> None:
    graph = graph_of(FORWARD)
    with pytest.raises(NotFoundError, match="Feature view 'view' has no feature 'nope'; it has: total, most"):
        lineage_of(graph, "view:nope")
    with pytest.raises(NotFoundError, match="Model 'stg' has no column 'nope'; it has: id, a, b"):
        lineage_of(graph, "stg:nope")
    with pytest.raises(
        NotFoundError, match="no model, snapshot, seed or source 'viev' in the manifest; did you mean view"
    ):
        lineage_of(graph, "viev:total")
    for malformed in ("", ":a", "view:", "a:b:c"):
        with pytest.raises(InputError, match="is no column's name"):
            lineage_of(graph, malformed)


def test_a_view_by_its_name_alone_is_all_of_its_features_and_a_model_all_of_its_columns() -> None:
    graph = graph_of(FORWARD)
    assert [label(one.start) for one in lineage_of(graph, "view")] == ["view:total", "view:most"]
    assert [label(one.start) for one in lineage_of(graph, "stg")] == ["stg:id", "stg:a", "stg:b"]
    assert [label(one.start) for one in lineage_of(graph, "raw.u")] == ["raw.u:id", "raw.u:x"]


def test_references_may_be_unique_ids_and_columns_in_any_case() -> None:
    graph = graph_of(FORWARD)
    assert label(lineage_of(graph, "model.shop.view:TOTAL")[0].start) == "view:total"
    assert label(lineage_of(graph, "shop.stg:A")[0].start) == "stg:a"


# How it is shown.


def test_the_drawings_hold_every_node_and_stay_well_formed_whatever_the_names() -> None:
    models = {"m": 'select a as "say ""hi"" <b> \\ #1" from {raw.t}', "n": "select * from {m}"}
    (lineage,) = lineage_of(graph_of(models), "n")
    mermaid, dot = as_mermaid([lineage]), as_dot([lineage])
    assert "#quot;hi#quot;" in mermaid and '"say "' not in mermaid
    assert '\\"hi\\"' in dot and dot.count("{") == dot.count("}")
    for drawing in (mermaid, dot):
        assert all(f'"{name}"' in drawing for name in ("m", "n", "raw.t", "a"))
    assert mermaid.count("-->") == dot.count("->") == 2


def test_the_text_says_where_values_come_from_what_is_counted_and_what_filters() -> None:
    (lineage,) = lineage_of(graph_of(FORWARD), "view:total")
    assert as_text(lineage).splitlines() == [
        "view:total = SUM(a)" if "SUM(a)" in as_text(lineage) else "view:total = sum(a)",
        "  stg:a = a",
        "    raw.t:a  (source)",
        "",
        "values from:     raw.t:a",
        "rows decided by: raw.t:id",
    ]


# Damaged manifests.


def damaged(manifest: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The manifest with a few of its values gone, of another type, or swapped."""
    manifest = json.loads(json.dumps(manifest))
    for _ in range(chance.randint(1, 4)):
        node = chance.choice([*manifest["nodes"].values(), *manifest["sources"].values()])
        key = chance.choice(
            [
                "compiled_code",
                "depends_on",
                "columns",
                "relation_name",
                "config",
                "language",
                "name",
                "alias",
                "version",
            ]
        )
        match chance.randint(0, 3):
            case 0:
                node.pop(key, None)
            case 1:
                node[key] = None
            case 2:
                node["compiled_code"] = (node.get("compiled_code") or "select 1")[: chance.randint(0, 60)]
            case _:
                words = (node.get("compiled_code") or "select 1").split(" ")
                chance.shuffle(words)
                node["compiled_code"] = " ".join(words)
    return manifest


@pytest.mark.parametrize("seed", first(40, range(150)))
def test_a_damaged_manifest_gives_an_answer_or_a_sentence(seed: int) -> None:
    manifest = damaged(manifest_of(FORWARD, SOURCES, exposures=EXPOSURES), random.Random(seed))
    graph = Graph(manifest)
    for unique_id in list(graph.nodes):
        for column in ("id", "a", "total", "doubled"):
            for walk in (upstream, downstream):
                try:
                    lineage = walk(graph, unique_id, column)
                except NotFoundError as error:
                    assert "has no column" in str(error)
                    continue
                as_text(lineage), json.dumps(as_json(lineage)), as_mermaid([lineage]), as_dot([lineage])
                assert all(one.reason.endswith(".") or one.reason.endswith("`.") for one in lineage.unresolved)
                assert all(isinstance(edge.expression, str) for edge in lineage.edges)

"""From a repository's definitions to the files of a dbt project, all as text: nothing is written here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from materializer.feast.definitions import Computed, Outcome, Projected, Repository, Service, Source
from materializer.feast.locations import REPOSITORY
from materializer.feast.plan import ALL_ROWS, Column, Model, Names, plan_models, shown_as
from materializer.feast.properties import Line, Row, inert, literal, to_yaml, without_empty
from materializer.feast.sql_types import is_plain, quoted
from materializer.project import dbt_package
from materializer.project.duration import format_duration
from materializer.project.sandbox import Sandbox

_TEMPLATES = Path(__file__).parent.parent / "templates"
_OF_PROJECT = (".gitignore", "packages.yml", "profiles.yml")


@dataclass(frozen=True)
class Written:
    """A project as text: its files by their path within it, its models, and what became of each of Feast's objects."""

    name: str
    files: dict[str, str]
    models: tuple[Model, ...]
    outcomes: tuple[Outcome, ...]


def write_project(repository: Repository, name: str) -> Written:
    """The dbt project that says what a Feast repository says."""
    models = plan_models(repository)
    sources, services = _Sources(models), _Services(models)
    exposures = [services.exposure(service, repository) for service in repository.services]
    everything = [*models, *services.shown.values()]
    # A dbt group for each owner of a view.
    owners = dict.fromkeys(model.view.owner for model in models if model.view.owner)
    groups = [{"name": literal(owner), "owner": Line(_owner(owner))} for owner in owners]
    files = _project_files(name, repository)
    if sources.content:
        files["models/sources.yml"] = to_yaml({"sources": sources.content}, "Where Feast's data sources are.")
    if groups:
        files["models/groups.yml"] = to_yaml({"groups": groups}, "The owners of Feast's feature views.")
    for model in everything:
        files[f"models/features/{model.name}.sql"] = _sql(model, sources, repository)
        files[f"models/features/{model.name}.yml"] = to_yaml({"models": [_properties(model)]})
    if exposures:
        files["models/services.yml"] = to_yaml({"exposures": exposures}, "Feast's feature services.")
    outcomes = [
        *_entities(repository, models),
        *(Outcome("feature view", m.view.name, m.view.where, f"models/features/{m.name}.sql", m.notes) for m in models),
        *_on_demand(repository, models),
        *services.outcomes,
        *repository.absent,
    ]
    return Written(name, files, tuple(everything), tuple(outcomes))


def _project_files(name: str, repository: Repository) -> dict[str, str]:
    environment = Sandbox(keep_trailing_newline=True)
    folder = json.dumps(repository.folder.as_posix(), ensure_ascii=False)
    values = {"name": name, "package": dbt_package.FOLDER, "repository": folder}
    paths = [_TEMPLATES / "project" / file for file in _OF_PROJECT] + [_TEMPLATES / "from_feast" / "dbt_project.yml"]
    return {path.name: environment.from_string(path.read_text()).render(values) for path in paths}


# Sources.


class _Sources:
    """The dbt sources of the views' data sources: each once, however many views read it."""

    def __init__(self, models: list[Model]) -> None:
        self._names: dict[tuple[str, ...], tuple[str, str]] = {}
        groups: dict[tuple[str, str, bool], dict] = {}
        names: dict[str, Names] = {}
        group_names = Names()
        for model in models:
            source = model.view.source
            if source.query or _identity(source) in self._names:
                continue
            place = (source.database, source.schema, bool(source.file))
            if place not in groups:
                wanted = "feast" if source.file else "_".join(filter(None, place[:2])) or "feast_tables"
                group, _ = group_names.take(wanted)
                schema = "" if source.file else literal(source.schema) or "{{ target.schema }}"
                about = without_empty(name=group, database=literal(source.database), schema=schema)
                groups[place], names[group] = about | {"tables": []}, Names()
            group = groups[place]["name"]
            table, _ = names[group].take(source.name)
            self._names[_identity(source)] = (group, table)
            groups[place]["tables"].append(_source_table(source, table))
        self.content = list(groups.values())

    def reference(self, source: Source) -> str:
        """``{{ source('feast', 'driver_stats') }}``."""
        group, table = self._names[_identity(source)]
        return f"{{{{ source('{group}', '{table}') }}}}"


def _identity(source: Source) -> tuple[str, ...]:
    return source.name, source.kind, source.file, source.table, source.schema, source.database


def _source_table(source: Source, name: str) -> dict[str, object]:
    meta = literal(without_empty(owner=source.owner, tags=dict(source.tags)))
    if source.file:
        # The variable is ours, where it stands first; the rest is the repository's, whatever it looks like.
        start, variable, rest = source.file.partition(REPOSITORY if source.inside else "\0")
        # dbt-duckdb puts names into the braces of a location, and takes another way to name them where they are told.
        oldstyle = "{" in start + rest
        start, rest = (inert(part.replace("%", "%%") if oldstyle else part) for part in (start, rest))
        external = f"{start}{variable}{rest}".replace("\0", "")
        if oldstyle:
            meta = {"formatter": "oldstyle"} | meta
        meta = {"external_location": external} | meta
    identifier = literal(source.table) if source.table != name else ""
    return without_empty(
        name=name,
        description=literal(source.description),
        identifier=identifier,
        config={"meta": meta} if meta else None,
    )


# Models.


def _sql(model: Model, sources: _Sources, repository: Repository) -> str:
    view, query = model.view, model.view.source.query
    if model.shows:
        head = f"-- The view {model.shows} as a feature service takes it, by other join keys or under another name.\n"
    else:
        head = f"-- The feature view {view.name} of the Feast repository {repository.project} ({view.where})."
        head = re.sub(r"[{}\s]+", " ", head) + "\n"
    if not model.enabled:
        head = "{{ config(enabled=false) }}\n\n" + head
    if view.transformation and not model.shows:
        code = "\n".join(f"    {line}" for line in view.transformation.replace("#}", "# }").splitlines())
        head += f"{{# What Feast does with the source's rows:\n\n{code}\n#}}\n"
    if model.shows:
        origin = f"{{{{ ref('{model.shows}') }}}}"
    elif query:
        query = "\n".join(f"    {line}".rstrip() for line in query.splitlines())
        head += f"with rows_of_source as (\n{inert(query)}\n)\n\n"
        origin = "rows_of_source"
    else:
        origin = sources.reference(view.source)
    columns = list(model.columns)
    if model.everything and model.shows:
        columns = [column for column in columns if column.expression != quoted(column.name, model.warehouse)]
    elif model.everything:
        columns = [column for column in columns if column.name == ALL_ROWS]
        columns += [Column(new, quoted(old, model.warehouse)) for old, new in view.source.field_mapping.items()]
    selected = ["*"] if model.everything else []
    for column in columns:
        name = quoted(column.name, model.warehouse)
        selected.append(inert(name if column.expression == name else f"{column.expression} as {name}"))
    return head + "select\n    " + ",\n    ".join(selected) + f"\nfrom {origin}\n"


def _properties(model: Model) -> dict[str, object]:
    view, tags = model.view, literal(dict(model.view.tags))
    feature_view = without_empty(
        entities=Row(literal(key) for key in model.keys),
        timestamp=literal(model.timestamp) if model.timestamp != "event_timestamp" else "",
        created_timestamp=literal(model.created),
        ttl=format_duration(view.ttl) if view.ttl else "",
        online=None if view.online else False,
        on_demand={} if model.shows else {literal(one.name): _expression(one, model) for one in view.computed},
        tags=Line(tags) if len(str(tags)) < 80 else tags,
    )
    columns = [
        Line(
            without_empty(
                name=literal(column.name),
                quote=None if is_plain(column.name) else True,
                data_type=literal(column.data_type),
                description=literal(column.description),
                config=Line(meta=literal(dict(column.meta))) if column.meta else None,
            )
        )
        for column in model.columns
    ]
    return without_empty(
        name=model.name,
        description=literal(view.description),
        config=without_empty(group=literal(view.owner)) | {"meta": {"feature_view": feature_view}},
        columns=columns,
        data_tests=[] if model.shows else [{"feature_store.feature_view": {"config": Line(severity="warn")}}],
    )


def _expression(computed: Computed, model: Model) -> dict[str, object]:
    sql = computed.expression
    for old in computed.reads:
        if old in model.renamed:
            sql = sql.replace(quoted(old, "DuckDB"), quoted(model.renamed[old], "DuckDB"))
    request = Line({literal(name): of for name, of in computed.request.items()})
    return without_empty(
        expression=literal(sql), request=request if request else None, description=literal(computed.description)
    )


def _on_demand(repository: Repository, models: list[Model]) -> list[Outcome]:
    files = {model.view.name: f"models/features/{model.name}.yml" for model in models}
    return [
        Outcome("on-demand feature view", name, where, files[view], (note,))
        for name, where, view, note in repository.on_demand
    ]


def _owner(owner: str) -> dict[str, str]:
    return literal({"email" if re.fullmatch(r"[^@\s]+@[^@\s]+", owner) else "name": owner})


# Services and entities.


class _Services:
    """Feature services as exposures, and the models that stand for views which they take under other names."""

    def __init__(self, models: list[Model]) -> None:
        self._models = {model.view.name: model for model in models}
        self._view_names = {model.name for model in models}
        self._names, self._service_names = Names(self._view_names), Names()
        self.shown: dict[tuple[str, str, tuple[tuple[str, str], ...]], Model] = {}
        self.outcomes: list[Outcome] = []

    def exposure(self, service: Service, repository: Repository) -> dict[str, object]:
        """A service as dbt has it."""
        name, notes = self._service_names.take(service.name)
        references: dict[str, None] = {}
        for projected in service.features:
            references |= dict.fromkeys(self._references(projected, notes))
        if name in self._view_names:
            notes.append(f"a view has its name: in commands `{name}` means the service")
        if service.tags:
            notes.append("its tags are kept as `meta.tags`, where `list_feature_services` does not look for them")
        depends = dict.fromkeys(f"ref('{reference.partition(':')[0]}')" for reference in references)
        self.outcomes.append(
            Outcome("feature service", service.name, service.where, "models/services.yml", (*service.notes, *notes))
        )
        meta = {"features": literal(list(references))} | without_empty(tags=literal(dict(service.tags)))
        return without_empty(
            name=name,
            type="ml",
            description=literal(service.description),
            owner=Line(_owner(service.owner or repository.project or "feast")),
            depends_on=list(depends),
        ) | {"config": {"meta": meta}}

    def _references(self, projected: Projected, notes: list[str]) -> list[str]:
        model = self._models.get(projected.view)
        if model is None:
            notes.append(f"the features of `{projected.view}` are left out: there is no such view here")
            return []
        if not model.enabled:
            notes.append(f"the features of `{model.name}` are left out until it is enabled")
            return []
        computed = [one.name for one in model.view.computed]
        wanted = model.features if projected.features is None else projected.features
        chosen = [model.renamed.get(name, name) for name in wanted]
        if unknown := [name for name in chosen if name not in (*model.features, *computed) and not model.everything]:
            notes.append(f"`{model.name}` has no feature {', '.join(f'`{name}`' for name in unknown)}: left out")
            chosen = [name for name in chosen if name not in unknown]
        if projected.features is None and model.everything:
            notes.append(
                f"the features of `{model.name}` are known once it is built: list them then, as `feature-store show "
                f"{model.name}` has them"
            )
        if projected.alias or projected.join_key_map:
            model = self._show(model, projected, notes)
        return [f"{model.name}:{feature}" for feature in chosen]

    def _show(self, model: Model, projected: Projected, notes: list[str]) -> Model:
        renames = {old: new for old, new in projected.join_key_map.items() if new != old}
        key = (model.name, projected.alias, tuple(sorted(renames.items())))
        if not renames and projected.alias in ("", model.name):
            return model
        if unknown := [old for old in renames if old not in model.keys]:
            notes.append(f"`{model.name}` has no join key {', '.join(f'`{name}`' for name in unknown)}")
        if key not in self.shown:
            self.shown[key], note = shown_as(model, projected.alias, renames, self._names)
            notes += note
            if model.everything and renames:
                notes.append(
                    f"`{self.shown[key].name}` has the old join key among its features: name the columns in its model"
                )
        if self.shown[key].view.online:
            notes.append(
                f"`{self.shown[key].name}` is a view of its own, which holds the rows of `{model.name}` online once "
                "more"
            )
        return self.shown[key]


def _entities(repository: Repository, models: list[Model]) -> list[Outcome]:
    outcomes = []
    for entity in repository.entities:
        users = [f"`{m.name}`" for m in models if any(e.name == entity.name for e in m.view.entities)]
        became = f"join key `{entity.join_key}` of {', '.join(users)}" if users else ""
        notes = list(entity.notes) if users else ["no view has it; an entity is a join key of a view here"]
        outcomes.append(Outcome("entity", entity.name, entity.where, became, tuple(notes)))
    return outcomes

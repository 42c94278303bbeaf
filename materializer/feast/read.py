"""From a repository's objects to its definitions: entities, views with their sources, and services."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

from materializer.feast.definitions import Absent, Entity, Projected, Repository, Service, Source, View
from materializer.feast.given import Given, NoEqual, Unreadable
from materializer.feast.repository import Files, read_files
from materializer.feast.values import Made, Projection, Unknown, unknown_in

VIEWS = (
    "BatchFeatureView",
    "FeatureView",
    "LabelView",
    "StreamFeatureView",
    "batch_feature_view",
    "stream_feature_view",
)
_ON_DEMAND = ("OnDemandFeatureView", "on_demand_feature_view")
_STREAMS = ("KafkaSource", "KinesisSource", "PushSource")
_REQUESTS = ("RequestDataSource", "RequestSource")
_ELSEWHERE = {
    "Permission": "who may read what is the business of the warehouse's grants and of Redis' access lists",
    "SavedDataset": "a training set is a dbt model with `point_in_time_join`, or a Parquet file of `to_parquet`",
    "ValidationReference": "dbt's data tests, and this package's `feature_drift`, judge the values",
    "FeatureTable": "it is of a Feast before 0.10: make a feature view of it",
}


def read_repository(path: Path) -> Repository:
    """What a Feast repository defines, read from its files without running them.

    Raises:
        InputError: where it is none, or a file of it is no Python.
    """
    files = read_files(path)
    reader = _Reader(files)
    for made in files.objects:
        reader.take(made)
    settings = files.settings
    store = settings.get("offline_store")
    return Repository(
        folder=files.folder,
        project=reader.project or _plain(settings.get("project")),
        description=reader.description or _plain(settings.get("project_description")),
        offline_store=_store_type(
            store, {"gcp": "bigquery", "aws": "redshift"}.get(str(settings.get("provider")), "file")
        ),
        online_store=_store_type(settings.get("online_store"), "sqlite"),
        schema=_setting(store, "db_schema", "schema_", "schema", "dataset"),
        database=_setting(store, "database", "project_id"),
        files=files.count,
        entities=tuple(reader.entities.values()),
        views=tuple(reader.views),
        services=tuple(reader.services),
        absent=tuple(reader.absent),
        unread=files.unread,
        environment=files.environment,
    )


class _Reader:
    """Takes a repository's objects one by one."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.project = self.description = ""
        self.entities: dict[str, Entity] = {}
        self.views: list[View] = []
        self.services: list[Service] = []
        self.absent: list[Absent] = []
        # Entities may be named before they are made.
        for made in files.objects:
            if made.kind == "Entity":
                self._take("entity", made, self._register)

    def take(self, made: Made) -> None:
        """Read one object."""
        kind = made.kind
        if kind in VIEWS:
            self._take("feature view", made, self._view)
        elif kind in _ON_DEMAND:
            self._take("on-demand feature view", made, self._on_demand)
        elif kind == "FeatureService":
            self._take("feature service", made, self._service)
        elif kind in _STREAMS or kind in _REQUESTS:
            self._take("source", made, self._stream)
        elif kind == "Project":
            given = Given(made)
            self.project, self.description = given.text("name"), given.text("description")
        elif kind in _ELSEWHERE:
            self._take(kind, made, lambda given: self._gone(kind, given, _ELSEWHERE[kind]))

    def _take(self, kind: str, made: Made, read: Callable[[Given], None]) -> None:
        given = Given(made)
        try:
            read(given)
        except (NoEqual, Unreadable) as error:
            name = made.settings.get("name")
            name = name if isinstance(name, str) else made.function or "?"
            why = str(error) if isinstance(error, NoEqual) else f"it could not be read: {error}"
            self.absent.append(Absent(kind, name, made.where, why))

    def _gone(self, kind: str, given: Given, why: str) -> None:
        self.absent.append(Absent(kind, given.name(), given.made.where, why))

    # Entities.

    def _register(self, given: Given) -> None:
        for entity in self._entities(given.made):
            self.entities.setdefault(entity.name, entity)

    def _entities(self, value: Any) -> list[Entity]:
        if isinstance(value, str):
            if value in self.entities:
                return [self.entities[value]]
            return [Entity(value, value, notes=(f"no Entity '{value}' was read: its name is taken as the join key",))]
        if isinstance(value, Unknown):
            raise Unreadable(f"an entity of it {value}")
        if not isinstance(value, Made) or value.kind != "Entity":
            raise Unreadable("an entity of it is none of Feast's")
        given = Given(value)
        name = given.name()
        keys = given.items("join_keys", "join_key") or [name]
        if found := unknown_in(keys):
            raise Unreadable(f"a join key of entity '{name}' {found}")
        dtype = given.dtype("value_type", f"entity '{name}'")
        facts = (dtype, given.text("description"), given.text("owner"), given.mapping("tags"), value.where)
        return [
            Entity(name if len(keys) == 1 else str(key), str(key), *facts, notes=tuple(given.notes)) for key in keys
        ]

    # Views.

    def _view(self, given: Given) -> None:
        name, kind = given.name(), given.made.kind
        if any(view.name.lower() == name.lower() for view in self.views):
            raise NoEqual("another feature view before it has the same name")
        if (value := given.raw("entities")) is not None and isinstance(value, Unknown):
            raise Unreadable(f"its entities could not be read: it {value}")
        entities = [entity for item in given.items("entities") for entity in self._entities(item)]
        if len({entity.join_key for entity in entities}) != len(entities):
            raise Unreadable("two of its entities have the same join key")
        source, code = self._source_of(given, name), given.code()
        schema = given.fields("schema", "features")
        online = given.flag("online", kind != "BatchFeatureView")
        if not given.flag("enabled", True):
            given.notes.append("it is not enabled in Feast: it is written with `online: false`")
            online = False
        if given.text("version") not in ("", "latest"):
            given.notes.append(
                f"it is pinned to version {given.text('version')} of Feast's registry: the definition is taken as it "
                "stands in the code"
            )
        if kind == "LabelView":
            given.notes.append(
                "it is a label view: a plain view here, in which the latest event counts whoever the labeler was"
            )
        if id(given.made) in self.files.unnamed:
            given.notes.append("only a list or a call holds it: `feast apply` registers what a module has a name for")
        tags = given.mapping("tags") | ({"org": given.text("org")} if given.text("org") else {})
        self.views.append(
            View(
                name, kind, given.made.where, tuple(entities), schema, source, given.duration("ttl"), online,
                given.text("description"), given.text("owner"), tags, code, tuple(given.notes),
            )
        )  # fmt: skip

    def _source_of(self, given: Given, view: str) -> Source:
        value = given.raw("source", "batch_source", "input", "stream_source")
        if isinstance(value, (list, tuple)) or (isinstance(value, Made) and value.kind in VIEWS):
            names = [str(item.settings.get("name")) for item in given.items("source") if isinstance(item, Made)]
            given.notes.append(f"Feast derives it from {', '.join(names)}; it is read here from its sink_source")
            value = given.raw("sink_source")
        if isinstance(value, Made) and value.kind in _STREAMS:
            name = value.settings.get("name")
            given.notes.append(f"the rows of its {value.kind} '{name}' are not read, only those of its batch source")
            value = value.settings.get("batch_source") or given.raw("batch_source")
        if isinstance(value, Unknown):
            raise Unreadable(f"its source {value}")
        if not isinstance(value, Made) or value.kind in _REQUESTS or not value.kind.endswith("Source"):
            raise NoEqual("it has no source of rows: rows that are only pushed need a table or file to be kept in")
        return _source(Given(value), view)

    def _on_demand(self, given: Given) -> None:
        features = ", ".join(field.name for field in given.fields("schema", "features"))
        inputs = given.items("sources")
        inputs = [item for value in inputs for item in (value.values() if isinstance(value, dict) else [value])]
        names = [
            str(getattr(item, "view", item).settings.get("name"))
            for item in inputs
            if isinstance(item, (Made, Projection))
        ]
        requests = any(isinstance(item, Made) and item.kind in _REQUESTS for item in inputs)
        todo = (
            "what needs the request's own values is computed where the request is answered"
            if requests
            else "it needs features alone: write it as a column of a model that reads those views"
        )
        self._gone(
            "on-demand feature view",
            given,
            f"it is Python over {', '.join(names) or 'its inputs'} (features: {features}); {todo}",
        )

    def _stream(self, given: Given) -> None:
        if given.made.kind in _REQUESTS:
            fields = ", ".join(field.name for field in given.fields("schema"))
            self._gone(
                "request source", given, f"values of the request ({fields}) are known where the request is answered"
            )
        else:
            kind = {"PushSource": "push source"}.get(given.made.kind, "stream source")
            self._gone(
                kind, given, "views over it read its batch source; let what is pushed or streamed arrive there too"
            )

    # Services.

    def _service(self, given: Given) -> None:
        name = given.name()
        if any(service.name == name for service in self.services):
            raise NoEqual("another feature service before it has the same name")
        features = [found for item in given.items("features") if (found := self._projected(item, given))]
        self.services.append(
            Service(
                name, given.made.where, tuple(features), given.text("description"), given.text("owner"),
                given.mapping("tags"), tuple(given.notes),
            )
        )  # fmt: skip

    def _projected(self, item: Any, given: Given) -> Projected | None:
        if isinstance(item, str):
            view, _, feature = item.partition(":")
            view, _, version = view.partition("@")
            if version not in ("", "latest"):
                given.notes.append(
                    f"'{item}' is pinned to a version of Feast's registry: the view as it is now is taken"
                )
            return Projected(view, (feature,) if feature else None)
        projection = item if isinstance(item, Projection) else Projection(item) if isinstance(item, Made) else None
        parts = [projection.features, projection.name, projection.join_key_map] if projection else [item]
        found = unknown_in(parts)
        if projection is None or found:
            given.notes.append(
                f"one of its views could not be read: it {found}" if found else "one of its views is none of Feast's"
            )
            return None
        inner = Given(projection.view)
        try:
            name = inner.name()
        except Unreadable as error:
            given.notes.append(f"one of its views could not be read: {error}")
            return None
        if projection.view.kind in _ON_DEMAND:
            given.notes.append(f"the features of the on-demand view '{name}' are left out")
            return None
        chosen = projection.features
        chosen = (
            (chosen,)
            if isinstance(chosen, str)
            else tuple(map(str, chosen))
            if isinstance(chosen, (list, tuple))
            else None
        )
        keys = projection.join_key_map if isinstance(projection.join_key_map, dict) else {}
        return Projected(name, chosen, projection.name or "", {str(old): str(new) for old, new in keys.items()})


def _source(given: Given, view: str) -> Source:
    kind = given.made.kind
    places = ("table", "table_ref", "collection", "path", "file_url", "materialization_path", "query")
    if unknown := unknown_in([given.raw(place) for place in places]):
        raise Unreadable(f"its {kind} {unknown}")
    table = given.text("table", "table_ref", "collection")
    path = given.text("path", "file_url", "materialization_path")
    query = given.text("query")
    file_format = given.raw("file_format", "reader_type")
    file_format = file_format.kind if isinstance(file_format, Made) else str(file_format or "parquet")
    if not (table or path or query):
        raise Unreadable(f"its {kind} names no file, table or query")
    if given.raw("date_partition_column"):
        given.notes.append(
            f"its date partition column `{given.text('date_partition_column')}` is not used: dbt reads every row"
        )
    if given.raw("s3_endpoint_override"):
        given.notes.append("its S3 endpoint goes into `settings: {s3_endpoint: ...}` of profiles.yml")
    return Source(
        name=given.text("name") or (table.rpartition(".")[2] or PureWindowsPath(path).stem or view).strip("`\""),
        kind=kind,
        where=given.made.where,
        path=path or None,
        file_format=file_format.lower().removesuffix("format").rpartition(".")[2],
        table=table or None,
        schema=given.text("schema", "scope") or None,
        database=given.text("database") or None,
        query=query or None,
        timestamp=given.text("timestamp_field", "event_timestamp_column"),
        created=given.text("created_timestamp_column"),
        field_mapping=given.mapping("field_mapping"),
        description=given.text("description"),
        owner=given.text("owner"),
        tags=given.mapping("tags"),
        notes=tuple(given.notes),
    )  # fmt: skip


def _plain(value: Any) -> str:
    return os.path.expandvars(value) if isinstance(value, str) else ""


def _store_type(store: Any, default: str) -> str:
    if isinstance(store, str):
        return store
    return str(store.get("type") or default) if isinstance(store, dict) else default


def _setting(store: Any, *names: str) -> str:
    for name in names:
        if isinstance(store, dict) and isinstance(store.get(name), str) and "$" not in store[name]:
            return store[name]
    return ""

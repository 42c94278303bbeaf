"""Redis as people run it: with a password, over TLS, behind sentinels, as a cluster; each on free ports."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from materializer.online.local import _free_port

NEEDS_REDIS = "no redis-server on PATH (Debian, Ubuntu: apt-get install redis-server)"
needs_redis = pytest.mark.skipif(not (shutil.which("redis-server") and shutil.which("redis-cli")), reason=NEEDS_REDIS)


def until(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait until it holds; a server that does not answer yet is waited for too."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < give_up, f"waited {seconds} s for {what}"
        time.sleep(0.05)


class Server:
    """One server process on a free port of 127.0.0.1 that keeps nothing on disk, ended by `close`."""

    def __init__(self, folder: Path, *options: str, program: str = "redis-server", **client_options: object) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = _free_port()
        self._program, self._options, self._client_options = program, options, client_options
        self.start()

    def start(self, *more: str) -> None:
        """Start it, with `more` options; on the port that it had before where it was ended."""
        listen = () if "--tls-port" in self._options else ("--port", str(self.port))
        options = [option.format(port=self.port) for option in self._options]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [self._program, *listen, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *options, *more],
                cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        self.client = redis.Redis(port=self.port, retry=None, **self._client_options)
        until(self.client.ping, f"the server on port {self.port}")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def cut_off(self, replica: Server) -> None:
        """Freeze a replica of this server, and close the connection to it: it gets nothing any more."""
        replica.process.send_signal(signal.SIGSTOP)
        self.client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def close(self) -> None:
        """End it."""
        self.client.close()
        self.kill()


class Sentinels:
    """A master called ``shop`` with a replica, both wanting a password, and a sentinel that watches them."""

    password = "s3cret of the shop"

    def __init__(self, folder: Path) -> None:
        login = ("--requirepass", self.password, "--masterauth", self.password)
        self.servers = [Server(folder / "master", *login, password=self.password)]
        replica = ("--replicaof", "127.0.0.1", str(self.servers[0].port), "--repl-diskless-sync-delay", "0")
        self.servers.append(Server(folder / "replica", *login, *replica, password=self.password))
        until(self.in_step, "the replica")
        self.port = _free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor shop 127.0.0.1 {self.servers[0].port} 1\n"
            f'sentinel auth-pass shop "{self.password}"\n'
            "sentinel down-after-milliseconds shop 1000\nsentinel failover-timeout shop 5000\n"
        )
        with (folder / "sentinel.log").open("w") as log:
            self.process = subprocess.Popen(
                ["redis-server", str(config), "--sentinel"], cwd=folder, stdout=log, stderr=log
            )
        self.sentinel = redis.Redis(port=self.port, retry=None)
        until(lambda: self.sentinel.sentinel_master("shop")["num-slaves"] == 1, "the sentinel to see the replica")

    @property
    def url(self) -> str:
        """Names a sentinel that is not there first, as after a machine was lost."""
        password = self.password.replace(" ", "%20")
        return f"redis+sentinel://:{password}@127.0.0.1:1,127.0.0.1:{self.port}/shop/0"

    @property
    def master(self) -> Server:
        port = self.sentinel.sentinel_master("shop")["port"]
        return next(server for server in self.servers if server.port == port)

    def bring_back(self, lost: Server) -> None:
        """Start the old master as a replica of the new one, which the sentinel alone would do in some ten seconds."""
        lost.start("--replicaof", "127.0.0.1", str(self.master.port))
        until(self.in_step, "the old master to follow")

    def in_step(self) -> bool:
        """Whether a replica follows."""
        return any(server.client.info("replication").get("master_link_status") == "up" for server in self.servers)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.sentinel.close()
        for server in self.servers:
            server.close()


class ClusterOfSix:
    """Three masters, each with a replica."""

    def __init__(self, folder: Path) -> None:
        options = (
            "--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--repl-diskless-sync-delay", "0",
        )  # fmt: skip
        self.servers = [
            Server(folder / str(number), *options, "--cluster-port", str(_free_port())) for number in range(6)
        ]
        subprocess.run(
            ["redis-cli", "--cluster", "create", *(f"127.0.0.1:{server.port}" for server in self.servers),
             "--cluster-replicas", "1", "--cluster-yes"],
            check=True, stdout=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        until(self.settled, "the cluster")

    @property
    def url(self) -> str:
        """Names two of the nodes."""
        return f"redis+cluster://127.0.0.1:{self.servers[0].port},127.0.0.1:{self.servers[4].port}"

    def masters(self) -> list[Server]:
        """The nodes that serve slots."""
        alive = [server for server in self.servers if server.process.poll() is None]
        return [server for server in alive if server.client.info("replication")["role"] == "master"]

    def settled(self) -> bool:
        """Whether every live node serves, and knows of three masters that are up."""
        alive = [server for server in self.servers if server.process.poll() is None]
        for server in alive:
            info = server.client.execute_command("CLUSTER INFO")
            if info["cluster_state"] != "ok" or info["cluster_slots_ok"] != "16384":
                return False
        followers = [server for server in alive if server not in self.masters()]
        links = [server.client.info("replication").get("master_link_status") for server in followers]
        return len(self.masters()) == 3 and all(link == "up" for link in links)

    def kill_a_master(self) -> Server:
        """kill -9 of a master that has a replica."""
        server = next(s for s in self.masters() if s.client.info("replication")["connected_slaves"])
        server.kill()
        return server

    def close(self) -> None:
        for server in self.servers:
            server.close()


def certificates(folder: Path) -> dict[str, str]:
    """An authority, and one certificate by it for server and clients on 127.0.0.1: paths of ``ca``, ``crt``, ``key``.

    Skips the test where there is no ``openssl``.
    """
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH (Debian, Ubuntu: apt-get install openssl)")
    (folder / "names").write_text("subjectAltName = IP:127.0.0.1, DNS:localhost\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority",
        "req -newkey rsa:2048 -nodes -keyout node.key -out node.csr -subj /CN=localhost",
        "x509 -req -in node.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out node.crt -days 2 -extfile names",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return {"ca": f"{folder}/ca.crt", "crt": f"{folder}/node.crt", "key": f"{folder}/node.key"}


def has_tls() -> bool:
    """Whether the redis-server here was built with TLS."""
    tried = subprocess.run(
        ["redis-server", "--port", "0", "--tls-port", "1", "--tls-cert-file", "none"], capture_output=True, text=True
    )
    return "Bad directive" not in tried.stdout + tried.stderr

"""A Python that has imported Feast already, and runs a script as often as one asks for: importing takes ten seconds.

python feast_server.py SOCKET                  serves
python feast_server.py SOCKET --client ARGS    is a Python like any other: runs the script with its arguments
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path


def client(path: str, args: list[str]) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        job = json.dumps([args, str(Path.cwd()), dict(os.environ)]).encode()
        descriptors = array.array("i", [0, 1, 2])
        server.sendmsg([len(job).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        server.sendall(job)
        sys.exit(int(server.recv(20) or b"1"))


def serve(path: str) -> None:
    sys.path.pop(0)  # this folder is nothing to import from
    from feast import FeatureStore  # noqa: F401
    from feast.infra.offline_stores import dask, duckdb, file_source  # noqa: F401
    from feast.infra.online_stores import redis, sqlite  # noqa: F401

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{path}.new")
        server.listen()
        Path(f"{path}.new").rename(path)
        while True:
            ready, _, _ = select.select([server, 0], [], [])
            if 0 in ready:
                return  # whoever started this has ended
            connection, _ = server.accept()
            with connection:
                answer(connection)


def answer(connection: socket.socket) -> None:
    length, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    job, size = b"", int.from_bytes(length, "big")
    while len(job) < size:
        job += connection.recv(size - len(job))
    pid = os.fork()
    if pid == 0:
        run(json.loads(job), descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            with contextlib.suppress(OSError):
                connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            return
        if select.select([connection], [], [], 0.02)[0] and not connection.recv(1):
            os.kill(pid, signal.SIGKILL)  # the client was ended


def run(job: list, descriptors: list[int]) -> None:
    args, folder, environment = job
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = args
    sys.path.insert(0, str(Path(args[0]).parent))
    code = 0
    try:
        runpy.run_path(args[0], run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        code = 1
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    if "--client" in sys.argv:
        client(sys.argv[1], sys.argv[3:])
    serve(sys.argv[1])

"""A private PostgreSQL for the example, with the shop's raw data in it: what `make demo TARGET=postgres` runs on.

    python dbt_project/private_postgres.py start
    python dbt_project/private_postgres.py stop

It listens on 127.0.0.1 alone, lets in whoever is on this machine, and keeps its data in `.postgres/`. A warehouse of
your own needs none of this: name it in profiles.yml.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent
PORT = 54329  # what profiles.yml says
TABLES = ("users", "items", "page_views", "purchases")
# The data can be made again, and compiling a windowed model's hundreds of expressions takes longer than running them.
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "jit": "off"}


def main() -> int:
    """Start or stop it; 0 where that went well."""
    if sys.argv[1:] == ["stop"]:
        if _runs():
            _run("pg_ctl", "-m", "fast", "-w", "stop")
            print(f"the example's PostgreSQL on port {PORT} has stopped")
        return 0
    print(f"{'found again' if start() else 'started'} on port {PORT}, with its data in {_folder()}")
    return 0


def start() -> bool:
    """Start the server and load the raw data; True where it ran already."""
    folder = _folder()
    ran = _runs()
    if not ran:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                sys.exit(f"Port {PORT} is taken by another program, so the example's PostgreSQL cannot use it.")
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        if not (folder / "data").is_dir():
            _run("initdb", "-U", "shop", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions")
        settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        options = f"-c listen_addresses=127.0.0.1 -p {PORT} -k {folder} {settings}"
        _run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    _load()
    return ran


def _load() -> None:
    """The Parquet files of shop_data.py as tables of the schema `raw`."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from adbc_driver_postgresql import dbapi

    from materializer.warehouse.arrow import to_plain
    from materializer.warehouse.postgres_types import sql_type

    where = f"postgresql://shop@127.0.0.1:{PORT}"
    with dbapi.connect(f"{where}/postgres", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("select from pg_database where datname = 'shop'")
        if not cursor.fetchall():
            cursor.execute("create database shop")
    with dbapi.connect(f"{where}/shop") as connection, connection.cursor() as cursor:
        cursor.execute("create schema if not exists raw")
        for name in TABLES:
            table = pq.read_table(EXAMPLE / "raw" / f"{name}.parquet")
            table = pa.table({column: to_plain(table[column]) for column in table.column_names})
            columns = ", ".join(f"{field.name} {sql_type(field.type)}" for field in table.schema)
            cursor.execute(f"create table if not exists raw.{name} ({columns})")
            cursor.execute(f"delete from raw.{name}")  # what is built on it as a view stays
            cursor.adbc_ingest(name, table, mode="append", db_schema_name="raw")
        connection.commit()


def _folder() -> Path:
    """Beside the example. PostgreSQL refuses to run as root, and its own user may have no way into root's folders."""
    if os.geteuid() != 0:
        return EXAMPLE / ".postgres"
    name = hashlib.sha256(str(EXAMPLE).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"feature-store-shop-postgres-{name}"


def _runs() -> bool:
    return (_folder() / "data" / "postmaster.pid").is_file() and _call("pg_ctl", "status").returncode == 0


def _run(program: str, *arguments: str) -> None:
    done = _call(program, *arguments)
    if done.returncode != 0:
        sys.exit(f"{program} failed: {done.stdout.strip()}")


def _call(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryFile("w+") as log:  # no pipe: the server that is started keeps what it was given
        done = subprocess.run(
            [str(_programs() / program), "-D", str(_folder() / "data"), *arguments],
            cwd=_folder() if _folder().is_dir() else "/", stdout=log, stderr=subprocess.STDOUT, text=True, **owner,
        )  # fmt: skip
        log.seek(0)
        done.stdout = log.read()
    return done


def _programs() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for folder in reversed(folders):
        if (folder / "initdb").exists():
            return folder
    sys.exit("PostgreSQL is not installed; on Debian and Ubuntu: apt-get install postgresql")


if __name__ == "__main__":
    sys.exit(main())

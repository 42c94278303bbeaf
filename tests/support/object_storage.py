"""A private S3 for tests: `moto_server` on a port of its own, which keeps everything in memory; gone with them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3

KEY, SECRET = "test-key", "test-secret-hunter2"


@dataclass(frozen=True)
class ObjectStorage:
    """A server; `filesystem` is what a profile says of it under `filesystems`."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def filesystem(self) -> dict[str, Any]:
        return {"fs": "s3", "key": KEY, "secret": SECRET, "client_kwargs": {"endpoint_url": self.endpoint}}

    @property
    def away(self) -> dict[str, Any]:
        """One that does not answer, and is not asked twice."""
        return self.filesystem | {
            "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}, "config_kwargs": {"retries": {"max_attempts": 0}},
        }  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """The same for who takes it from the environment."""
        return {
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip

    @cached_property
    def client(self) -> Any:
        """Of boto3, so that a test looks at what is there by another way than the package does."""
        return boto3.client(
            "s3", aws_access_key_id=KEY, aws_secret_access_key=SECRET, endpoint_url=self.endpoint,
            region_name="us-east-1",
        )  # fmt: skip

    def refuse(self, everybody: bool) -> None:
        """Refuse every request from now on, as a server does that does not know the key; or none."""
        url = f"{self.endpoint}/moto-api/reset-auth"
        allowed, kind = b"0" if everybody else b"inf", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, allowed, kind), timeout=5).close()

    def bucket(self, name: str) -> Bucket:
        """A new bucket."""
        self.client.create_bucket(Bucket=name)
        return Bucket(self, name)


@dataclass(frozen=True)
class Bucket:
    storage: ObjectStorage
    name: str

    def url(self, key: str = "") -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, content: bytes) -> str:
        self.storage.client.put_object(Bucket=self.name, Key=key, Body=content)
        return self.url(key)

    def get(self, key: str) -> bytes:
        return self.storage.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def delete(self, key: str) -> None:
        self.storage.client.delete_object(Bucket=self.name, Key=key)

    def stored(self, prefix: str = "") -> list[str]:
        pages = self.storage.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [one["Key"] for page in pages for one in page.get("Contents", ())]


@contextmanager
def server() -> Iterator[ObjectStorage]:
    """Start one, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        storage = ObjectStorage(port)
        deadline = time.monotonic() + 60
        while not _answers(storage.endpoint):
            assert process.poll() is None and time.monotonic() < deadline, "moto_server does not start"
            time.sleep(0.1)
        yield storage
    finally:
        process.kill()
        process.wait()


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False

"""Webhooks: a report arrives as JSON, or one sentence says why not; the URL stays secret."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from materializer import FeatureStoreError, InputError
from materializer.catalog.webhook import check_url, send
from tests.support.command import run
from tests.support.dbt import DbtProject, copy_of
from tests.support.receiver import SECRET, Receiver, receive, reply
from tests.support.shop import built_shop


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receive() as receiver:
        yield receiver


def refused(url: str, timeout: float = 5) -> str:
    with pytest.raises(FeatureStoreError) as error:
        send(url, {"views": []}, timeout=timeout)
    assert "s3cret" not in str(error.value) and "hidden" not in str(error.value)
    assert error.value.__cause__ is None
    return str(error.value)


@pytest.mark.parametrize("code", [200, 202, 204])
def test_a_report_is_posted_as_json(receiver: Receiver, code: int) -> None:
    receiver.answer = lambda handler: reply(handler, code)
    send(receiver.url, {"text": "é \N{SNOWMAN}", "views": [{"rows": 2**60, "none": None}]})
    assert receiver.report == {"text": "é \N{SNOWMAN}", "views": [{"rows": 2**60, "none": None}]}
    assert receiver.requests[0][2]["Host"] == f"127.0.0.1:{receiver.port}"


def test_a_user_and_password_in_the_url_are_basic_authentication(receiver: Receiver) -> None:
    send(receiver.url.replace("://", "://me:p%40ss%3A@"), {})
    assert receiver.report == {}
    assert base64.b64decode(receiver.requests[0][2]["Authorization"].split()[1]) == b"me:p@ss:"


@pytest.mark.parametrize("code", [400, 403, 404, 500, 503])
def test_an_answer_that_is_no_success_is_named(receiver: Receiver, code: int) -> None:
    receiver.answer = lambda handler: reply(handler, code)
    assert refused(receiver.url) == f"The webhook at 127.0.0.1 answered {code}: the report was not delivered."
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:{port}/other", "https://127.0.0.1:{port}/", "file:///etc/passwd", "ftp://h/s3cret"]
)
def test_a_redirect_is_not_followed(receiver: Receiver, code: int, target: str) -> None:
    receiver.answer = lambda handler: reply(handler, code, Location=target.format(port=receiver.port))
    assert f"answered with a redirect ({code}), which is not followed" in refused(receiver.url)
    assert len(receiver.requests) == 1


def test_a_server_that_does_not_answer_is_given_up(receiver: Receiver) -> None:
    receiver.answer = lambda handler: time.sleep(3)
    started = time.monotonic()
    assert "did not answer within 0.2 seconds" in refused(receiver.url, timeout=0.2)
    assert time.monotonic() - started < 2


def test_a_server_that_is_down_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be reached (Connection refused)" in refused(f"http://127.0.0.1:{port}{SECRET}")


def test_a_server_that_speaks_something_else_is_named(receiver: Receiver) -> None:
    receiver.answer = lambda handler: handler.wfile.write(b"s3cret nonsense\r\n\r\n") and None
    assert "gave an answer that is not HTTP" in refused(receiver.url)
    assert "does not speak TLS" in refused(receiver.url.replace("http:", "https:"))


@pytest.mark.parametrize(
    "url",
    [
        "", "s3cret", "host/s3cret", "//host/s3cret", "ftp://host/s3cret", "file:///s3cret", "http://", "https:///s3cret",
        "http://host:0/s3cret", "http://host:port/s3cret", "http://[::1/s3cret", "http://host/s3cret\r\nX: y",
        "http://host/s3cret hidden", "http://h\u00f6st/s3cret", "HTTP://", "javascript:s3cret",
    ],
)  # fmt: skip
def test_a_url_that_is_none_is_refused_without_being_shown(url: str) -> None:
    for call in (lambda: check_url(url), lambda: send(url, {})):
        with pytest.raises(InputError, match=r"^The webhook URL is not one: write https://host/path") as error:
            call()
        assert "s3cret" not in str(error.value)


# The command.


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    return copy_of(built_shop(), tmp_path_factory.mktemp("webhook") / "shop")


@pytest.fixture
def freshness(shop: DbtProject, redis_url: str, namespace: str) -> Callable[..., Any]:
    def call(*args: str, **env: str) -> Any:
        where = ("--project-dir", str(shop.folder), "--redis-url", redis_url, "--namespace", namespace)
        return run("feature-store", "freshness", *args, *where, env=env)

    return call


def test_a_view_that_does_not_pass_is_reported(freshness: Callable[..., Any], receiver: Receiver) -> None:
    ran = freshness("--output", "json", "--webhook", receiver.url)
    assert ran.code == 1 and ran.err == ""
    assert receiver.report == ran.json
    assert {view["status"] for view in receiver.report["views"]} == {"error", "pass"}
    assert receiver.report["text"].startswith("4 feature views: 3 error, 1 pass; ")


def test_the_environment_may_name_the_webhook(freshness: Callable[..., Any], receiver: Receiver) -> None:
    ran = freshness(FEATURE_STORE_WEBHOOK_URL=receiver.url)
    assert ran.code == 1
    assert len(receiver.report["views"]) == 4
    assert "s3cret" not in ran.out + ran.err


def test_where_all_is_well_nothing_is_sent_unless_asked_for(freshness: Callable[..., Any], receiver: Receiver) -> None:
    assert freshness("offline_only", "--webhook", receiver.url).code == 0
    assert receiver.requests == []
    assert freshness("offline_only", "--webhook", receiver.url, "--webhook-always").code == 0
    assert [view["status"] for view in receiver.report["views"]] == ["pass"]


def test_a_report_that_is_not_delivered_fails_the_command(
    freshness: Callable[..., Any], receiver: Receiver
) -> None:  # fmt: skip
    receiver.answer = lambda handler: reply(handler, 500)
    ran = freshness("offline_only", "--webhook", receiver.url, "--webhook-always")
    assert ran.code == 1
    assert "offline_only" in ran.out
    assert ran.err == "Error: The webhook at 127.0.0.1 answered 500: the report was not delivered.\n"


def test_an_alarm_that_cannot_look_says_so(
    freshness: Callable[..., Any], receiver: Receiver, shop: DbtProject, tmp_path: Path
) -> None:
    ran = freshness("nobody", "--webhook", receiver.url)
    assert ran.code == 1 and ran.err.startswith("Error: There is no feature view 'nobody'")
    assert receiver.report["views"] == []
    assert receiver.report["error"] in ran.err and "could not be checked" in receiver.report["text"]
    receiver.answer = lambda handler: reply(handler, 500)
    ran = freshness("nobody", "--webhook", receiver.url)
    assert ran.code == 1 and "answered 500" in ran.err and "no feature view 'nobody'" in ran.err


def test_a_url_that_is_none_is_wrong_usage(freshness: Callable[..., Any]) -> None:
    ran = freshness("--webhook", "ftp://host/s3cret")
    assert ran.code == 2 and "write https://host/path" in ran.err and "s3cret" not in ran.err

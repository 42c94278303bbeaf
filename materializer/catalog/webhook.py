"""Reports sent to a URL as JSON. Such a URL is often a secret in itself: only its host is ever printed."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from materializer.errors import FeatureStoreError, InputError

TIMEOUT_SECONDS = 10.0


def check_url(url: str) -> None:
    """Stop at a webhook URL that cannot be one.

    Raises:
        InputError: saying what there is and nothing of what was given.
    """
    _parsed(url)


def send(url: str, report: Mapping[str, Any], timeout: float = TIMEOUT_SECONDS) -> None:
    """POST a report as JSON. A redirect is not followed: nobody but the host that was named gets the report.

    Args:
        url: ``https://`` or ``http://``; a user and password in it are sent as basic authentication.
        timeout: how long all of it (the name, connecting, sending, the answer) may take, in seconds.

    Raises:
        InputError: for a URL that is none.
        FeatureStoreError: where it was not delivered: anything but an answer of 200 to 299.
    """
    parts = _parsed(url)
    request = urllib.request.Request(
        parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl(),
        data=json.dumps(report, ensure_ascii=False, allow_nan=False).encode(),
        headers={"Content-Type": "application/json; charset=utf-8", "User-Agent": "dbt-feature-store"},
        method="POST",
    )
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    sockets: list[socket.socket] = []
    ended: list[str | None] = []
    # In a thread of its own: a timeout of a socket begins anew with every byte that drips in.
    thread = threading.Thread(target=_deliver, args=(request, timeout, sockets, ended), daemon=True)
    thread.start()
    thread.join(timeout)
    reason = ended[0] if ended else _trouble(TimeoutError(), timeout)
    for one in sockets if thread.is_alive() else ():  # so that the thread ends, too
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    if reason is not None:
        raise FeatureStoreError(f"The webhook at {parts.hostname} {reason}: the report was not delivered.")


def _deliver(
    request: urllib.request.Request, timeout: float, sockets: list[socket.socket], ended: list[str | None]
) -> None:
    """Note the sockets that a request opens, and why it was not delivered; None where it was."""
    handlers = (_noting(kind, sockets) for kind in (urllib.request.HTTPHandler, urllib.request.HTTPSHandler))
    try:
        with urllib.request.build_opener(_NoRedirect, *handlers).open(request, timeout=timeout):
            ended.append(None)
    except urllib.error.HTTPError as error:
        error.close()
        redirect = f"with a redirect ({error.code}), which is not followed: give the address it leads to"
        ended.append(f"answered {redirect if 300 <= error.code < 400 else error.code}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        ended.append(_trouble(getattr(error, "reason", error), timeout))


def _noting(handler: Any, sockets: list[socket.socket]) -> urllib.request.BaseHandler:
    """urllib's handler of HTTP or HTTPS, which notes the sockets that it opens."""

    class Noting(handler):
        def do_open(self, kind: Any, *args: Any, **options: Any) -> Any:
            class Connection(kind):
                def connect(self) -> None:
                    super().connect()
                    sockets.append(self.sock)

            return super().do_open(Connection, *args, **options)

    return Noting()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect as the answer that it is."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError("The webhook URL is not one: write https://host/path (or http://).")
    return parts


def _trouble(reason: Any, timeout: float) -> str:
    """What kept a report from arriving. Only words of the system's own: others may hold the URL."""
    if isinstance(reason, TimeoutError):
        return f"did not answer within {timeout:g} seconds"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"has a certificate that is not trusted ({reason.verify_message})"
    if isinstance(reason, ssl.SSLError):
        return "does not speak TLS as expected"
    if isinstance(reason, socket.gaierror):
        return "has a name that is not known here"
    if isinstance(reason, OSError) and reason.strerror:
        return f"cannot be reached ({reason.strerror})"
    return "broke off or gave an answer that is not HTTP"

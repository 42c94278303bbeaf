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
    reason = _Delivery(request, timeout).failure()
    if reason is None:
        return
    raise FeatureStoreError(f"The webhook at {parts.hostname} {reason}: the report was not delivered.")


class _Delivery:
    """One request in a thread of its own: a timeout of a socket begins anew with every byte that drips in."""

    def __init__(self, request: urllib.request.Request, timeout: float) -> None:
        self._request = request
        self._timeout = timeout
        self._sockets: list[socket.socket] = []
        self._reasons: list[str | None] = []
        self._thread = threading.Thread(target=self._deliver, daemon=True)

    def failure(self) -> str | None:
        """Why it was not delivered, within the timeout; None where it was."""
        self._thread.start()
        self._thread.join(self._timeout)
        if self._reasons:
            return self._reasons[0]
        for one in self._sockets:  # so that the thread ends, too
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        return _trouble(TimeoutError(), self._timeout)

    def _deliver(self) -> None:
        try:
            opener = urllib.request.build_opener(_NoRedirect, *_remembering(self._sockets))
            with opener.open(self._request, timeout=self._timeout):
                self._reasons.append(None)
        except urllib.error.HTTPError as error:
            error.close()
            self._reasons.append(_answer(error))
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._reasons.append(_trouble(getattr(error, "reason", error), self._timeout))


def _remembering(sockets: list[socket.socket]) -> tuple[urllib.request.BaseHandler, ...]:
    """urllib's handlers of HTTP and HTTPS, which note the sockets that they open."""

    def connecting(kind: type[http.client.HTTPConnection]) -> type[http.client.HTTPConnection]:
        class Connection(kind):
            def connect(self) -> None:
                super().connect()
                sockets.append(self.sock)

        return Connection

    class Http(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(connecting(http.client.HTTPConnection), request)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(connecting(http.client.HTTPSConnection), request, context=self._context)

    return Http(), Https()


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


def _answer(error: urllib.error.HTTPError) -> str:
    if 300 <= error.code < 400:
        return f"answered with a redirect ({error.code}), which is not followed: give the address it leads to"
    return f"answered {error.code}"


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

"""The catalog as the server shows it: the document that ``feature-store catalog build`` wrote last."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, Response

from materializer.errors import NotFoundError
from materializer.serve.description import JSON

HTML = "text/html; charset=utf-8"
# Of what is no page; the page has a policy of its own, by the hashes of what stands in it.
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_NOTHING = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Feature server</title>
<h1>There is no catalog yet</h1>
<p>Write it in the dbt project: <code>feature-store catalog build</code>. This server shows it from then on.</p>
<p>It looks for {place}; another file is named with <code>feature-store serve --catalog FILE</code>.</p>
<p><a href="docs">What can be requested here</a></p>
</html>
"""


@dataclass(frozen=True)
class _Content:
    """An answer, as it is and compressed."""

    body: bytes
    zipped: bytes
    tag: str
    policy: str
    kind: str

    @classmethod
    def of(cls, body: bytes, kind: str, policy: str = _POLICY) -> _Content:
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return cls(body, gzip.compress(body, 6, mtime=0), tag, policy, kind)


class Catalog:
    """The page and the document at `path`, read again when the file was replaced; None where nobody named one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._document: _Content | None = None
        self._page: _Content | None = None

    def page(self, request: Request) -> Response:
        """The page; one that says how to make it, where there is none."""
        try:
            self._read()
        except NotFoundError:
            place = (
                f"<code>{_escaped(str(self._path))}</code>" if self._path else "none, as it runs outside of a project"
            )
            return Response(_NOTHING.format(place=place), 404, _headers(_POLICY), HTML)
        return _answer(request, self._page)

    def document(self, request: Request) -> Response:
        """The document. Raises NotFoundError where there is none."""
        self._read()
        return _answer(request, self._document)

    def _read(self) -> None:
        with self._lock:
            try:
                found = self._path and self._path.stat()
                seen = found and (found.st_mtime_ns, found.st_size)
                if not seen:
                    raise FileNotFoundError
                if seen == self._seen:
                    return
                body = self._path.read_bytes()
                document = json.loads(body)
                if document["format"] != 1:
                    raise ValueError(document["format"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                self._seen = None
                raise NotFoundError(
                    "There is no catalog that this server can read: `feature-store catalog build` writes it."
                ) from None
            from materializer.catalog.page import html, policy

            page, own = html(document, served=True), f"{policy(served=True)}; frame-ancestors 'none'"
            self._document, self._page = _Content.of(body, JSON), _Content.of(page, HTML, own)
            self._seen = seen


def _answer(request: Request, content: _Content | None) -> Response:
    assert content is not None
    headers = {**_headers(content.policy), "ETag": content.tag, "Cache-Control": "private, no-cache"}
    if content.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(content.zipped, 200, {**headers, "Content-Encoding": "gzip"}, content.kind)
    return Response(content.body, 200, headers, content.kind)


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Encoding, Authorization",
    }  # fmt: skip


def _escaped(text: str) -> str:
    return "".join(one if one.isalnum() or one in "/._- " else f"&#{ord(one)};" for one in text)

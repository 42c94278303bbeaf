"""The application: its routes, who may use them, and how their errors look."""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from materializer.errors import FeatureStoreError
from materializer.online.connect import connect, plain_errors
from materializer.online.published import Reading, only_namespace
from materializer.online.reader import OnlineReader
from materializer.online.response import OnlineResponse
from materializer.online.topology import server_time
from materializer.online.urls import public_name, redis_url
from materializer.project.definitions import Registry, split_reference
from materializer.serve.answers import columns_answer, rows_answer
from materializer.serve.asked import (
    Asked,
    InvalidError,
    Limits,
    TooLargeError,
    read_columns,
    read_rows,
)
from materializer.serve.audit import Audit
from materializer.serve.catalog import Catalog
from materializer.serve.description import JSON, PUSH, ROUTES, TEXT
from materializer.serve.keys import Caller, ForbiddenError, Gate, read_keys
from materializer.serve.metrics import Metrics
from materializer.serve.refusals import envelope, http_error, refusal
from materializer.serve.schemas import service_schema, view_json
from materializer.serve.values import encode, json_column, json_values

if TYPE_CHECKING:
    from materializer.serve.feature_log import FeatureLog
    from materializer.serve.pushes import Pushes

_log = logging.getLogger("materializer")
_VERSION = version("dbt-feature-store")
# A caller's own name for a request, where it is one that tells nothing else.
_IN_A_BROWSER = 'Basic realm="Feature server: the key is the password", charset="UTF-8"'
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True)
class Settings:
    """How a server runs; the Redis URL is taken from the environment."""

    namespace: str | None = None
    keys_file: str | None = None
    limits: Limits = field(default_factory=Limits)
    audit_file: str | None = None
    audit_reads: bool = True
    log_folder: str | None = None
    log_sample: float = 0.1
    log_seconds: float = 60.0
    catalog_file: str | None = None
    push_dir: str | None = None
    push_target: str | None = None


def from_environment() -> FastAPI:
    """The application that ``feature-store serve`` asked for, in a worker's process."""
    settings = msgspec.json.decode(os.environ["FEATURE_STORE_SERVE"], type=Settings)
    return application(settings, redis_url())


def application(settings: Settings, url: str) -> FastAPI:
    """The server as an ASGI application, for one Redis.

    Raises:
        InputError: for a file of API keys that cannot be used.
    """
    server = _Server(settings, url)
    app = _Application(
        title="dbt-feature-store", version=_VERSION, docs_url=None, redoc_url=None, lifespan=server.lifespan,
        redirect_slashes=False,
    )  # fmt: skip
    app.add_exception_handler(HTTPException, http_error)
    described = {path: {"openapi_extra": extra, "response_class": Response} for path, extra in ROUTES.items()}
    for path, work in (("/get-online-features", server.columns), ("/v1/features", server.rows)):
        app.hot[path] = endpoint = server.route(path, work)
        app.post(path, **described[path])(endpoint)  # for the description
    for path, work in (
        ("/v1/services", server.services),
        ("/v1/services/{name}", server.service),
        ("/v1/views", server.views),
        ("/v1/views/{name}", server.view),
    ):
        app.get(path, **described[path])(server.route(path, work))
    if settings.push_dir:
        endpoint = server.route("/v1/push/{source}", server.pushed)
        app.post("/v1/push/{source}", openapi_extra=PUSH, response_class=Response)(endpoint)
    for path, work in (("/health", server.health), ("/ready", server.ready), ("/metrics", server.metrics_text)):
        app.get(path, **described[path])(server.route(path, work, guarded=False))
    for path, work in (("/", server.catalog_page), ("/catalog.json", server.catalog_document)):
        app.get(path, include_in_schema=False)(server.route(path, work))
    app.get("/docs", include_in_schema=False)(lambda: HTMLResponse(_docs()))
    return app


class _Application(FastAPI):
    """FastAPI, but for the hot routes, which nothing stands before: its layers cost as much as a read of one entity."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.hot: dict[str, Callable[[Request], Awaitable[Response]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self.hot.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if endpoint is None:
            return await super().__call__(scope, receive, send)
        response = await endpoint(Request(scope, receive))
        return await response(scope, receive, send)


class _Server:
    def __init__(self, settings: Settings, url: str) -> None:
        self._url = url
        self._limits = settings.limits
        self._namespace = settings.namespace
        self._gate = Gate(read_keys(Path(settings.keys_file)) if settings.keys_file else (), settings.limits.rate)
        self._metrics = Metrics()
        self._audit = Audit(settings.audit_file, settings.audit_reads)
        self._catalog = Catalog(Path(settings.catalog_file) if settings.catalog_file else None)
        self._log: FeatureLog | None = None
        if settings.log_folder:
            from materializer.serve.feature_log import FeatureLog  # Arrow's arrays load pandas, where it is installed

            self._log = FeatureLog(
                Path(settings.log_folder), settings.log_sample, settings.log_seconds, self._metrics
            )  # fmt: skip
        self._store = connect(url)
        self._reader: OnlineReader | None = None
        self._counted: Registry | None = None
        self._pushes: Pushes | None = None
        if settings.push_dir:
            from materializer.serve.pushes import Pushes
            from materializer.stream.clock import StoreClock

            clock = StoreClock(lambda: server_time(self._store, self._open().namespace))
            self._pushes = Pushes(Path(settings.push_dir), settings.push_target, clock)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """From before the first request until all are answered; then what is logged of them is written."""
        if self._log:
            self._log.start()
        yield
        if self._log:
            await run_in_threadpool(self._log.close)
        if self._pushes:
            await run_in_threadpool(self._pushes.close)

    # The hot routes.

    async def columns(self, request: Request, caller: Caller) -> bytes:
        """Features by Feast's protocol: join keys in columns, features in columns."""
        asked = read_columns(await self._body(request), self._limits)
        return columns_answer(asked, await self._read("/get-online-features", request, asked, caller))

    async def rows(self, request: Request, caller: Caller) -> bytes:
        """Features by rows: one row in, one row of values out."""
        asked, wanted = read_rows(await self._body(request), self._limits)
        return rows_answer(asked, wanted, await self._read("/v1/features", request, asked, caller))

    async def _read(self, route: str, request: Request, asked: Asked, caller: Caller) -> OnlineResponse:
        _check_rights(caller, asked)
        reader = self._reader or await run_in_threadpool(self._open)
        with plain_errors(self._url):
            response = await reader.read_async(asked.features, asked.rows, asked.full_feature_names)
            await self._count(route, request, asked, response, reader)
        self._audit.note(route, caller.name, asked)
        return response

    async def _count(
        self, route: str, request: Request, asked: Asked, response: OnlineResponse, reader: OnlineReader
    ) -> None:
        registry = reader.known
        if registry is not self._counted:
            self._counted = registry
            self._metrics.published(reader.facts)
        try:
            references = registry.references(asked.features)
        except FeatureStoreError:
            return  # the service went while its answer came: that is answered, and not counted
        if len(references) != len(response.columns):
            return  # it was published anew meanwhile
        self._metrics.served(route, references, len(asked.rows), response)
        if self._log and self._log.wants():
            name = request.headers.get("x-request-id", "")
            request_id = name if _REQUEST_ID.fullmatch(name) else uuid.uuid4().hex
            self._log.offer(request_id, asked.service, references, registry, asked.rows, response, reader.namespace)

    async def _body(self, request: Request) -> bytes:
        kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if kind != JSON and not kind.endswith("+json"):
            raise InvalidError(f"The body is {kind}: send JSON, as {JSON}.")
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._limits.body_bytes:
                raise TooLargeError(f"The body is larger than {self._limits.body_bytes:,} bytes.")
            parts.append(part)
        return b"".join(parts)

    async def pushed(self, request: Request, caller: Caller) -> bytes:
        """Events of a source, all of them or none."""
        assert self._pushes is not None
        source = self._pushes.known(request.path_params["source"])
        if not caller.may_push(source):
            raise ForbiddenError(f"The key '{caller.name}' may not push to source '{source}'.")
        body, key = await self._body(request), request.headers.get("idempotency-key")
        return encode(asdict(await run_in_threadpool(self._pushes.push, source, body, key)))

    # What can be asked for.

    async def services(self, request: Request, caller: Caller) -> bytes:
        """The feature services that the caller may read."""
        registry = await self._registry()
        found = [one for _, one in sorted(registry.services.items()) if caller.may_read_service(one.name)]
        return encode(
            {"services": [{"name": o.name, "description": o.description, "features": o.references} for o in found]}
        )

    async def service(self, request: Request, caller: Caller) -> bytes:
        """A service, with the JSON Schemas of its request and answer."""
        name = request.path_params["name"]
        if not caller.may_read_service(name):
            raise ForbiddenError(f"The key '{caller.name}' may not read service '{name}'.")
        registry = await self._registry()
        return encode(service_schema(registry, registry.service(name)))

    async def views(self, request: Request, caller: Caller) -> bytes:
        """The published views that the caller may read."""
        views = (await self._registry()).all_views()
        return encode({"views": [view_json(one) for one in views if caller.may_read_view(one.reference)]})

    async def view(self, request: Request, caller: Caller) -> bytes:
        """A published view, ``name`` or ``name.v2``."""
        name = request.path_params["name"]
        if not caller.may_read_view(name):
            raise ForbiddenError(f"The key '{caller.name}' may not read view '{name}'.")
        return encode(view_json((await self._registry()).view(name)))

    async def catalog_page(self, request: Request, caller: Caller) -> Response:
        """The catalog, for people."""
        _check_reads_all(caller)
        return await run_in_threadpool(self._catalog.page, request)

    async def catalog_document(self, request: Request, caller: Caller) -> Response:
        """The catalog's document."""
        _check_reads_all(caller)
        return await run_in_threadpool(self._catalog.document, request)

    # Is it well.

    async def health(self, request: Request, caller: Caller) -> bytes:
        """The server lives, whatever Redis does."""
        return encode({"status": "alive", "version": _VERSION})

    async def ready(self, request: Request, caller: Caller) -> bytes:
        """Redis answers, and a registry is published."""
        published = await self._published()
        registry, newest = published.registry, max(moment for _, moment in published.facts.values())
        assert self._reader is not None
        return encode(
            {
                "status": "ready",
                "namespace": self._reader.namespace,
                "views": len(registry.all_views()),
                "services": len(registry.services),
                "published_at": newest,
                "registry_age_seconds": round(time.time() - newest.timestamp(), 3),
            }
        )

    async def metrics_text(self, request: Request, caller: Caller) -> Response:
        """Prometheus' text format."""
        return Response(self._metrics.text(), media_type=TEXT)

    # Parts.

    def _open(self) -> OnlineReader:
        if self._reader is None:
            with plain_errors(self._url):
                namespace = self._namespace or only_namespace(self._store, public_name(self._url))
                self._reader = OnlineReader(self._store, namespace, self._url, json_column, json_values)
        return self._reader

    async def _registry(self) -> Registry:
        return (await self._published()).registry

    async def _published(self) -> Reading:
        def look() -> Reading:
            reader = self._open()
            with plain_errors(self._url):
                return reader.published()

        return await run_in_threadpool(look)

    def route(
        self, path: str, work: Callable[[Request, Caller], Awaitable[bytes | Response]], guarded: bool = True
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint: lets the caller in, does the work, turns errors into answers, and counts."""

        async def endpoint(request: Request) -> Response:
            started, caller = time.perf_counter(), None
            try:
                caller = self._gate.caller(request.headers.get("authorization")) if guarded else Caller()
                result = await work(request, caller)
                response = result if isinstance(result, Response) else Response(result, media_type=JSON)
            except ClientDisconnect:
                response = Response(status_code=499)  # which nobody sees: the caller left before all had come
            except FeatureStoreError as error:
                response = refusal(error, _IN_A_BROWSER if path in ("/", "/catalog.json") else "Bearer")
                if guarded:
                    self._audit.refused(path, caller.name if caller else None, response.status_code)
            except Exception:
                _log.exception("%s failed", path)
                response = envelope(500, "error", "The server failed at this; its log says how.")
            self._metrics.answered(path, response.status_code, time.perf_counter() - started)
            return response

        endpoint.__doc__ = work.__doc__
        endpoint.__name__ = work.__name__
        return endpoint


def _check_rights(caller: Caller, asked: Asked) -> None:
    if asked.service is not None:
        if not caller.may_read_service(asked.service):
            raise ForbiddenError(f"The key '{caller.name}' may not read service '{asked.service}'.")
        return
    if "*" in caller.views:
        return
    for reference in asked.features:
        view, _ = split_reference(reference)
        if not caller.may_read_view(view):
            raise ForbiddenError(f"The key '{caller.name}' may not read view '{view}'.")


def _check_reads_all(caller: Caller) -> None:
    """The catalog tells of every view: SQL, statistics, values. It is for who may read all of them."""
    if "*" not in caller.views:
        raise ForbiddenError(f"The key '{caller.name}' may not read every view, and the catalog tells of all of them.")


def _docs() -> str:
    return (Path(__file__).parent.parent / "templates" / "api.html").read_text(encoding="utf-8")

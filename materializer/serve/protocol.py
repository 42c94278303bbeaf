"""uvicorn's HTTP protocol, but for how it parts from clients that are idle."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# How long an idle client may take to say goodbye over TLS when the server ends; asyncio would give it 30.
GOODBYE_SECONDS = 1.0


class Protocol(HttpToolsProtocol):
    """For ``uvicorn.run(http=...)``."""

    def shutdown(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        super().shutdown()
        if idle:
            asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self.transport.abort)

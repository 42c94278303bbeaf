"""The moment at which events land: by the online store's clock, which its readers judge by, or by this machine's."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from redis.exceptions import RedisError

from materializer.errors import FeatureStoreError

# So often the store is asked, in seconds; in between this machine's clock is taken with what they differ by.
_ASKED = 10.0


class StoreClock:
    """Call it for the moment, in UTC.

    Args:
        ask: asks the online store.
    """

    def __init__(self, ask: Callable[[], datetime]) -> None:
        self._ask = ask
        self._asked = -_ASKED
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        if time.monotonic() - self._asked >= _ASKED:
            try:
                before = datetime.now(timezone.utc)
                told = self._ask()
                self._ahead = told - (before + (datetime.now(timezone.utc) - before) / 2)
            except (RedisError, FeatureStoreError, OSError):
                pass  # events land without it
            self._asked = time.monotonic()
        return datetime.now(timezone.utc) + self._ahead

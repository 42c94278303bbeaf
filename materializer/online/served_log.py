"""What files of served features are, for who writes them (`serve.feature_log`) and who reads them (`skew.served`)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

FORMAT = 1
# The key of a file's metadata that says what its columns are, as JSON.
ABOUT = b"feature_store"
# Columns beside the join keys and features, by the names of Feast's feature logging.
SERVED_AT, REQUEST_ID = "__log_timestamp", "__request_id"


def epoch_micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)

"""Settings of Kafka's client in a file, as Kafka's own tools read it."""

from __future__ import annotations

from pathlib import Path

from materializer.errors import InputError


def settings_of(path: Path) -> dict[str, str]:
    """What a file says, a setting a line. Raises InputError for a line that says none."""
    settings = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            name, equals, value = text.partition("=")
            if not equals:
                raise InputError(f"Line {number} of {path} is not name=value.")
            settings[name.strip()] = value.strip()
    return settings

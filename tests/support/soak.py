"""Cases of which a suite of minutes runs some, and the soak (``pytest -m soak``) all the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def first(few: int, cases: Sequence[Any]) -> list[Any]:
    """Values for `pytest.mark.parametrize`: the first few as they are, the rest for the soak."""
    return [*cases[:few], *(pytest.param(case, marks=pytest.mark.soak) for case in cases[few:])]

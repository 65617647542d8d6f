"""Parameters of a test that only `make test-thorough` tries."""

from collections.abc import Iterable
from typing import Any

import pytest


def thorough(*values: Any) -> Iterable[Any]:
    """Return parameters that `make test` leaves out. A tuple stands for several names."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.thorough)
        for value in values
    ]

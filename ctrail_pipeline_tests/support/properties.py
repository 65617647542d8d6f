"""How far the property tests search."""

import os


def examples(usual: int) -> int:
    """How many examples of a property are tried: `make fuzz` asks for more."""
    return usual * int(os.environ.get("CTRAIL_FUZZ", "1"))

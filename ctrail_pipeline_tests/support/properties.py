"""How far the property tests search."""

import os


def examples(usual: int) -> int:
    """The number of examples that a property test tries. `make fuzz` asks for more."""
    return usual * int(os.environ.get("CTRAIL_FUZZ", "1"))

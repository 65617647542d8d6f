"""What runs saw and did not bring in, in words and as JSON: the same in every report."""

from collections.abc import Mapping
from typing import Any

from ctrail_pipeline.core.keys.left_aside import LeftAside
from ctrail_pipeline.core.untrusted_text import printable


def left_aside_text(by_trail: Mapping[str, LeftAside]) -> str:
    """Return how many objects and folders are left aside, with the first example."""
    objects = sum(left_aside.objects for left_aside in by_trail.values())
    example = next((left_aside.example for left_aside in by_trail.values()), "")
    which = "object or folder is" if objects == 1 else "objects and folders are"
    return f"{objects:,} {which} left aside, such as {printable(example)}"


def left_aside_as_json(by_trail: Mapping[str, LeftAside]) -> dict[str, Any]:
    """Return what is left aside of each trail."""
    return {
        trail: {"objects": left_aside.objects, "example": left_aside.example}
        for trail, left_aside in by_trail.items()
    }

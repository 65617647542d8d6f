"""Files that the configuration names for checking digests: the user metadata of objects.

A local copy of a bucket has no user metadata, and CloudTrail keeps a digest's signature there. So a
trail may name a JSON file with the metadata.
"""

import json
from pathlib import Path
from typing import Any

from ctrail_pipeline.core.exceptions import (
    ConfigurationError,
)
from ctrail_pipeline.core.settings import Trail


def object_metadata(trail: Trail) -> dict[str, dict[str, str]] | None:
    """User metadata by `bucket/key`, of the file that the trail names."""
    if trail.object_metadata is None:
        return None
    found = read_json(trail.object_metadata, "object_metadata")
    if not isinstance(found, dict) or not all(isinstance(item, dict) for item in found.values()):
        raise ConfigurationError(
            f'object_metadata: {trail.object_metadata}: it must be {{"bucket/key": {{"signature":'
            ' "…"}, …}'
        )
    return {
        key: {str(name).lower(): str(value) for name, value in item.items()}
        for key, item in found.items()
    }


def read_json(path: Path, key: str) -> Any:
    """Return the content of a JSON file; `key` is the configuration key that names it."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{key}: {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{key}: {path} is not JSON") from error

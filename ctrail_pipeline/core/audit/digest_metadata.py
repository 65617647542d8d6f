"""The file with the user metadata of objects that a trail may name in its configuration.

CloudTrail keeps a digest's signature in the object's user metadata, and a local copy of a bucket
has none. So a trail may name a JSON file that holds the metadata.
"""

import json
from pathlib import Path
from typing import Any

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.settings import Trail


def object_metadata(trail: Trail) -> dict[str, dict[str, str]]:
    """Return user metadata by `bucket/key`, from the file that the trail names, if it names one.

    Raises ConfigurationError if the file cannot be used.
    """
    if trail.object_metadata is None:
        return {}
    content = read_json(trail.object_metadata, "object_metadata")
    if not isinstance(content, dict) or not all(
        isinstance(metadata, dict) for metadata in content.values()
    ):
        raise ConfigurationError(
            f'object_metadata: {trail.object_metadata}: it must be {{"bucket/key": {{"signature":'
            ' "…"}, …}'
        )
    return {
        key: {str(name).lower(): str(value) for name, value in metadata.items()}
        for key, metadata in content.items()
    }


def read_json(path: Path, key: str) -> Any:
    """Return the content of a JSON file; `key` is the configuration key that names the file.

    Raises ConfigurationError if the file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{key}: {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{key}: {path} is not JSON") from error

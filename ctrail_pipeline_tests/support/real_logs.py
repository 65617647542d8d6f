"""Real published log files, if they lie beside the project. They are never copied into it."""

import pytest

from .project import PROJECT

REAL_LOGS = PROJECT.parent / "shared" / "cloudtrail-logs"
PREFIXES = {"trailscraper": "some-prefix"}
"""The prefix below which a bucket has its log files, for buckets with a prefix."""

needs_real_logs = pytest.mark.skipif(
    not REAL_LOGS.is_dir(), reason="there are no real log files in ../shared/cloudtrail-logs"
)


def _buckets() -> list[str]:
    if not REAL_LOGS.is_dir():
        return []
    folders = (path for path in REAL_LOGS.iterdir() if path.is_dir())
    return sorted(folder.name for folder in folders if not folder.name.startswith("_"))


BUCKETS = _buckets()

"""Real published log files, where a checkout of them lies beside this one; never copied into it."""

import pytest

from .project import PROJECT

REAL_LOGS = PROJECT.parent / "shared" / "cloudtrail-logs"
PREFIXES = {"trailscraper": "some-prefix"}
"""Below which prefix a bucket has its log files, if below one."""

needs_real_logs = pytest.mark.skipif(
    not REAL_LOGS.is_dir(), reason="there are no real log files in ../shared/cloudtrail-logs"
)


def _buckets() -> list[str]:
    if not REAL_LOGS.is_dir():
        return []
    folders = (path for path in REAL_LOGS.iterdir() if path.is_dir())
    return sorted(folder.name for folder in folders if not folder.name.startswith("_"))


BUCKETS = _buckets()

"""Real published log files, where a checkout of them lies beside this one; never copied into it."""

import pytest

from .project import PROJECT

REAL_LOGS = PROJECT.parent / "shared" / "cloudtrail-logs"

needs_real_logs = pytest.mark.skipif(
    not REAL_LOGS.is_dir(), reason="there are no real log files in ../shared/cloudtrail-logs"
)

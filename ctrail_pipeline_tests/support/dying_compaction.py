"""A compaction that dies: in this process by an exception, or in its own process by SIGKILL."""

import signal
import subprocess
import sys

from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.project import PROJECT

STEPS = ["registered", "staged", "committed", "marked", "linked", "published", "removed"]


class Killed(BaseException):
    """Stands for the end of the process: nothing after it happens."""


KILLED_COMPACTION = """
import os, shutil, signal, sys
from pathlib import Path
from ctrail_pipeline.core.ledger.sqlite import SqliteEngine
from ctrail_pipeline.core.upkeep import compaction
from ctrail_pipeline.core.settings import Settings

root, step, at = Path(sys.argv[1]), int(sys.argv[2]), 0

def maybe_die(*_):
    global at
    at += 1
    if at == step:
        os.kill(os.getpid(), signal.SIGKILL)

def dying(inner):
    def call(*arguments, **named):
        maybe_die()
        result = inner(*arguments, **named)
        maybe_die()
        return result
    return call

for owner, name in [
    (os, "link"), (os, "fsync"), (shutil, "rmtree"),
    (Path, "unlink"), (Path, "rename"), (Path, "mkdir"), (Path, "replace"),
]:
    setattr(owner, name, dying(getattr(owner, name)))
opened = SqliteEngine._connect
def connect(self):
    db = opened(self)
    db.set_trace_callback(
        lambda sql: sql.startswith(("INSERT", "UPDATE", "DELETE", "COMMIT")) and maybe_die()
    )
    return db
SqliteEngine._connect = connect
compaction._BATCH_FILES = int(sys.argv[3])
compaction.compact(Settings((), root / "events", root / "quarantine", root / "ledger.db"))
"""


def compact_and_die(settings: Settings, step: int, batch_files: int) -> int:
    arguments = [sys.executable, "-c", KILLED_COMPACTION, str(settings.state_db.parent), str(step)]
    done = subprocess.run(
        [*arguments, str(batch_files)], cwd=PROJECT, check=False, capture_output=True, text=True
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode

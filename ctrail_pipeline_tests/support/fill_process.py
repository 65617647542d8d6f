"""A fill of Parquet in its own process, which kills itself at a step.

python -m ctrail_pipeline_tests.support.fill_process JSON
"""

import json
import signal
import subprocess
import sys

from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep import parquet_fill

from .project import PROJECT
from .sync_process import TIMEOUT_SECONDS, killing_observer, plain_of, settings_of


def fill_and_die(settings: Settings, step: str, number: int, lines_a_portion: int) -> bool:
    """Run a fill that is killed at the `number`th occurrence of a step; whether it got there."""
    job = {"settings": plain_of(settings), "kill_at": [step, number], "lines": lines_a_portion}
    done = subprocess.run(
        [sys.executable, "-m", "ctrail_pipeline_tests.support.fill_process", json.dumps(job)],
        cwd=PROJECT,
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    vars(parquet_fill)["_LINES_A_PORTION"] = job["lines"]
    step, number = job["kill_at"]
    parquet_fill.fill_parquet(
        settings_of(job["settings"]), observe=killing_observer((step, number), 0)
    )

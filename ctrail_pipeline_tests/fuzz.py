"""Run the property tests again and again with new examples (docs/hostile-input.md).

    python -m ctrail_pipeline_tests.fuzz --minutes 10 [--seed 17]

Each round is a pytest run of all properties with a seed of its own, which is printed; the first
failure ends it with 1, and its example is there to be kept in the test (`@example`).
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence

from hypothesis import HealthCheck, settings

from ctrail_pipeline_tests.support.project import PROJECT

EXAMPLES = 10
"""A round has this many times the examples of `make test`. It takes about four minutes."""

settings.register_profile(
    "fuzz",
    max_examples=100 * EXAMPLES,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def play(seed: int) -> int:
    """Play one round and return pytest's exit code."""
    plugin = ["-p", "no:cacheprovider", "-p", __spec__.name, "--hypothesis-profile=fuzz"]
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", f"--hypothesis-seed={seed}"]
    return subprocess.run(
        [*pytest, *plugin, "-m", "hypothesis"],
        cwd=PROJECT,
        env={**os.environ, "CTRAIL_FUZZ": str(EXAMPLES)},
        check=False,
    ).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """Play rounds until the time is over or one fails."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, help="of the first round; each other has the next")
    options = parser.parse_args(arguments)
    first = options.seed if options.seed is not None else random.randrange(10**6)
    end = time.monotonic() + 60 * options.minutes
    seed = first
    while seed == first or time.monotonic() < end:
        print(f"round {seed - first + 1}, --seed {seed}", flush=True)
        if code := play(seed):
            print(f"failed: make fuzz SEED={seed} plays this round again", flush=True)
            return code
        seed += 1
    print(f"{seed - first} rounds from seed {first} on: nothing failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Steps of a campaign that are about an output in a bucket: its server, and its staged objects.

Faults of single requests are drawn for every step (`output_server.OutputFaults`). All other steps
are in `campaign`.
"""

import time
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from ctrail_pipeline_tests.support.fault_server import Faults
from ctrail_pipeline_tests.support.sync_process import let_a_minute_pass

from .output_server import BUCKET, OutputFaults, OutputServer
from .world import Violation

if TYPE_CHECKING:
    from .campaign import Steps


class BucketSteps:
    """The steps that a campaign takes besides, where the output is in a bucket."""

    def __init__(self, steps: "Steps", server: OutputServer) -> None:
        self._steps = steps
        self._server = server

    @property
    def weights(self) -> dict[str, tuple[float, Callable[[Random], None]]]:
        """The steps by name, with their weights."""
        return {
            "staged object vanishes": (8, self._vanishes),
            "output server stopped": (4, self._stopped),
        }

    def _vanishes(self, rng: Random) -> None:
        """Remove staged objects of committed batches. They are made again of their log files.

        All that is open is published first: log files of older batches may have changed since.
        """
        world = self._steps.world
        world.server.faults = Faults()
        self._server.proxy.faults = OutputFaults()
        self._finish(rng)
        for _ in range(rng.randrange(1, 4)):
            world.deliver(rng, rng.randrange(3, 20))
            at = rng.choice(["committed", "marked", "linked"])
            kill_at = (at, rng.choice([1, 1, 2, 3]))
            actors = [self._steps._start("sync", rng, kill_at=kill_at) for _ in range(2)]
            self._steps._wait(actors)
            keys = world.mirror.staged() if world.mirror else []
            keys = [key for key in keys if "/.probes/" not in key]
            gone = rng.sample(keys, rng.randrange(len(keys) + 1))
            for key in gone:
                self._server.client.delete_object(Bucket=BUCKET, Key=key)
            self._steps._tally.trouble["staged object vanished"] += len(gone)
            if rng.random() < 0.4:  # the run that makes objects again may die as well
                self._steps._try_again("sync", rng, rng.randrange(1, 3))
        self._finish(rng)

    def _finish(self, rng: Random) -> None:
        """Run a sync that publishes all that is open."""
        let_a_minute_pass(self._steps.world.settings)
        last = self._steps._start("sync", rng, may_die=False)
        self._steps._wait([last])
        if "error" in last.result:
            raise Violation(f"the output's server answers, and a sync refuses: {last.result}")

    def _stopped(self, rng: Random) -> None:
        """Stop the server while processes are at work, and start the server again."""
        kinds = ["sync", "sync", *rng.choice([[], ["compact"], ["verify"]])]
        actors = [self._steps._start(kind, rng) for kind in kinds]
        for actor in actors:
            actor.wait_until_ready()
        time.sleep(rng.uniform(0.05, 0.8))
        self._server.seaweedfs.pause_service()
        self._steps._tally.trouble["output server stopped"] += 1
        time.sleep(rng.choice([0, 0.3, 1]))
        self._server.seaweedfs.resume_service()
        self._steps._wait(actors)

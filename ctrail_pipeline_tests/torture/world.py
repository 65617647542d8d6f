"""Two growing trails, a server in front of them, an output folder, and the checks of it."""

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from ctrail_pipeline.core.ledger.batches import open_batches
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger_address import PostgresAddress
from ctrail_pipeline.core.output.interface import Marker
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.local.marker_file import read_marker_file
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION,
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    SampleObject,
    generate_log_files,
)
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.oracle import (
    Expectation,
    check_output,
    output_files_now,
    read_buckets,
    text_of,
)
from ctrail_pipeline_tests.support.sync_process import put_object

from .hostile_log_files import HEAD, TAIL, hostile_log_file
from .output_server import Mirror, OutputServer, credentials

PREFIXES = {ORGANIZATION_BUCKET: "", PAYMENTS_BUCKET: PAYMENTS_PREFIX}
ROOMY = "512m"
LOG_FILES = 800
AT_FIRST = 120
DAYS = 3
EVERYTHING_HOURS = 24 * 365 * 20


class Violation(Exception):
    """A promise was broken."""


class Disk:
    """The disk of output and ledger: a tmpfs that can become small or read-only, or a folder.

    Only root can mount. Without root, `mounted` is false and `why_not` says what was tried.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounted = False
        self.why_not = ""
        folder.mkdir(parents=True)
        if os.geteuid() != 0:
            self.why_not = "only root may mount a small file system"
            return
        options = f"size={ROOMY},mode=0700"
        done = self._run("mount", "-t", "tmpfs", "-o", options, "ctrail-test", str(folder))
        self.mounted = not done.returncode
        self.why_not = done.stderr.strip()

    def remount(self, options: str) -> bool:
        """Change the file system. Return False if it is in use and cannot be changed."""
        done = self._run("mount", "-o", f"remount,{options}", str(self.folder))
        return not done.returncode

    def leave_free(self, size: int) -> bool:
        """Make the file system so small that only `size` bytes are free."""
        used = shutil.disk_usage(self.folder).used
        return self.remount(f"size={(used + size + 1023) // 1024}k")

    def restore(self) -> None:
        """Make the file system large and writable."""
        if self.mounted and not (self.remount("rw") and self.remount(f"size={ROOMY}")):
            message = f"{self.folder} cannot be remounted"
            raise OSError(message)

    def close(self) -> None:
        """Unmount the file system, and lose what was on it."""
        if self.mounted:
            self._run("umount", "-l", str(self.folder))
            self.mounted = False

    @staticmethod
    def _run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, check=False, capture_output=True, text=True)


_NO_FAULTS = {"RECORDS_IN_QUARANTINE", "LOG_FILE_ACCEPTED", "LEFT_ASIDE"}
"""Findings that say what a person should know of, and that nothing is wrong."""


class World:
    """Buckets, server and output, all below one folder."""

    def __init__(
        self,
        folder: Path,
        server: FaultServer,
        disk: Disk,
        rng: Random,
        postgres: PostgresAddress | None = None,
        outputs: OutputServer | None = None,
    ) -> None:
        """Make a world whose buckets lie in `server.root`, which must be empty.

        Its output lies in `outputs`, or in folders.
        """
        self.outputs = outputs
        self.mirror = Mirror(outputs, folder.name, folder / "mirror") if outputs else None
        self.folder = folder
        self.server = server
        self.disk = disk
        self.buckets = server.root
        trails = tuple(
            Trail(bucket, bucket, prefix, "us-east-1", server.endpoint_url)
            for bucket, prefix in PREFIXES.items()
        )
        self.settings = Settings(
            trails,
            disk.folder / "events",
            disk.folder / "quarantine",
            disk.folder / "ledger.db",
            postgres,
            events_per_file=rng.choice([40, 300, 10_000]),
            batch_log_files=rng.choice([3, 8, 20]),
            list_batch_size=rng.choice([10, 1_000]),
            download_workers=rng.choice([4, 8, 16]),
            process_workers=1,
            connect_timeout=5,
            client_timeout=10,
            output_formats=rng.choice([("jsonl",), ("jsonl", "parquet")]),
            jsonl_compression=_compression(rng),
            output=outputs.output_of(folder.name) if outputs else None,
        )
        self._arrivals = self._in_order_of_arrival(rng)
        self.delivered: list[SampleObject] = []
        """Sound log files as they are in the bucket now."""
        self.held_back: list[SampleObject] = []
        """Sound versions of log files that are damaged in the bucket."""
        self.accepted: dict[str, str] = {}
        """By location, the SHA-256 of log files that were accepted as they are."""
        self.log_files = 0
        self.pruned_before = ""
        """The hour (`YYYY/MM/DD/HH`) before which anything may have been pruned, or ""."""
        self.gone: set[bytes] = set()
        """Pruned lines. They must not come back unless the ledger is lost."""
        self.perhaps_gone: set[bytes] = set()
        """Absent lines of log files with damaged JSON: either they need not be there, or they were
        pruned. The next healing of the log file shows which."""
        self._may_be_gone = False
        """Whether somebody pruned since the last check, so that the pruned lines are unknown."""
        for bucket in PREFIXES:
            (self.buckets / bucket).mkdir(parents=True)
        # A trail with nothing at all is an error, which is tested elsewhere.
        for bucket in PREFIXES:
            self._put(
                next(
                    sample_object
                    for sample_object in self._arrivals
                    if sample_object.bucket == bucket
                )
            )
        self.deliver(rng, AT_FIRST)
        self._write_configuration()

    @staticmethod
    def _in_order_of_arrival(rng: Random) -> list[SampleObject]:
        """Sort log files by arrival. One in five comes later than others with later keys."""
        objects = generate_log_files(log_files=LOG_FILES, days=DAYS, seed=rng.randrange(1 << 30))
        late = {True: lambda: timedelta(hours=rng.uniform(0.2, 60)), False: timedelta}
        arriving = [
            replace(
                sample_object,
                last_modified=sample_object.last_modified + late[rng.random() < 0.2](),
            )
            for sample_object in objects
        ]
        return sorted(arriving, key=lambda sample_object: sample_object.last_modified)

    def _write_configuration(self) -> None:
        """Write a configuration with the same trails and folders, for `ctrail` and Dagster."""
        settings = self.settings
        configuration = {
            "trails": [
                {
                    "name": trail.name,
                    "bucket": trail.bucket,
                    "prefix": trail.prefix,
                    "region": trail.region,
                    "endpoint_url": trail.endpoint_url,
                }
                for trail in settings.trails
            ],
            "events_dir": str(settings.events_dir),
            "quarantine_dir": str(settings.quarantine_dir),
            "state_db": str(settings.ledger),
            "events_per_file": settings.events_per_file,
            "download_workers": settings.download_workers,
            "process_workers": 1,
            "output_formats": list(settings.output_formats),
            "jsonl_compression": settings.jsonl_compression,
        }
        if settings.output is not None:
            del configuration["quarantine_dir"]
            configuration["events_dir"] = str(settings.output.events)
            configuration["output"] = {
                "region": settings.output.region,
                "endpoint_url": settings.output.endpoint_url,
            }
        (self.folder / "config.json").write_text(json.dumps(configuration))

    # -- the output --------------------------------------------------------------------------------

    @property
    def output_in_folders(self) -> Settings:
        """Settings that name folders which hold the output as it is now."""
        if self.mirror is None:
            return self.settings
        self.mirror.update()
        return replace(
            self.settings,
            output=None,
            events_dir=self.mirror.folder / "events",
            quarantine_dir=self.mirror.folder / "quarantine",
            parquet_dir=self.mirror.folder / "parquet",
        )

    def marker(self) -> Marker | None:
        """What the marker of the events says; None where there is none."""
        if self.mirror is None:
            return read_marker_file(self.settings.events_dir)
        self.mirror.update()
        return read_marker_file(self.mirror.folder / "events")

    @property
    def environment(self) -> dict[str, str]:
        """The variables for processes that work in this world."""
        return self.server.env() | (credentials() if self.outputs else {})

    def let_hours_pass(self) -> None:
        """Have all that is published be old enough to be merged and pruned.

        In a bucket what is new stays for an hour, as a COPY may still be on its way. None is when
        this is called: all processes have ended, and the proxy holds no COPY back.
        """
        if self.outputs is None or not ledger_exists(self.settings.ledger):
            return
        self.outputs.proxy.wait_for_late_copies()
        with closing(Ledger(self.settings.ledger)) as ledger, ledger.transaction():
            ledger.execute("UPDATE batch SET published_at = published_at - 7200")

    # -- the buckets grow ------------------------------------------------------------------------

    def deliver(self, rng: Random, count: int) -> list[str]:
        """Let log files arrive, most of them sound, and return their keys."""
        return [self._deliver_one(rng) for _ in range(count) if self._arrivals]

    def _deliver_one(self, rng: Random) -> str:
        sample_object = self._arrivals.pop(0)
        chance = rng.random()
        if "/CloudTrail/" not in sample_object.key or chance >= 0.15:
            self._put(sample_object)
        elif chance < 0.06:
            self._put_damaged(sample_object, rng)
        elif chance < 0.09:
            self._put_copy(sample_object, rng)
        elif chance < 0.12:
            self._put_odd(sample_object, rng)
        else:
            self._put_hostile(sample_object, rng)
        return sample_object.key

    def _put(self, sample_object: SampleObject) -> None:
        put_object(
            self.buckets / sample_object.bucket,
            sample_object.key,
            sample_object.body,
            sample_object.last_modified,
        )
        if sample_object in self._arrivals:
            self._arrivals.remove(sample_object)
        if "/CloudTrail/" in sample_object.key:
            self.delivered.append(sample_object)
            self.log_files += 1

    def _put_damaged(self, log_file: SampleObject, rng: Random) -> None:
        """Put a log file as bad uploads and disks leave it. A sound version may come later."""
        body, text = log_file.body, gzip.decompress(log_file.body)
        at = rng.randrange(10, len(body))
        harmed = rng.choice(
            [
                body[:at],
                body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :],
                gzip.compress(text[: rng.randrange(len(text))], mtime=0),
                b"\xff\xfeno gzip, no JSON",
                b"",
            ]
        )
        put_object(self.buckets / log_file.bucket, log_file.key, harmed, log_file.last_modified)
        self.held_back.append(log_file)
        self.log_files += 1

    def _put_copy(self, log_file: SampleObject, rng: Random) -> None:
        """Put the log file, and a copy of it in the other trail."""
        self._put(log_file)
        account = log_file.key.partition("/CloudTrail/")[0].rpartition("/")[2]
        below_kind = log_file.key.partition("/CloudTrail/")[2]
        other_bucket, prefix = (
            (PAYMENTS_BUCKET, f"{PAYMENTS_PREFIX}/AWSLogs")
            if log_file.bucket == ORGANIZATION_BUCKET
            else (ORGANIZATION_BUCKET, f"AWSLogs/{ORGANIZATION}")
        )
        key = f"{prefix}/{account}/CloudTrail/{below_kind}"
        body = gzip.compress(gzip.decompress(log_file.body), rng.choice([0, 1, 9]), mtime=0)
        put_object(self.buckets / other_bucket, key, body, log_file.last_modified)
        self.log_files += 1

    def _put_hostile(self, log_file: SampleObject, rng: Random) -> None:
        """Put a hostile log file under this key, now and then also damaged or copied."""
        hostile = replace(log_file, body=hostile_log_file(gzip.decompress(log_file.body), rng))
        if rng.random() < 0.15:
            self._put_damaged(hostile, rng)
        elif rng.random() < 0.15:
            self._put_copy(hostile, rng)
        else:
            self._put(hostile)

    def _put_odd(self, log_file: SampleObject, rng: Random) -> None:
        """Put the log file, and beside it an object with an odd name or odd records."""
        self._put(log_file)
        folder = log_file.key.rpartition("/")[0]
        name, body = rng.choice(
            [
                (f"copy of ({rng.randrange(99)}) ä+&%41.json.gz", log_file.body),
                (f"{rng.randrange(10**6)}.json.gz", log_file.body),
                (f"notes-{rng.randrange(99)}.txt", b"no log file"),
                (f"empty-{rng.randrange(99)}.json.gz", gzip.compress(b'{"Records":[]}', mtime=0)),
                (
                    f"odd-{rng.randrange(10**6)}.json.gz",
                    gzip.compress(
                        b'{"Records":[{"eventName":"NoTime%d"},17]}' % rng.randrange(10**9),
                        mtime=0,
                    ),
                ),
            ]
        )
        put_object(self.buckets / log_file.bucket, f"{folder}/{name}", body, log_file.last_modified)
        self.log_files += name.endswith(".json.gz")

    def rewrite(self, rng: Random) -> None:
        """Deliver log files again under another etag: healed, packed otherwise, or grown."""
        healed = [log_file for log_file in self.held_back if rng.random() < 0.5]
        for log_file in healed:
            self.held_back.remove(log_file)
            self._put(replace(log_file, last_modified=log_file.last_modified + timedelta(hours=30)))
            self.log_files -= 1
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(self.delivered))
            log_file = self.delivered[at]
            text = gzip.decompress(log_file.body)
            if rng.random() < 0.5:
                added = gzip.decompress(rng.choice(self.delivered).body)
                if all(
                    packed.startswith(HEAD) and packed.endswith(TAIL) for packed in (text, added)
                ):
                    records = text[len(HEAD) : -len(TAIL)], added[len(HEAD) : -len(TAIL)]
                    text = HEAD + b",".join(filter(None, records)) + TAIL
            body = gzip.compress(text, rng.choice([0, 1, 9]), mtime=0)
            again = replace(
                log_file, body=body, last_modified=log_file.last_modified + timedelta(hours=1)
            )
            put_object(self.buckets / log_file.bucket, log_file.key, body, again.last_modified)
            self.delivered[at] = again

    @property
    def is_delivered(self) -> bool:
        """Whether everything has arrived."""
        return not self._arrivals

    # -- what is pruned --------------------------------------------------------------------------

    def prune_somehow(self, hour: str) -> None:
        """Note that a prune begins that may die or meet runs: any older hour may be gone."""
        self.pruned_before = max(self.pruned_before, hour)
        self._may_be_gone = True

    def note_pruned(self, hour: str, lines: set[bytes]) -> list[str]:
        """Note that a prune removed these lines of older hours. Return what it left behind."""
        self.pruned_before = max(self.pruned_before, hour)
        self.gone |= lines
        roots = LocalOutput.of(self.output_in_folders).roots
        files = roots[Kind.PARQUET].rglob("*.parquet")
        date = hour[:10].replace("/", "-")
        wrong = [f"{path} was not pruned" for path in files if path.parent.name[5:] < date]
        return wrong + [f"not pruned: {line[:200]!r}" for line in self.lines_before(hour)]

    def lines_before(self, hour: str) -> set[bytes]:
        """The lines of older hours in the output."""
        events = self.output_in_folders.events_dir
        return {
            line
            for path in output_files_now(events)
            if _hour_of(path.parent.relative_to(events).as_posix()) < hour
            for line in text_of(path).splitlines()
        }

    def forget_pruned(self) -> None:
        """Forget pruned lines: the ledger was lost, so all log files are new again."""
        self.pruned_before = ""
        self.gone.clear()
        self.perhaps_gone.clear()
        self._may_be_gone = False

    # -- the checker -----------------------------------------------------------------------------

    def expectation(self) -> Expectation:
        """Read the lines that the buckets hold now, without those that were pruned.

        If a prune died or ran beside others, the pruned lines are unknown. Then they are the absent
        lines, since everything was brought in before. From now on they are known.
        """
        found = read_buckets((self.buckets / name, prefix) for name, prefix in PREFIXES.items())
        remaining = self.lines_before(self.pruned_before)
        old, optional = (
            {
                line
                for line, expected in lines.items()
                if max(map(_hour_of, expected.folders)) < self.pruned_before
                and line not in remaining
            }
            for lines in (found.lines, found.optional)
        )
        self.gone |= old if self._may_be_gone else old & self.perhaps_gone
        self.perhaps_gone |= optional if self._may_be_gone else set()
        self.perhaps_gone -= found.lines.keys()
        self._may_be_gone = False
        for line in self.gone:
            found.lines.pop(line, None)
            found.optional.pop(line, None)
        return found

    def looking_back(self) -> Settings:
        """Settings of a run that looks at every key again."""
        days = EVERYTHING_HOURS // 24
        return replace(self.settings, lookback_hours=EVERYTHING_HOURS, horizon_days=days)

    def make_all_visits_due(self) -> None:
        """Make every visit due, as if enough time had passed to retry all that failed."""
        with closing(Ledger(self.settings.ledger)) as ledger, ledger.transaction():
            ledger.execute("UPDATE log_file SET next_visit = 0 WHERE next_visit IS NOT NULL")

    def unexpected_findings(self, found: dict[str, Any], expectation: Expectation) -> list[str]:
        """The findings of a deep `compare`, without log files that are really damaged or hollow."""
        damaged = {
            f"s3://{Path(path).relative_to(self.buckets).as_posix()}"
            for path in (*expectation.damaged_log_files, *expectation.hollow_log_files)
        }
        return [f"verify: {problem}" for problem in found["problems"]] + [
            f"verify: {kind} {location}: {detail}"
            for kind, location, detail in found["findings"]
            if not (kind == "LOG_FILE_DAMAGED" and location in damaged) and kind not in _NO_FAULTS
        ]


def _compression(rng: Random) -> str:
    """Draw a compression of JSON Lines; what the seed draws next stays as it is without."""
    twin = Random()
    twin.setstate(rng.getstate())
    return twin.choice(["none", "gzip", "zstd"])


def _hour_of(folder: str) -> str:
    """The part `YYYY/MM/DD/HH` of `account/region/YYYY/MM/DD/HH`."""
    return folder.split("/", 2)[2]


def wrong_on_disk(settings: Settings, expectation: Expectation) -> list[str]:
    """The faults of the output and the ledger, when all is quiet and brought in."""
    report = check_output(
        settings.events_dir,
        settings.quarantine_dir,
        expectation,
        events_per_file=settings.events_per_file,
    )
    wrong = [
        f"{len(found)} {kind}: " + "; ".join(found[:3]) for kind, found in report.violations.items()
    ]
    with closing(Ledger(settings.ledger)) as ledger:
        if still_open := open_batches(ledger):
            wrong.append(f"batches left open: {still_open}")
        if settings.postgres is not None:
            ledger.check()
        elif (found := ledger.rows("PRAGMA integrity_check")) != [("ok",)]:
            wrong.append(f"integrity_check: {found[:3]}")
    return wrong


@contextmanager
def new_world(
    folder: Path,
    rng: Random,
    postgres: PostgresAddress | None = None,
    outputs: OutputServer | None = None,
) -> Iterator[World]:
    """Make a world in a new folder. Its disk is gone at the end."""
    buckets = folder / "buckets"
    buckets.mkdir(parents=True)
    disk = Disk(folder / "disk")
    try:
        with FaultServer(buckets, page_keys=rng.choice([2, 4, 10, 1_000])) as server:
            yield World(folder, server, disk, rng, postgres, outputs)
    finally:
        disk.close()

"""A process that lists and reads the events of a world over and over, while others write them.

The observer has its own client (boto3) and its own statements to the ledger, and nothing of
`ctrail_pipeline`: a reader of the bucket sees what the observer sees. At every instant each line is
there once, except within a folder while a merged file takes the place of others. The ledger knows
each file. No object is half, none changes, and none comes back after its removal.

    python -m ctrail_pipeline_tests.torture.observer JSON

reads commands, one a line, and answers each with a line of JSON. A round that begins after the
command came is part of every answer.
"""

import gzip
import hashlib
import json
import os
import select
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from ctrail_pipeline_tests.support.project import PROJECT

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PAUSE_SECONDS: Final = 0.1
_READ_AGAIN: Final = 5
"""Objects that are known and read again in each round, although their etag is the same."""
_ENDINGS: Final = ("", ".gz", ".zst")
_COMMITTED: Final = (1, 2)
_FILES: Final = (
    "SELECT p.folder, f.number, f.compression, f.sha256 FROM output_file f"
    " JOIN output_partition p ON p.id = f.output_partition JOIN batch b ON b.id = f.batch"
    f" WHERE p.kind = 0 AND b.state IN {_COMMITTED}"
)


class Object(NamedTuple):
    """What an object of events holds."""

    etag: str
    sha256: bytes
    lines: frozenset[bytes]
    """The SHA-256 of each line."""
    is_merged: bool


class Observer:
    """Looks at the events below a prefix."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self.rounds = 0
        self.read = 0
        """Objects that were read, counted at each reading."""
        self.missed = 0
        """Rounds in which the server did not answer."""
        self.unjudged = 0
        """Objects that went before the ledger could be asked about them."""
        self.violations: list[str] = []
        self._job = job
        self._prefix = f"{job['prefix']}/"
        self._client = boto3.client(
            "s3",
            endpoint_url=job["endpoint_url"],
            region_name=job["region"],
            aws_access_key_id=job["access_key"],
            aws_secret_access_key=job["secret_key"],
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10),
        )
        self._rng = Random(job["seed"])
        self._objects: dict[str, Object] = {}
        """What is there, by key."""
        self._removed: set[str] = set()
        self._unknown: set[str] = set()
        """Keys that the ledger has not been asked about."""
        self._asks_ledger = True

    # -- commands ----------------------------------------------------------------------------------

    def obey(self, command: str) -> dict[str, Any]:
        """Do what the campaign says, and answer."""
        if command == "ledger goes":
            self._asks_ledger = False
        elif command == "ledger is back":
            self._asks_ledger = True
        elif command == "ledger was lost":  # its numbers begin anew behind the files that are there
            self._asks_ledger = True
            self._removed.clear()
        end = time.monotonic() + 60
        while not self.round():
            if time.monotonic() > end:
                self._say("the server did not answer for a minute")
                break
            time.sleep(0.1)
        return {
            "violations": self.violations,
            "rounds": self.rounds,
            "read": self.read,
            "missed": self.missed,
            "unjudged": self.unjudged,
            "objects": len(self._objects),
        }

    # -- a round -----------------------------------------------------------------------------------

    def round(self) -> bool:
        """List everything, read what is new, and judge. Return False if the server is away."""
        try:
            self._look()
        except (BotoCoreError, HTTPClientError):
            self.missed += 1
            return False
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                raise
            self.missed += 1
            return False
        self.rounds += 1
        return True

    def _look(self) -> None:
        listed = self._list()
        for key in self._objects.keys() - listed.keys():
            if self._exists(key):
                self._say(f"{key} is there, and a listing did not show it")
            else:
                self._removed.add(key)
                del self._objects[key]
        again = self._rng.sample(sorted(self._objects), min(_READ_AGAIN, len(self._objects)))
        for key, (etag, size) in listed.items():
            known = self._objects.get(key)
            if known is not None and known.etag != etag:
                self._say(f"{key} was overwritten: its etag was {known.etag}, and is {etag}")
            if known is None and key in self._removed:
                self._say(f"{key} came back after it was removed")
            if known is None or known.etag != etag or key in again:
                self._read(key, etag, size)
        self._look_for_doubles([key for key in listed if key in self._objects])
        self._ask_ledger()

    def _list(self) -> dict[str, tuple[str, int]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._job["bucket"], Prefix=self._prefix
        )
        return {
            item["Key"]: (item["ETag"], item["Size"])
            for page in pages
            for item in page.get("Contents", ())
            if not item["Key"].endswith("/.ctrail")
        }

    def _exists(self, key: str) -> bool:
        try:
            self._client.head_object(Bucket=self._job["bucket"], Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return False
        return True

    def _read(self, key: str, etag: str, size: int) -> None:
        try:
            response = self._client.get_object(Bucket=self._job["bucket"], Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return  # it was removed since it was listed; the next round sees that
        body = response["Body"].read()
        self.read += 1
        if len(body) != size:
            self._say(f"{key} has {len(body)} bytes, and the listing said {size}")
        try:
            text = _text(key, body)
        except (OSError, EOFError, zstd.ZstdError) as error:
            self._say(f"{key} is half an object: {error}")
            return
        if not text.endswith(b"\n"):
            self._say(f"{key} is half an object: it does not end with a line end")
        lines = [hashlib.sha256(line).digest() for line in text.removesuffix(b"\n").split(b"\n")]
        if len(lines) != len(set(lines)):
            self._say(f"{key} has a line twice")
        found = Object(
            etag,
            hashlib.sha256(body).digest(),
            frozenset(lines),
            "ctrail-merged" in response["Metadata"],
        )
        known = self._objects.get(key)
        if known is not None and known.sha256 != found.sha256:
            self._say(f"{key} has other bytes than it had")
        if known is None or known.sha256 != found.sha256:
            self._unknown.add(key)
        self._objects[key] = found

    def _look_for_doubles(self, keys: list[str]) -> None:
        """Judge the lines of one listing."""
        seen: dict[bytes, str] = {}
        for key in keys:
            found = self._objects[key]
            for line in found.lines:
                other = seen.setdefault(line, key)
                if other != key and not self._may_overlap(key, other):
                    self._say(f"{key} and {other} have a line twice")
                    break

    def _may_overlap(self, key: str, other: str) -> bool:
        """Whether one of these files may be about to take the place of the other."""
        return key.rpartition("/")[0] == other.rpartition("/")[0] and (
            self._objects[key].is_merged or self._objects[other].is_merged
        )

    def _ask_ledger(self) -> None:
        """Judge the files that are new since the ledger was asked."""
        if not self._unknown or not self._asks_ledger:
            return
        files = self._files_in_ledger()
        if files is None:
            return
        for key in sorted(self._unknown):
            found = self._objects.get(key)
            if found is not None and files.get(key) == found.sha256:
                continue
            if found is None or not self._exists(key):
                self.unjudged += 1
            elif key in files:
                self._say(f"{key} has other bytes than the ledger says")
            else:
                self._say(f"{key} has lines, and the ledger lacks them")
        self._unknown.clear()

    def _files_in_ledger(self) -> dict[str, bytes] | None:
        """Return the SHA-256 of each file that is committed; None if the ledger does not answer."""
        try:
            rows = self._rows()
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in {"sqlite3", "psycopg"}:
                raise
            return None
        return {
            f"{self._prefix}{folder}/events_{number:05d}.jsonl{_ENDINGS[compression]}": bytes(
                sha256
            )
            for folder, number, compression, sha256 in rows
        }

    def _rows(self) -> list[Any]:
        if self._job["postgres"] is not None:
            import psycopg

            with psycopg.connect(self._job["postgres"], connect_timeout=5) as connection:
                return connection.execute(_FILES).fetchall()
        with closing(
            sqlite3.connect(f"file:{self._job['ledger']}?mode=rw", uri=True, timeout=5)
        ) as ledger:
            return ledger.execute(_FILES).fetchall()

    def _say(self, violation: str) -> None:
        if violation not in self.violations:
            self.violations.append(violation)


def _text(key: str, body: bytes) -> bytes:
    if key.endswith(".gz"):
        return gzip.decompress(body)
    return bytes(zstd.decompress(body)) if key.endswith(".zst") else body


# --- in the campaign ------------------------------------------------------------------------------


class ObserverProcess:
    """A running observer, for as long as a `with` block lasts."""

    def __init__(self, job: Mapping[str, Any], errors: Path) -> None:
        self.seen: dict[str, Any] = {}
        """The last answer."""
        self._job = job
        self._errors = errors

    def __enter__(self) -> "ObserverProcess":
        """Start the observer."""
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ctrail_pipeline_tests.torture.observer"),
                    json.dumps(self._job),
                ],
                cwd=PROJECT,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """End the observer."""
        self._process.kill()
        self._process.communicate()

    def tell(self, command: str) -> list[str]:
        """Give a command, wait for a whole round after it, and return all violations."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(command, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            return [f"the observer ended: {self._errors.read_text()[-2000:]}"]
        self.seen = json.loads(answer)
        return [f"observer: {text}" for text in self.seen["violations"]]


def main() -> None:
    """Look until the campaign closes the standard input."""
    observer = Observer(json.loads(sys.argv[1]))
    while True:
        if select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
            command = sys.stdin.readline()
            if not command:
                return
            print(json.dumps(observer.obey(command.strip())), flush=True)
        else:
            observer.round()


if __name__ == "__main__":
    main()

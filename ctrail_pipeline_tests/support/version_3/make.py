"""Makes the files of this folder anew, with the version of this program that is on PYTHONPATH.

README.md says with which version and how it is called.
"""

import gzip
import json
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail

ACCOUNT = "111122223333"
CALLER = "999988887777"
REGION = "eu-west-1"
FOLDER = f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2026/01/10/"


def record(number: int, **changes: object) -> bytes:
    """A record of the recipient; a field that `changes` sets to None is left out."""
    fields: dict[str, object] = {
        "eventVersion": "1.08",
        "userIdentity": {"type": "AWSAccount", "accountId": CALLER},
        "eventTime": f"2026-01-10T12:{number:02}:00Z",
        "eventName": "AssumeRole",
        "awsRegion": REGION,
        "eventID": f"{number:08}-0000-4000-8000-000000000000",
        "recipientAccountId": ACCOUNT,
    }
    fields |= changes
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


NO_RECIPIENT = {"recipientAccountId": None}
LOG_FILES = {
    "A": [record(1), record(2), record(3, **NO_RECIPIENT), record(4, **NO_RECIPIENT)],
    "B": [
        record(4, **NO_RECIPIENT),
        record(5, userIdentity=None, **NO_RECIPIENT),
        record(6, awsRegion="us-east-1", **NO_RECIPIENT),
        record(7, awsRegion=None, **NO_RECIPIENT),
    ],
    "C": [record(8), record(9, eventTime="2026-01-10T12:09:00+00:00"), record(10, eventTime=None)],
    "D": [record(11, eventTime=None), record(12, eventTime="noon")],
}
DAMAGED = "E"


def main(target: Path) -> None:
    """Write bucket, ledger and output into `target`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bucket = folder / "bucket"
        (bucket / FOLDER).mkdir(parents=True)
        bodies = {
            suffix: gzip.compress(b'{"Records":[' + b",".join(records) + b"]}", mtime=0)
            for suffix, records in LOG_FILES.items()
        }
        bodies[DAMAGED] = gzip.compress(b'{"Records":[' + record(13) + b"]}", mtime=0)[:-4]
        for suffix, body in bodies.items():
            key = f"{FOLDER}{ACCOUNT}_CloudTrail_{REGION}_20260110T1215Z_{suffix:0>16}.json.gz"
            (bucket / key).write_bytes(body)
        settings = Settings(
            (Trail("bucket", bucket.as_uri()),),
            events_dir=folder / "events",
            quarantine_dir=folder / "quarantine",
            state_db=folder / "ledger.db",
        )
        sync(settings)
        with closing(sqlite3.connect(settings.state_db)) as database:
            text = "\n".join(database.iterdump()) + "\n"
        (target / "ledger.sql").write_text(text.replace(bucket.as_uri(), "file:///BUCKET"))
        for part in ("bucket", "events", "quarantine"):
            shutil.rmtree(target / part, ignore_errors=True)
            shutil.copytree(folder / part, target / part, ignore=shutil.ignore_patterns(".staging"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

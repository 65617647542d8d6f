"""Records and log files of somebody who means harm, and their keys in a bucket."""

import gzip
import json
from datetime import UTC, datetime

from ctrail_pipeline_tests.support.log_file_texts import wrap

ACCOUNT = "111122223333"
REGION = "eu-west-1"
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
FOLDER = f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2026/01/10/"


def record(number: int, **changes: object) -> bytes:
    """A correct event with `changes` applied. A field that `changes` sets to None is left out."""
    fields = {
        "eventTime": f"{NOON:%Y-%m-%dT%H:%M:%SZ}",
        "awsRegion": REGION,
        "recipientAccountId": ACCOUNT,
        "eventID": f"{number:08}",
        **changes,
    }
    return json.dumps(fields).encode()


def packed(*records: bytes) -> bytes:
    return gzip.compress(wrap(*records), mtime=0)

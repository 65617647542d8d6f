"""Log files of the last hours by the real clock, for tests of looks and horizons."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ctrail_pipeline.core.keys.minutes import day_folder, day_number
from ctrail_pipeline.core.keys.source_prefix import CLOUDTRAIL, SourcePrefix
from ctrail_pipeline_tests.support.sync_process import put_object

NOW = datetime.now(UTC).replace(second=0, microsecond=0)


def put(
    bucket: Path, account: str, region: str, moment: datetime, suffix: str, kind: str = CLOUDTRAIL
) -> str:
    """Put a log file with one event. It is delivered five minutes after the time in its key."""
    source_prefix = SourcePrefix("logs", "", "", account, region, kind)
    number = day_number(moment.year, moment.month, moment.day)
    assert number is not None
    name = f"{account}_{kind}_{region}_{moment:%Y%m%dT%H%MZ}_{suffix.rjust(16, '0')}.json.gz"
    record = {
        "eventTime": f"{moment:%Y-%m-%dT%H:%M:00Z}",
        "eventID": f"{kind}{account}{region}{moment}{suffix}",
        "awsRegion": region,
        "recipientAccountId": account,
    }
    body = gzip.compress(json.dumps({"Records": [record]}).encode(), mtime=0)
    key = source_prefix.folder + day_folder(number) + name
    put_object(bucket, key, body, moment + timedelta(minutes=5))
    return key

"""Baselines for a sync, each in a fresh process: `python -m benchmarks.baselines JSON`.

`loop` is what anybody writes in an afternoon: boto3, gzip and json, one log file after another. A
set of eventIDs in memory finds duplicates; each account, region and hour has a file. It is not
crash-safe and not byte for byte. `floor` is the least that any program can do with the same bytes,
from local files: gunzip (libdeflate), one copy, write. Nothing is parsed, compared or made durable.
"""

import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

_FLOOR_BUFFER_BYTES: Final = 64 * 1024 * 1024


def loop(job: dict[str, Any]) -> dict[str, Any]:
    """Run the plain loop over at most `log_files` log files of each bucket."""
    import boto3

    client = boto3.client("s3", endpoint_url=job["endpoint_url"])
    seen: set[str] = set()
    done = bytes_in = 0
    began = time.process_time()
    for bucket, limit in job["log_files"].items():
        remaining = limit
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                if "/CloudTrail/" not in item["Key"]:
                    continue
                if not remaining:
                    break
                body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                text = gzip.decompress(body)
                _write_records(Path(job["folder"]), json.loads(text)["Records"], seen)
                remaining -= 1
                done += 1
                bytes_in += len(text)
            if not remaining:
                break
    return {"log_files": done, "bytes": bytes_in, "work_cpu": time.process_time() - began}


def _write_records(folder: Path, records: list[dict[str, Any]], seen: set[str]) -> None:
    lines: dict[str, list[str]] = {}
    for record in records:
        if record["eventID"] in seen:
            continue
        seen.add(record["eventID"])
        account, region, at = (
            record.get("recipientAccountId", "-"),
            record.get("awsRegion", "-"),
            record["eventTime"],
        )
        hour_folder = f"{account}/{region}/{at[:10].replace('-', '/')}/{at[11:13]}"
        lines.setdefault(hour_folder, []).append(json.dumps(record))
    for hour_folder, texts in lines.items():
        path = folder / hour_folder / "events.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write("\n".join(texts) + "\n")


def floor(job: dict[str, Any]) -> dict[str, Any]:
    """Gunzip, copy and write every log file of the folder."""
    import deflate

    folder = Path(job["folder"])
    folder.mkdir(parents=True)
    keys = [line.split(" ", 1) for line in Path(job["keys"]).read_text().splitlines()]
    root = Path(job["source"])
    buffer = memoryview(
        bytearray(b"-" * _FLOOR_BUFFER_BYTES)
    )  # so that its memory is touched before the measurement
    bytes_in = filled = files = 0
    began = time.process_time()
    for bucket, key in keys:
        body = (root / bucket / key).read_bytes()
        text = deflate.gzip_decompress(body, int.from_bytes(body[-4:], "little"))
        if filled + len(text) > len(buffer):
            (folder / f"{files}.jsonl").write_bytes(buffer[:filled])
            files += 1
            filled = 0
        buffer[filled : filled + len(text)] = text
        filled += len(text)
        bytes_in += len(text)
    (folder / f"{files}.jsonl").write_bytes(buffer[:filled])
    return {"log_files": len(keys), "bytes": bytes_in, "work_cpu": time.process_time() - began}


if __name__ == "__main__":
    _job = json.loads(sys.argv[1])
    print(json.dumps({"loop": loop, "floor": floor}[_job["what"]](_job)))

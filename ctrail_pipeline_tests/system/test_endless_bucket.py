"""A bucket whose listing never ends: memory stays bounded, and a run stops when it is told."""

import gzip
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import pytest

from ctrail_pipeline.core.bucket import s3_retry
from ctrail_pipeline.core.bucket.interface import PAGE_SIZE, Fetched, Folder, Listed, Page
from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import StoreUnavailable
from ctrail_pipeline.core.keys.coverage import EVERYTHING, Lookback
from ctrail_pipeline.core.keys.minutes import Minute
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles
from ctrail_pipeline.core.ledger.source_prefixes import register_sources
from ctrail_pipeline.core.listing import folder_walk as listing_module
from ctrail_pipeline.core.listing.folder_walk import Listing
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.listing.sources import LogFileRef, Source
from ctrail_pipeline.core.run import sync as sync_module
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline_tests.support.hostile_log_files import (
    ACCOUNT,
    FOLDER,
    NOON,
    REGION,
    packed,
    record,
)
from ctrail_pipeline_tests.support.ledgers import new_ledger
from ctrail_pipeline_tests.support.log_file_texts import wrap
from ctrail_pipeline_tests.support.oracle import read_buckets, snapshot
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    leave_all_to_workers,
    local_trail,
    put_object,
    settings_in,
)

SOURCE_PREFIX = SourcePrefix("logs", "", "", ACCOUNT, REGION)
ENDLESS = ["2026/01/10/", "2026/01/10/in/it/", "beside/"]


class EndlessBucket:
    """A bucket in whose `folder` there is always another page."""

    location = "memory://endless"

    def __init__(self, folder: str) -> None:
        self.folder = SOURCE_PREFIX.folder + folder

    def list_folder(self, folder: str, *, expected: bool = False) -> Folder:
        below = self.folder.removeprefix(folder).partition("/")[0]
        return Folder([below] if below else [], [])

    def list_page(self, folder: str, after: str, *, expected: bool = False) -> Page:
        first = int(after[len(self.folder) :].split(".")[0] or 0) + 1 if after else 0
        keys = (f"{self.folder}{first + n:016}.json.gz" for n in range(PAGE_SIZE))
        return Page([Listed(key, 99, b"e" * 16, Minute(29_000_000), False) for key in keys], False)

    def get(self, key: str, etag: bytes | None) -> Fetched:
        raise NotImplementedError

    def probe(self, key: str) -> None:
        raise NotImplementedError


@pytest.mark.thorough
@pytest.mark.parametrize("folder", ENDLESS)
def test_what_is_held_of_an_endless_listing_is_bounded(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_module, "HELD_LOG_FILES", 5_000)
    with new_ledger() as ledger:
        [id_] = register_sources(ledger, [SOURCE_PREFIX]).values()
        source = Source(
            id_, SOURCE_PREFIX, "trail", EndlessBucket(folder), [], EVERYTHING, deep=True
        )
        handed_out = Listing([source], Lookback(24, 35)).log_files(LedgerLogFiles(ledger))
        names: set[str] = set()
        names.update(ref.name for refs in islice(handed_out, 10) for ref in refs)
        tracemalloc.start()
        try:
            count = sum(len(refs) for refs in islice(handed_out, 60))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(names) == 10 * PAGE_SIZE
    assert count == 60 * PAGE_SIZE
    # All listed log files would take 20 MB.
    assert peak < 6 * 1024 * 1024


@pytest.mark.parametrize("folder", ["2026/01/10/", "beside/"])
def test_a_run_over_an_endless_listing_stops_when_it_is_told_and_what_it_did_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    bucket = tmp_path / "bucket"
    put_object(bucket, f"{FOLDER}x_20260110T1205Z_real.json.gz", packed(record(1)), NOON)
    endless = EndlessBucket(folder)
    monkeypatch.setattr(
        LocalBucket, "list_page", lambda _self, *asked, **_: endless.list_page(*asked)
    )
    monkeypatch.setattr(LocalBucket, "get", lambda _self, key, _etag: fetched(key))
    settings = settings_in(tmp_path, [local_trail(bucket)], process_workers=1)
    stop = threading.Event()
    steps = iter(range(100))

    def observe(step: str) -> None:
        if step == "published" and next(steps) == 5:
            stop.set()

    summary = sync(settings, stop=stop, observe=observe)
    assert summary.interrupted
    lines = snapshot(settings.events_dir)
    assert len(lines) >= 6 * 20
    monkeypatch.undo()
    assert sync(settings).progress.events == 1
    assert snapshot(settings.events_dir) == lines | {record(1)}


def fetched(key: str) -> Fetched:
    """Return a log file with one event that no other key has."""
    body = record(0, eventID=key.rpartition("/")[2], eventTime="2026-01-10T12:00:00Z")
    return Fetched(gzip.compress(wrap(body), 1, mtime=0), b"e" * 16, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_handed_out_twice_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """A listing remembers few log files outside of day folders, and two windows list them."""
    monkeypatch.setattr(listing_module, "HELD_LOG_FILES", 1)
    monkeypatch.setattr(listing_module, "_FEWEST_HELD", 1_000)
    if workers > 1:
        monkeypatch.setattr(vars(sync_module)["_Run"], "_process", leave_all_to_workers)
    bucket = tmp_path / "bucket"
    settings = settings_in(tmp_path, [local_trail(bucket)], process_workers=workers)
    for number in range(3):
        day = NOON + timedelta(days=20 * number)
        key = f"{SOURCE_PREFIX.folder}{day:%Y/%m/%d}/x_{day:%Y%m%dT%H%MZ}_{number}.json.gz"
        put_object(bucket, key, packed(record(number)), day)
    assert sync(settings, Selection(start=NOON + timedelta(days=10))).progress.events == 2
    for number in range(10):
        key = f"{SOURCE_PREFIX.folder}beside/{number}.json.gz"
        put_object(bucket, key, packed(record(100 + number), b"[]"), NOON)
    found: list[str] = []
    handed_out = Listing.log_files

    def log_files(self: Listing, ledger: object) -> Iterator[list[LogFileRef]]:
        for refs in handed_out(self, ledger):  # type: ignore[arg-type]
            found.extend(ref.key for ref in refs)
            yield refs

    monkeypatch.setattr(Listing, "log_files", log_files)
    assert sync(settings).ok
    assert len(found) > len(set(found)) == 11
    assert_exact(settings, read_buckets([(bucket, "")]))
    assert sync(settings).progress.log_files == 0


# --- a server that gives the same page for ever ---------------------------------------------------


class SamePage(BaseHTTPRequestHandler):
    """A server whose ListObjectsV2 ignores StartAfter and its own token."""

    def do_GET(self) -> None:
        keys = "".join(
            f"<Contents><Key>AWSLogs/{n:04}.json.gz</Key><Size>1</Size><ETag>&quot;e&quot;</ETag>"
            "<LastModified>2026-01-10T12:00:00.000Z</LastModified></Contents>"
            for n in range(PAGE_SIZE)
        )
        body = (
            "<ListBucketResult><Name>logs</Name><Prefix>AWSLogs/</Prefix>"
            f"<KeyCount>{PAGE_SIZE}</KeyCount>"
            f"<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>{keys}"
            "</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def same_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadingHTTPServer(("127.0.0.1", 0), SamePage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_listing_that_does_not_go_on_is_an_error_and_not_for_ever(
    same_page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(s3_retry, "ATTEMPTS", 2)
    trail = Trail("trail", "logs", region="us-east-1", endpoint_url=same_page)
    bucket = open_bucket(trail, settings_in(tmp_path, [trail]))
    first = bucket.list_page("AWSLogs/", "")
    assert (len(first.objects), first.last) == (PAGE_SIZE, False)
    with pytest.raises(StoreUnavailable, match="AWSLogs/: the listing does not end"):
        bucket.list_page("AWSLogs/", first.objects[-1].key)

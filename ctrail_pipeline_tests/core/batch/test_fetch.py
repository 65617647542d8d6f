"""Log files that are fetched ahead come in the order of the listing, whatever they are.

They are small and large ones, sound and not. Whoever takes them unpacks the small ones; those that
may be damaged go back to threads. Where there is room for one log file only, these could wait for
each other for ever.
"""

import gzip
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import Final, cast

import pytest

from ctrail_pipeline.core.batch.feed import BYTES_AHEAD, Feed
from ctrail_pipeline.core.batch.fetch import FetchedLogFile
from ctrail_pipeline.core.batch.listed_ahead import ListedAhead
from ctrail_pipeline.core.bucket.etag import pack_etag
from ctrail_pipeline.core.bucket.interface import Bucket, Fetched
from ctrail_pipeline.core.exceptions import StoreUnavailable
from ctrail_pipeline.core.keys.coverage import EVERYTHING
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.sources import LogFileRef, Source
from ctrail_pipeline.core.log_file.decompress import Decompressed
from ctrail_pipeline_tests.support.sync_process import settings_in

ETAG: Final = pack_etag("0" * 32)
SECONDS: Final = 60
LOG_FILES: Final = 400


class CountingBucket:
    """Objects by the name of their log file, and how often each was asked for."""

    location = "s3://bucket"

    def __init__(self, objects: Sequence[bytes | None]) -> None:
        self._objects = objects
        self._lock = Lock()
        self.gets: Counter[int] = Counter()

    def get(self, key: str, etag: bytes | None) -> Fetched:
        number = int(key.rsplit("/", 1)[1].removesuffix(".json.gz"))
        with self._lock:
            self.gets[number] += 1
        body = self._objects[number]
        if body is None:
            raise StoreUnavailable("not today")
        return Fetched(body, ETAG, 0)


def fetch_all(
    objects: Sequence[bytes | None], folder: Path, bytes_ahead: int
) -> tuple[list[FetchedLogFile], Counter[int]]:
    """Return all that a feed gives, and the GETs of each object; fail if the feed does not end."""
    source_prefix = SourcePrefix("bucket", "", "", "111122223333", "us-east-1")
    bucket = CountingBucket(objects)
    source = Source(1, source_prefix, "trail", cast(Bucket, bucket), [], EVERYTHING, deep=False)
    refs = [
        LogFileRef(
            source,
            0,
            f"/{number}.json.gz",
            1 if body is None else len(body),
            ETAG,
            False,
            None,
            0,
            None,
        )
        for number, body in enumerate(objects)
    ]
    feed = Feed(ListedAhead(iter([refs])), settings_in(folder, []), bytes_ahead)
    found: list[FetchedLogFile] = []

    def take() -> None:
        for result in feed.results():
            if result is not None:
                found.append(result)

    taking = Thread(target=take, daemon=True)
    taking.start()
    taking.join(SECONDS)
    feed.close()
    assert not taking.is_alive(), f"only {len(found)} of {len(objects)} came"
    assert [log_file.ref for log_file in found] == refs
    return found, bucket.gets


def text_of(log_file: FetchedLogFile) -> bytes:
    assert isinstance(log_file.content, Decompressed)
    return log_file.content.data[:]


@pytest.mark.parametrize("bytes_ahead", [1, 200_000, BYTES_AHEAD])
def test_all_come_in_order_whatever_they_are(tmp_path: Path, bytes_ahead: int) -> None:
    rng = random.Random(bytes_ahead)
    texts = [b'{"Records":[%d]}' % number for number in range(LOG_FILES)]
    sound = [gzip.compress(text, mtime=0) for text in texts]
    noise = rng.randbytes(60_000).hex().encode()
    kinds = rng.choices(
        ("small", "large", "cut", "empty", "unavailable"), (5, 1, 2, 1, 1), k=LOG_FILES
    )
    objects: list[bytes | None] = []
    for number, kind in enumerate(kinds):
        if kind == "large":
            texts[number] += noise
            sound[number] = gzip.compress(texts[number], mtime=0)
        objects.append(
            {"cut": sound[number][:-3], "empty": b"", "unavailable": None}.get(kind, sound[number])
        )
    found, gets = fetch_all(objects, tmp_path, bytes_ahead)
    for number, (kind, log_file) in enumerate(zip(kinds, found, strict=True)):
        if kind == "unavailable":
            assert (log_file.state, log_file.may_pass, gets[number]) == (
                LogFileState.FAILED,
                True,
                1,
            )
            continue
        assert isinstance(log_file.content, Decompressed)
        if kind in ("cut", "empty"):
            # Damage on the way is possible, so these are fetched exactly once more.
            assert log_file.content.damage is not None
            assert (log_file.retries, gets[number]) == (1, 2)
        else:
            assert (text_of(log_file), log_file.content.damage) == (texts[number], None)
            assert (log_file.retries, gets[number]) == (0, 1)


def test_a_small_object_of_a_large_log_file_comes_whole(tmp_path: Path) -> None:
    text = b'{"Records":["%s"]}' % (b"a" * 5_000_000)
    body = gzip.compress(text, mtime=0)
    assert len(body) < 10_000
    found, gets = fetch_all([body] * 3, tmp_path, 1)
    assert [text_of(log_file) for log_file in found] == [text] * 3
    assert set(gets.values()) == {1}

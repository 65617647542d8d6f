"""The observer of a bucket finds what is planted there, and nothing in what is right."""

import gzip
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline_tests.support.s3_server import ACCESS_KEY, REGION, SECRET_KEY
from ctrail_pipeline_tests.support.seaweedfs import s3_client, seaweedfs

from .observer import ObserverProcess

pytestmark = pytest.mark.thorough

FOLDER = "111122223333/us-east-1/2026/01/15/08"
OTHER_FOLDER = "111122223333/us-east-1/2026/01/15/09"
LINES = b'{"eventID":"1"}\n{"eventID":"2"}\n'


@dataclass
class Place:
    """A bucket and a ledger, and an observer who watches both."""

    client: Any
    bucket: str
    ledger: Path
    observer: ObserverProcess

    def key(self, number: int, folder: str = FOLDER) -> str:
        return f"events/{folder}/events_{number:05d}.jsonl.gz"

    def put(self, number: int, text: bytes, folder: str = FOLDER, **options: Any) -> None:
        """Put a file into the bucket that the ledger does not know."""
        body = options.pop("Body", gzip.compress(text, mtime=0))
        key = self.key(number, folder)
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **options)

    def commit(self, number: int, text: bytes, folder: str = FOLDER, **options: Any) -> None:
        """Put a file into the bucket that the ledger knows."""
        with closing(sqlite3.connect(self.ledger)) as ledger, ledger:
            ledger.execute(
                "INSERT INTO output_file VALUES (?, ?, 1, 1, ?)",
                (
                    1 + (folder == OTHER_FOLDER),
                    number,
                    sha256(gzip.compress(text, mtime=0)).digest(),
                ),
            )
        self.put(number, text, folder, **options)

    def remove(self, number: int) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=self.key(number))

    def looks(self) -> list[str]:
        return self.observer.tell("look")


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place with a file in which all is well."""
    url = seaweedfs().endpoint_url
    bucket = f"observed-{sha256(request.node.name.encode()).hexdigest()[:12]}"
    client = s3_client(url)
    client.create_bucket(Bucket=bucket)
    ledger = tmp_path / "ledger.db"
    with closing(sqlite3.connect(ledger)) as database:
        database.executescript(
            "CREATE TABLE batch (id INTEGER PRIMARY KEY, state INTEGER);"
            "CREATE TABLE output_partition (id INTEGER PRIMARY KEY, kind INTEGER, folder TEXT);"
            "CREATE TABLE output_file (output_partition INTEGER, number INTEGER, batch INTEGER,"
            " compression INTEGER, sha256 BLOB);"
            "INSERT INTO batch VALUES (1, 1);"
            f"INSERT INTO output_partition VALUES (1, 0, '{FOLDER}'), (2, 0, '{OTHER_FOLDER}');"
        )
    job = {
        "seed": 1,
        "bucket": bucket,
        "prefix": "events",
        "endpoint_url": url,
        "region": REGION,
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "ledger": str(ledger),
        "postgres": None,
    }
    with ObserverProcess(job, tmp_path / "errors") as observer:
        found = Place(client, bucket, ledger, observer)
        found.commit(1, LINES)
        assert found.looks() == []
        yield found


def double_a_line(place: Place) -> None:
    place.commit(2, LINES.splitlines(keepends=True)[1])


def double_a_line_in_another_folder(place: Place) -> None:
    place.commit(1, LINES, OTHER_FOLDER, Metadata={"ctrail-merged": "yes"})


def double_a_line_in_one_file(place: Place) -> None:
    place.commit(2, b'{"eventID":"3"}\n' * 2)


def put_what_the_ledger_lacks(place: Place) -> None:
    place.put(2, b'{"eventID":"3"}\n')


def overwrite(place: Place) -> None:
    place.put(1, b'{"eventID":"1"}\n{"eventID":"3"}\n')


def put_half_an_object(place: Place) -> None:
    place.commit(2, b'{"eventID":"3"}\n', Body=gzip.compress(b'{"eventID":"3"}\n', mtime=0)[:-5])


def put_half_a_line(place: Place) -> None:
    place.commit(2, b'{"eventID":"3"')


def bring_back(place: Place) -> None:
    place.remove(1)
    assert place.looks() == []
    place.put(1, LINES)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (double_a_line, "have a line twice"),
        (double_a_line_in_another_folder, "have a line twice"),
        (double_a_line_in_one_file, "has a line twice"),
        (put_what_the_ledger_lacks, "the ledger lacks them"),
        (overwrite, "was overwritten"),
        (put_half_an_object, "is half an object"),
        (put_half_a_line, "does not end with a line end"),
        (bring_back, "came back after it was removed"),
    ],
)
def test_the_observer_finds_what_is_planted(
    place: Place, plant: Callable[[Place], None], found: str
) -> None:
    plant(place)
    assert any(found in text for text in place.looks())


def test_a_merged_file_may_stand_beside_the_files_that_it_replaces(place: Place) -> None:
    place.commit(2, b'{"eventID":"3"}\n')
    assert place.looks() == []
    place.commit(3, LINES + b'{"eventID":"3"}\n', Metadata={"ctrail-merged": "yes"})
    assert place.looks() == []
    place.remove(1)
    place.remove(2)
    assert place.looks() == []
    assert place.observer.seen["objects"] == 1

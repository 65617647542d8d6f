"""Which conditional writes real servers honour, also where eight writers come at once.

`docs/bucket-output.md` has the table. A server that a new version makes better, or worse, is
noticed here.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest

from ctrail_pipeline.core.output.bucket.conditions import Abilities, probe
from ctrail_pipeline.core.output.bucket.object_store import ObjectStore
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.output_buckets import new_bucket
from ctrail_pipeline_tests.support.s3_server import S3Server, find_rclone
from ctrail_pipeline_tests.support.seaweedfs import seaweedfs
from ctrail_pipeline_tests.support.thorough import thorough

WRITERS = 8
ROUNDS = 3

ABILITIES = {
    "seaweedfs": Abilities(put_if_absent=True, put_if_match=True, copy_if_absent=True),
    "moto": Abilities(put_if_absent=True, put_if_match=True, copy_if_absent=False),
    "rclone": Abilities(put_if_absent=False, put_if_match=False, copy_if_absent=False),
}


@pytest.fixture
def store(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A new bucket of a server."""
    with ExitStack() as running:
        if server == "seaweedfs":
            url = seaweedfs().endpoint_url
        elif server == "moto":
            url = running.enter_context(moto_server())
        else:
            if find_rclone() is None:
                pytest.skip("there is no rclone")
            (tmp_path / "served").mkdir()
            cache = ("--vfs-cache-mode", "writes")
            served = S3Server(tmp_path / "served", extra_arguments=cache)
            url = running.enter_context(served).endpoint_url
        bucket = new_bucket(monkeypatch, url)
        yield ObjectStore(bucket, Settings((), tmp_path, tmp_path, tmp_path / "state.db"))


def that_know(ability: str) -> pytest.MarkDecorator:
    """Ask the servers that know a condition."""
    return pytest.mark.parametrize(
        "server", [name for name, known in ABILITIES.items() if getattr(known, ability)]
    )


def together(write: Callable[[int], bool]) -> int:
    """Let all writers write at the same moment; return how many of them were told that they did."""
    start = Barrier(WRITERS)

    def begin(number: int) -> bool:
        start.wait()
        return write(number)

    with ThreadPoolExecutor(WRITERS) as threads:
        return sum(threads.map(begin, range(WRITERS)))


@pytest.mark.parametrize("server", ["seaweedfs", "moto", *thorough("rclone")])
def test_a_probe_finds_out_which_conditions_a_server_knows(server: str, store: ObjectStore) -> None:
    assert probe(store, "probe") == ABILITIES[server]
    assert not store.holds("probe/")


@that_know("put_if_absent")
def test_of_many_writers_at_once_one_writes_a_name_that_is_free(store: ObjectStore) -> None:
    for number in range(ROUNDS):

        def write(writer: int, key: str = f"k/{number}") -> bool:
            return store.put(key, b"%d" % writer, {}, if_absent=True)

        assert together(write) == 1


@that_know("put_if_match")
def test_of_many_writers_at_once_one_replaces_what_all_have_read(store: ObjectStore) -> None:
    for number in range(ROUNDS):
        store.put(f"k/{number}", b"old", {})
        found = store.head(f"k/{number}")
        assert found is not None

        def write(writer: int, key: str = f"k/{number}", etag: str = found.etag) -> bool:
            return store.put(key, b"%d" % writer, {}, if_etag=etag)

        assert together(write) == 1


@that_know("copy_if_absent")
def test_of_many_copies_at_once_one_gets_a_name_that_is_free(store: ObjectStore) -> None:
    for writer in range(WRITERS):
        store.put(f"from/{writer}", b"%d" % writer, {})
    for number in range(ROUNDS):

        def copy(writer: int, key: str = f"k/{number}") -> bool:
            return store.copy(f"from/{writer}", key, if_absent=True)

        assert together(copy) == 1


@pytest.mark.parametrize("server", ["seaweedfs", "moto", *thorough("rclone")])
def test_a_copy_keeps_the_metadata_of_its_source(store: ObjectStore) -> None:
    store.put("from", b"x", {"ctrail-part": "token/1"})
    store.copy("from", "to", if_absent=False)
    found = store.head("to")
    assert found is not None
    assert found.metadata["ctrail-part"] == "token/1"

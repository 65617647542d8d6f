"""A local folder as a bucket: it lists and reads as S3 does, and errors say what to do."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.bucket import local
from ctrail_pipeline.core.bucket.interface import Folder, Page
from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import (
    AccessDenied,
    ObjectChanged,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline_tests.support.buckets import every_key, settings_of
from ctrail_pipeline_tests.support.properties import examples


def write(root: Path, *keys: str) -> None:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)


NAMES = st.text("ab-./0é~ !", min_size=1, max_size=4)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=12), st.data())
@settings(max_examples=examples(60))
def test_a_local_folder_lists_in_the_order_of_s3(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("bucket")
    stored = []
    for key in keys:
        parts = key.split("/")
        if all(parts) and not {".", ".."} & set(parts):
            try:
                write(root, key)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue  # a file system cannot hold `a` and `a/b`
            stored.append(key)
    stored = sorted(set(stored), key=str.encode)
    bucket = LocalBucket(root)
    assert every_key(bucket, "") == stored
    after = data.draw(st.sampled_from(["", *stored, "a/", "a-", "b/a"]))
    assert every_key(bucket, "", after) == [k for k in stored if k.encode() > after.encode()]


def test_a_hyphen_sorts_before_the_folder_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path, "a/b", "a-b", "a0", "a.b/c")
    assert every_key(LocalBucket(tmp_path), "") == ["a-b", "a.b/c", "a/b", "a0"]


def test_pages_follow_one_another_with_nothing_lost_or_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "PAGE_SIZE", 7)
    keys = sorted(f"x/{number % 4}/{number:03}.json" for number in range(70))
    write(tmp_path, *keys, "w.json", "y.json")
    bucket = LocalBucket(tmp_path)
    assert every_key(bucket, "x/") == keys
    assert every_key(bucket, "") == ["w.json", *keys, "y.json"]
    first = bucket.list_page("x/", "")
    assert (len(first.objects), first.last) == (7, False)
    again = LocalBucket(tmp_path).list_page("x/", first.objects[-1].key)
    assert again == bucket.list_page("x/", first.objects[-1].key)
    assert bucket.list_page("x/", keys[-1]) == Page([], last=True)


def test_a_listed_file_is_read_whole_with_the_etag_it_was_listed_with(tmp_path: Path) -> None:
    write(tmp_path, "a/b.json")
    bucket = LocalBucket(tmp_path)
    [listed] = bucket.list_page("a/", "").objects
    assert bucket.list_folder("a/").objects == [listed]
    assert listed.size == len("a/b.json")
    fetched = bucket.get("a/b.json", listed.etag)
    assert (fetched.body, fetched.etag) == (b"a/b.json", listed.etag)
    assert bucket.get("a/b.json", None) == fetched


@pytest.mark.parametrize("minutes", [29_467_440, 200_000_040])
def test_a_file_of_a_minute_s_last_nanosecond_is_of_that_minute(
    tmp_path: Path, minutes: int
) -> None:
    """A float would round this time up into the next minute, in our days too."""
    path = tmp_path / "a.json.gz"
    path.touch()
    end_of_minute = minutes * 60 * 10**9
    os.utime(path, ns=(end_of_minute - 1, end_of_minute - 1))
    assert path.stat().st_mtime_ns == end_of_minute - 1, "the file system keeps nanoseconds"
    [listed] = LocalBucket(tmp_path).list_folder("").objects
    assert listed.modified == minutes - 1
    os.utime(path, ns=(end_of_minute, end_of_minute))
    [listed] = LocalBucket(tmp_path).list_folder("").objects
    assert listed.modified == minutes


def test_a_file_written_again_since_it_was_listed_has_changed(tmp_path: Path) -> None:
    write(tmp_path, "a.json")
    bucket = LocalBucket(tmp_path)
    [listed] = bucket.list_page("", "").objects
    os.utime(tmp_path / "a.json", ns=(0, 1))
    with pytest.raises(ObjectChanged, match="written again"):
        bucket.get("a.json", listed.etag)
    assert bucket.get("a.json", None).body == b"a.json"


def test_a_file_that_is_missing_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ObjectGone, match="no longer there"):
        LocalBucket(tmp_path).get("a.json", None)


def test_a_folder_where_a_file_was_is_an_error_of_that_key(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        LocalBucket(tmp_path).get("a.json", None)


def test_a_missing_folder_is_empty_as_in_s3(tmp_path: Path) -> None:
    write(tmp_path, "file")
    bucket = LocalBucket(tmp_path)
    assert bucket.list_folder("none/") == Folder([], [])
    assert bucket.list_folder("file/") == Folder([], [])
    assert bucket.list_page("none/", "") == Page([], last=True)


def test_a_missing_bucket_is_an_error(tmp_path: Path) -> None:
    bucket = LocalBucket(tmp_path / "none")
    for call in (bucket.list_folder, lambda folder: bucket.list_page(folder, "")):
        with pytest.raises(StoreError, match="is not a folder: check the trail's `bucket`"):
            call("AWSLogs/")


def test_dangling_links_hide_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "a/b.json", "a/c/d.json")
    (tmp_path / "a" / "dangling.json").symlink_to("nowhere")
    (tmp_path / "a" / "loop.json").symlink_to("loop.json")
    bucket = LocalBucket(tmp_path)
    assert every_key(bucket, "a/") == ["a/b.json", "a/c/d.json"]
    found = bucket.list_folder("a/")
    assert (found.folders, [listed.key for listed in found.objects]) == (["c"], ["a/b.json"])


def test_a_name_that_is_not_utf8_is_left_alone_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a.json")
    try:
        (tmp_path / os.fsdecode(b"\xff.json")).touch()
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    with caplog.at_level(logging.WARNING):
        assert every_key(LocalBucket(tmp_path), "") == ["a.json"]
    assert "is not UTF-8" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_this_user_may_not_read_is_access_denied(tmp_path: Path) -> None:
    write(tmp_path, "a/b.json", "c.json")
    bucket = LocalBucket(tmp_path)
    (tmp_path / "c.json").chmod(0)
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(AccessDenied, match="give this user read permission"):
            bucket.get("c.json", None)
        with pytest.raises(AccessDenied, match="give this user read permission"):
            bucket.list_folder("a/")
        with pytest.raises(AccessDenied, match="give this user read permission"):
            bucket.list_page("", "")
    finally:
        (tmp_path / "a").chmod(0o700)


@pytest.mark.parametrize("folder", ["a//AWSLogs/", "/a/AWSLogs/", "//a///AWSLogs//"])
def test_several_slashes_are_one_and_lead_nowhere_else(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "logs"
    write(root, "a/AWSLogs/b.json")
    bucket = LocalBucket(root)
    assert [listed.key for listed in bucket.list_folder(folder).objects] == [f"{folder}b.json"]
    assert every_key(bucket, folder) == [f"{folder}b.json"]
    bucket.probe(f"{folder}b.json")
    assert bucket.get(f"{folder}b.json", None).body == bucket.get("a/AWSLogs/b.json", None).body
    assert bucket.list_folder(f"{tmp_path}/logs/") == Folder([], [])


def test_a_file_url_opens_a_local_folder(tmp_path: Path) -> None:
    root = tmp_path / "my logs"
    write(root, "a.json")
    trail = Trail("trail", root.as_uri())
    bucket = open_bucket(trail, settings_of(trail))
    assert isinstance(bucket, LocalBucket)
    assert bucket.location == root.as_uri()
    assert every_key(bucket, "") == ["a.json"]

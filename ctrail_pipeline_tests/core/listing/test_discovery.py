"""Discovery finds the accounts and regions of a trail, in every layout that real buckets have."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.bucket.interface import Bucket, Fetched, Folder, Page
from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.exceptions import AccessDenied, StoreError
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix, logs_root
from ctrail_pipeline.core.listing.discovery import discover, discover_digests
from ctrail_pipeline.core.listing.found_prefixes import settled_accounts
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline_tests.support.buckets import settings_of


def make(root: Path, *folders: str) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True)


def discovered(trail: Trail, bucket: Bucket) -> list[SourcePrefix]:
    return discover(settings_of(trail), trail, bucket).source_prefixes


def found(root: Path, prefix: str = "") -> set[tuple[str, str, str]]:
    """Return (organization, account, region) of each source prefix below a prefix."""
    source_prefixes = discovered(Trail("trail", "logs", prefix), LocalBucket(root))
    assert len(source_prefixes) == len(set(source_prefixes))
    assert {(source_prefix.bucket, source_prefix.prefix) for source_prefix in source_prefixes} == {
        ("logs", prefix)
    }
    return {
        (source_prefix.organization, source_prefix.account, source_prefix.region)
        for source_prefix in source_prefixes
    }


def test_plain_accounts(tmp_path: Path) -> None:
    make(
        tmp_path,
        "AWSLogs/111122223333/CloudTrail/us-east-1/2024/01/02",
        "AWSLogs/111122223333/CloudTrail/eu-west-1",
        "AWSLogs/444455556666/CloudTrail/us-gov-west-1",
    )
    assert found(tmp_path) == {
        ("", "111122223333", "us-east-1"),
        ("", "111122223333", "eu-west-1"),
        ("", "444455556666", "us-gov-west-1"),
    }


def test_an_organization(tmp_path: Path) -> None:
    make(
        tmp_path,
        "AWSLogs/o-abc123def4/111122223333/CloudTrail/us-east-1",
        "AWSLogs/o-abc123def4/444455556666/CloudTrail/eu-west-1",
    )
    assert found(tmp_path) == {
        ("o-abc123def4", "111122223333", "us-east-1"),
        ("o-abc123def4", "444455556666", "eu-west-1"),
    }


def test_several_organizations_and_plain_accounts_side_by_side(tmp_path: Path) -> None:
    make(
        tmp_path,
        "AWSLogs/o-abc123def4/111122223333/CloudTrail/us-east-1",
        "AWSLogs/o-zzz9zzz9zz/111122223333/CloudTrail/us-east-1",
        "AWSLogs/111122223333/CloudTrail/us-east-1",
        "AWSLogs/ACCOUNT-1/CloudTrail/us-east-1",
    )
    assert found(tmp_path) == {
        ("o-abc123def4", "111122223333", "us-east-1"),
        ("o-zzz9zzz9zz", "111122223333", "us-east-1"),
        ("", "111122223333", "us-east-1"),
        ("", "ACCOUNT-1", "us-east-1"),
    }


def test_a_prefix_with_slashes_is_only_itself(tmp_path: Path) -> None:
    make(
        tmp_path,
        "team/audit/AWSLogs/111122223333/CloudTrail/us-east-1",
        "team/AWSLogs/444455556666/CloudTrail/us-east-1",
        "AWSLogs/777788889999/CloudTrail/us-east-1",
    )
    assert found(tmp_path, "team/audit") == {("", "111122223333", "us-east-1")}
    assert found(tmp_path, "team") == {("", "444455556666", "us-east-1")}
    assert found(tmp_path) == {("", "777788889999", "us-east-1")}


def test_a_prefix_that_equals_the_organization(tmp_path: Path) -> None:
    make(
        tmp_path,
        "o-abc123def4/AWSLogs/o-abc123def4/111122223333/CloudTrail/us-east-1",
        "o-abc123def4/AWSLogs/444455556666/CloudTrail/us-east-1",
    )
    assert found(tmp_path, "o-abc123def4") == {
        ("o-abc123def4", "111122223333", "us-east-1"),
        ("", "444455556666", "us-east-1"),
    }


def test_only_log_files_count_not_digests_or_other_services(tmp_path: Path) -> None:
    make(
        tmp_path,
        "AWSLogs/111122223333/CloudTrail-Digest/us-east-1",
        "AWSLogs/111122223333/CloudTrail/eu-west-1",
        "AWSLogs/444455556666/Config/us-east-1",
    )
    assert found(tmp_path) == {("", "111122223333", "eu-west-1")}


def test_fifteen_hundred_accounts(tmp_path: Path) -> None:
    accounts = [f"{number:012}" for number in range(1500)]
    for account in accounts:
        make(tmp_path, f"AWSLogs/o-abc123def4/{account}/CloudTrail/us-east-1")
    assert found(tmp_path) == {("o-abc123def4", account, "us-east-1") for account in accounts}


def test_folders_that_are_no_account_or_region_are_left_alone_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(
        tmp_path,
        "AWSLogs/111122223333/CloudTrail/us-east-1",
        "AWSLogs/111122223333/CloudTrail/.hidden",
        "AWSLogs/my account/CloudTrail/us-east-1",
    )
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path) == {("", "111122223333", "us-east-1")}
    assert caplog.text.count("1 folders under") == 2


@pytest.mark.parametrize("prefix", ["", "teem"])
def test_nothing_found_is_an_error_that_says_what_to_check(tmp_path: Path, prefix: str) -> None:
    make(tmp_path, "team/AWSLogs/111122223333/CloudTrail/us-east-1", "AWSLogs/111122223333/Config")
    with pytest.raises(StoreError, match="check the trail's `bucket` and `prefix`"):
        discovered(Trail("trail", "logs", prefix), LocalBucket(tmp_path))


@pytest.mark.parametrize(
    ("folder", "prefix", "said"),
    [
        # AWS Control Tower sets the organization as the prefix.
        (
            "o-abc123def4/AWSLogs/o-abc123def4/111122223333/CloudTrail/us-east-1",
            "",
            'there is o-abc123def4/AWSLogs/, which "prefix": "o-abc123def4" names',
        ),
        (
            "logs/team/AWSLogs/111122223333/CloudTrail/us-east-1",
            "logs",
            'there is logs/team/AWSLogs/, which "prefix": "logs/team" names',
        ),
        (
            "AWSLogs/111122223333/CloudTrail/us-east-1",
            "mistyped",
            'there is AWSLogs/, which "prefix": "" names',
        ),
        # A copy of what lies below AWSLogs/.
        (
            "111122223333/CloudTrail/us-east-1",
            "",
            "there is 111122223333/CloudTrail/, without AWSLogs/ before it",
        ),
        (
            "o-abc123def4/111122223333/CloudTrail/us-east-1",
            "",
            "there is o-abc123def4/111122223333/, without AWSLogs/ before it",
        ),
        (
            "AWSLogs/111122223333/Config/us-east-1",
            "",
            "AWSLogs/ holds 111122223333/Config/;",
        ),
        ("photos/2026", "", "the bucket holds photos/2026/;"),
        ("photos", "", "the bucket holds photos/;"),
        ("photos\x1b[2J/2026", "", "the bucket holds photos\\u001b[2J/2026/;"),
    ],
)
def test_nothing_found_says_what_lies_there_and_which_prefix_would_fit(
    tmp_path: Path, folder: str, prefix: str, said: str
) -> None:
    make(tmp_path, folder)
    with pytest.raises(StoreError, match="there is no log file folder") as raised:
        discovered(Trail("trail", "logs", prefix), LocalBucket(tmp_path))
    assert said in str(raised.value)
    assert "check the trail's `bucket` and `prefix`" in str(raised.value)


def test_to_say_what_lies_there_takes_few_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        make(tmp_path, f"team/{number}/a/b", f"{number}/a/b")
    listed: list[str] = []
    list_folder = LocalBucket.list_folder

    def noting(self: LocalBucket, folder: str, *, expected: bool = False) -> Folder:
        listed.append(folder)
        return list_folder(self, folder, expected=expected)

    monkeypatch.setattr(LocalBucket, "list_folder", noting)
    with pytest.raises(StoreError, match="there is no log file folder"):
        discovered(Trail("trail", "logs", "team"), LocalBucket(tmp_path))
    assert len(listed) < 30


@pytest.mark.parametrize(
    "folders",
    [
        ["AWSLogs/111122223333/CloudTrail"],
        ["AWSLogs/111122223333"],
        ["AWSLogs/o-abc123def4/111122223333/CloudTrail"],
        ["AWSLogs/o-abc123def4"],
        ["AWSLogs/111122223333/CloudTrail", "AWSLogs/111122223333/CloudTrail-Digest"],
        ["AWSLogs/111122223333/CloudTrail", "AWSLogs/111122223333/Config/us-east-1"],
    ],
)
def test_a_trail_that_has_delivered_nothing_yet_is_no_error(
    tmp_path: Path, folders: list[str]
) -> None:
    make(tmp_path, *folders)
    assert discovered(Trail("trail", "logs"), LocalBucket(tmp_path)) == []


def test_a_bucket_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a folder"):
        discovered(Trail("trail", "logs"), LocalBucket(tmp_path / "missing"))


class RefusingBucket:
    """A local bucket that may not list one of its folders."""

    def __init__(self, root: Path, refused: str) -> None:
        self._bucket = LocalBucket(root)
        self._refused = refused
        self.location = self._bucket.location

    def list_folder(self, folder: str, *, expected: bool = False) -> Folder:
        if folder == self._refused:
            raise AccessDenied(f"{folder}: access denied: s3:ListBucket is missing")
        return self._bucket.list_folder(folder)

    def list_page(self, folder: str, after: str, *, expected: bool = False) -> Page:
        return self._bucket.list_page(folder, after)

    def get(self, key: str, etag: bytes | None) -> Fetched:
        return self._bucket.get(key, etag)

    def probe(self, key: str) -> None:
        self._bucket.probe(key)


@pytest.mark.parametrize(
    "refused",
    [
        "AWSLogs/",
        "AWSLogs/o-abc123def4/",
        "AWSLogs/o-abc123def4/444455556666/CloudTrail/",
        "AWSLogs/111122223333/CloudTrail/",
    ],
)
def test_a_listing_that_fails_is_an_error_never_fewer_accounts(
    tmp_path: Path, refused: str
) -> None:
    make(
        tmp_path,
        "AWSLogs/111122223333/CloudTrail/us-east-1",
        "AWSLogs/o-abc123def4/444455556666/CloudTrail/us-east-1",
    )
    with pytest.raises(AccessDenied, match="s3:ListBucket is missing"):
        discovered(Trail("trail", "logs"), RefusingBucket(tmp_path, refused))


# --- a prefix that is written in another way than it is meant ------------------------------------


class KeysBucket(LocalBucket):
    """A bucket of keys in memory: a folder cannot hold all of them. Its listings are noted."""

    def __init__(self, *keys: str) -> None:
        super().__init__(Path("/nowhere"))
        self.keys = list(keys)
        self.listed: list[str] = []

    def list_folder(self, folder: str, *, expected: bool = False) -> Folder:
        self.listed.append(folder)
        rests = [key.removeprefix(folder) for key in self.keys if key.startswith(folder)]
        names = [rest.partition("/") for rest in rests]
        return Folder(list(dict.fromkeys(name for name, slash, _ in names if slash)), [])


ACCOUNT_KEY = "111122223333/CloudTrail/eu-west-1/2026/01/13/a.json.gz"
OTHER_KEY = "444455556666/CloudTrail/eu-west-1/2026/01/13/a.json.gz"
SPELLINGS = [
    ("foo/", "foo"),
    ("/foo", "foo"),
    ("/", ""),
    ("AWSLogs", ""),
    ("AWSLogs/", ""),
    ("foo/AWSLogs", "foo"),
]


def trail_written(written: str, meant: str, **options: Any) -> Trail:
    return Trail("main", "logs", meant, written_prefix=written, **options)


def at(prefix: str, account: str = "111122223333") -> SourcePrefix:
    return SourcePrefix("logs", prefix, "", account, "eu-west-1")


@pytest.mark.parametrize(("written", "meant"), SPELLINGS)
def test_what_is_meant_comes_first_and_costs_no_request_more(written: str, meant: str) -> None:
    keys = [logs_root(meant) + ACCOUNT_KEY, logs_root(written) + OTHER_KEY]
    bucket, plain = KeysBucket(*keys), KeysBucket(*keys)
    assert discovered(trail_written(written, meant), bucket) == [at(meant)]
    assert discovered(Trail("main", "logs", meant), plain) == [at(meant)]
    assert bucket.listed == plain.listed


@pytest.mark.parametrize(("written", "meant"), SPELLINGS)
@pytest.mark.parametrize(
    "options", [{}, {"accounts": ["1*"]}, {"regions": ["eu-*"]}, {"kinds": ["CloudTrail"]}]
)
def test_as_it_is_written_it_counts_where_nothing_lies_at_what_is_meant(
    written: str, meant: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    trail = trail_written(written, meant, **options)
    bucket = KeysBucket(logs_root(written) + ACCOUNT_KEY)
    discovery = discover(settings_of(trail), trail, bucket)
    assert discovery.source_prefixes == [at(written)]
    assert not any(discovery.outside.values())
    assert caplog.text == ""


def test_a_place_without_log_files_hides_nothing() -> None:
    bucket = KeysBucket("foo/AWSLogs/111122223333/CloudTrail/", "foo//AWSLogs/" + OTHER_KEY)
    assert discovered(trail_written("foo/", "foo"), bucket) == [at("foo/", "444455556666")]


@pytest.mark.parametrize(("written", "meant"), SPELLINGS)
def test_both_places_count_where_the_ledger_knows_the_written_one(
    written: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    trail = trail_written(written, meant)
    bucket = KeysBucket(logs_root(meant) + ACCOUNT_KEY, logs_root(written) + OTHER_KEY)
    known = [at(written, "444455556666")]
    discovery = discover(settings_of(trail), trail, bucket, known=known)
    assert discovery.source_prefixes == [at(meant), *known]
    assert not any(discovery.outside.values()), "the way to the other place is not left aside"
    assert caplog.text == ""
    settled = settled_accounts(discovery.source_prefixes)
    discovery = discover(settings_of(trail), trail, bucket, settled, known)
    assert discovery.source_prefixes == [at(meant), *known]
    assert discovery.unlisted == [
        f"{logs_root(meant)}111122223333/",
        f"{logs_root(written)}444455556666/",
    ]
    elsewhere = [replace(prefix, bucket="other") for prefix in known]
    assert discover(settings_of(trail), trail, bucket, known=elsewhere).source_prefixes == [
        at(meant)
    ]


@pytest.mark.parametrize("prefix", ["", "foo"])
def test_what_is_another_trails_is_not_left_aside(prefix: str) -> None:
    root = logs_root(prefix)
    trail, another = Trail("trail", "logs", prefix), Trail("another", "logs", root[:-1])
    bucket = KeysBucket(root + ACCOUNT_KEY, f"{root}AWSLogs/{OTHER_KEY}")
    settings = settings_of(trail)
    alone = discover(settings, trail, bucket)
    assert any(alone.outside.values())
    both = discover(replace(settings, trails=(trail, another)), trail, bucket)
    assert both.source_prefixes == alone.source_prefixes == [at(prefix)]
    assert not any(both.outside.values())


def test_no_prefix_is_proposed_that_names_another_place() -> None:
    bucket = KeysBucket("/AWSLogs/" + ACCOUNT_KEY)
    with pytest.raises(StoreError, match=r"the bucket holds /AWSLogs/; check the trail's"):
        discovered(Trail("trail", "bucket"), bucket)


def test_the_same_account_at_both_places_is_settled_by_itself() -> None:
    trail = trail_written("foo/", "foo")
    bucket = KeysBucket("foo/AWSLogs/" + ACCOUNT_KEY, "foo//AWSLogs/" + ACCOUNT_KEY)
    settled = settled_accounts([at("foo/")])
    discovery = discover(settings_of(trail), trail, bucket, settled, [at("foo/")])
    assert discovery.source_prefixes == [at("foo"), at("foo/")]
    assert discovery.unlisted == ["foo//AWSLogs/111122223333/"]


def test_nothing_at_either_place_names_both() -> None:
    with pytest.raises(StoreError) as raised:
        discovered(trail_written("foo/", "foo"), KeysBucket("team/AWSLogs/" + ACCOUNT_KEY))
    assert str(raised.value).startswith(
        "trail 'main': there is no log file folder under file:///nowhere/foo/AWSLogs/, nor under"
        " file:///nowhere/foo//AWSLogs/: there is team/AWSLogs/"
    )


@pytest.mark.parametrize("folder", ["foo/AWSLogs/111122223333/", "foo//AWSLogs/111122223333/"])
def test_nothing_yet_at_either_place_is_no_error(folder: str) -> None:
    assert discovered(trail_written("foo/", "foo"), KeysBucket(folder)) == []


def test_digests_are_found_at_the_prefixes_that_are_asked_for() -> None:
    digest = "111122223333/CloudTrail-Digest/eu-west-1/a.json.gz"
    bucket = KeysBucket("foo/AWSLogs/" + digest, "foo//AWSLogs/" + digest)
    trail = trail_written("foo/", "foo")
    for prefixes in (["foo"], ["foo/"], ["foo", "foo/"]):
        assert discover_digests(trail, bucket, prefixes) == [at(prefix) for prefix in prefixes]


def test_a_source_prefix_is_the_same_whatever_its_trail_is_called(tmp_path: Path) -> None:
    make(tmp_path, "AWSLogs/111122223333/CloudTrail/us-east-1")
    bucket = LocalBucket(tmp_path)
    source_prefix = SourcePrefix("logs", "", "", "111122223333", "us-east-1")
    assert discovered(Trail("one", "logs"), bucket) == [source_prefix]
    assert discovered(Trail("two", "logs"), bucket) == [source_prefix]

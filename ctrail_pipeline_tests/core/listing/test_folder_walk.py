"""The walk hands out the right log files, newest day first, and calls nothing covered too early."""

import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import md5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.bucket.interface import Fetched, Folder, Listed, Page
from ctrail_pipeline.core.exceptions import StoreUnavailable
from ctrail_pipeline.core.keys.coverage import EVERYTHING, Lookback, Range, cursor, merged
from ctrail_pipeline.core.keys.left_aside import ListedFolders, Tally, folder_of
from ctrail_pipeline.core.keys.log_file_key import is_log_file, parse_key
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, Minute, day_folder, day_number
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.batch_commit import commit_batch
from ctrail_pipeline.core.ledger.batches import register_batch
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.left_aside import left_aside_by_source
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles, put_found, waiting_by_source
from ctrail_pipeline.core.ledger.rows import FoundLogFile, Known, LogFileState, Outcome, StaleBatch
from ctrail_pipeline.core.ledger.source_prefixes import covered_ranges, register_sources
from ctrail_pipeline.core.listing.finished_stretches import note_finished
from ctrail_pipeline.core.listing.folder_walk import Listing
from ctrail_pipeline.core.listing.new_log_files import is_wanted
from ctrail_pipeline.core.listing.sources import LogFileRef, Source, Stretch
from ctrail_pipeline_tests.support.ledgers import new_ledger
from ctrail_pipeline_tests.support.properties import examples

SOURCE_PREFIXES = [
    SourcePrefix("logs", "", "", "111122223333", "eu-west-1"),
    SourcePrefix("logs", "", "", "111122223333", "us-east-1"),
    SourcePrefix("logs", "", "o-abc123def4", "444455556666", "us-east-1"),
]
LOOKBACK = Lookback(hours=24, horizon_days=35)
DAY = MINUTES_PER_DAY


class MemoryBucket:
    """A bucket in memory, listed as S3 lists: by key, in pages, with common prefixes."""

    location = "memory://logs"

    def __init__(self, page_size: int = 1000) -> None:
        self.page_size = page_size
        self.objects: dict[str, Listed] = {}
        self.refuses: Callable[[str, str], bool] = lambda _folder, _after: False
        """Returns whether to fail for a folder and the key to list after."""

    def put(self, key: str, modified: int, etag: bytes | None = None) -> None:
        etag = etag or md5(key.encode()).digest()
        self.objects[key] = Listed(key, len(key), etag, Minute(modified), archived=False)

    def list_folder(self, folder: str, *, expected: bool = False) -> Folder:
        self._may_fail(folder, "")
        names, objects = set(), []
        for key in self._below(folder, ""):
            name, slash, _ = key[len(folder) :].partition("/")
            if slash:
                names.add(name)
            else:
                objects.append(self.objects[key])
        return Folder(sorted(names), objects)

    def list_page(self, folder: str, after: str, *, expected: bool = False) -> Page:
        self._may_fail(folder, after)
        keys = self._below(folder, after)
        page = [self.objects[key] for key in keys[: self.page_size]]
        return Page(page, len(keys) <= self.page_size)

    def get(self, key: str, etag: bytes | None) -> Fetched:
        raise NotImplementedError

    def probe(self, key: str) -> None:
        raise NotImplementedError

    def _below(self, folder: str, after: str) -> list[str]:
        return sorted(key for key in self.objects if key.startswith(folder) and key > after)

    def _may_fail(self, folder: str, after: str) -> None:
        if self.refuses(folder, after):
            raise StoreUnavailable(f"{folder} cannot be listed")


def sources_of(
    ledger: Ledger, bucket: MemoryBucket, wanted: Range = EVERYTHING, *, deep: bool = False
) -> list[Source]:
    """Return the source prefixes as a run that starts now sees them."""
    ids = register_sources(ledger, SOURCE_PREFIXES)
    coverage = covered_ranges(ledger)
    return [
        Source(
            ids[source_prefix],
            source_prefix,
            "trail",
            bucket,
            coverage.get(ids[source_prefix], []),
            wanted,
            deep,
        )
        for source_prefix in SOURCE_PREFIXES
    ]


def outcome_of(
    ref: LogFileRef, position: int, state: LogFileState = LogFileState.COMMITTED
) -> Outcome:
    return Outcome(
        source_id=ref.source.id,
        day=ref.day,
        name=ref.name,
        expected=ref.expected,
        etag=ref.etag or b"",
        size=ref.size,
        sha256=None,
        records=0,
        duplicates=0,
        quarantined=0,
        conflicts=0,
        state=state,
        attempts=0,
        next_visit=None,
        reason=None,
        position=position,
    )


def commit(
    ledger: Ledger,
    refs: Sequence[LogFileRef],
    finished: Iterable[Stretch] = (),
    state: LogFileState = LogFileState.COMMITTED,
) -> None:
    """Commit rows and coverage as a batch does, without the batch."""
    batch = register_batch(ledger, uuid.uuid4().hex, "", [])
    outcomes = [outcome_of(ref, position, state) for position, ref in enumerate(refs)]
    done = list(finished)
    with ledger.transaction():
        commit_batch(ledger, batch, outcomes, [], [], {})
        for ref in refs:
            if ref.stretch is not None:
                ref.stretch.settled += 1
                if ref.stretch.is_done:
                    done.append(ref.stretch)
        note_finished(ledger, done)


def run(
    ledger: Ledger,
    bucket: MemoryBucket,
    wanted: Range = EVERYTHING,
    *,
    deep: bool = False,
    lookback: Lookback = LOOKBACK,
) -> list[str]:
    """Do one undisturbed run; return the keys that it brought in."""
    listing = Listing(sources_of(ledger, bucket, wanted, deep=deep), lookback)
    keys = []
    for refs in listing.log_files(LedgerLogFiles(ledger)):
        commit(ledger, refs, listing.take_finished())
        keys += [ref.key for ref in refs]
    commit(ledger, [], listing.take_finished())
    return keys


def key_at(source_prefix: SourcePrefix, moment: int, suffix: str = "a") -> str:
    """Return the key of a log file delivered at a minute."""
    day, minute = divmod(moment, DAY)
    stamp = day_folder(day).replace("/", "")
    return (
        f"{source_prefix.folder}{day_folder(day)}{source_prefix.account}_CloudTrail_{source_prefix.region}_"
        f"{stamp}T{minute // 60:02}{minute % 60:02}Z_{suffix.rjust(16, '0')}.json.gz"
    )


def at(year: int, month: int, day: int, minute: int = 0) -> int:
    number = day_number(year, month, day)
    assert number is not None
    return number * DAY + minute


def covered(ledger: Ledger, source_prefix: SourcePrefix = SOURCE_PREFIXES[0]) -> list[Range]:
    return covered_ranges(ledger).get(register_sources(ledger, [source_prefix])[source_prefix], [])


def rows(ledger: Ledger, keys: Iterable[str]) -> set[str]:
    """Return the keys that have a row."""
    ids = register_sources(ledger, SOURCE_PREFIXES)
    found = set()
    for key in keys:
        source_prefix = source_prefix_of(key)
        if source_prefix is not None:
            parts = parse_key(source_prefix, key)
            if LedgerLogFiles(ledger).known_log_files(
                ids[source_prefix], parts.day, parts.name, parts.name
            ):
                found.add(key)
    return found


def source_prefix_of(key: str) -> SourcePrefix | None:
    return next(
        (
            source_prefix
            for source_prefix in SOURCE_PREFIXES
            if key.startswith(source_prefix.folder)
        ),
        None,
    )


STRAYS = [
    "0-first.json.gz",
    "notes.json",
    "2023/12/inventory.json",
    "2023/readme.json",
    "2023/13/01/x_20230101T0000Z_a.json.gz",
    "2024/02/30/x_20240230T0000Z_a.json.gz",
    "2024/1/5/x_20240105T0000Z_a.json.gz",
    "1970/01/01/x_19700101T0010Z_a.json.gz",
    "copies/2024/01/05/x_20240105T0000Z_a.json.gz",
    "zz/deep/er/x.json",
    "2024-01/x.json",
]
DATED_ODDITIES = [
    "2024/01/05/x.json.gz",
    "2024/01/05/sub/y_20240105T1200Z_a.json.gz",
    "2024/01/05/z_20240104T2359Z_a.json.gz",
    "2023/12/31/~.json",
]
NOT_LOG_FILES = [
    *("2024/01/05/", "2024/01/05/x.json.gz.sig", "2024/01/inventory.csv", "2024/x.csv"),
    *("2024/01/32/x.csv", "2024/14/01/x.csv", "2024/01/05/sub/x.csv", "x.csv", "zz/2024/01/x.csv"),
]
FIRST = at(2023, 12, 25)
MOMENTS = st.integers(0, 20 * DAY - 1).map(FIRST.__add__)
TIMED = st.builds(key_at, st.sampled_from(SOURCE_PREFIXES), MOMENTS, st.sampled_from("abcd"))
ODD = st.builds(
    lambda source_prefix, relative: source_prefix.folder + relative,
    st.sampled_from(SOURCE_PREFIXES),
    st.sampled_from(STRAYS + DATED_ODDITIES + NOT_LOG_FILES),
)
KEYS = st.lists(st.one_of(TIMED, TIMED, TIMED, ODD), max_size=80)


def filled(bucket: MemoryBucket, keys: Iterable[str]) -> MemoryBucket:
    """Put keys as CloudTrail delivers them: a few minutes after the time in them."""
    for key in keys:
        source_prefix = source_prefix_of(key)
        assert source_prefix is not None
        bucket.put(key, (parse_key(source_prefix, key).minute or FIRST) + 5)
    return bucket


WINDOWS = st.one_of(
    st.just(EVERYTHING),
    st.builds(lambda start: Range(Minute(start), EVERYTHING.end), MOMENTS),
    st.builds(
        lambda start, length: Range(Minute(start), Minute(start + length)),
        MOMENTS,
        st.integers(1, 10 * DAY),
    ),
)


@given(KEYS, st.integers(1, 60), WINDOWS)
@settings(max_examples=examples(30))
def test_every_wanted_log_file_is_handed_out_once_newest_day_first(
    keys: list[str], page_size: int, wanted: Range
) -> None:
    bucket = filled(MemoryBucket(page_size), keys)
    with new_ledger() as ledger:
        listing = Listing(sources_of(ledger, bucket, wanted), LOOKBACK)
        groups = list(listing.log_files(LedgerLogFiles(ledger)))
    handed = [ref.key for refs in groups for ref in refs]
    days = [ref.day for refs in groups for ref in refs]
    assert len(handed) == len(set(handed))
    assert days == sorted(days, reverse=True)
    expected = set()
    for key in filter(is_log_file, bucket.objects):
        source_prefix = source_prefix_of(key)
        assert source_prefix is not None
        parts = parse_key(source_prefix, key)
        # A key without a day is looked for by a listing from the first key on only.
        if is_wanted(parts, wanted) and (parts.day or wanted.start == 0):
            expected.add(key)
    undated = {key for key in handed if parse_key(source_prefix_of(key), key).day == 0}  # type: ignore[arg-type]
    assert set(handed) - undated == expected - undated
    assert expected <= set(handed) | (undated if wanted.end < EVERYTHING.end else set())
    assert listing.counts.log_files == len(handed)
    left_aside = {source.source_prefix: source.left_aside for source in listing.sources}
    whole_days = ListedFolders(-(-wanted.start // DAY), wanted.end // DAY)
    for source_prefix, tally in left_aside_in(bucket).items():
        if wanted == EVERYTHING:
            assert counts(left_aside[source_prefix]) == tally
        else:
            assert in_folders(counts(left_aside[source_prefix]), whole_days) == in_folders(
                tally, whole_days
            )


def left_aside_in(bucket: MemoryBucket) -> dict[SourcePrefix, dict[str, int]]:
    """How many objects are no log files, by source prefix and folder."""
    tallies: dict[SourcePrefix, dict[str, int]] = {prefix: {} for prefix in SOURCE_PREFIXES}
    for key in bucket.objects:
        source_prefix = source_prefix_of(key)
        assert source_prefix is not None
        if not is_log_file(key):
            tally = tallies[source_prefix]
            folder = folder_of(key[len(source_prefix.folder) :])
            tally[folder] = tally.get(folder, 0) + 1
    return tallies


def counts(tally: Tally) -> dict[str, int]:
    return {folder: left_aside.objects for folder, left_aside in tally.items()}


def in_folders(tally: dict[str, int], folders: ListedFolders) -> dict[str, int]:
    return {folder: objects for folder, objects in tally.items() if folders.holds(folder)}


OTHERS = st.lists(
    st.builds(
        lambda source_prefix, relative, name: f"{source_prefix.folder}{relative}{name}",
        st.sampled_from(SOURCE_PREFIXES),
        st.sampled_from(
            ["", "2023/", "2024/", "2024/01/", "2024/01/32/", "2024/01/05/", "2024/01/13/", "zz/a/"]
        ),
        st.sampled_from(["a.bz2", "b.txt", "sub/c.sig"]),
    ),
    max_size=30,
)


@given(KEYS, OTHERS, OTHERS, st.integers(1, 60))
@settings(max_examples=examples(15))
def test_what_is_left_aside_is_replaced_folder_by_folder_never_halved(
    keys: list[str], old: list[str], new: list[str], page_size: int
) -> None:
    bucket = filled(MemoryBucket(page_size), [*keys, *old])
    with new_ledger() as ledger:
        run(ledger, bucket)
        ids = register_sources(ledger, SOURCE_PREFIXES)
        before = left_aside_in(bucket)
        assert {
            prefix: counts(left_aside_by_source(ledger).get(id_, {})) for prefix, id_ in ids.items()
        } == before
        for key in set(old) - set(new):
            bucket.objects.pop(key, None)
        after = left_aside_in(filled(bucket, new))
        for deep in (False, True):
            run(ledger, bucket, deep=deep)
            noted = left_aside_by_source(ledger)
            for prefix, id_ in ids.items():
                for folder in before[prefix] | after[prefix]:
                    both = {before[prefix].get(folder, 0), after[prefix].get(folder, 0)}
                    assert counts(noted.get(id_, {})).get(folder, 0) in both
        with ledger.transaction():
            ledger.execute("DELETE FROM coverage")
        run(ledger, bucket)
        noted = left_aside_by_source(ledger)
        assert {prefix: counts(noted.get(id_, {})) for prefix, id_ in ids.items()} == after


@given(KEYS, st.integers(1, 40))
@settings(max_examples=examples(15))
def test_a_second_run_hands_out_nothing(keys: list[str], page_size: int) -> None:
    bucket = filled(MemoryBucket(page_size), keys)
    with new_ledger() as ledger:
        first = run(ledger, bucket)
        assert sorted(first) == sorted(filter(is_log_file, bucket.objects))
        assert run(ledger, bucket, deep=True) == []


def test_newest_days_of_all_source_prefixes_come_before_older_ones_of_any() -> None:
    bucket = MemoryBucket(page_size=7)
    moments = [at(2022, 3, 1), at(2023, 12, 31), at(2024, 1, 1), at(2024, 1, 2)]
    keys = [
        key_at(source_prefix, moment + minute)
        for number, source_prefix in enumerate(SOURCE_PREFIXES)
        for moment in moments[number:] + moments[:1]
        for minute in range(0, 100, 9)
    ]
    filled(bucket, keys)
    with new_ledger() as ledger:
        handed = run(ledger, bucket)
    assert sorted(handed) == sorted(set(keys))
    days = [parse_key(source_prefix_of(key), key).day for key in handed]  # type: ignore[arg-type]
    assert days == sorted(days, reverse=True)


def test_a_folder_with_more_than_is_held_is_taken_apart_and_loses_nothing() -> None:
    bucket = MemoryBucket(page_size=1000)
    keys = [key_at(SOURCE_PREFIXES[0], FIRST + 7 * number) for number in range(900)]
    filled(bucket, keys)
    with new_ledger() as ledger:
        listing = Listing(sources_of(ledger, bucket), LOOKBACK, hold=30)
        groups = list(listing.log_files(LedgerLogFiles(ledger)))
    assert sorted(ref.key for refs in groups for ref in refs) == sorted(keys)
    assert all(len({ref.day for ref in refs}) == 1 for refs in groups)
    assert len(groups) >= 900 * 7 // DAY


@pytest.mark.parametrize("page_size", [1, 2, 5, 1000])
def test_an_unbounded_listing_finds_keys_in_no_day_folder(page_size: int) -> None:
    source_prefix = SOURCE_PREFIXES[0]
    strays = [source_prefix.folder + relative for relative in STRAYS]
    bucket = filled(
        MemoryBucket(page_size),
        [*strays, key_at(source_prefix, FIRST), key_at(source_prefix, FIRST + 1)],
    )
    with new_ledger() as ledger:
        assert sorted(run(ledger, bucket)) == sorted(bucket.objects)


@pytest.mark.parametrize("page_size", [1, 2, 3])
def test_two_windows_of_a_source_prefix_hand_out_keys_in_no_day_folder_once(page_size: int) -> None:
    source_prefix = SOURCE_PREFIXES[0]
    dated = [key_at(source_prefix, FIRST + DAY * number) for number in range(60)]
    bucket = filled(MemoryBucket(page_size), dated)
    with new_ledger() as ledger:
        run(ledger, bucket, Range(Minute(FIRST + 10 * DAY), EVERYTHING.end))
        filled(bucket, [source_prefix.folder + relative for relative in STRAYS])
        handed = run(ledger, bucket)
        assert len(handed) == len(set(handed))
        assert rows(ledger, bucket.objects) == set(bucket.objects)


@pytest.mark.parametrize("page_size", [2, 1000])
def test_a_planted_key_of_the_far_future_moves_coverage_to_its_last_modified(
    page_size: int,
) -> None:
    now = at(2024, 1, 10, 600)
    bucket = MemoryBucket(page_size)
    real = [key_at(SOURCE_PREFIXES[0], now - 100 * number) for number in range(1, 8)]
    filled(bucket, real)
    planted = key_at(SOURCE_PREFIXES[0], at(2099, 1, 1))
    bucket.put(planted, now)
    with new_ledger() as ledger:
        assert sorted(run(ledger, bucket)) == sorted([*real, planted])
        assert covered(ledger) == [Range(Minute(0), Minute(now + 1))]
        later = key_at(SOURCE_PREFIXES[0], now + 30)
        filled(bucket, [later])
        assert run(ledger, bucket) == [later]


def test_coverage_ends_behind_the_newest_key() -> None:
    bucket = filled(
        MemoryBucket(),
        [key_at(SOURCE_PREFIXES[0], FIRST + 3), key_at(SOURCE_PREFIXES[0], FIRST + 90)],
    )
    with new_ledger() as ledger:
        run(ledger, bucket)
        assert covered(ledger) == [Range(Minute(0), Minute(FIRST + 91))]
        assert covered(ledger, SOURCE_PREFIXES[1]) == []


def test_late_keys_inside_the_lookback_are_found_and_older_ones_by_the_deep_listing() -> None:
    newest = FIRST + 10 * DAY
    bucket = filled(
        MemoryBucket(3), [key_at(SOURCE_PREFIXES[0], newest - number * 300) for number in range(9)]
    )
    with new_ledger() as ledger:
        run(ledger, bucket)
        late = key_at(SOURCE_PREFIXES[0], newest - 23 * 60, "late")
        older = key_at(SOURCE_PREFIXES[0], newest - 5 * DAY, "older")
        filled(bucket, [late, older])
        assert run(ledger, bucket) == [late]
        assert run(ledger, bucket, deep=True) == [older]


def test_a_log_file_written_again_is_handed_out_with_what_is_known_of_it() -> None:
    source_prefix = SOURCE_PREFIXES[0]
    key = key_at(source_prefix, FIRST)
    bucket = filled(MemoryBucket(), [key])
    before = bucket.objects[key].etag
    with new_ledger() as ledger:
        run(ledger, bucket)
        bucket.put(key, FIRST + 20, etag=b"\1" * 16)
        listing = Listing(sources_of(ledger, bucket), LOOKBACK)
        [[ref]] = listing.log_files(LedgerLogFiles(ledger))
    assert (ref.key, ref.etag) == (key, b"\1" * 16)
    assert ref.expected == Known(LogFileState.COMMITTED, before)


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (LogFileState.COMMITTED, False),
        (LogFileState.DAMAGED, False),
        (LogFileState.FAILED, False),
        (LogFileState.ARCHIVED, False),
        (LogFileState.GONE, True),
    ],
)
def test_a_listed_log_file_is_new_again_if_it_was_gone(state: LogFileState, *, again: bool) -> None:
    key = key_at(SOURCE_PREFIXES[0], FIRST)
    bucket = filled(MemoryBucket(), [key])
    with new_ledger() as ledger:
        [refs] = Listing(sources_of(ledger, bucket), LOOKBACK).log_files(LedgerLogFiles(ledger))
        commit(ledger, refs, state=state)
        assert run(ledger, bucket) == ([key] if again else [])


def look_found(
    ledger: Ledger,
    source_prefix: SourcePrefix,
    key: str,
    now: int = 0,
    etag: bytes = b"\1" * 16,
) -> None:
    """Have a log file be due, as a look at the bucket does."""
    parts = parse_key(source_prefix, key)
    id_ = register_sources(ledger, SOURCE_PREFIXES)[source_prefix]
    found = FoundLogFile(id_, parts.day, parts.name, etag, 7, archived=False)
    with ledger.transaction():
        put_found(ledger, [found], now)


def test_what_is_due_is_handed_out_once_even_if_the_listing_shows_it_changed() -> None:
    source_prefix = SOURCE_PREFIXES[0]
    key, next_days_key = key_at(source_prefix, FIRST), key_at(source_prefix, FIRST + DAY)
    bucket = filled(MemoryBucket(), [key, next_days_key])
    with new_ledger() as ledger:
        run(ledger, bucket)
        bucket.put(key, FIRST + 20, etag=b"\1" * 16)
        look_found(ledger, source_prefix, key)
        sources = sources_of(ledger, bucket, deep=True)
        [[ref]] = Listing(sources, LOOKBACK).log_files(LedgerLogFiles(ledger))
    assert (ref.key, ref.etag) == (key, b"\1" * 16)
    assert ref.expected is not None
    assert ref.expected.state is LogFileState.FOUND


def test_what_a_look_found_is_due_even_if_the_clock_was_set_back_since() -> None:
    key = key_at(SOURCE_PREFIXES[0], FIRST)
    bucket = filled(MemoryBucket(), [key])
    with new_ledger() as ledger:
        etag = md5(key.encode()).digest()
        look_found(ledger, SOURCE_PREFIXES[0], key, int(time.time()) + 7_200, etag)
        sources = sources_of(ledger, bucket)
        [[ref]] = Listing(sources, LOOKBACK).log_files(LedgerLogFiles(ledger))
    assert ref.key == key


def test_what_a_look_found_is_due_without_any_listing_newest_day_first() -> None:
    keys = [
        key_at(source_prefix, FIRST + number * DAY)
        for source_prefix in SOURCE_PREFIXES
        for number in range(3)
    ]
    bucket = MemoryBucket()
    bucket.refuses = lambda _folder, _after: True
    with new_ledger() as ledger:
        for key in keys:
            look_found(ledger, next(p for p in SOURCE_PREFIXES if key.startswith(p.folder)), key)
        sources = sources_of(ledger, bucket)[:2]
        groups = list(Listing(sources, LOOKBACK, walks=False).log_files(LedgerLogFiles(ledger)))
        found = [ref for refs in groups for ref in refs]
        assert [ref.key for ref in found] == [keys[n] for n in (2, 5, 1, 4, 0, 3)]
        assert {ref.etag for ref in found} == {b"\1" * 16}
        commit(ledger, found)
        assert list(Listing(sources, LOOKBACK, walks=False).log_files(LedgerLogFiles(ledger))) == []
        assert not any(source.failure for source in sources)


def test_a_look_that_finds_what_a_run_is_fetching_does_not_stop_it() -> None:
    key = key_at(SOURCE_PREFIXES[0], FIRST)
    bucket = filled(MemoryBucket(), [key])
    with new_ledger() as ledger:
        [refs] = Listing(sources_of(ledger, bucket), LOOKBACK).log_files(LedgerLogFiles(ledger))
        look_found(ledger, SOURCE_PREFIXES[0], key, etag=md5(key.encode()).digest())
        commit(ledger, refs)
        assert waiting_by_source(ledger, 0) == {}
        assert run(ledger, bucket) == []


def test_another_version_that_a_look_finds_meanwhile_stays_due() -> None:
    key = key_at(SOURCE_PREFIXES[0], FIRST)
    bucket = filled(MemoryBucket(), [key])
    with new_ledger() as ledger:
        [refs] = Listing(sources_of(ledger, bucket), LOOKBACK).log_files(LedgerLogFiles(ledger))
        bucket.put(key, FIRST + 20, etag=b"\1" * 16)
        look_found(ledger, SOURCE_PREFIXES[0], key)
        with pytest.raises(StaleBatch):
            commit(ledger, refs)
        assert run(ledger, bucket) == [key]


@pytest.mark.parametrize("page_size", [3, 1000])
def test_a_source_prefix_that_cannot_be_listed_costs_only_itself(page_size: int) -> None:
    broken = SOURCE_PREFIXES[1]
    keys = [
        key_at(source_prefix, FIRST + 400 * number)
        for source_prefix in SOURCE_PREFIXES
        for number in range(12)
    ]
    bucket = filled(MemoryBucket(page_size), keys)
    bucket.refuses = lambda folder, _after: folder.startswith(broken.folder)
    with new_ledger() as ledger:
        sources = sources_of(ledger, bucket)
        listing = Listing(sources, LOOKBACK)
        handed = []
        for refs in listing.log_files(LedgerLogFiles(ledger)):
            commit(ledger, refs, listing.take_finished())
            handed += [ref.key for ref in refs]
        commit(ledger, [], listing.take_finished())
        assert sorted(handed) == sorted(key for key in keys if not key.startswith(broken.folder))
        assert [bool(source.failure) for source in sources] == [False, True, False]
        assert covered(ledger, broken) == []
        assert covered(ledger, SOURCE_PREFIXES[0]) == covered(ledger, SOURCE_PREFIXES[2]) != []
        bucket.refuses = lambda _folder, _after: False
        assert sorted(run(ledger, bucket)) == sorted(
            key for key in keys if key.startswith(broken.folder)
        )


def test_a_day_whose_second_page_fails_is_not_covered_by_its_first() -> None:
    source_prefix = SOURCE_PREFIXES[0]
    keys = sorted(key_at(source_prefix, FIRST + minute) for minute in range(12))
    older = key_at(source_prefix, FIRST - DAY)
    bucket = filled(MemoryBucket(5), [*keys, older])
    bucket.refuses = lambda folder, after: folder.count("/") > 6 and after == keys[4]
    with new_ledger() as ledger:
        handed = run(ledger, bucket)
        assert set(handed) >= set(keys[:5])
        assert not set(handed) & set(keys[5:])
        assert not any(item.end > FIRST for item in covered(ledger))
        bucket.refuses = lambda _folder, _after: False
        run(ledger, bucket)
        assert rows(ledger, bucket.objects) == set(bucket.objects)


ARRIVALS = st.lists(st.one_of(TIMED, TIMED, TIMED, ODD), max_size=15)
RUNS = st.lists(st.tuples(WINDOWS, ARRIVALS, st.booleans()), max_size=5)


@given(KEYS, RUNS, st.integers(1, 60), st.randoms(use_true_random=False))
@settings(max_examples=examples(15))
def test_windows_in_any_order_then_everything_equal_one_undisturbed_sync(
    keys: list[str],
    runs: list[tuple[Range, list[str], bool]],
    page_size: int,
    chance: random.Random,
) -> None:
    """Batches settle in any order, runs die, log files arrive late: nothing is ever skipped."""
    bucket = filled(MemoryBucket(page_size), keys)
    late: set[str] = set()
    with new_ledger() as ledger:
        for wanted, arriving, dies in runs:
            run_in_any_order(ledger, bucket, wanted, late, chance, dies=dies)
            late |= arriving_late(ledger, bucket, arriving)
            filled(bucket, arriving)
        run(ledger, bucket, deep=True, lookback=Lookback(24, 40_000))
        assert_covered_is_known(ledger, bucket, set())
        found = rows(ledger, bucket.objects)
        coverage = [covered(ledger, source_prefix) for source_prefix in SOURCE_PREFIXES]
        newest = [cursor(ranges) for ranges in coverage]
    with new_ledger() as ledger:
        run(ledger, bucket)
        undisturbed = rows(ledger, bucket.objects)
        # Less may be called covered at first, never more: the difference is listed again.
        for source_prefix, ranges, end in zip(SOURCE_PREFIXES, coverage, newest, strict=True):
            assert cursor(covered(ledger, source_prefix)) == end
            assert merged([*ranges, *covered(ledger, source_prefix)]) == ranges
    assert undisturbed == set(filter(is_log_file, bucket.objects))
    assert found == undisturbed


def run_in_any_order(
    ledger: Ledger,
    bucket: MemoryBucket,
    wanted: Range,
    late: set[str],
    chance: random.Random,
    *,
    dies: bool,
) -> None:
    listing = Listing(sources_of(ledger, bucket, wanted, deep=chance.random() < 0.3), LOOKBACK)
    waiting: list[LogFileRef] = []
    for refs in listing.log_files(LedgerLogFiles(ledger)):
        waiting += refs
        if chance.random() < 0.5:
            chance.shuffle(waiting)
            count = chance.randint(0, len(waiting))
            commit(ledger, waiting[:count], listing.take_finished())
            del waiting[:count]
            assert_covered_is_known(ledger, bucket, late)
        if dies and chance.random() < 0.2:
            return
    if not dies:
        chance.shuffle(waiting)
        commit(ledger, waiting, listing.take_finished())
    assert_covered_is_known(ledger, bucket, late)


def arriving_late(ledger: Ledger, bucket: MemoryBucket, arriving: Iterable[str]) -> set[str]:
    """Return keys in minutes that are covered already: only the lookback finds them."""
    return {key for key in arriving if key not in bucket.objects and is_covered(ledger, key)}


def is_covered(
    ledger: Ledger, key: str, coverage: Mapping[int, Sequence[Range]] | None = None
) -> bool:
    source_prefix = source_prefix_of(key)
    assert source_prefix is not None
    minute = parse_key(source_prefix, key).minute
    ranges = (coverage or covered_ranges(ledger)).get(
        register_sources(ledger, SOURCE_PREFIXES)[source_prefix], []
    )
    return minute is not None and any(item.start <= minute < item.end for item in ranges)


def assert_covered_is_known(ledger: Ledger, bucket: MemoryBucket, late: set[str]) -> None:
    coverage = covered_ranges(ledger)
    inside = {
        key
        for key in bucket.objects
        if is_log_file(key) and key not in late and is_covered(ledger, key, coverage)
    }
    assert rows(ledger, inside) == inside

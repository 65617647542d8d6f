"""Every parsed key is told back exactly, and a name that cannot be understood is not lost."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.core.keys.log_file_key import (
    KeyParts,
    compact_name,
    is_log_file,
    key_of,
    parse_key,
)
from ctrail_pipeline.core.keys.minutes import (
    FOREVER,
    MINUTES_PER_DAY,
    Minute,
    datetime_of,
    day_folder,
    day_number,
    minute_of,
)
from ctrail_pipeline.core.keys.source_prefix import (
    KINDS,
    SourcePrefix,
    is_account,
    is_organization,
    is_plausible_folder,
    is_region,
    logs_root,
)

PLAIN = SourcePrefix("logs", "", "", "811596193553", "us-east-1")
ORGANIZATION = SourcePrefix("logs", "team/audit", "o-abc123def4", "111122223333", "eu-west-1")
CONTROL_TOWER = SourcePrefix("logs", "o-abc123def4", "o-abc123def4", "111122223333", "eu-west-1")
SOURCES = st.sampled_from([PLAIN, ORGANIZATION, CONTROL_TOWER])

LAST_DAY = FOREVER // MINUTES_PER_DAY - 1
DAYS = st.integers(min_value=1, max_value=LAST_DAY)
SUFFIXES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", min_size=16)
CLOCK = st.tuples(st.integers(0, 23), st.integers(0, 59))


def day_of(year: int, month: int, day: int) -> int:
    number = day_number(year, month, day)
    assert number is not None
    return number


def stamp_of(day: int) -> str:
    return day_folder(day).replace("/", "")


@st.composite
def relative_names(draw: st.DrawFn) -> str:
    """Names below a region's folder: right ones, nearly right ones, and quite different ones."""
    day = draw(DAYS)
    hour, minute = draw(CLOCK)
    suffix = draw(SUFFIXES)[: draw(st.integers(0, 17))]
    account = draw(st.sampled_from(["811596193553", "111122223333", "999999999999"]))
    region = draw(st.sampled_from(["us-east-1", "eu-west-1"]))
    separator = draw(st.sampled_from(["_", "-", ""]))
    ending = draw(st.sampled_from([".json.gz", ".json", ".json.gz\n", ".gz", "", "/"]))
    zulu = draw(st.sampled_from(["Z", "", "30Z"]))
    day_in_name = draw(st.sampled_from([day, max(1, day - 1)]))
    return draw(
        st.one_of(
            st.just(
                f"{day_folder(day)}{account}_CloudTrail_{region}_{stamp_of(day_in_name)}"
                f"T{hour:02}{minute:02}{zulu}{separator}{suffix}{ending}"
            ),
            st.text(max_size=60),
            st.builds(day_folder(day).__add__, st.text(max_size=40)),
        )
    )


@given(SOURCES, relative_names())
def test_every_key_below_a_source_prefix_is_told_back(source: SourcePrefix, relative: str) -> None:
    key = source.folder + relative
    parts = parse_key(source, key)
    assert key_of(source, parts.day, parts.name) == key


@given(SOURCES, DAYS, CLOCK, SUFFIXES)
def test_a_key_by_the_book_takes_twenty_characters(
    source: SourcePrefix, day: int, clock: tuple[int, int], suffix: str
) -> None:
    hour, minute = clock
    key = (
        f"{source.folder}{day_folder(day)}{source.account}_CloudTrail_{source.region}_"
        f"{stamp_of(day)}T{hour:02}{minute:02}Z_{suffix[:16]}.json.gz"
    )
    assert parse_key(source, key) == KeyParts(
        day, f"{hour:02}{minute:02}{suffix[:16]}", minute_at(day, hour, minute)
    )


def minute_at(day: int, hour: int, minute: int) -> Minute:
    return Minute(day * MINUTES_PER_DAY + hour * 60 + minute)


@given(SOURCES, DAYS, st.lists(st.tuples(CLOCK, SUFFIXES), min_size=2, max_size=8))
def test_compact_names_sort_as_their_keys_do_within_a_day(
    source: SourcePrefix, day: int, files: list[tuple[tuple[int, int], str]]
) -> None:
    head = f"{source.folder}{day_folder(day)}{source.account}_CloudTrail_{source.region}_"
    keys = sorted(
        f"{head}{stamp_of(day)}T{hour:02}{minute:02}Z_{suffix[:16]}.json.gz"
        for (hour, minute), suffix in files
    )
    names = [parse_key(source, key).name for key in keys]
    assert names == sorted(names)
    assert not any(name.startswith("/") for name in names)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kind_in_name", [*KINDS, "CloudTrail-Else"])
def test_the_names_of_every_kind_are_told_back_whichever_kind_they_say(
    kind: str, kind_in_name: str
) -> None:
    source = replace(ORGANIZATION, kind=kind)
    assert source.folder == (f"team/audit/AWSLogs/o-abc123def4/111122223333/{kind}/eu-west-1/")
    key = (
        f"{source.folder}2026/01/15/111122223333_{kind_in_name}_eu-west-1_"
        "20260115T0830Z_KL5e9VCV2SS7IqzB.json.gz"
    )
    parts = parse_key(source, key)
    assert key_of(source, parts.day, parts.name) == key
    assert parts.minute == minute_at(day_of(2026, 1, 15), 8, 30)
    if kind == kind_in_name:
        assert parts.name == "0830KL5e9VCV2SS7IqzB"


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        (PLAIN, "AWSLogs/811596193553/CloudTrail/us-east-1/"),
        (
            ORGANIZATION,
            "team/audit/AWSLogs/o-abc123def4/111122223333/CloudTrail/eu-west-1/",
        ),
        (
            CONTROL_TOWER,
            "o-abc123def4/AWSLogs/o-abc123def4/111122223333/CloudTrail/eu-west-1/",
        ),
    ],
)
def test_a_source_prefix_knows_its_folder(source: SourcePrefix, folder: str) -> None:
    assert source.folder == folder
    assert source.partition_key == f"{source.account}/{source.region}"


def test_a_key_outside_the_source_prefix_is_an_error() -> None:
    key = ORGANIZATION.folder + "2024/01/02/x.json.gz"
    with pytest.raises(ValueError, match="is not below"):
        parse_key(PLAIN, key)


DAY = "2020/09/30/"
DAY_NUMBER = day_of(2020, 9, 30)


@pytest.mark.parametrize(
    ("name", "clock"),
    [
        # AWS's own example lacks the underscore before the suffix.
        ("811596193553_CloudTrail_us-east-1_20200930T2300ZFkBrXUCcOU5Sn3Rx.json.gz", (23, 0)),
        # Published data sets keep log files uncompressed and renamed.
        ("811596193553_CloudTrail_us-east-1-20200930T2300.json", (23, 0)),
        ("811596193553_CloudTrail_us-east-1_20200930T2300Z_FkBrXUCcOU5Sn3Rx.json", (23, 0)),
        ("811596193553_CloudTrail_us-east-1_20200930T230059Z_FkBrXUCcOU5Sn3Rx.json.gz", (23, 0)),
        ("sub/folder/811596193553_CloudTrail_us-east-1_20200930T0001Z_a.json.gz", (0, 1)),
        # Of two times, the last one that can be read counts.
        ("copy_20200930T0101Z_of_20200930T0202Z_x.json.gz", (2, 2)),
        ("copy_20200930T0101Z_of_20200930T2560Z_x.json.gz", (1, 1)),
        ("events.json", None),
        ("x_20200930T2400Z_a.json.gz", None),
        ("x_20200930T2360Z_a.json.gz", None),
        ("x_20200930T230Z_a.json.gz", None),
        ("x_20200231T2300Z_a.json.gz", None),
    ],
)
def test_odd_names_have_the_time_that_can_be_read(name: str, clock: tuple[int, int] | None) -> None:
    expected = None if clock is None else minute_at(DAY_NUMBER, *clock)
    key = PLAIN.folder + DAY + name
    parts = parse_key(PLAIN, key)
    assert (parts.day, parts.minute) == (DAY_NUMBER, expected)
    assert key_of(PLAIN, parts.day, parts.name) == key


@pytest.mark.parametrize("stamp", ["20200929T2359", "20201001T0000", "20990101T0000"])
def test_a_time_of_another_day_than_the_folder_is_none(stamp: str) -> None:
    key = f"{PLAIN.folder}{DAY}811596193553_CloudTrail_us-east-1_{stamp}Z_FkBrXUCcOU5Sn3Rx.json.gz"
    parts = parse_key(PLAIN, key)
    assert (parts.day, parts.minute) == (DAY_NUMBER, None)
    assert parts.name.startswith("/")
    assert key_of(PLAIN, parts.day, parts.name) == key


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "notes/",
        "2020/",
        "2020/09/",
        "2020/02/30/",
        "2020/13/01/",
        "2020/00/01/",
        "2020/9/30/",
        "0000/01/01/",
        "1969/12/31/",
        "1970/01/01/",
        "20200930/",
        "٢٠٢٠/09/30/",
    ],
)
def test_a_key_in_no_day_folder_has_no_day_and_no_time(folder: str) -> None:
    name = "811596193553_CloudTrail_us-east-1_20200930T2300Z_FkBrXUCcOU5Sn3Rx.json.gz"
    key = PLAIN.folder + folder + name
    parts = parse_key(PLAIN, key)
    assert (parts.day, parts.minute) == (0, None)
    assert key_of(PLAIN, 0, parts.name) == key


def test_a_log_file_of_another_account_is_kept_whole() -> None:
    relative = f"{DAY}111122223333_CloudTrail_us-east-1_20200930T2300Z_FkBrXUCcOU5Sn3Rx.json.gz"
    assert compact_name(PLAIN, DAY_NUMBER, relative) == "/" + relative


@pytest.mark.parametrize("name", ["", "2300", "2300FkBrXUCcOU5Sn3R/", "../../../../etc/passwd"])
def test_a_name_that_the_ledger_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a log file name"):
        key_of(PLAIN, DAY_NUMBER, name)


@given(st.dates(min_value=date(1970, 1, 2), max_value=date.max))
def test_days_are_told_back_from_their_folder(day: date) -> None:
    number = day_of(day.year, day.month, day.day)
    assert day_folder(number) == f"{day.year:04}/{day.month:02}/{day.day:02}/"


def test_impossible_days_have_no_number() -> None:
    assert day_number(2023, 2, 29) is None
    assert day_number(2024, 2, 29) is not None
    assert day_number(2024, 13, 1) is None
    assert day_number(0, 1, 1) is None


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1)))  # noqa: DTZ001
def test_a_minute_is_where_its_datetime_begins(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert datetime_of(minute_of(aware)) == aware.replace(second=0, microsecond=0)


def test_names_that_may_become_a_path_are_told_from_others() -> None:
    assert is_account("123456789012")
    assert not any(map(is_account, ["12345678901", "1234567890123", "12345678901a", "../../../.."]))
    assert not is_account("123456789012\n")
    assert not is_account("１２３４５６７８９０１２")  # noqa: RUF001
    assert is_region("us-gov-west-1")
    assert is_region("cn-north-1")
    assert not any(map(is_region, ["", "US-EAST-1", "us/east", ".", "us-east-1\n", "a" * 41]))
    assert is_organization("o-abc123def4")
    assert not any(map(is_organization, ["o-", "o-ABC", "811596193553", "o-a/b"]))
    assert is_plausible_folder("ACCOUNT-1")
    assert not any(map(is_plausible_folder, ["", "-x", "a b", "..", "a/b", "x\n", "x" * 64]))


STANDARD_NAME = "111122223333_CloudTrail_eu-west-1_20260115T0830Z_KL5e9VCV2SS7IqzB"


@pytest.mark.parametrize(
    "name",
    [
        *("x.json.gz", "x.json", "x.gz", "x.zst", "x.json.zst", "x.JSON.GZ", "x.Zst"),
        *("x.json.gz.gz", STANDARD_NAME, STANDARD_NAME.replace("Z_", "Z")),
        STANDARD_NAME.replace("CloudTrail", "CloudTrail-Insight"),
    ],
)
def test_log_files_are_known_by_their_names(name: str) -> None:
    assert is_log_file(name)
    assert is_log_file(PLAIN.folder + DAY + name)
    assert not is_log_file(f"{name}/")
    assert not is_log_file(f"{name}.sig")


@pytest.mark.parametrize(
    "name",
    [
        *("", "x", "x/", "x.json.bz2", "x.txt", "json", "gz"),
        STANDARD_NAME + "x",
        "x" + STANDARD_NAME,
        STANDARD_NAME[:-1],
        STANDARD_NAME.replace("CloudTrail", "elasticloadbalancing"),
    ],
)
def test_other_names_are_no_log_files(name: str) -> None:
    assert not is_log_file(PLAIN.folder + DAY + name)


def test_a_trail_without_prefix_starts_at_awslogs() -> None:
    assert logs_root("") == "AWSLogs/"
    assert logs_root("a/b") == "a/b/AWSLogs/"

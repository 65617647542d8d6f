"""A ledger moves to another place, on both engines; nothing is lost, wherever a copy is killed."""

import gzip
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ctrail_pipeline.cli.main import main
from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.ledger import copying
from ctrail_pipeline.core.ledger.batches import batch_state, open_batches
from ctrail_pipeline.core.ledger.engine import Row
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.rows import BatchState
from ctrail_pipeline.core.ledger.tables import row_tables
from ctrail_pipeline.core.ledger_address import LedgerAddress
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.local.marker_file import read_marker_file
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.ledger_copy import copy_ledger
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.dying_compaction import Killed
from ctrail_pipeline_tests.support.engines import ENGINES, new_address
from ctrail_pipeline_tests.support.oracle import Expectation, snapshot
from ctrail_pipeline_tests.support.sync_process import assert_exact, sample_settings
from ctrail_pipeline_tests.support.synced_copies import SyncedCopies
from ctrail_pipeline_tests.support.thorough import thorough

STEPS = ["made", "closed", "copied", "verified", "marked", "opened"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "buckets"
    write_sample(folder, log_files=40, days=1)
    next(folder.rglob("*_CloudTrail_*.json.gz")).write_bytes(
        gzip.compress(b'{"Records":[{"eventName":"WithoutTime"},17]}')
    )
    return folder


@pytest.fixture
def settings(synced_copies: SyncedCopies, sample: Path, tmp_path: Path) -> Settings:
    return synced_copies.of_sample(sample, tmp_path / "output", problems=1)


@pytest.fixture
def new(tmp_path: Path) -> LedgerAddress:
    return tmp_path / "new.db"


def contents(address: LedgerAddress) -> dict[str, list[Row]]:
    with closing(Ledger(address, closed="")) as ledger:
        return {
            table.name: ledger.rows(
                f"SELECT {', '.join(table.columns)} FROM {table.name}"
                f" ORDER BY {', '.join(table.key)}"
            )
            for table in row_tables()
        }


def uuid_of(address: LedgerAddress) -> str:
    with closing(Ledger(address, closed="")) as ledger:
        return ledger.uuid


def assert_refused(settings: Settings, address: LedgerAddress) -> None:
    lines = snapshot(settings.events_dir)
    with pytest.raises(LedgerError):
        sync(settings.with_ledger(address))
    assert snapshot(settings.events_dir) == lines


def dies_at(step: str, time: int = 1) -> Callable[[str], None]:
    steps: list[str] = []

    def observe(done: str) -> None:
        steps.append(done)
        if steps.count(step) == time and done == step:
            raise Killed

    return observe


def found_by_verify(settings: Settings) -> list[str]:
    report = verify(settings, Selection(), deep=True)
    return [repr(finding) for finding in report.findings]


def test_there_and_back(settings: Settings, tmp_path: Path, expectation: Expectation) -> None:
    before, lines = contents(settings.state_db), snapshot(settings.events_dir)
    names, found = [uuid_of(settings.state_db)], found_by_verify(settings)
    places = [new_address("postgres", tmp_path), tmp_path / "back.db"]
    old: LedgerAddress = settings.state_db
    for place in places:
        assert copy_ledger(settings, old, place).rows == sum(map(len, before.values())) > 0
        assert contents(place) == before
        assert_refused(settings, old)
        names.append(uuid_of(place))
        marker = read_marker_file(settings.events_dir)
        assert marker is not None
        assert marker[0] == names[-1]
        settings = settings.with_ledger(place)
        assert found_by_verify(settings) == found
        old = place
    assert len(set(names)) == 3
    assert snapshot(settings.events_dir) == lines
    assert sync(settings).progress.events == 0
    assert_exact(settings, expectation)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sync_goes_on_with_the_new_ledger(
    sample: Path, tmp_path: Path, engine: str, expectation: Expectation
) -> None:
    """Ids go on, and what was brought in before is known."""
    hidden = tmp_path / "hidden"
    shutil.copytree(sample, hidden)
    late = sorted(hidden.rglob("*.json.gz"))[::3]
    for path in late:
        path.rename(path.with_name(f"{path.name}.late"))
    settings = sample_settings(hidden, tmp_path / "output")
    sync(settings)
    place = new_address(engine, tmp_path)
    copy_ledger(settings, settings.state_db, place)
    for path in late:
        path.with_name(f"{path.name}.late").rename(path)
    settings = settings.with_ledger(place)
    sync(settings)
    assert_exact(settings, expectation)


@pytest.mark.parametrize(
    ("engine", "step", "time"),
    [
        *(("sqlite", step, 1) for step in STEPS),
        ("sqlite", "copied", 4),
        ("sqlite", "marked", 2),
        ("postgres", "copied", 4),
        ("postgres", "marked", 1),
        *thorough(*(("postgres", step, 1) for step in STEPS if step != "marked")),
    ],
)
def test_a_copy_that_was_killed_goes_on(
    settings: Settings,
    tmp_path: Path,
    engine: str,
    step: str,
    time: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copying, "_ROWS_AT_ONCE", 20)
    before, place = contents(settings.state_db), new_address(engine, tmp_path)
    backup = Path(shutil.copy(settings.state_db, tmp_path / "backup.db"))
    with pytest.raises(Killed):
        copy_ledger(settings, settings.state_db, place, observe=dies_at(step, time))
    if step != "opened":
        assert_refused(settings, place)
    if step != "made":
        assert_refused(settings, settings.state_db)
        assert_refused(settings, backup)
    copied: list[str] = []
    copy_ledger(settings, settings.state_db, place, observe=copied.append)
    assert contents(place) == before
    if step == "copied":
        assert copied.count("copied") < sum(-(-len(rows) // 20) for rows in before.values())
    for address in (settings.state_db, backup):
        assert_refused(settings, address)
    assert sync(settings.with_ledger(place)).progress.events == 0


def test_a_ledger_that_was_used_since_a_copy_began_is_copied_anew(
    settings: Settings, new: Path, tmp_path: Path
) -> None:
    """The copy was given up for another place, and that one for the first again."""
    other = tmp_path / "other.db"
    for place in (new, other):
        with pytest.raises(Killed):
            copy_ledger(settings, settings.state_db, place, observe=dies_at("copied", 3))
    with closing(Ledger(settings.state_db, closed="")) as ledger, ledger.transaction():
        ledger.execute("UPDATE batch SET run_id = 'another run'")
    copy_ledger(settings, settings.state_db, new)
    assert contents(new) == contents(settings.state_db)
    assert_refused(settings, other)


def test_a_sync_that_begins_meanwhile_is_refused(
    settings: Settings, new: Path, expectation: Expectation
) -> None:
    seen: list[str] = []

    def observe(step: str) -> None:
        seen.append(step)
        assert_refused(settings, settings.state_db)
        assert_refused(settings, new)

    copy_ledger(settings, settings.state_db, new, observe=observe)
    assert set(STEPS) <= set(seen)
    sync(settings.with_ledger(new))
    assert_exact(settings.with_ledger(new), expectation)


def test_nothing_is_closed_while_a_run_is_at_work(
    sample: Path, tmp_path: Path, new: Path, expectation: Expectation
) -> None:
    settings = sample_settings(sample, tmp_path / "output", batch_log_files=10, process_workers=1)
    refused: list[str] = []

    def observe(_step: str) -> None:
        with pytest.raises(LedgerError, match=r"a run is at work in .*: stop it, then copy"):
            copy_ledger(settings, settings.state_db, new)
        refused.append(_step)

    sync(settings, observe=observe)
    assert refused
    assert not new.exists()
    assert_exact(settings, expectation)


@pytest.mark.parametrize("step", ["registered", "staged", "committed", "linked"])
def test_batches_of_a_run_that_died_are_finished(
    sample: Path, tmp_path: Path, new: Path, step: str, expectation: Expectation
) -> None:
    settings = sample_settings(sample, tmp_path / "output", batch_log_files=10, process_workers=1)
    with pytest.raises(Killed):
        sync(settings, observe=dies_at(step, 2))
    copy_ledger(settings, settings.state_db, new)
    settings = settings.with_ledger(new)
    with closing(Ledger(new)) as ledger:
        assert open_batches(ledger) == []
        assert batch_state(ledger, 1) is BatchState.PUBLISHED
    sync(settings)
    assert_exact(settings, expectation)


def test_a_run_that_is_refused_keeps_no_lock(settings: Settings, new: Path) -> None:
    """The traceback of the error lives on, as it does in a daemon's log."""
    with closing(Ledger(settings.state_db)) as ledger, ledger.transaction():
        ledger.set_closed("elsewhere")
    with pytest.raises(LedgerError, match="has moved to elsewhere") as refused:
        sync(settings)
    copy_ledger(settings, settings.state_db, new)
    assert refused.value.__traceback__ is not None


def test_a_connection_that_the_server_ends_is_said_and_the_copy_goes_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_ROWS_AT_ONCE", 20)
    place = new_address("postgres", tmp_path)

    def cut(step: str) -> None:
        if step == "copied":
            with closing(Ledger(place, closed="")) as ledger:
                ledger.rows(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid != pg_backend_pid()"
                )

    before = contents(settings.state_db)
    with pytest.raises(LedgerError, match="run again; nothing is lost"):
        copy_ledger(settings, settings.state_db, place, observe=cut)
    assert_refused(settings, place)
    copy_ledger(settings, settings.state_db, place)
    assert contents(place) == before


def test_a_ledger_that_differs_is_refused_and_copied_anew(settings: Settings, new: Path) -> None:
    def falsify(step: str) -> None:
        if step == "copied":
            with closing(Ledger(new, closed="")) as ledger, ledger.transaction():
                ledger.execute("UPDATE log_file SET size = size + 1")

    with pytest.raises(LedgerError, match=r"differs from .* \(the rows of the table log_file\)"):
        copy_ledger(settings, settings.state_db, new, observe=falsify)
    assert_refused(settings, new)
    copy_ledger(settings, settings.state_db, new)
    assert contents(new) == contents(settings.state_db)


def test_parquet_belongs_to_the_new_ledger_too(
    synced_copies: SyncedCopies, sample: Path, tmp_path: Path, new: Path
) -> None:
    settings = synced_copies.of_sample(
        sample, tmp_path / "output", problems=1, output_formats=("jsonl", "parquet")
    )
    with pytest.raises(Killed):
        copy_ledger(settings, settings.state_db, new, observe=dies_at("marked"))
    copy_ledger(settings, settings.state_db, new)
    name = uuid_of(new)
    for kind in (Kind.EVENTS, Kind.PARQUET):
        marker = read_marker_file(LocalOutput.of(settings).roots[kind])
        assert marker is not None
        assert marker[0] == name
    assert sync(settings.with_ledger(new)).progress.events == 0


def test_the_parquet_of_another_ledger_is_left_alone(
    synced_copies: SyncedCopies, sample: Path, tmp_path: Path, new: Path, settings: Settings
) -> None:
    neighbour = synced_copies.of_sample(
        sample, tmp_path / "neighbour", problems=1, output_formats=("jsonl", "parquet")
    )
    parquet = LocalOutput.of(neighbour).roots[Kind.PARQUET]
    before = read_marker_file(parquet)
    copy_ledger(replace(settings, parquet_dir=parquet), settings.state_db, new)
    assert read_marker_file(parquet) == before


def test_what_cannot_be_copied_is_said(settings: Settings, tmp_path: Path, new: Path) -> None:
    other = tmp_path / "other.db"
    Ledger(other).close()
    old = settings.state_db
    for source, target, says in (
        (tmp_path / "none.db", new, "there is no ledger"),
        (old, old, "must be two"),
        (old, other, "holds a ledger already: name an empty database, or a new file"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            copy_ledger(settings, source, target)
    with pytest.raises(LedgerError, match="belongs to another ledger"):
        copy_ledger(settings, other, new)
    with pytest.raises(ConfigurationError, match="is not the output folder of"):
        copy_ledger(replace(settings, events_dir=tmp_path / "empty"), old, new)
    assert sync(settings).progress.events == 0  # the ledger was not closed
    copy_ledger(settings, old, new)
    again = copy_ledger(settings, old, new)
    assert again.rows == 0  # it is there already


def test_the_command_says_what_to_configure(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = settings.state_db.parent
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CTRAIL_CONFIG", str(tmp_path / "config.json"))
    (tmp_path / "config.json").write_text(
        f'{{"events_dir": "{settings.events_dir}", "state_db": "{settings.state_db}",'
        f' "quarantine_dir": "{settings.quarantine_dir}",'
        f' "trails": [{{"name": "org", "bucket": "{settings.trails[0].bucket}"}}]}}'
    )
    assert main(["ledger", "copy", settings.state_db.name, "new.db"]) == 0
    assert f'Set "state_db": "{folder / "new.db"}"' in capsys.readouterr().out
    assert main(["ledger", "copy", settings.state_db.name, "third.db"]) == 1
    assert "belongs to another ledger" in capsys.readouterr().err
    assert main(["ledger", "copy", "new.db", "postgresql://me:secret@host/ctrail"]) == 2
    said = capsys.readouterr().err
    assert "TO must be a URL without a password" in said
    assert "secret" not in said

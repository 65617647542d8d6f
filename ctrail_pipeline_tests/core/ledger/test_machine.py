"""A local output with a ledger in PostgreSQL belongs to one machine."""

import re
import socket
from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger import machine
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.engines import with_ledger_in
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import sample_settings

SAMPLE = {"log_files": 6, "days": 1}


@pytest.fixture
def settings(sample: Path, tmp_path: Path) -> Settings:
    return with_ledger_in("postgres", sample_settings(sample, tmp_path))


def test_another_machine_is_refused_until_the_output_is_moved_there(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_id = tmp_path / "machine-id"
    monkeypatch.setattr(machine, "MACHINE_ID", machine_id)
    machine_id.write_text("first\n")
    assert sync(settings).ok
    assert sync(settings).ok
    machine_id.write_text("second\n")
    with pytest.raises(LedgerError, match=f"local folder of the machine {socket.gethostname()}"):
        sync(settings)
    (statement,) = re.findall(r"DELETE .*;", (PROJECT / "docs" / "postgres.md").read_text())
    with closing(Ledger(settings.ledger)) as ledger, ledger.transaction():
        ledger.execute(statement)
    assert sync(settings).ok
    machine_id.write_text("first\n")
    with pytest.raises(LedgerError, match="move the output"):
        sync(settings)


def test_two_machines_that_begin_with_an_empty_ledger(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second machine has a folder of its own, which nothing was written into."""
    with closing(Ledger(settings.ledger)) as ledger:
        machine.claim_for_this_machine(ledger)
    monkeypatch.setattr(machine, "MACHINE_ID", tmp_path / "none")
    with pytest.raises(LedgerError, match="move the output"):
        sync(settings)
    assert not settings.events_dir.exists()


def test_a_machine_without_an_id_goes_by_its_name(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "MACHINE_ID", tmp_path / "none")
    assert sync(settings).ok
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    with pytest.raises(LedgerError, match="this is another"):
        sync(settings)

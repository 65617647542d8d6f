"""Ledger and output folder belong together; a wrong pair is refused with what to do."""

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.batch_commit import commit_batch
from ctrail_pipeline.core.ledger.batches import register_batch
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.matching_ledger import open_ledger
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.marker import MARKER, write_marker
from ctrail_pipeline.core.output_files import Kind


class Installation:
    """An output folder and a ledger, opened as a run does."""

    def __init__(self, root: Path) -> None:
        self.state_db = root / "ledger.db"
        self.events_dir = root / "events"
        self.output = LocalOutput(self.events_dir, root / "quarantine")

    def open(self) -> Ledger:
        return open_ledger(self.state_db, self.output)

    def run(self) -> None:
        """Leave what a run that writes leaves."""
        ledger = self.open()
        batch = register_batch(ledger, os.urandom(8).hex(), "", [])
        with ledger.transaction():
            commit_batch(ledger, batch, [], [], [], {})
        write_marker(self.output, Kind.EVENTS, ledger.uuid, ledger.generation)
        ledger.close()
        (self.events_dir / "111122223333").mkdir(exist_ok=True)

    def refused(self) -> str:
        """Return the error of opening it; nothing is touched."""
        before = {path: path.read_bytes() for path in self.events_dir.rglob("*") if path.is_file()}
        with pytest.raises(LedgerError) as caught:
            self.open()
        after = {path: path.read_bytes() for path in self.events_dir.rglob("*") if path.is_file()}
        assert before == after
        return str(caught.value)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path)
    yield installation
    installation.output.close()


def test_both_are_made_where_they_are_new(installation: Installation) -> None:
    ledger = installation.open()
    marker = json.loads((installation.events_dir / MARKER).read_text())
    assert marker == {"ledger": ledger.uuid, "generation": 0}
    assert stat.S_IMODE((installation.events_dir / MARKER).stat().st_mode) == 0o600
    assert stat.S_IMODE(installation.events_dir.stat().st_mode) == 0o700
    ledger.close()


def test_two_that_belong_together_are_opened_again(installation: Installation) -> None:
    for generation in range(1, 4):
        installation.run()
        ledger = installation.open()
        assert ledger.generation == generation
        ledger.close()


def test_a_ledger_newer_than_the_folder_is_opened(installation: Installation) -> None:
    """The run died between committing a batch and noting the generation in the folder."""
    installation.run()
    ledger = installation.open()
    with ledger.transaction():
        ledger.advance_generation()
    ledger.close()
    installation.open().close()


def test_an_empty_output_folder_made_by_hand_is_taken(installation: Installation) -> None:
    installation.events_dir.mkdir()
    installation.open().close()


def test_a_missing_ledger_is_refused(installation: Installation) -> None:
    installation.run()
    installation.state_db.unlink()
    message = installation.refused()
    assert f"{installation.state_db} is missing" in message
    assert "restore the ledger from a backup, make a new one of the output with" in message
    assert not installation.state_db.exists()


def test_an_older_copy_of_the_ledger_is_refused(installation: Installation, tmp_path: Path) -> None:
    installation.run()
    shutil.copy(installation.state_db, tmp_path / "backup.db")
    installation.run()
    installation.run()
    shutil.copy(tmp_path / "backup.db", installation.state_db)
    message = installation.refused()
    assert "is older than" in message
    assert "generation 1, the folder says 3" in message
    assert "restore the newest one" in message


def test_another_ledger_is_refused(installation: Installation, tmp_path: Path) -> None:
    installation.run()
    other_installation = Installation(tmp_path / "other")
    other_installation.run()
    other_installation.output.close()
    installation.state_db.unlink()
    shutil.copy(other_installation.state_db, installation.state_db)
    message = installation.refused()
    assert "belongs to another ledger" in message
    assert "set `state_db` and `events_dir` to two that belong together" in message


def test_a_ledger_whose_output_folder_is_empty_is_refused(installation: Installation) -> None:
    installation.run()
    shutil.rmtree(installation.events_dir)
    message = installation.refused()
    assert "knows of events in an output folder" in message
    assert "name that folder in `events_dir`, or another file in `state_db`" in message
    assert not installation.events_dir.exists()


@pytest.mark.parametrize("has_ledger", [False, True])
def test_a_folder_with_files_of_somebody_else_is_refused(
    installation: Installation, *, has_ledger: bool
) -> None:
    if has_ledger:
        Ledger(installation.state_db).close()
    installation.events_dir.mkdir()
    (installation.events_dir / "thesis.txt").write_text("precious")
    message = installation.refused()
    assert "holds files that were not written by this program" in message
    assert "name another folder in `events_dir`" in message
    assert installation.state_db.exists() == has_ledger


def test_a_file_in_place_of_the_folder_is_refused(installation: Installation) -> None:
    installation.events_dir.write_text("precious")
    assert re.search("cannot be read|is no folder", installation.refused())
    assert installation.events_dir.read_text() == "precious"
    assert not installation.state_db.exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"ledger": "x"}', b"\xff\xfe", b"null"])
def test_a_damaged_marker_is_refused(installation: Installation, content: bytes) -> None:
    installation.run()
    (installation.events_dir / MARKER).write_bytes(content)
    message = installation.refused()
    assert "is damaged. This file says which ledger the folder belongs to" in message
    assert "delete the file and run again" in message
    (installation.events_dir / MARKER).unlink()
    installation.open().close()
    assert json.loads((installation.events_dir / MARKER).read_text())["generation"] == 1


def test_a_refused_ledger_is_closed_and_can_be_opened_at_once(installation: Installation) -> None:
    installation.run()
    marker = installation.events_dir / MARKER
    content = json.loads(marker.read_text())
    marker.write_text(json.dumps({**content, "generation": 99}))
    installation.refused()
    marker.write_text(json.dumps(content))
    installation.run()


def test_the_marker_is_replaced_whole_and_leaves_nothing_beside_it(
    installation: Installation,
) -> None:
    installation.run()
    installation.run()
    marker = json.loads((installation.events_dir / MARKER).read_text())
    assert marker["generation"] == 2
    assert {path.name for path in installation.events_dir.iterdir()} == {MARKER, "111122223333"}

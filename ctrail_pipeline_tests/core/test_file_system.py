"""A ledger on a network file system is refused; local ones are told apart from it."""

from pathlib import Path

import pytest

from ctrail_pipeline.core import file_system
from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.file_system import kind_of_mount, network_file_system
from ctrail_pipeline.core.ledger.ledger import Ledger

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /srv rw shared:2 - nfs4 server:/export rw,vers=4.2
24 23 8:1 / /srv/local\\040disk rw - xfs /dev/sda1 rw
25 22 0:30 / /home/me/bucket rw - fuse.s3fs s3fs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/state.db", "ext4"),
        ("/srv/state.db", "nfs4"),
        ("/srv/local disk/state.db", "xfs"),
        ("/srv2/state.db", "ext4"),
        ("/home/me/bucket/a/b/state.db", "fuse.s3fs"),
    ],
)
def test_the_mount_that_holds_a_path_tells_its_kind(path: str, kind: str) -> None:
    assert kind_of_mount(Path(path), MOUNTS) == kind


def test_a_later_mount_on_the_same_point_hides_the_earlier() -> None:
    again = MOUNTS + "26 22 0:40 / /srv rw - xfs /dev/sdb rw\n"
    assert kind_of_mount(Path("/srv/state.db"), again) == "xfs"


def test_this_machines_own_disk_is_no_network_file_system(tmp_path: Path) -> None:
    assert network_file_system(tmp_path) is None


def test_a_ledger_on_a_network_file_system_is_refused_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test cannot mount a network file system, so the list of mounts says that there is one."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 0:21 / {tmp_path} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr(file_system, "_MOUNTS", mounts)
    with pytest.raises(LedgerError, match=r"lies on a network file system \(nfs4\).*`state_db`"):
        Ledger(tmp_path / "new" / "state.db")
    assert not (tmp_path / "new").exists()

"""Which kind of file system a path lies on: a ledger on a network file system is refused.

SQLite's WAL keeps its index in shared memory, which two machines do not share (SQLite's page
"Write-Ahead Logging").
"""

from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"),
        *("gpfs", "beegfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "davfs", "ncpfs", "coda"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.goofys", "fuse.rclone", "fuse.mount-s3"),
        *("fuse.glusterfs", "fuse.ceph", "fuse.juicefs", "fuse.gcsfuse", "fuse.davfs2"),
    }
)


def network_file_system(path: Path) -> str | None:
    """Return the kind of network file system that a path lies on; None on a local file system.

    Also None where the system does not tell (without /proc).
    """
    try:
        mounts = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return None
    kind = kind_of_mount(path.resolve(), mounts)
    return kind if kind in _NETWORK else None


def kind_of_mount(path: Path, mountinfo: str) -> str | None:
    """Return the file system kind of the mount that holds a path, by the text of `mountinfo`.

    proc(5): the fields before " - " are id, parent, device, root, mount point, options; the kind
    stands behind " - ". Blanks in a mount point are written as octal escapes.
    """
    found: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, _, behind = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not behind:
            continue
        point = Path(_unescaped(fields[4]))
        depth = len(point.parts)
        # The later of two mounts on the same point hides the earlier mount.
        if path.is_relative_to(point) and (found is None or depth >= found[0]):
            found = depth, behind.split(" ")[0]
    return None if found is None else found[1]


def _unescaped(text: str) -> str:
    for escape, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(escape, character)
    return text

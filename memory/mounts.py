"""Whether a folder lies on a file system of another machine, as far as Linux tells.

SQLite's write-ahead log wants memory that all its processes share, and locks that hold: over a
network neither is sure (https://www.sqlite.org/wal.html, https://www.sqlite.org/howtocorrupt.html).
Reads /proc/self/mountinfo (proc_pid_mountinfo(5)); of other systems nothing is known.
"""

import re
from contextlib import suppress
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    "9p afs ceph cifs fuse.ceph fuse.davfs2 fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs gfs2"
    " glusterfs lustre ncpfs nfs nfs4 ocfs2 smb3 smbfs vboxsf".split()
)


def network_file_system(folder: Path) -> str | None:
    """The kind of network file system that `folder` lies on, or will when it is made; else None."""
    place = folder.resolve()
    kind, depth = "", -1
    with suppress(OSError):
        for line in MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
            mount, found = _mount(line)
            if place.is_relative_to(mount) and len(mount.parts) >= depth:  # the last one counts
                kind, depth = found, len(mount.parts)
    return kind if kind in NETWORK else None


def _mount(line: str) -> tuple[Path, str]:
    """Where something is mounted, and the kind of its file system."""
    place, _, system = line.partition(" - ")
    written = place.split(" ")[4]
    point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), written)
    return Path(point), system.split(" ")[0]

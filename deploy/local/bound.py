"""A program that becomes another one, bound to the life of its parent. Run by `child.start`, by its path.

Between fork and exec a process with threads may do next to nothing, so this is a program of its own: it drops to the user
that was asked for, asks the kernel for a signal at its parent's death (Linux; dropping rights afterwards would cancel
that), and executes the rest of its arguments.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, orphan_signal: int, uid: int, gid: int, *command: str) -> None:
    """Become `command` as `uid` and `gid` (-1: as we are). Exits 1 where the parent is gone already."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, orphan_signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - a program is what we are asked to become


if __name__ == "__main__":
    parent, orphan_signal, uid, gid = map(int, sys.argv[1:5])
    main(parent, orphan_signal, uid, gid, *sys.argv[5:])

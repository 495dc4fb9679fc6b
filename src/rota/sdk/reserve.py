"""Room on the disk that is kept for what a spool must still be able to write when the disk is full.

To take a batch out of a file needs room, too, for SQLite's log. Without a reserve a spool that has filled its disk
could deliver nothing any more, and no process could start on it. `spool` gives it up when it needs it, and takes it
again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

SIZE = 8 * 2**20
"""More than SQLite's log holds, which may have to go into the file first, and one batch."""


class Reserve:
    """A file of zeros beside one spool."""

    def __init__(self, spool: Path) -> None:
        self._path = spool.with_name(f"{spool.name}-reserve")
        self._held = False

    def take(self) -> bool:
        """Takes the room, if it is not held; whether it is now."""
        if not self._held:
            try:
                with self._path.open("ab") as file:
                    if hasattr(os, "posix_fallocate"):
                        os.posix_fallocate(file.fileno(), 0, SIZE)
                    else:  # macOS
                        file.write(bytes(max(0, SIZE - file.tell())))
            except OSError:
                self.give_up()
                return False
            self._held = True
        return True

    def give_up(self) -> bool:
        """Gives the room back to the disk; whether there was any."""
        self._held = False
        with contextlib.suppress(OSError):
            self._path.unlink()
            return True
        return False

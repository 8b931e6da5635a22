"""A worker process ends once the process that started it is gone.

Nothing heavy is imported here: a new worker imports this module before anything else of the
library, so that it watches while it waits for torch, which takes a busy machine a minute.
"""

from __future__ import annotations

import os
import threading
import time

PARENT_CHECK_SECONDS = 0.5
"""Seconds between two times that a worker asks whether its parent lives."""


def end_with(parent: int) -> None:
    """Make this process end once it is no longer a child of `parent`.

    A worker of loky waits for work at the end of a pipe whose other end it holds open as well, so
    that it never learns of a parent that was killed; but the system then gives it another parent.
    """

    def end_when_orphaned() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=end_when_orphaned, name="anygate-parent", daemon=True).start()

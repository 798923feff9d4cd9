"""Progress bars where processes are killed."""

import threading

from tqdm import tqdm


def lock_bars_apart() -> None:
    """Gives this process a lock of its own for drawing its bars.

    That of tqdm is shared with forks: one that is killed while it draws never gives it back, and
    whoever draws next waits for ever.
    """
    tqdm.set_lock(threading.RLock())

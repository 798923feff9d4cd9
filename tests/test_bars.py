"""A killed fork takes nobody's bars with it."""

import os
import signal
import time

from tqdm import tqdm


def test_a_fork_that_is_killed_while_it_draws_keeps_no_lock() -> None:
    told, tell = os.pipe()
    if not (child := os.fork()):
        tqdm.get_lock().acquire()
        os.write(tell, b"x")
        time.sleep(60)
        os._exit(0)
    assert os.read(told, 1) == b"x"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(told)
    os.close(tell)
    assert tqdm.get_lock().acquire(timeout=5) is True
    tqdm.get_lock().release()

"""An experiment is begun as a whole or not at all, and by whichever service is first."""

import errno
import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from minicrit.feedback.experiment import CONTROL, TREATMENT, Experiment
from tests.minicrit.feedback.test_experiment import made


def begun_within(size: int, experiment: Experiment) -> int:
    """Begins it in a process whose files may have `size` bytes; its exit status: errno or 0."""
    if not (child := os.fork()):
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            experiment.write()
            status = 0
        except OSError as error:
            status = error.errno or 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("size", [0, 100])
def test_a_full_disk_leaves_no_half_of_one_in_the_way(tmp_path, size):
    """The half was no YAML, and the same command refused to write over it."""
    experiment = made(tmp_path)
    assert begun_within(size, experiment) == errno.EFBIG
    assert not experiment.path.exists()
    experiment.write()
    assert Experiment.load(experiment.path) == experiment
    assert [row["event"] for row in experiment.entries()] == ["begun"]


def test_services_that_start_at_one_time_all_serve_it(tmp_path, monkeypatch):
    """The second was told to be another run that writes the log, and did not start."""
    experiment = made(tmp_path)
    experiment.write()
    together, add = threading.Barrier(3), Experiment._add

    def slowly(*told):
        time.sleep(0.2)  # so that all of them have found that nobody serves it
        return add(*told)

    monkeypatch.setattr(Experiment, "_add", slowly)

    def start(_):
        together.wait()
        experiment.serve({CONTROL: "a", TREATMENT: "b"})

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(start, range(3)))
    assert [row["event"] for row in experiment.entries()] == ["begun", "served"]

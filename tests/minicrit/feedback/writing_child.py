"""A process that writes into a store and says so, until it is killed or may not write on.

    python writing_child.py PATH NAME [BYTES]

One line a decision: its number and its key. BYTES is the most that any file may grow to.
"""

import resource
import sys
import threading
from pathlib import Path

from minicrit.feedback.store import FeedbackStore, UnavailableError

RESULT = {"label": "flawed", "p_flawed": 0.9, "threshold": 0.5}
_said = threading.Lock()


def write(store: FeedbackStore, name: str) -> None:
    number = 0
    while True:
        request = f"{name}-{number}"
        store.add_request(request, "general", f"Because of {request}.", RESULT)
        done = store.add_decision(request, "agree", name, note="x" * 200,
                                  idempotency_key=request)  # fmt: skip
        with _said:
            sys.stdout.write(f"{done} {request}\n")
            sys.stdout.flush()
        number += 1


def main() -> None:
    path, name = Path(sys.argv[1]), sys.argv[2]
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
        try:
            write(FeedbackStore(path), name)
        except UnavailableError as error:
            sys.stdout.write(f"refused {error}\n")
        return
    with FeedbackStore(path, patience=60) as store:
        threads = [threading.Thread(target=write, args=(store, f"{name}{n}"), daemon=True)
                   for n in range(3)]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()

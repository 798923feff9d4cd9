"""Files that may be open at once: whether the limit has room for all connections.

Where it has none, asyncio cannot take another connection, nor the database open a file, and the log
gets a traceback for each try.
"""

import resource

#: Connections that wait to be taken, and so the most that one turn of the event loop takes.
BACKLOG = 128
#: Connections beyond the limit that are kept until they ask, to be told why they get nothing.
SLACK = 32
_TURNS = 4  # from a connection's arrival until one that is too many is closed
_OURS = 128  # files of the service itself: databases, by thread; what is loaded; the log
_SPARE = _TURNS * BACKLOG + SLACK + _OURS


def make_room(connections: int) -> None:
    """Raises this process's limit as far as so many connections need.

    Raises:
        ValueError: if it may not be raised as far.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _SPARE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError, OverflowError) as error:
        limit = soft if hard == resource.RLIM_INFINITY else hard
        most = max(limit - _SPARE, 0)
        raise ValueError(f"serve.most_connections: expected at most {most}, as {limit} files may "
                         f"be open, got {connections}; lower it, or raise that limit (ulimit -n)"
                         ) from error  # fmt: skip

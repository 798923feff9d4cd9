"""How long a run was logged: read from TensorBoard's files without TensorBoard.

A file is a row of records: length (8 bytes, little endian), its checksum (4), the record, its
checksum (4); an event begins with its time (field 1, a double).
"""

import struct
from collections.abc import Iterator
from pathlib import Path

_TIME = b"\x09"  # field 1 of type double
_HEAD, _TAIL = 12, 4


def seconds_logged(folder: Path) -> float | None:
    """Seconds between first and last event, summed over the files of a folder; None without any.

    What was done between a stop and the next start is in no file, so it does not count.
    """
    files = sorted(folder.glob("*.tfevents.*"))
    if not files:
        return None
    return sum(max(times) - min(times) for times in map(list, map(_times, files)) if times)


def _times(path: Path) -> Iterator[float]:
    """The times of a file, as far as it is whole."""
    data = path.read_bytes()
    at = 0
    while at + _HEAD <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        record = data[at + _HEAD : at + _HEAD + length]
        if len(record) < length:
            return
        if record[:1] == _TIME and length > 8:  # noqa: PLR2004
            yield struct.unpack_from("<d", record, 1)[0]
        at += _HEAD + length + _TAIL

"""What operators have still to decide on, and in which order they see it.

A rationale stands in the queue once for each answer it got of each critic in each arm of an
experiment, with the newest request; one decision on any of them settles it, as it would count
once. Places take turns: every AUDIT_EVERY-th one, counted on from the rationales that are decided,
is the next of the audit in the order of its draw, so that an operator who works through the queue
decides on a random sample of all rationales beside the least certain ones. Those of the audit stand
in no other place: they would come earlier the less certain they are.
"""

import sqlite3

from minicrit.feedback.entries import AUDIT_SHARE

AUDIT_EVERY = 2  # one of so many places of the queue is for the audit
_ALIKE = "s.unit = r.unit AND s.experiment IS r.experiment AND s.arm IS r.arm " \
         "AND s.critic IS r.critic AND s.answered = r.answered"  # fmt: skip
_UNDECIDED = (
    f"SELECT * FROM requests AS r WHERE NOT EXISTS (SELECT 1 FROM requests AS s WHERE {_ALIKE} "  # noqa: S608
    f"AND s.seq > r.seq) AND NOT EXISTS (SELECT 1 FROM requests AS s WHERE {_ALIKE} AND EXISTS "
    "(SELECT 1 FROM decisions AS d WHERE d.request_id = s.request_id))"
)
_DECIDED = "SELECT count(DISTINCT unit) FROM decisions JOIN requests USING (request_id)"


def waiting(connection: sqlite3.Connection, limit: int) -> list[sqlite3.Row]:
    """The first `limit` rows of the queue."""
    drawn = _undecided(connection, "chance < ? ORDER BY chance, seq", limit)
    doubtful = _undecided(connection, "chance >= ? ORDER BY certainty, seq", limit)
    decided = connection.execute(_DECIDED).fetchone()[0]
    found = []
    for place in range(decided + 1, decided + 1 + limit):
        first, second = (drawn, doubtful) if place % AUDIT_EVERY == 0 else (doubtful, drawn)
        if source := first or second:
            found.append(source.pop(0))
    return found


def _undecided(connection: sqlite3.Connection, which: str, limit: int) -> list[sqlite3.Row]:
    return connection.execute(f"{_UNDECIDED} AND {which} LIMIT ?", (AUDIT_SHARE, limit)).fetchall()

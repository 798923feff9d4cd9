"""Precedents: rationales of the past that are about the same thing, and what was said of them.

They are shown to an operator, to read beside a verdict. **No verdict is ever reused**: a rationale
and its flawed twin differ in one word and have a cosine close to 1 (`embedding.py`), so a cache
that answered by nearness would pass exactly what the critic is there to stop (vCache, arXiv
2502.03771, meets the same and gives up most of its hits). Every rationale is judged by the critic.

    precedents = Precedents.load(Path("runs/serve/precedents"))
    precedents.restore(store.requests(), store.decisions())
    precedents.add("9f...", "trading", "RSI is ...", label="flawed", p_flawed=0.93)
    precedents.find("trading", "The RSI says ...", 5)

A text is embedded once, in a thread of its own, and its vector is kept by the hash of the text, in
memory and in one file: what is asked often costs no forward pass. The rows are the store's; they
are read from it when the service starts, so nothing here has to survive for itself.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from minicrit.critic import BASES
from minicrit.serving.embedding import Embedder, Vectors
from minicrit.serving.vectors import Kept, read_vectors, write_vectors

log = logging.getLogger(__name__)

LIMIT = 100_000  # texts; the oldest goes when another comes
SHOWN = 4_000  # characters of a text that are read and kept
_BATCH = 16  # texts of one forward pass
_PENDING = 10_000  # texts that wait; what comes beyond that is found after the next start
_SAVE_AFTER = 2_000  # new vectors between two saves, or a tenth of all if that is more


class Embeds(Protocol):
    """What precedents need of a model."""

    identity: str
    size: int

    def embed(self, texts: list[str]) -> Vectors:
        """(N, size) vectors of length 1."""


@dataclass(frozen=True)
class Case:
    """One rationale of the past: the request, what the critic said, what the operator decided."""

    request_id: str
    domain: str
    rationale: str
    label: str
    p_flawed: float
    decision: str | None = None


class Precedents:
    """The cases of the past by nearness. Build it with `Precedents.load`; any thread may call.

    Attributes:
        reason: why there are none to be had (no model); None if they can be.
        left_out: texts that came faster than they could be embedded.
    """

    def __init__(
        self, model: Embeds | None, *, folder: Path | None = None, limit: int = LIMIT,
        reason: str | None = None,
    ) -> None:  # fmt: skip
        self.reason = reason
        self.left_out = 0
        self._model, self._limit = model, limit
        self._file = folder / "vectors.safetensors" if folder else None
        self._cases: list[Case] = []
        self._keys: list[bytes] = []  # hash of the text of every row
        self._places: dict[bytes, int] = {}  # and the row of every hash
        self._vectors = np.empty((0, model.size if model else 0), dtype=np.float32)
        self._oldest = 0  # the row that the next text takes once all are taken
        self._pending: dict[bytes, Case] = {}
        self._kept = read_vectors(self._file, model.identity) if self._file and model else Kept()
        self._unsaved = 0
        self._changed = threading.Condition()
        self._busy = self._ended = False
        self._thread = threading.Thread(target=self._work, name="precedents", daemon=True)
        if model:
            self._thread.start()

    @classmethod
    def load(cls, folder: Path | None, *, bases: Path = BASES, limit: int = LIMIT) -> "Precedents":
        """With the model of the bases' folder; without it there are none, and `reason` says why.

        Args:
            folder: where vectors are kept between two starts; None for memory alone.
            bases: where models are kept; the model is fetched once if it is not there.
            limit: texts that are kept.
        """
        try:
            return cls(Embedder.load(bases), folder=folder, limit=limit)
        except (ValueError, OSError) as error:
            log.warning("no precedents: %s", error)
            return cls(None, folder=folder, limit=limit, reason=f"no precedents: {error}")

    def add(
        self, request_id: str, domain: str, rationale: str, *, label: str, p_flawed: float,
        decision: str | None = None,
    ) -> None:  # fmt: skip
        """Take a case up; it can be found shortly after. Costs the caller no forward pass.

        Of one text there is one case: what an operator decided on, else the newest. So to tell of
        a decision, add the case again with it.
        """
        if not self._model:
            return
        case = Case(request_id, domain, rationale[:SHOWN], label, float(p_flawed), decision)
        with self._changed:
            self._put(_hash(rationale), case, _PENDING)

    def _put(self, key: bytes, case: Case, most: int) -> None:
        """Where the case of a text belongs; it waits only if fewer than `most` do."""
        if (place := self._places.get(key)) is not None:
            self._cases[place] = _better(self._cases[place], case)
        elif (vector := self._kept.get(key)) is not None:
            self._insert(key, case, vector)
        elif key in self._pending or len(self._pending) < most:
            self._pending[key] = _better(self._pending.get(key), case)
            self._changed.notify_all()
        else:
            self.left_out += 1

    def restore(
        self, requests: Iterable[Mapping[str, Any]], decisions: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Take up what a store holds, in its order; of several decisions on a request the last.

        As many texts as are kept at all, the newest, may wait to be embedded, whatever `add` says.
        """
        if not self._model:
            return
        decided = {str(d["request_id"]): str(d["decision"]) for d in decisions}
        newest: dict[bytes, Case] = {}
        for row in requests:
            said = row.get("result") or row
            case = Case(str(row["request_id"]), str(row["domain"]), str(row["rationale"])[:SHOWN],
                        str(said["label"]), float(said["p_flawed"]),
                        decided.get(str(row["request_id"])))  # fmt: skip
            key = _hash(str(row["rationale"]))
            newest[key] = _better(newest.pop(key, None), case)
            if len(newest) > self._limit:
                del newest[next(iter(newest))]
        with self._changed:
            for key, case in newest.items():
                self._put(key, case, self._limit + _PENDING)
            self._kept = Kept()

    def find(self, domain: str | None, rationale: str, k: int = 5) -> list[dict[str, Any]]:
        """The `k` nearest cases, nearest first; empty if there are none to be had (`reason`).

        The same text is among them only if somebody decided on it.

        Args:
            domain: only cases of it; None for all.
            rationale: the text to compare with.
            k: how many at most.

        Returns:
            Fields of `Case`, and `similarity`: the cosine, -1 to 1.
        """
        if k < 1:
            raise ValueError(f"k: expected 1 or more, got {k}; ask for the nearest 5")
        model = self._model
        if not model:
            return []
        asked = self._vector(model, rationale)
        with self._changed:
            nearness = self._vectors[: len(self._cases)] @ asked
            own = self._places.get(_hash(rationale))

            def wanted(at: int) -> bool:
                case = self._cases[at]
                decided = at != own or case.decision is not None
                return decided and domain in (None, case.domain)

            best = _largest(nearness, k, wanted)
            return [asdict(self._cases[at]) | {"similarity": _cosine(nearness[at])} for at in best]

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was added can be found; False if that took longer than `timeout`."""
        with self._changed:
            done = self._changed.wait_for(lambda: not (self._pending or self._busy), timeout)
        return done or not self._model

    def save(self) -> None:
        """Write the vectors, if they have a file and something is new.

        A full disk is said, and costs no more than to embed the texts again after the next start.
        """
        with self._changed:
            if not (self._file and self._model and self._unsaved):
                return
            keys, vectors = list(self._keys), self._vectors[: len(self._keys)].copy()
            self._unsaved = 0
            identity = self._model.identity
        try:
            write_vectors(self._file, identity, keys, vectors)
        except OSError as error:
            log.warning("%s: %d vectors were not kept: %s", self._file, len(keys), error)

    def close(self) -> None:
        """Stop embedding and save; what still waits is embedded after the next start."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._model:
            self._thread.join()
        self.save()

    def __len__(self) -> int:
        return len(self._cases)

    def _vector(self, model: Embeds, text: str) -> Vectors:
        """Of a text: the kept one, else a new one."""
        with self._changed:
            place = self._places.get(_hash(text))
            if place is not None:
                return np.array(self._vectors[place])
        return np.asarray(model.embed([text[:SHOWN]])[0])

    def _insert(self, key: bytes, case: Case, vector: Vectors) -> None:
        """Put a new text where there is room, or where the oldest stands."""
        place = len(self._cases)
        if place == self._limit:
            place = self._oldest
            self._oldest = (place + 1) % self._limit
            del self._places[self._keys[place]]
            self._cases[place], self._keys[place] = case, key
        else:
            self._cases.append(case)
            self._keys.append(key)
            if place == len(self._vectors):
                self._vectors = _grown(self._vectors, min(self._limit, max(1024, 2 * place)))
        self._vectors[place] = vector
        self._places[key] = place
        self._unsaved += 1

    def _work(self) -> None:
        """Embed what waits, until the end; what goes wrong switches precedents off, no more."""
        try:
            while batch := self._next():
                self._take_up(batch)
                if self._unsaved >= max(_SAVE_AFTER, len(self) // 10):
                    self.save()
        except (RuntimeError, ValueError, OSError) as error:
            log.exception("precedents are off")
            self.reason = f"no precedents: {error}; start the service again"
            with self._changed:
                self._model, self._busy = None, False
                self._pending.clear()
                self._changed.notify_all()

    def _next(self) -> dict[bytes, Case]:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._ended)
            self._busy = not self._ended
            keys = [] if self._ended else list(self._pending)[:_BATCH]
            return {key: self._pending[key] for key in keys}

    def _take_up(self, batch: Mapping[bytes, Case]) -> None:
        assert self._model
        vectors = self._model.embed([case.rationale for case in batch.values()])
        with self._changed:
            for key, vector in zip(batch, vectors, strict=True):
                self._insert(key, self._pending.pop(key), vector)  # what it is by now
            self._busy = False
            self._changed.notify_all()


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).digest()


def _better(old: Case | None, new: Case) -> Case:
    """Of two cases of a text the one that was decided on, else the newer."""
    return old if old and old.decision and not new.decision else new


def _grown(vectors: Vectors, rows: int) -> Vectors:
    larger = np.empty((rows, vectors.shape[1]), dtype=np.float32)
    larger[: len(vectors)] = vectors
    return larger


def _largest(nearness: Vectors, k: int, wanted: Callable[[int], bool]) -> list[int]:
    """Places of the k largest that are wanted, largest first; of equals the earlier first."""
    room = 4 * k
    while True:
        room = min(room, len(nearness))
        best = np.sort(np.argpartition(-nearness, room - 1)[:room]) if room else np.arange(0)
        order = best[np.argsort(-nearness[best], kind="stable")].tolist()
        found = [at for at in order if wanted(at)]
        if len(found) >= k or room == len(nearness):
            return found[:k]
        room *= 8


def _cosine(nearness: np.float32) -> float:
    return round(min(1.0, max(-1.0, float(nearness))), 4)

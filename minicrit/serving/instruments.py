"""What the service counts and times, for Prometheus. No label holds what callers choose."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Instruments:
    """One set of them a service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("minicrit_requests", "Requests answered.",
                                ("path", "status"), registry=registry)  # fmt: skip
        self.latency = Histogram("minicrit_request_seconds", "Time to answer a request.",
                                 ("path",), buckets=_SECONDS, registry=registry)  # fmt: skip
        self.batch = Histogram("minicrit_batch_items", "Rationales judged in one forward.",
                               ("kind",), buckets=_SIZES, registry=registry)  # fmt: skip
        self.spent = Histogram("minicrit_batch_seconds", "Time of one batch in the critic.",
                               ("kind",), buckets=_SECONDS, registry=registry)  # fmt: skip
        self.verdicts = Counter("minicrit_verdicts", "Verdicts given.", ("label", "cached"),
                                registry=registry)  # fmt: skip
        self.vanished = Counter("minicrit_vanished", "Requests whose caller went away unanswered.",
                                registry=registry)  # fmt: skip
        self.feedback = Counter("minicrit_feedback", "Decisions and outcomes on disk.", ("kind",),
                                registry=registry)  # fmt: skip
        self.waiting = Gauge("minicrit_waiting_items", "Rationales in the queue.",
                             registry=registry)  # fmt: skip
        self.unrecorded = Gauge("minicrit_unrecorded_items", "Answers given and not yet on disk.",
                                registry=registry)  # fmt: skip

    def judged(self, kind: str, items: int, seconds: float) -> None:
        """Notes one batch."""
        self.batch.labels(kind).observe(items)
        self.spent.labels(kind).observe(seconds)

    def gave(self, label: str, *, cached: bool) -> None:
        """Notes one verdict."""
        self.verdicts.labels(label, str(cached).lower()).inc()

    def page(self) -> bytes:
        """All of it in Prometheus' text form."""
        return generate_latest(self.registry)

"""The report on a router's adapters: matrix, sizes, detector, times."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from minicrit.adapter_matrix import Floats, matrix_of, remove_scores, score_all
from minicrit.adapter_page import page
from minicrit.adapters_config import AdaptersConfig
from minicrit.config import Recipe
from minicrit.critic import Critic, Item
from minicrit.files import sha256_file, write_atomic, write_json
from minicrit.lora import WEIGHTS
from minicrit.manifest import provenance
from minicrit.measures import entry, plain
from minicrit.records import Example, read_examples
from minicrit.router import AUTO, FALLBACK, Router
from minicrit.selection import limited
from minicrit.statistics import wilson

FORM = 1
_TIMED = 4  # items an adapter
_ROUNDS = 3


def report_adapters(recipe: Recipe) -> dict[str, Any]:
    """Measures the router that is there and writes the report; a killed run goes on."""
    settings = recipe.adapters
    router = Critic.load(settings.router, base_folder=recipe.base.folder, calibrated=False)
    assert isinstance(router, Router)
    examples = tested(settings, recipe.seed)
    p = score_all(router, examples, settings.report, settings.batch_tokens)
    files = (settings.data / "test.jsonl", settings.router / "manifest.json")
    inputs = {path.as_posix(): sha256_file(path) for path in files}
    found = {
        "form": FORM,
        **provenance(recipe.seed, settings, inputs),
        "matrix": matrix_of(p, examples, draws=settings.draws, seed=recipe.seed),
        "sizes": sizes(router),
        "detector": detection(router, examples),
        "measured": times(router, _read_by_all(p, examples)),
    }
    write_json(settings.report.with_name(f"{settings.report.name}.json"), found)
    write_atomic(settings.report.with_name(f"{settings.report.name}.md"), page(found))
    remove_scores(router, settings.report)
    return found


def _read_by_all(p: Mapping[str, Floats], examples: Sequence[Example]) -> list[Example]:
    """The examples that every adapter has judged: of others there is no time."""
    lost = np.asarray(np.isnan(np.stack(list(p.values()))).any(axis=0)).tolist()
    return [e for e, unread in zip(examples, lost, strict=True) if not unread]


def tested(settings: AdaptersConfig, seed: int) -> list[Example]:
    """The test items of the report.

    Raises:
        ValueError: if there are none, or others among them.
    """
    only = None if settings.elsewhere else settings.domains
    path = settings.data / "test.jsonl"
    if found := held_out(path, settings.tested, seed, only):
        return found
    raise ValueError(f"{path}: expected test items of {', '.join(only or ['any domain'])}, got "
                     "none; make more data, or set adapters.elsewhere")  # fmt: skip


def held_out(path: Path, limit: int, seed: int, only: Sequence[str] | None = None) -> list[Example]:
    """Test items of every domain, or of some; whole groups, at most `limit` a domain (0: all)."""
    rows = read_examples(path).examples
    if foreign := {str(e.split) for e in rows} - {"test"}:
        raise ValueError(f"{path}: expected rows of split test alone, got {', '.join(foreign)}; "
                         "an adapter is not measured on what it was trained on")  # fmt: skip
    domains = only or dict.fromkeys(e.domain for e in rows)
    each = ([e for e in rows if e.domain == domain] for domain in domains)
    return [e for found in each for e in (limited(found, limit, seed) if limit else found)]


def sizes(router: Router) -> dict[str, Any]:
    """Bytes on disk of each adapter's weights, of the base's, and of what routes."""
    base = sum(path.stat().st_size for path in router.members.base.folder.glob("*.safetensors"))
    routing = sum(path.stat().st_size for path in Path(router.name).iterdir() if path.is_file())
    weights = {key: (member.folder / WEIGHTS).stat().st_size
               for key, member in router.members.by_key.items()}  # fmt: skip
    return {"adapters": weights, "base": base, "routing": routing}


def detection(router: Router, examples: Sequence[Example]) -> dict[str, Any]:
    """Where items go whose domain is not told: to the right specialist, a wrong one, or neither."""
    routes = router.routes([(AUTO, e.rationale) for e in examples])
    outcome: Counter[str] = Counter()
    by_domain: dict[str, Counter[str]] = {}
    for example, route in zip(examples, routes, strict=True):
        routed = "right" if route.key == example.domain else "wrong"
        outcome["general" if route.key == FALLBACK else routed] += 1
        by_domain.setdefault(example.domain, Counter())[route.key] += 1
    n = outcome["right"] + outcome["wrong"]
    share = wilson(outcome["right"], n)
    return {
        "n": len(examples),
        "bar": router.bar,
        **{name: outcome[name] for name in _OUTCOMES},
        "right_if_routed": entry(share.value, n, {"wilson": share}),
        "by_domain": {name: dict(sorted(found.items())) for name, found in by_domain.items()},
    }


_OUTCOMES = ("right", "wrong", "general")


def times(router: Router, examples: Sequence[Example]) -> dict[str, Any]:
    """A mixed batch against a forward an adapter and against one adapter for all, in turns.

    Also by how much the log-odds of a mixed batch depart from those of separate forwards.
    """
    batches = {key: items for key in router.members.by_key
               if (items := _some(router, examples, key))}  # fmt: skip
    items = [item for some in batches.values() for item in some]
    names = [key for key, some in batches.items() for _ in some]

    def separate() -> np.ndarray:
        return np.concatenate([router.odds_by([key] * len(some), some)
                               for key, some in batches.items()])  # fmt: skip

    ways: dict[str, Callable[[], np.ndarray]] = {
        "mixed": lambda: router.odds_by(names, items),
        "separate": separate,
        "one_adapter": lambda: router.odds_by([FALLBACK] * len(items), items),
    }
    apart = float(np.abs(ways["mixed"]() - separate()).max())
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            spent[name].append(time.perf_counter() - start)
    return {"items": len(items), "adapters": len(batches), "rounds": _ROUNDS,
            "seconds": {name: plain(median(found)) for name, found in spent.items()},
            "separate_to_mixed": _ratio(spent["separate"], spent["mixed"]),
            "mixed_to_one_adapter": _ratio(spent["mixed"], spent["one_adapter"]),
            "log_odds_apart": apart}  # fmt: skip


def _ratio(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The median of the ratios of paired times."""
    return plain(median(a / b for a, b in zip(first, second, strict=True)))


def _some(router: Router, examples: Sequence[Example], key: str) -> list[Item]:
    """A few items that go to an adapter."""
    known = set(router.members.by_key)
    mine = [(e.domain, e.rationale) for e in examples
            if (e.domain == key or (key == FALLBACK and e.domain not in known))]  # fmt: skip
    return mine[:_TIMED]

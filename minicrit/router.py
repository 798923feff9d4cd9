"""One critic out of several: each item goes to the adapter of its domain, all in one forward.

critic = Critic.load("checkpoints/cpu/router")
critic.verdict([("medical", "..."), ("auto", "...")])[0].model      # the adapter that judged

A domain with an adapter has its items judged by it. Of any other (also `auto`) a detector guesses
the domain from the words; below its bar the general adapter judges. The base is in memory once;
`swap` exchanges an adapter while the process runs.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from minicrit.accepting import Rule
from minicrit.calibrated import Calibration
from minicrit.critic import Critic, Item
from minicrit.detector import Detector
from minicrit.files import sha256_json
from minicrit.impostors import Spread
from minicrit.lanes import mixed_greedy
from minicrit.members import Member, Members
from minicrit.packing import Tree
from minicrit.pens import Together
from minicrit.prompts import Critique
from minicrit.reader import batches
from minicrit.readout import Judged, bundles, joined, judging_tree, read_judged, reading
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES
from minicrit.verdict import Verdict

#: The key of the general adapter, and the domain that asks for detection.
FALLBACK, AUTO = "fallback", "auto"
_UNTOLD = (AUTO, FALLBACK, "")  # an item of these is of no domain that somebody told
#: No adapter has this name: its tokens are computed by the base alone.
_BASE = ""
_READ = 4096  # tokens that are read for quotations at a time
_PROBE: Item = ("general", "Three of three swans were white, so all swans are white.")


@dataclass(frozen=True)
class Route:
    """Where an item goes.

    Attributes:
        key: of the adapter: a domain, or `fallback`.
        domain: that the critic reads in the prompt.
        detected: probability of the detected domain; None where the domain was given.
    """

    key: str
    domain: str
    detected: float | None = None


class Router(Critic):
    """A critic with an adapter a domain. Build it with `Critic.load` of a router's folder."""

    def __init__(
        self,
        members: Members,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        detector: Detector | None,
        detector_identity: str,
        bar: float,
    ) -> None:
        """`members` holds the general adapter under `fallback`; others are proved when they come.

        Args:
            members: the adapters.
            tokenizer: of the base.
            name: of the folder.
            detector: None sends every item without a given domain to the general adapter.
            detector_identity: hash of its files.
            bar: least probability at which it is believed.
        """
        self.members, self.detector, self.bar = members, detector, bar
        self._told = [members.base.identity, detector_identity, bar]
        super().__init__(members.model, tokenizer, name=name, identity=self._identity())
        self._settle()
        self.prove(members.by_key[FALLBACK].name)

    def _identity(self) -> str:
        adapters = {key: member.sha256 for key, member in self.members.by_key.items()}
        return sha256_json([*self._told, adapters])

    def _settle(self) -> None:
        """Identity and threshold of the adapters as they now are.

        One threshold for all, the highest: each certified one bounds false positives from there up.
        """
        found = {key: member.calibration for key, member in self.members.by_key.items()}
        prints = sorted((key, str(one.facts["sha256"])) for key, one in found.items() if one)
        self.identity = self._identity() + (f"+{sha256_json(prints)}" if prints else "")
        self.threshold = max(one.threshold if one else 0.5 for one in found.values())
        self.fitted_to |= {"router": self._identity()}
        self._calibration = None

    def adopt(self, calibration: Calibration) -> None:
        """Uses a calibration of the router as a whole in place of those of its adapters."""
        self._calibration, self.threshold = calibration, calibration.threshold
        self.identity = f"{self._identity()}+{calibration.facts['sha256']}"

    def swap(self, domain: str, folder: Path | None, *, calibrated: bool = True) -> None:
        """Puts another adapter in the place of a domain's, or none (None: then as for others).

        A threshold set by hand, and a calibration of the router as a whole, end with it.

        Raises:
            ValueError: if the adapter is not fit for service; then nothing has changed.
        """
        if folder is None:
            if domain not in self.members.by_key or domain == FALLBACK:
                known = ", ".join(key for key in self.members.by_key if key != FALLBACK)
                raise ValueError(f"expected a domain with an adapter of its own ({known}), got "
                                 f"{domain}; name one of them")  # fmt: skip
            self.members.drop(domain)
        else:
            self.members.put(domain, folder, calibrated=calibrated, prove=self.prove)
        self._settle()

    def prove(self, name: str) -> None:
        """Refuses an adapter, by peft's name, that changes nothing or that has no answer."""
        prompt, tail = [self.encoder.prompt(*_PROBE)], reading(self.encoder)
        tree = joined(prompt, tail)
        with_adapter, without = (self._score_by([tree], [one]) for one in (name, _BASE))
        if not with_adapter.isfinite().all():
            raise ValueError(f"{self.name}: expected an adapter whose log-odds are numbers, got "
                             f"none ({name}); its weights are broken, train it again")  # fmt: skip
        if with_adapter.equal(without):
            raise ValueError(f"{self.name}: expected an adapter that changes the answer of its "
                             f"base, got none ({name}); train it or leave it out")  # fmt: skip

    def routes(self, items: Sequence[Item]) -> list[Route]:
        """Which adapter judges each item, and as of which domain."""
        return [self._route(*item) for item in items]

    def _route(self, domain: str, rationale: str) -> Route:
        if domain in self.members.by_key and domain != FALLBACK:
            return Route(domain, domain)
        given = "general" if domain in _UNTOLD else domain
        if self.detector is None:
            return Route(FALLBACK, given)
        found, p = self.detector.detect(rationale)
        if p >= self.bar and found in self.members.by_key:
            return Route(found, found, p)
        return Route(FALLBACK, given, p)

    def member(self, route: Route) -> Member:
        """The adapter of a route."""
        return self.members.by_key[route.key]

    def _prompts(
        self, items: Sequence[Item], routes: Sequence[Route], longest: int = 0
    ) -> list[list[int]]:
        return [self.prompt(route.domain, rationale, longest)
                for route, (_, rationale) in zip(routes, items, strict=True)]  # fmt: skip

    def log_odds(
        self,
        items: Sequence[Item],
        *,
        batch_tokens: int = 4096,
        progress: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """See `Critic`; each item by its adapter."""
        return self._odds(items, self.routes(items), batch_tokens, progress)

    def odds_by(
        self, keys: Sequence[str], items: Sequence[Item], *, batch_tokens: int = 4096
    ) -> np.ndarray:
        """Log-odds (n,) of items whose domains are known, by the adapters of these keys (n,)."""
        routes = [Route(key, domain) for key, (domain, _) in zip(keys, items, strict=True)]
        return self._odds(items, routes, batch_tokens, None)

    def _odds(
        self, items: Sequence[Item], routes: Sequence[Route], batch_tokens: int,
        progress: Callable[[int], object] | None,
    ) -> np.ndarray:  # fmt: skip
        return self._odds_and_types(items, routes, reading(self.encoder), batch_tokens,
                                    progress)[0]  # fmt: skip

    def _odds_and_types(
        self, items: Sequence[Item], routes: Sequence[Route], tail: Tree, batch_tokens: int,
        progress: Callable[[int], object] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Log-odds (n,), and the likelihoods of the leaves behind the verdicts, (n, leaves - 2)."""
        spread = Spread(items)
        ways = spread.of_each(routes)
        names = [self.member(route).name for route in ways]
        sums = self._ask(self._prompts(spread.items, ways), tail, batch_tokens, progress, names)
        sums = sums[spread.worst(sums[:, 1] - sums[:, 0])]
        return sums[:, 1] - sums[:, 0], sums[:, 2:]

    def _ask(
        self,
        prompts: Sequence[Sequence[int]],
        tail: Tree,
        batch_tokens: int,
        progress: Callable[[int], object] | None = None,
        names: Sequence[str] | None = None,
    ) -> np.ndarray:
        """See `Critic`; what prompts share is shared among those of one adapter (`names`)."""
        names = names or [self.members.by_key[FALLBACK].name] * len(prompts)
        found = np.empty((len(prompts), len(tail.leaves)))
        groups: list[tuple[str, list[int]]] = []
        for name in sorted(set(names)):
            mine = [row for row, other in enumerate(names) if other == name]
            alike = bundles([prompts[row] for row in mine], batch_tokens, tail.tokens)
            groups += [(name, [mine[at] for at in rows]) for rows in alike]
        trees = [joined([prompts[row] for row in rows], tail) for _, rows in groups]
        for numbers in batches([tree.tokens for tree in trees], batch_tokens):
            numbers.sort()  # those of one adapter stand together
            rows = [row for number in numbers for row in groups[number][1]]
            sums = self._score_by([trees[n] for n in numbers], [groups[n][0] for n in numbers])
            found[rows] = sums.view(len(rows), -1).cpu().numpy()
            if progress:
                progress(len(rows))
        return found

    def _score_by(self, trees: Sequence[Tree], names: Sequence[str]) -> Any:
        """Log-likelihood of every branch, in one forward, each tree by its adapter."""
        with self._lanes_over(trees, names):
            return self._score(trees)

    def _lanes_over(
        self, trees: Sequence[Tree], names: Sequence[str]
    ) -> AbstractContextManager[None]:
        # Of each leaf the last token is scored, but not computed (see `packing.pack`).
        computed = [tree.tokens - len(tree.leaves) for tree in trees]
        return self.members.lanes.over(zip(names, computed, strict=True))

    def judge(self, examples: Sequence[Example], *, batch_tokens: int = 4096) -> list[Judged]:
        """See `Critic`; each example by its adapter."""
        routes = self.routes([(e.domain, e.rationale) for e in examples])
        names = [self.member(route).name for route in routes]
        trees = [judging_tree(self.encoder, replace(example, domain=route.domain))
                 for example, route in zip(examples, routes, strict=True)]  # fmt: skip
        judged: dict[int, Judged] = {}
        for rows in batches([tree.tokens for tree in trees], batch_tokens):
            rows.sort(key=names.__getitem__)
            chosen = [trees[row] for row in rows]
            sums = self._score_by(chosen, [names[row] for row in rows])
            judged.update(zip(rows, read_judged(chosen, sums), strict=True))
        return [judged[row] for row in range(len(trees))]

    def p_of(self, odds: np.ndarray, items: Sequence[Item]) -> np.ndarray:
        """See `Critic`; calibrated as the adapter of each item is, or the router as a whole."""
        return self._chances(odds, self.routes(items), items)

    def p_and_types(
        self, items: Sequence[Item], *, batch_tokens: int = 4096
    ) -> tuple[np.ndarray, list[str]]:
        """See `Critic`."""
        routes = self.routes(items)
        tail, kinds = reading(self.encoder, types=True), list(FLAW_TYPES)
        odds, likely = self._odds_and_types(items, routes, tail, batch_tokens)
        types = [kinds[at] for at in likely.argmax(axis=1)]
        return self._chances(odds, routes, items), self._types(types, items)

    @property
    def calibrated(self) -> bool:
        """See `Critic`; that of one adapter will do."""
        members = self.members.by_key.values()
        return self._calibration is not None or any(member.calibration for member in members)

    def certificate(self, item: Item) -> dict[str, Any] | None:
        """See `Critic`; of the adapter that judges the item, or of the router as a whole.

        None where the general adapter judges: it was certified over items of all domains, and is
        given those alone that no specialist takes.
        """
        if self._route(*item).key == FALLBACK:
            return self.calibration
        found = self._fitted(item)
        return dict(found.facts) if found else None

    def _fitted(self, item: Item) -> Calibration | None:
        return self._calibration or self.member(self._route(*item)).calibration

    def _chances(
        self, odds: np.ndarray, routes: Sequence[Route], items: Sequence[Item]
    ) -> np.ndarray:
        read = [self._scaled(*one) for one in zip(odds, routes, items, strict=True)]
        return super().chances(np.array(read), None)

    def _scaled(self, odds: float, route: Route, item: Item) -> float:
        """The log-odds of an item as its adapter's calibration, or that of the whole, has them.

        That of the whole was fitted and certified by the domains that were given, whatever words
        the detector went by.
        """
        found = self._calibration or self.member(route).calibration
        domain, text = item
        if self._calibration is None or domain in _UNTOLD:
            domain = route.domain
        return float(found.scaled(np.array([odds]), [(domain, text)])[0]) if found else odds

    def chances(self, odds: np.ndarray, items: Sequence[Item] | None) -> np.ndarray:
        """See `Critic`; where the items are given, log-odds are the general adapter's."""
        if items is None:
            return super().chances(odds, None)
        return self._chances(odds, [Route(FALLBACK, domain) for domain, _ in items], items)

    def _write_all(
        self, items: Sequence[Item], labels: Sequence[str], longest: int
    ) -> list[tuple[str, int]]:
        """See `Critic`; all critiques are written in the same forwards, each by its adapter."""
        routes = self.routes(items)
        pen = _Mixed(self, [self.member(route).name for route in routes])
        return self._write(pen, self._prompts(items, routes, longest), items, labels, longest)

    def read_by(
        self, names: Sequence[str], trees: Sequence[Tree], also: Sequence[int]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Reader.read`; each tree by its adapter."""
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for rows in batches([tree.tokens for tree in trees], _READ):
            rows.sort(key=names.__getitem__)
            chosen = [trees[row] for row in rows]
            with self._lanes_over(chosen, [names[row] for row in rows]):
                found |= zip(rows, self._read(chosen, also), strict=True)
        return [found[row] for row in range(len(trees))]

    @cached_property
    def drafts_are_exact(self) -> bool:
        """No drafts: they are verified by forwards that know one adapter only."""
        return False

    def require_one_adapter(self) -> None:
        """See `Critic`."""
        raise ValueError(f"{self.name}: expected a critic of one adapter, got a router; name one "
                         "of its adapters")  # fmt: skip

    def merged(self, dtype: Any) -> Critic:
        """The router as it is: weights can be merged with one adapter only."""
        return self

    def _verdict(
        self, item: Item, p: float, spent: float, parsed: Critique | None = None
    ) -> Verdict:
        """See `Critic`; `model` and `adapter` are those that judged."""
        route = self._route(*item)
        member = self.member(route)
        found = self._calibration or member.calibration
        said = super()._verdict((route.domain, item[1]), p, spent, parsed)
        asked = "\0".join((self.identity, self.prompt_version, *item))
        return replace(
            said,
            domain=item[0] if item[0] not in (AUTO, "") else route.domain,
            model=str(member.folder),
            adapter=member.sha256,
            calibrated=found is not None,
            unsure=found is not None and found.is_unsure(p, self.threshold),
            request_id=hashlib.sha256(asked.encode()).hexdigest()[:32],
        )


@dataclass
class _Mixed(Together):
    """Writes and reads each text by its adapter; see `grounding.Pen`."""

    reader: Router
    names: Sequence[str]

    def write(
        self,
        rows: Sequence[int],
        texts: Sequence[list[int]],
        rules: Sequence[Rule] | None,
        longest: int,
    ) -> list[list[int]]:
        router = self.reader
        return mixed_greedy(
            router.causal_lm, texts, [self.names[row] for row in rows], router.members.lanes,
            longest=longest, end=router.encoder.end, rules=rules,
        )  # fmt: skip

    def read(
        self, rows: Sequence[int], trees: Sequence[Tree], also: Sequence[int]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        return self.reader.read_by([self.names[row] for row in rows], trees, also)

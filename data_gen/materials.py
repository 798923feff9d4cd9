"""What the rounds of self-improvement draw from, and what is done only once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_gen.asker import Asker
from data_gen.asking import Service, open_service
from data_gen.candidates import make_candidates
from data_gen.journal import Journal
from data_gen.judge import Ask
from data_gen.pairs import training_examples
from data_gen.public import draw_groups
from data_gen.rejection import readable, training_encoder
from data_gen.screen import Screened
from minicrit.files import sha256_file, sha256_json
from minicrit.manifest import read_manifest
from minicrit.records import Example
from minicrit.sampling import Manner, Sample
from minicrit.training_config import ConstitutionConfig

if TYPE_CHECKING:
    from minicrit.config import Recipe
    from minicrit.critic import Critic

#: Of an adapter.
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Materials:
    """What all rounds draw from.

    Attributes:
        recipe: uses `constitution`, `seed`, `base` and `filters`.
        pool: training examples that may be criticized. screening: what became of the others.
    """

    recipe: "Recipe"
    pool: list[Example]
    screening: Screened

    @classmethod
    def of(cls, recipe: "Recipe") -> "Materials":
        """Reads them once.

        Raises:
            ValueError: if a row is not for training.
        """
        return cls(recipe, *training_examples(recipe, recipe.constitution.data, 0, "constitution"))

    @property
    def work(self) -> Path:
        """Where what is done so far lies."""
        out = self.recipe.constitution.out
        return out.with_name(out.name + ".work")

    def drawn(self, critic: "Critic", limit: int, purpose: str, turn: int = 1) -> list[Example]:
        """At most `limit` of what critic and training can read, whole groups; see `draw_groups`."""
        pool = readable(self.pool, training_encoder(self.recipe, critic), critic.encoder)
        return draw_groups(pool, limit, f"{self.recipe.seed}/constitution/{purpose}", turn)

    def key(self, adapter: Path, *decides: object) -> str:
        """Hash of all that decides what an adapter writes about them."""
        settings = self.recipe.constitution
        return sha256_json([
            self.recipe.seed, settings.max_new_tokens, settings.rows, settings.dtype,
            sha256_file(adapter / WEIGHTS),
            [example.to_row() for example in self.pool], *decides,
        ])  # fmt: skip

    def critic(self, adapter: Path) -> "Critic":
        """The critic of an adapter."""
        from minicrit.critic import Critic

        return Critic.load(adapter, base_folder=self.recipe.base.folder, calibrated=False)

    def manner(
        self, copies: int, temperatures: Sequence[float], number: int, *, again: bool = False
    ) -> Manner:
        """How critics write in a round; `again` for a second text of the same rationales.

        The chances of a second text are other ones: from those of the draft a revision that begins
        as it did would mostly repeat it, and it is asked for where the draft was wrong.
        """
        settings = self.recipe.constitution
        seed = self.recipe.seed + 1000 * number + 500 * again
        return Manner(copies, tuple(temperatures), settings.max_new_tokens, seed, settings.rows,
                      settings.dtype)  # fmt: skip

    def first_drafts(
        self, critic: "Critic", examples: Sequence[Example], temperature: float, number: int
    ) -> list[Sample]:
        """One critique of each example."""
        manner = self.manner(1, (temperature,), number)
        return [one for (one,) in make_candidates(critic, examples, manner, self.work)]

    @contextmanager
    def asks(self, services: Mapping[str, Service]) -> Iterator[dict[str, Ask]]:
        """How the models are asked, by role.

        One journal serves all, so one budget holds for all, for all rounds and restarts.
        """
        if not services:
            yield {}
            return
        with Journal(self.work / "journal.jsonl") as journal:
            askers = {
                role: Asker(one.backend, journal, price=one.price, budget=one.budget)
                for role, one in services.items()
            }
            try:
                yield {role: asker.ask for role, asker in askers.items()}
            finally:
                for asker in askers.values():
                    asker.stop()


def services_of(settings: ConstitutionConfig) -> dict[str, Service]:
    """The models that the settings need: `reviser`, `judge`, or neither.

    Raises:
        ValueError: if a name, an address, a key or a price is missing.
    """
    s, found = settings, {}
    if s.reviser != "self":
        found["reviser"] = open_service(s.reviser, s.model, url=s.url, budget=s.budget_usd,
                                        named="constitution.model")  # fmt: skip
    if s.scorer != "oracle":
        found["judge"] = open_service(s.judge, s.judge_model, url=s.judge_url, budget=s.budget_usd,
                                      named="constitution.judge_model",
                                      named_url="constitution.judge_url")  # fmt: skip
    return found


def is_made(out: Path, key: str) -> bool:
    """Whether a folder is complete and was made from what this key stands for."""
    return (out / "manifest.json").is_file() and read_manifest(out)["facts"].get("key") == key

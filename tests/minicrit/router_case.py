"""A tiny base with four adapters that do something, each in a signed folder, and a router."""

from pathlib import Path

import torch

from minicrit.adapters_config import AdaptersConfig
from minicrit.base import Base, load_model
from minicrit.detector import Detector
from minicrit.lora import attach_lora
from minicrit.manifest import write_manifest
from minicrit.prompts import PROMPT_VERSION
from minicrit.records import Example, write_examples
from minicrit.router_folder import write_router

DOMAINS = ("trading", "defense", "cybersecurity", "medical")
ABOUT = {
    "trading": "stock price market shares",
    "defense": "radar convoy patrol bridge",
    "cybersecurity": "login malware server firewall",
    "medical": "patient dose ward fever",
    "planning": "budget schedule staff roof",
}
ITEMS = [
    ("trading", "RSI is low, so buy."),
    ("defense", "Nobody shot at the convoy on three days, so the road is safe for good."),
    ("cybersecurity", "The scan found nothing, so there is nothing."),
    ("medical", "The test was negative in all 40 cases. So the drug is safe for everybody."),
    ("planning", "The roof took nine days last time and will take about nine again."),
]


def save_adapter(
    base: Base, folder: Path, seed: int, *, rank: int = 4, strength: float = 0.3
) -> Path:
    """An adapter with random weights; of strength 0 it changes nothing."""
    model = attach_lora(load_model(base), rank=rank, alpha=8, dropout=0.0, targets="all-linear",
                        seed=seed)  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(strength * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    sign(folder, base.identity)
    return folder


def sign(folder: Path, identity: str) -> None:
    """The manifest of a finished adapter."""
    facts = {"base": identity, "base_model": "tiny", "base_revision": None,
             "prompt_version": PROMPT_VERSION}  # fmt: skip
    write_manifest(folder, stage="sft", inputs={}, settings={"lora": {"rank": 4}}, facts=facts)


def lessons() -> list[Example]:
    """Texts whose words tell their domain."""
    return [
        Example(id=f"{domain}-{n}", domain=domain, rationale=f"The {words} said {n}, so it is so.",
                label="valid", group=f"{domain}-{n}", source="hand", split="train")
        for domain, words in ABOUT.items() for n in range(6)
    ]  # fmt: skip


def make_router(base: Base, root: Path, *, bar: float = 0.7) -> Path:
    """Adapters below `root/adapters`, and the router's folder."""
    folders = {domain: save_adapter(base, root / "adapters" / domain, seed)
               for seed, domain in enumerate(DOMAINS)}  # fmt: skip
    start = save_adapter(base, root / "general", 9)
    texts = lessons()
    write_examples(root / "data" / "train.jsonl", texts)
    detector = Detector.learnt([e.rationale for e in texts], [e.domain for e in texts])
    settings = AdaptersConfig(start=start, data=root / "data", router=root / "router", bar=bar)
    return write_router(settings, folders, detector)

"""The calibration of a critic as it is used: read from the critic's folder, refused if stale.

`<folder>/calibration.json` is fitted to the finished folder and travels with it. It has a manifest
of its own, which names the weights and the prompt that it was fitted to, and it is no part of what
the folder is: fitting it again makes nothing stale but itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit import manifest
from minicrit.files import CALIBRATION, sha256_file
from minicrit.jsonl import parse_object


@dataclass(frozen=True)
class Calibration:
    """What verdicts take from it.

    Attributes:
        threshold: certified; flag what is above it.
        temperature: of domains without one of their own, which are in `domains`.
        band: (low, high) of the calibrated p between which verdicts cannot be relied on; None if
            there is no need for one, or none that would help.
        facts: the certificate in short, for reports.
    """

    threshold: float
    temperature: float
    domains: Mapping[str, float]
    band: tuple[float, float] | None
    facts: Mapping[str, Any]

    def temperatures(self, domains: Sequence[str]) -> npt.NDArray[np.float64]:
        """(n,) temperature of each domain."""
        return np.array([self.domains.get(name, self.temperature) for name in domains])

    def is_unsure(self, p: float) -> bool:
        """Whether p lies strictly within the band."""
        return self.band is not None and self.band[0] < p < self.band[1]


def read_calibration(folder: Path, **critic: object) -> Calibration | None:
    """The calibration in the folder of a critic; None if there is none.

    Args:
        folder: of the critic.
        critic: what it must have been fitted to, by name (`adapter`, `prompt_version`, ...).

    Raises:
        ValueError: if it was changed, or fitted to something else; it says what differs.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        record = manifest.read_manifest(path)
        if faults := manifest.check_outputs(path):
            raise ValueError(faults[0])
        manifest.require(record, stage="calibrate", **critic)
        return _read(path)
    except ValueError as error:
        raise ValueError(f"{path}: expected the calibration of this critic: {error}; fit it again "
                         f"(make calibrate MODEL={folder}) or remove it") from error  # fmt: skip


def _read(path: Path) -> Calibration:
    return calibration_of(parse_object(path.read_bytes()), sha256_file(path))


def calibration_of(row: Mapping[str, Any], digest: str) -> Calibration:
    """From what the stage `calibrate` found; the digest tells it from others."""
    try:
        certificate, temperature, band = row["certificate"], row["temperature"], row["abstain"]
        facts = {key: certificate[key] for key in ("alpha", "delta", "n", "k")}
        return Calibration(
            threshold=float(row["threshold"]),
            temperature=float(temperature["pooled"]),
            domains={name: float(value) for name, value in temperature["domains"].items()},
            band=(float(band["low"]), float(band["high"])) if band else None,
            facts={**facts, "each_domain": row["each_domain"], "temperature": temperature,
                   "abstain": band, "domains": row.get("domains"),
                   "sha256": digest},
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"expected the fields of a calibration, got none of {error}") from error

"""The calibration of a critic as it is used: read from the critic's folder, refused if stale.

`<folder>/calibration.json` is fitted to the finished folder and travels with it. It has a manifest
of its own, which names the weights and the prompt that it was fitted to, and it is no part of what
the folder is: fitting it again makes nothing stale but itself.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from minicrit import manifest
from minicrit.files import CALIBRATION, sha256_file
from minicrit.jsonl import parse_object
from minicrit.prompts import Critique
from minicrit.recount import RULES, either, miscounted, recounted

_log = logging.getLogger(__name__)


class Scale(NamedTuple):
    """How log-odds z are read: p(flawed) = 1 / (1 + exp(-(z / temperature + shift)))."""

    temperature: float
    shift: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """What verdicts take from it.

    Attributes:
        threshold: certified; flag what is above it.
        scale: of the log-odds of domains without one of their own, which are in `domains`.
        band: (low, high) of the calibrated p between which verdicts cannot be relied on, equal if
            there is no need for one; None if none would help.
        believed: chance that a sum that does not hold (`recount`) makes its text flawed; None where
            sums do not count.
        facts: the certificate in short, for reports.
    """

    threshold: float
    scale: Scale
    domains: Mapping[str, Scale]
    band: tuple[float, float] | None
    facts: Mapping[str, Any]
    believed: float | None = None

    def scaled(
        self, odds: npt.NDArray[np.float64], items: Sequence[tuple[str, str]]
    ) -> npt.NDArray[np.float64]:
        """(n,) calibrated log-odds, from those read of these items, (domain, rationale) each."""
        scales = np.array([self.domains.get(domain, self.scale) for domain, _ in items])
        temperature, shift = scales.reshape(-1, 2).T
        found = np.asarray(odds / temperature + shift)
        if not self.believed:
            return found
        false = miscounted([rationale for _, rationale in items])
        return np.where(false, either(found, self.believed), found)

    def recounted(self, rationale: str) -> Critique | None:
        """What is to be said of a text that states a false sum; None of others, or without it."""
        return None if self.believed is None else recounted(rationale)

    def is_unsure(self, p: float, threshold: float) -> bool:
        """Whether p lies strictly within the band, or `threshold` gives another verdict than ours.

        Outside of the band few verdicts by the calibration's own threshold are wrong. One that was
        set by hand, or a router's for all its adapters, turns those between the two round.
        """
        if self.band is None:
            return False
        turned = (p > threshold) != (p > self.threshold)
        return bool(turned or self.band[0] < p < self.band[1])


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
        shift = row.get("shift") or {"pooled": 0.0, "domains": {}}  # none before form 2
        sums = row.get("sums")  # none before form 3
        if sums and sums.get("rules", RULES) != RULES:
            _log.warning(
                "the threshold was certified by another version of what counts sums again, which "
                "may call others false; certify it anew (make calibrate)"
            )
        facts = {key: certificate[key] for key in ("alpha", "delta", "n", "k")}
        return Calibration(
            threshold=float(row["threshold"]),
            scale=Scale(float(temperature["pooled"]), float(shift["pooled"])),
            domains={name: Scale(float(value), float(shift["domains"].get(name, 0.0)))
                     for name, value in temperature["domains"].items()},
            band=(float(band["low"]), float(band["high"])) if band else None,
            believed=float(sums["believed"]) if sums else None,
            facts={**facts, "each_domain": row["each_domain"], "temperature": temperature,
                   "shift": shift, "sums": sums, "abstain": band, "domains": row.get("domains"),
                   "sha256": digest},
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"expected the fields of a calibration, got none of {error}") from error

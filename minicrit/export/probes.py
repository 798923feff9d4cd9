"""Rationales on which an export must say what its critic said, wherever it is served.

A wrong order of rows, a wrong tokenizer or another model under the same name all load and answer.
So the manifest of an export holds the critic's p for these, and whoever reads a verdict of the
export compares first.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
#: Digits, line breaks, blanks before a digit, accents and another script; short, so it is cheap.
PROBES = (
    ("general", "Three of three swans were white, so all swans are white."),
    ("trading", "RSI is 27.4 and it bounced the last 3 times:  2 of 3 made 12 %, so I buy 1,500."),
    ("medical", "Of 400 treated 90 % got well; of 400 untreated 60 %.\n\nDas tr\u00e4gt."),
    ("cybersecurity", "No alert in 30 days; l'h\u00f4te dort, \u670d\u52a1\u5668 too. It's clean."),
)
#: Most by which p may differ, by the type of the weights; what a server rounds besides is within.
TOLERANCE = {"f32": 0.02, "f16": 0.03, "bf16": 0.05, "q8_0": 0.15}
_COARSE = 0.3  # 5 and 4 bits
EXACT = 1e-3  # most by which log-odds may differ after merging and loading again in float32


def said(odds: Sequence[float] | Floats) -> list[float]:
    """P(flawed) of log-odds, with the digits that a manifest keeps."""
    return [round(float(p), 6) for p in special.expit(np.asarray(odds, dtype=np.float64))]


def apart(facts: dict[str, Any], found: Sequence[float] | Floats) -> tuple[float, float]:
    """How far a reading of the probes is from the recorded one at most, and how far it may be.

    Args:
        facts: of the manifest of the export.
        found: p(flawed) of `PROBES` before any calibration; nan is as far as can be.
    """
    recorded = np.asarray(facts["probe"], dtype=np.float64)
    gaps = np.abs(recorded - np.asarray(found, dtype=np.float64))
    return float(np.nan_to_num(gaps, nan=1.0).max()), TOLERANCE.get(facts["weights"], _COARSE)

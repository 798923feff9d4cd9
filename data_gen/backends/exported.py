"""The export that a server serves: its calibration, and proof that the server really does.

    MODEL_1=openai:http://127.0.0.1:8080/v1#NAME@checkpoints/cpu/export/sft-gguf

A server says little of its weights. So the folder's manifest holds what the critic said of a few
rationales (`minicrit.export.probes`), and the server has to say the same before the threshold of
the folder is used for its verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from data_gen.backends.protocol import HopelessError
from minicrit import manifest
from minicrit.calibrated import Calibration, read_calibration
from minicrit.export.probes import apart
from minicrit.prompts import PROMPT_VERSION
from minicrit.selective import logit


@dataclass(frozen=True)
class Exported:
    """What an export hands to whoever asks a server of it.

    Attributes:
        folder: of the export. facts: of its manifest. calibration: None if it has none.
    """

    folder: Path
    facts: dict[str, Any]
    calibration: Calibration | None

    @classmethod
    def read(cls, folder: Path) -> "Exported":
        """That of a folder.

        Raises:
            ValueError: if it is no export, has another prompt, or was changed.
        """
        record = manifest.read_manifest(folder)
        manifest.require(record, stage="export", prompt_version=PROMPT_VERSION)
        if faults := manifest.check_outputs(folder):
            raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; "
                             "restore the folder or export again")  # fmt: skip
        facts = record["facts"]
        fitted = facts["calibrated_as"]
        return cls(folder, facts, read_calibration(folder, **fitted) if fitted else None)

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The calibration in short; `rounded`: to what the weights are that it was fitted to."""
        if self.calibration is None:
            return None
        rounded = None if self.facts["exact"] else self.facts["weights"]
        return {**self.calibration.facts, "rounded": rounded}

    def require(self, found: Sequence[float]) -> None:
        """Refuses a server that does not say of the probes what this export's critic said."""
        furthest, most = apart(self.facts, found)
        if furthest > most:
            raise HopelessError(f"{self.folder}: expected a server of this export, got one whose p "
                                f"of the probes is up to {furthest:.3f} away (at most {most}); "
                                "serve this folder's weights, or leave out @FOLDER")  # fmt: skip

    def calibrated(self, p: float, item: tuple[str, str]) -> float:
        """P(flawed) as calibrated, of an item: (domain, rationale)."""
        if self.calibration is None or np.isnan(p):
            return p
        odds = self.calibration.scaled(logit(np.array([p])), [item])
        return float(special.expit(odds)[0])

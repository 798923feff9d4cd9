"""Settings of quantization, see `config`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass
class QuantizeConfig:
    """Quantization.

    Attributes:
        model: the critic to shrink.
        bits: 16 (the adapter merged, bfloat16), 8 or 4.
        data: Example file on which it is compared with the float critic.
        limit: at most so many items of it, whole groups, seeded; 0 for all. 598 groups without a
            flip certify flips <= 0.5 % (199: 1.5 %) with 95 % confidence; 0 to 3 flips of 600 items
            are within it. Fewer than 149 groups cannot show a margin of 0.02 where nothing gets
            better.
        margin: how much worse F1 or the false-positive rate may be, as a share: that it is not must
            be shown at 95 %.
        calibration: Example file of the calibration split, on which the small critic gets its own
            temperature and certified threshold: as the float critic was calibrated, if that was on
            these items; else both anew, as `calibrate` sets it. Null for none.
        calibration_limit: then at most so many items of it, whole groups, seeded; 0 for all.
        latency_items: items of the latency one by one; batches take as many as they need.
        rounds: turns of each batch size, at least 1.
        written: rationales whose critique each critic writes, for tokens a second; 0 for none.
        max_new_tokens: longest of these critiques, in tokens.
        draws: resamples of each interval and test.
        out: folder of the smaller critic.
        report: table without ending; .json and .md are written, and what a killed run goes on from.
    """

    model: Path = Path("checkpoints/cpu/sft")
    bits: Literal[16, 8, 4] = 8
    data: Path = Path("data/cpu/test.jsonl")
    limit: int = 600
    margin: float = 0.02
    calibration: Path | None = None
    calibration_limit: int = 400
    latency_items: int = 30
    rounds: int = 3
    written: int = 4
    max_new_tokens: int = 40
    draws: int = 10_000
    out: Path = Path("checkpoints/cpu/int8")
    report: Path = Path("reports/cpu/quantize-int8")

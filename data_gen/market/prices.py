"""Real prices: daily adjusted closes of 20 members of the S&P 500, 1990 to 2022.

They ship inside the PyPI wheel `skfolio` (BSD 3-clause), which is not imported, only its file is
read. Its makers say: for testing and examples, not for trading or as a record of the market. The 20
were chosen with hindsight (all of them lasted), so what any rule earns on them flatters it.
"""

import csv
import gzip
import io
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import numpy.typing as npt

from minicrit.files import sha256_file

Floats = npt.NDArray[np.float64]
WHEEL = "skfolio"
FILE = "skfolio/datasets/data/sp500_dataset.csv.gz"
SHA256 = "ee21cac28befb1d0a739a9ceb22184f995394726aa0cfde9a21941d1ac04ac0d"
_REMEDY = "run make sharpe-demo, which installs it"


@dataclass(frozen=True)
class Market:
    """Closes (T, N) of N names on T days; all of them known on every day."""

    days: tuple[date, ...]
    names: tuple[str, ...]
    closes: Floats

    def until(self, day: int) -> "Market":
        """What was known after the close of day number `day`."""
        return Market(self.days[: day + 1], self.names, self.closes[: day + 1])


def installed_prices() -> Path:
    """Where the wheel's file lies; ValueError if it is not installed."""
    try:
        path = Path(str(distribution(WHEEL).locate_file(FILE)))
    except PackageNotFoundError as error:
        raise ValueError(f"{WHEEL}: expected the wheel with the prices, got none; {_REMEDY}"
                         ) from error  # fmt: skip
    return path


def load_market(path: Path | None = None, sha256: str = SHA256) -> Market:
    """The prices; ValueError if they are not there or not the ones this was written for."""
    path = path or installed_prices()
    found = sha256_file(path) if path.is_file() else "no file"
    if found != sha256:
        raise ValueError(f"{path}: expected prices with sha256 {sha256[:12]}, got {found[:12]}; "
                         f"{_REMEDY}")  # fmt: skip
    rows = list(csv.reader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    days = tuple(date.fromisoformat(row[0]) for row in rows[1:])
    return Market(days, tuple(rows[0][1:]), np.array([[float(x) for x in r[1:]] for r in rows[1:]]))

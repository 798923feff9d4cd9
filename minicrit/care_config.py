"""Settings of the stages that look after machines and runs, see `config`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class DoctorConfig:
    """The doctor.

    Attributes:
        json: print one JSON object a finding instead of lines for people.
        timeout: seconds to wait for each server.
        least_disk: free gigabytes below which there is no use in starting.
        least_memory: free gigabytes of main memory below which it warns.
    """

    json: bool = False
    timeout: float = 2.0
    least_disk: float = 2.0
    least_memory: float = 2.0


@dataclass
class PreflightConfig:
    """The check of all machines of a job.

    Attributes:
        megabytes: largest message that is summed over all processes.
        disk_megabytes: size of the file that is written to each disk.
        folder: where checkpoints go; its disk is timed beside the temporary one.
    """

    megabytes: int = 256
    disk_megabytes: int = 256
    folder: Path = Path("checkpoints")


@dataclass
class RunsConfig:
    """The index of runs.

    Attributes:
        checkpoints: folder of the runs' adapters and smaller critics.
        reports: folder of their reports.
        logs: folder of their TensorBoard logs.
        compare: two runs, separated by a comma, whose settings and metrics are compared; null for
            the index.
        json: print JSON instead of a table.
    """

    checkpoints: Path = Path("checkpoints")
    reports: Path = Path("reports")
    logs: Path = Path("runs")
    compare: str | None = None
    json: bool = False

"""The service as a process of its own, that can be killed and started again."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


class Process:
    """`minicrit serve` on a free port of this machine, with its files in a folder."""

    def __init__(self, folder: Path, bases: Path, model: str, *settings: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.database = folder / "feedback.sqlite3"
        self._log = folder / "service.log"
        self._command = [
            sys.executable, "-m", "minicrit.cli", "serve", "--serve.model", model,
            "--base.folder", str(bases), "--serve.port", str(self.port),
            "--serve.database", str(self.database), "--serve.precedents", "null",
            "--serve.answers", "null", "--serve.max_new_tokens", "8", *settings,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, within_s: float = 180.0) -> None:
        """Starts it and waits until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        end = time.monotonic() + within_s
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        raise ValueError(f"expected a service that starts, got: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Kill -9."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit status once it has answered what waited."""
        assert self._process
        self._process.terminate()
        return self._process.wait(60)

    def memory_mib(self) -> float:
        """What it holds in memory; 0 while it is down."""
        assert self._process
        try:
            text = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return 0.0
        found = [line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")]
        return int(found[0]) / 1024 if found else 0.0

    def cpu_s(self) -> float:
        """Seconds of processor it has used."""
        assert self._process
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

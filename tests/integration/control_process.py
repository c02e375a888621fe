"""A control process of its own, on SQLite, for tests that send it what nobody should."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from shipway.store.api_keys import ADMIN, key_path


@dataclass(frozen=True)
class ControlProcess:
    url: str
    state_dir: Path
    headers: dict[str, str]
    pid: int

    @property
    def place(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname, parts.port

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=self.headers, timeout=20)

    def raw(self, data: bytes) -> bytes:
        """Everything that comes back until control closes, or falls silent."""
        with socket.create_connection(self.place, timeout=5) as connection:
            connection.settimeout(3)
            received = b""
            try:
                connection.sendall(data)
                while piece := connection.recv(65536):
                    received += piece
            except (TimeoutError, ConnectionError):
                pass
            return received

    def memory_mb(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    def log(self) -> str:
        return (self.state_dir / "control.log").read_text()


def credentials(state_dir: Path) -> dict[str, str]:
    """What every request of a test carries, so that control lets it in."""
    key = key_path(state_dir, ADMIN).read_text().strip()
    return {"authorization": f"Bearer {key}"}


@contextmanager
def control_process(state_dir: Path, **variables: str):
    state_dir.mkdir(parents=True, exist_ok=True)
    log = (state_dir / "control.log").open("wb")
    command = [sys.executable, "-m", "shipway.bootstrap", "control"]
    process = subprocess.Popen(
        [*command, "--state-dir", str(state_dir), "--host", "127.0.0.1", "--port", "0"],
        env={**os.environ, **variables},
        stdout=log,
        stderr=log,
    )
    try:
        yield ControlProcess(
            _url(state_dir, process), state_dir, credentials(state_dir), process.pid
        )
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _url(state_dir: Path, process: subprocess.Popen) -> str:
    record, until = state_dir / "run" / "control.json", time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, (state_dir / "control.log").read_text()
        try:
            url = json.loads(record.read_bytes())["url"]
            httpx.get(f"{url}/api/v1/health", timeout=2)
            return url
        except (OSError, ValueError, httpx.HTTPError):
            time.sleep(0.05)
    raise AssertionError((state_dir / "control.log").read_text())

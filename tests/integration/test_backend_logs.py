"""Logs of child processes are bounded while their writers go on."""

import subprocess
import sys

from shipway.backends import logs
from shipway.backends.logs import bound_logs, end_of

WRITER = """
import sys
for _ in sys.stdin:
    print("x" * 99, flush=True)
"""


def test_log_over_its_limit_is_cut_and_its_writer_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "KEPT_BYTES", 250)
    log = tmp_path / "replicas" / "r.log"
    log.parent.mkdir()
    with log.open("ab") as output:
        writer = subprocess.Popen(
            [sys.executable, "-uc", WRITER], stdin=subprocess.PIPE, stdout=output, bufsize=0
        )
    try:
        lines_before = 10
        for count in range(1, lines_before + 1):
            writer.stdin.write(b"\n")
            while log.stat().st_size < count * 100:
                pass
        bound_logs(tmp_path, limit_bytes=10_000)
        assert log.stat().st_size == 1000
        bound_logs(tmp_path, limit_bytes=999)
        assert log.stat().st_size == 0
        writer.stdin.write(b"\n")
        while log.stat().st_size < 100:
            pass
        assert log.read_bytes() == b"x" * 99 + b"\n"
        assert len(end_of(log, 1000)) == 350
        assert end_of(log, 1000).endswith("x" * 99 + "\n")
    finally:
        writer.stdin.close()
        writer.wait(10)


def test_log_that_is_not_there_has_no_end(tmp_path):
    bound_logs(tmp_path / "none")
    assert end_of(tmp_path / "none.log", 10) == ""

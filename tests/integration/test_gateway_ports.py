"""A gateway that is started alone says which of its ports is taken, and by which option to move it."""

import json
import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("taken", "free"), [("--port", "--grpc-port"), ("--grpc-port", "--port")])
def test_a_taken_port_is_one_clear_error_with_its_option(tmp_path, taken, free):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        options = ["--state-dir", str(tmp_path), "--control-url", "http://127.0.0.1:9"]
        done = subprocess.run(
            [sys.executable, "-m", "shipway.gateway", *options, taken, port, free, "0"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 5
    said = json.loads(done.stderr)
    assert port in said["message"]
    assert f"`{taken}`" in said["next_step"]

"""A gateway that cannot start with what its environment says ends with one clear error."""

import json
import os
import subprocess
import sys

import pytest

COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://localhost:9"}


@pytest.mark.parametrize(
    ("environment", "error", "named"),
    [
        (
            {**COLLECTOR, "OTEL_EXPORTER_OTLP_CERTIFICATE": "missing.pem"},
            "certificate_unusable",
            ("missing.pem", "`OTEL_EXPORTER_OTLP_CERTIFICATE`"),
        ),
        (
            {**COLLECTOR, "OTEL_EXPORTER_OTLP_CERTIFICATE": "broken.pem"},
            "certificate_unusable",
            ("broken.pem", "`OTEL_EXPORTER_OTLP_CERTIFICATE`"),
        ),
        (
            {"SHIPWAY_TRACE_SHARE": "10%"},
            "invalid_spec",
            ("`SHIPWAY_TRACE_SHARE`", "'10%'", "`0.1`"),
        ),
    ],
    ids=["missing certificate", "broken certificate", "share"],
)
def test_a_setting_of_telemetry_that_cannot_be_used_is_one_clear_error(
    tmp_path, environment, error, named
):
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n")
    options = ["--state-dir", str(tmp_path), "--control-url", "http://127.0.0.1:9", "--port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "shipway.gateway", *options],
        env={**os.environ, **environment}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    said = json.loads(done.stderr)
    assert said["error"] == error
    assert said["next_step"]
    for text in named:
        assert text in said["message"] + said["next_step"]

"""Requests made from the control API's own OpenAPI: `python tests/fuzz/api.py --examples 100`.

Against a control process of its own, with a registered version, on SQLite. No answer may be a 500 or
take ten seconds, and each must be as the document says: status, content type, headers and body.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from shipway.testing.live import onnx_bundle

sys.path.insert(0, str(Path(__file__).parent.parent / "integration"))
from control_process import ControlProcess, control_process

HERE = Path(__file__).parent

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)
"""Not `positive_data_acceptance`: that a name must exist, and what a name is, is not in the document."""


def search(
    control: ControlProcess, *, examples: int, phases: str = "coverage,fuzzing"
) -> tuple[bool, str]:
    """Whether all went well, and what schemathesis says of it."""
    command = [str(Path(sys.executable).parent / "st"), "run", f"{control.url}/api/v1/openapi.json"]
    options = {
        "checks": CHECKS, "max-examples": examples, "phases": phases, "mode": "all",
        "max-response-time": 10, "request-timeout": 20, "generation-database": "none",
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in options.items()]
    headers = [f"--header={name}: {value}" for name, value in control.headers.items()]
    done = subprocess.run(
        [*command, *flags, *headers, "--no-color", "--continue-on-failure"],
        env={**os.environ, "SCHEMATHESIS_HOOKS": "api_hooks", "PYTHONPATH": str(HERE)},
        cwd=control.state_dir,  # where it keeps a cache of its own
        capture_output=True,
        check=False,
        text=True,
    )
    return done.returncode == 0, done.stdout + done.stderr


def register(control: ControlProcess, directory: Path, model: str = "m") -> None:
    """Puts a version there, so that not every name is wrong."""
    onnx_bundle(directory, 2)
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        for path in sorted(directory.rglob("*")):
            tar.add(path, path.relative_to(directory).as_posix(), recursive=False)
    with control.client() as http:
        http.post(f"/models/{model}/versions", content=body.getvalue()).raise_for_status()


def main() -> int:
    """Searches, and prints what was tried and found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="of each operation")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        control_process(Path(directory) / "state") as control,
    ):
        register(control, Path(directory) / "bundle")
        is_well, said = search(control, examples=options.examples)
        print(said)
        incidents = control.log().count("incident")
        print(f"{incidents} incidents in control's log")
    return 0 if is_well and not incidents else 1


if __name__ == "__main__":
    sys.exit(main())

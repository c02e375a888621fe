"""The control API answers requests made from its own OpenAPI as that says: a few of each operation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from api import register, search

sys.path.insert(0, str(Path(__file__).parent.parent / "integration"))
from control_process import control_process


def test_no_request_of_the_document_is_answered_otherwise_than_it_says(tmp_path):
    with control_process(tmp_path / "state") as control:
        register(control, tmp_path / "bundle")
        is_well, said = search(control, examples=3, phases="fuzzing")
        assert is_well, said[-6000:]
        assert "incident" not in control.log()

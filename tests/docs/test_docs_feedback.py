"""What the page about feedback sends is feedback, and its fields are all there are."""

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import yaml

from shipway.core.capturing import Capture
from shipway.wire.feedback import Truth, decode_truths

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "feedback.md").read_text()
NOW = datetime(2026, 4, 1, tzinfo=UTC)


def test_bodies_on_the_page_are_taken():
    bodies = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) + re.findall(r"-d '(.*?)'", PAGE)
    assert len(bodies) == 2
    for body in bodies:
        assert decode_truths(body.encode(), NOW)


def test_every_field_has_its_line():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert rows == list(Truth.__struct_fields__)


def test_specs_on_the_page_are_read():
    (spec,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    capture = msgspec.convert(yaml.safe_load(spec)["capture"], Capture)
    assert (capture.key.name, capture.segment.name) == ("x-order", "x-country")

"""The spec and the bounds of the page about captured predictions are the ones that hold."""

import re
from pathlib import Path

import yaml

from shipway.core.capturing import require_fields
from shipway.core.signature import Field, Layout, Signature
from shipway.core.spooling import MB, SpoolBounds
from shipway.core.tensors import DataType
from shipway.gateway.metrics import FAMILIES
from shipway.gateway.recording import LONGEST_TEXT
from shipway.gateway.spool import WRITE_EVERY_S
from shipway.gateway.uploads import REFUSED_SUFFIX
from shipway.wire.problems import STATUS_OF
from shipway.wire.request_ids import MOST_CHARACTERS
from shipway.wire.specs import spec_of

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "capture-predictions.md").read_text()
INPUTS = ("age", "plan", "customer_id", "email")


def test_the_spec_of_the_page_is_valid():
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    spec = spec_of(yaml.safe_load(block))
    require_fields(
        spec.capture,
        Signature(
            layout=Layout.COLUMNS,
            inputs=tuple(Field(name=name, dtype=DataType.STRING) for name in INPUTS),
            outputs=(Field(name="label", dtype=DataType.INT64),),
        ),
    )


def test_bounds_that_the_page_names_are_the_defaults():
    bounds = SpoolBounds()
    assert f"after {bounds.segment_age_s:g} s or {bounds.segment_bytes // MB} MB" in PAGE
    assert (
        f"up to {bounds.queue_bytes // MB} MB or {bounds.queue_items:_}".replace("_", " ") in PAGE
    )
    assert f"at most {bounds.most_bytes // (1024 * MB)} GiB" in PAGE
    assert f"{bounds.reserve_ratio:.0%}".replace("%", " %") in PAGE
    assert f"{bounds.reserve_bytes // MB} MiB" in PAGE
    assert f"about the last {WRITE_EVERY_S:g} s" in PAGE
    assert LONGEST_TEXT == MOST_CHARACTERS == 200


def test_metrics_and_errors_of_the_page_exist():
    named = set(re.findall(r"\bshipway_[a-z_]+\b", PAGE))
    assert (
        named
        == {
            "shipway_predictions_captured_total",
            "shipway_predictions_lost_total",
        }
        <= {family.name for family in FAMILIES}
    )
    assert STATUS_OF["prediction_unrecorded"] == 503
    assert REFUSED_SUFFIX in PAGE

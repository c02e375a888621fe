"""A monitor's run in its real process: what it names, what it draws, and how it ends."""

import os
import re
import subprocess
import sys
import threading
import xml.dom.minidom
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from shipway.core.evaluations import Task
from shipway.core.monitor_runs import MonitorVerdict
from shipway.core.monitors import MonitorKind, MonitorSpec
from shipway.core.targets import Target
from shipway.monitoring.process import RunProcess

sys.path.insert(0, str(Path(__file__).parent))
from monitored import DAY, END, files, order, write_labelled, write_log

HOUR = timedelta(hours=1)
BROKEN_AT = END - 8 * HOUR


def in_other_units(at, columns):
    """An upstream sends cents instead of euros."""
    columns["income"][at >= BROKEN_AT] *= 100


@pytest.fixture
def process(tmp_path):
    one = RunProcess(tmp_path / "cache")
    yield one
    one.close()


def run(process, tmp_path, *, broken=None, rows=3000, **fields):
    log = write_log(tmp_path / "log.parquet", start=END - DAY, end=END, rows=rows, broken=broken)
    answer = process.run(order(tmp_path / "run", log, **fields))
    assert answer.message == ""
    return answer


class Page(HTMLParser):
    """What a page would fetch, and whether its tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.open, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [
            v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "srcset")
        ]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_changed_unit_of_one_input_is_named_first_with_when_it_began(process, tmp_path):
    answer = run(process, tmp_path, broken=in_other_units)
    report = answer.report
    assert report.verdict is MonitorVerdict.FIRING
    assert [one.feature for one in report.firing] == ["income"]
    first = report.findings[0]
    assert "income" in report.summary
    assert re.search(r"rose from [\d.e+]+ to [\d.e+]+", first.words)
    assert abs(first.since - BROKEN_AT) <= HOUR
    assert first.numbers["effect"] > first.threshold
    before = [point.value for point in first.series if point.until <= BROKEN_AT]
    after = [point for point in first.series if point.at >= BROKEN_AT]
    assert (len(before), len(after)) == (16, 8)
    assert min(point.value for point in after) > 5 * max(before)
    assert all(point.value > point.limit > first.threshold for point in after)
    assert abs(sum(first.bars.current) - 1) < 1e-9
    assert first.bars.current[-1] > 0.3 > 0.01 > first.bars.reference[-1]


def test_finding_has_a_page_and_pictures_that_need_nothing_else(process, tmp_path):
    answer = run(process, tmp_path, broken=in_other_units)
    assert answer.artifacts == ("report.html", "plot.svg", "plot.png")
    text = (tmp_path / "run" / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.tags.count("svg") == len(answer.report.findings)
    assert all(found.startswith("#") for found in page.fetched)
    assert "script" not in page.tags
    assert "url(http" not in text
    assert "color-scheme: light dark" in text
    svg = xml.dom.minidom.parseString((tmp_path / "run" / "plot.svg").read_text())
    assert svg.documentElement.tagName == "svg"
    assert (tmp_path / "run" / "plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_steady_log_is_steady_and_draws_nothing_unless_somebody_asked(process, tmp_path):
    answer = run(process, tmp_path)
    assert answer.report.verdict is MonitorVerdict.STEADY
    assert answer.artifacts == ()
    assert len(answer.report.findings) == 3, "the nearest are shown"
    asked = run(process, tmp_path, always_drawn=True)
    assert asked.artifacts == ("report.html", "plot.svg", "plot.png")


def test_few_rows_are_no_verdict(process, tmp_path):
    answer = run(process, tmp_path, broken=in_other_units, rows=60)
    assert answer.report.verdict is MonitorVerdict.INCONCLUSIVE
    assert "60 rows" in answer.report.summary


def test_empty_log_is_no_verdict(process, tmp_path):
    answer = process.run(order(tmp_path / "run", "", files=files()))
    assert answer.report.verdict is MonitorVerdict.INCONCLUSIVE
    assert answer.report.rows == 0


def test_outputs_are_compared_with_the_days_before(process, tmp_path):
    def falls(at, columns):
        columns["score"][at >= BROKEN_AT] *= 0.2

    before = write_log(
        tmp_path / "before.parquet", start=END - 8 * DAY, end=END - DAY, rows=9000, seed=3
    )
    answer = run(
        process, tmp_path, broken=falls,
        kind=MonitorKind.PREDICTION_DRIFT, profile=None, reference_files=files(before),
        reference_start=END - 8 * DAY, reference_end=END - DAY,
    )  # fmt: skip
    assert [one.feature for one in answer.report.firing] == ["score"]
    assert abs(answer.report.since - BROKEN_AT) <= HOUR
    assert answer.report.reference_rows == 9000


def test_features_bound_what_is_looked_at(process, tmp_path):
    monitor = MonitorSpec(kind=MonitorKind.DRIFT, features=("age", "hight"))
    answer = run(process, tmp_path, broken=in_other_units, monitor=monitor)
    assert answer.report.verdict is MonitorVerdict.STEADY
    assert answer.report.checked == 1
    assert "`hight`" in answer.report.notes[0]


def goes_missing(at, columns):
    columns["income"][(at >= BROKEN_AT) & (np.arange(len(at)) % 2 == 0)] = np.nan


def leaves_its_range(at, columns):
    columns["age"][at >= BROKEN_AT] = 900


def becomes_infinite(at, columns):
    columns["age"][at >= BROKEN_AT] = np.inf


def gets_new_names(at, columns):
    columns["country"][at >= BROKEN_AT] = "Deutschland"


def gets_stuck(at, columns):
    columns["age"][:] = 41.0


FAULTS = [
    (goes_missing, "income", "missing", "17 % of the values are missing", BROKEN_AT),
    (leaves_its_range, "age", "out of range", "33 % of the values are outside", BROKEN_AT),
    (becomes_infinite, "age", "infinite", "33 % of the values are infinite", BROKEN_AT),
    (gets_new_names, "country", "new category", "(`Deutschland`)", BROKEN_AT),
    (gets_stuck, "age", "constant", "all values are the same", END - DAY),
]


@pytest.mark.parametrize(
    ("broken", "feature", "what", "words", "since"), FAULTS, ids=[fault[2] for fault in FAULTS]
)
def test_fault_of_the_data_is_named(process, tmp_path, broken, feature, what, words, since):
    answer = run(process, tmp_path, broken=broken, kind=MonitorKind.QUALITY)
    first = answer.report.firing[0]
    assert (first.feature, first.what) == (feature, what)
    assert words.replace("17 %", "16.7 %").replace("33 %", "33.3 %") in first.words
    assert abs(first.since - since) <= HOUR
    assert {one.feature for one in answer.report.firing} == {feature}


def test_sound_data_has_no_fault(process, tmp_path):
    answer = run(process, tmp_path, kind=MonitorKind.QUALITY)
    assert answer.report.verdict is MonitorVerdict.STEADY
    assert answer.report.checked >= 6


@pytest.mark.parametrize(("rows", "fires"), [(10, True), (1000, False), (2900, True)])
def test_volume_is_held_against_the_same_time_of_the_days_before(process, tmp_path, rows, fires):
    earlier = [
        write_log(
            tmp_path / f"day{back}.parquet",
            start=END - (back + 1) * DAY, end=END - back * DAY, rows=900 + 50 * back, seed=back,
        )
        for back in range(1, 8)
    ]  # fmt: skip
    shadows = write_log(
        tmp_path / "shadow.parquet", start=END - DAY, end=END, rows=2500, role="shadow"
    )
    log = write_log(tmp_path / "log.parquet", start=END - DAY, end=END, rows=rows)
    traffic = msgspec.structs.replace(files(*earlier, log, shadows), shadows=False)
    answer = process.run(order(tmp_path / "run", log, kind=MonitorKind.QUALITY, traffic=traffic))
    volume = next(one for one in answer.report.findings if one.what == "volume")
    assert (volume.verdict is MonitorVerdict.FIRING) is fires
    assert "950 to 1,250 in the 7 before" in volume.words


LABEL = Target(task=Task.CLASSIFICATION, label="label", is_number=True, classes=("0", "1"))


def judged(process, tmp_path, log, kind):
    answer = process.run(
        order(
            tmp_path / "run", "", kind=kind, files=files(), labelled=log, target=LABEL,
            reference="the 7d before", reference_start=END - 8 * DAY, reference_end=END - DAY,
            always_drawn=True,
        )
    )  # fmt: skip
    assert answer.message == ""
    return answer


def test_errors_that_became_more_are_found_where_they_did(process, tmp_path):
    log = write_labelled(
        tmp_path / "log", rows=9000, start=END - 8 * DAY, end=END,
        wrong=lambda at: 0.3 if at >= BROKEN_AT else 0.1,
    )  # fmt: skip
    report = judged(process, tmp_path, log, MonitorKind.PERFORMANCE).report
    assert report.verdict is MonitorVerdict.FIRING
    (finding,) = report.findings
    assert "error rate rose from 9.58 % to 29.1 %" in finding.words
    assert abs(finding.since - BROKEN_AT) <= 3 * HOUR
    assert finding.series[-1].value > 0.2 > 0.15 > finding.series[0].value


def test_errors_that_stay_are_steady_and_few_labels_no_verdict(process, tmp_path):
    for rows, verdict in ((9000, MonitorVerdict.STEADY), (300, MonitorVerdict.INCONCLUSIVE)):
        log = write_labelled(
            tmp_path / "log", rows=rows, start=END - 8 * DAY, end=END, wrong=lambda at: 0.1
        )
        assert judged(process, tmp_path, log, MonitorKind.PERFORMANCE).report.verdict is verdict


@pytest.mark.parametrize(
    ("positive", "verdict"), [(0.25, MonitorVerdict.FIRING), (0.5, MonitorVerdict.STEADY)]
)
def test_segment_that_is_treated_otherwise_is_named(process, tmp_path, positive, verdict):
    log = write_labelled(
        tmp_path / "log", rows=6000, start=END - DAY, end=END, wrong=lambda at: 0.0,
        segments=("north", "south", "west"),
        positive=lambda segment: positive if segment == "west" else 0.5,
    )  # fmt: skip
    answer = judged(process, tmp_path, log, MonitorKind.BIAS)
    assert answer.report.verdict is verdict
    assert {one.feature for one in answer.report.firing} == (
        {"west"} if verdict is MonitorVerdict.FIRING else set()
    )


def test_inputs_that_no_longer_go_together_are_found(process, tmp_path):
    def goes_with_age(at, columns):
        columns["income"] = np.exp(10.5 + 0.04 * (columns["age"] - 41))

    before = write_log(
        tmp_path / "before.parquet", start=END - 8 * DAY, end=END - DAY, rows=4000, seed=3,
        broken=goes_with_age,
    )  # fmt: skip
    for broken, verdict in ((goes_with_age, MonitorVerdict.STEADY), (None, MonitorVerdict.FIRING)):
        answer = run(
            process, tmp_path, broken=broken,
            kind=MonitorKind.MULTIVARIATE, profile=None, reference_files=files(before),
            reference_start=END - 8 * DAY, reference_end=END - DAY, always_drawn=True,
        )  # fmt: skip
        assert answer.report.verdict is verdict
    assert answer.report.findings[0].feature in ("income", "age")
    empty = process.run(
        order(
            tmp_path / "run", "", kind=MonitorKind.MULTIVARIATE, files=files(), profile=None,
            reference_start=END - 8 * DAY, reference_end=END - DAY,
        )
    )  # fmt: skip
    assert empty.report.verdict is MonitorVerdict.INCONCLUSIVE


def test_version_without_a_label_is_no_verdict(process, tmp_path):
    answer = process.run(order(tmp_path / "run", "", kind=MonitorKind.PERFORMANCE, files=files()))
    assert answer.report.verdict is MonitorVerdict.INCONCLUSIVE


def test_names_and_values_of_callers_are_text_and_not_markup(process, tmp_path):
    def names_itself(at, columns):
        columns["country"][at >= BROKEN_AT] = "</p><script>alert(1)</script>"

    run(process, tmp_path, broken=names_itself, kind=MonitorKind.QUALITY)
    text = (tmp_path / "run" / "report.html").read_text()
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;" in text


def test_file_that_cannot_be_read_is_a_message_and_no_crash_of_ours(process, tmp_path):
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    answer = process.run(order(tmp_path / "run", str(tmp_path / "torn.parquet")))
    assert answer.report is None
    assert "cannot be read" in answer.message
    assert "torn.parquet" in answer.message


def test_run_that_takes_too_long_is_ended_and_said_so(tmp_path):
    process = RunProcess(tmp_path / "cache", timeout_s=0.05)
    answer = process.run(order(tmp_path / "run", "", files=files()))
    assert "not done after 0.05 seconds" in answer.message


def test_closing_ends_the_process_and_no_other_starts(tmp_path):
    process, answers = RunProcess(tmp_path / "cache"), []
    log = write_log(tmp_path / "log.parquet", start=END - DAY, end=END, rows=3000)
    thread = threading.Thread(
        target=lambda: answers.append(process.run(order(tmp_path / "run", log)))
    )
    thread.start()
    while process._process is None:
        thread.join(0.001)
    pid = process._process.pid
    process.close()
    thread.join(30)
    assert answers == [None]
    assert not psutil.pid_exists(pid)
    assert process.run(order(tmp_path / "run", log)) is None


BOUND = """
import importlib, resource, sys
most = 3 * 1024**3
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    importlib.import_module(sys.argv[1]).main()
except Exception:
    assert resource.getrlimit(resource.RLIMIT_AS) == (most, most)
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    print("bound")
"""


@pytest.mark.parametrize("module", ["query", "assess", "repeat", "__main__"])
def test_process_of_monitoring_keeps_a_bound_of_the_machine_and_dumps_no_memory(module):
    words = [sys.executable, "-c", BOUND, f"shipway.monitoring.{module}"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"no order\n")
        process.stdin.flush()
        if module != "__main__":  # which ends with its stdin
            process.stdin.close()
        assert process.stdout.readline() == b"bound\n"


CONTROL = """
import sys
from pathlib import Path
import msgspec
from shipway.monitoring.order import Order
from shipway.monitoring.process import RunProcess
order = msgspec.json.decode(sys.stdin.readline(), type=Order)
RunProcess(Path(order.directory)).run(order)
"""


def test_run_ends_with_a_control_that_is_killed(tmp_path):
    # Nobody ever writes into the pipe, so that its reader waits.
    os.mkfifo(tmp_path / "log.parquet")
    text = msgspec.json.encode(order(tmp_path / "run", str(tmp_path / "log.parquet")))
    control = subprocess.Popen([sys.executable, "-c", CONTROL], stdin=subprocess.PIPE)
    control.stdin.write(text + b"\n")
    control.stdin.flush()
    while not (children := psutil.Process(control.pid).children()):
        assert control.poll() is None
    control.kill()
    control.wait()
    control.stdin.close()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert (len(gone), alive) == (1, [])

"""Where a collector is, by OpenTelemetry's variables, and what happens to what is offered to it."""

import logging
import threading
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.errors import CertificateUnusable, InvalidSpec
from shipway.core.sampling import Sampler
from shipway.core.spans import Span, SpanKind
from shipway.engines.logs import say
from shipway.otlp import outbox as outbox_module
from shipway.otlp.encoding import encode_spans
from shipway.otlp.options import SHARE, Target, chosen_sampler, options_of, sampler_of
from shipway.otlp.outbox import Outbox
from shipway.otlp.records import line_of
from shipway.otlp.sending import Sending
from shipway.testing.certificates import Authority
from shipway.testing.collector import collecting
from shipway.tls.contexts import server_context

BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}


def test_without_an_address_nothing_is_sent():
    options = options_of({"OTEL_EXPORTER_OTLP_HEADERS": "a=b", "OTEL_SERVICE_NAME": "x"})
    assert (options.traces, options.logs) == (None, None)


@pytest.mark.parametrize("base", ["http://c:4318", "http://c:4318/"])
def test_signals_have_their_paths_below_the_address(base):
    options = options_of({"OTEL_EXPORTER_OTLP_ENDPOINT": base})
    assert options.traces.url == "http://c:4318/v1/traces"
    assert options.logs.url == "http://c:4318/v1/logs"


def test_signals_own_variables_come_first_and_their_address_is_taken_as_it_is():
    options = options_of(
        {
            **BASE,
            "OTEL_EXPORTER_OTLP_HEADERS": "key=all",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://t/x",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "key=own",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "250",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
        }
    )
    assert options.traces == Target(
        url="https://t/x", headers=(("key", "own"),), timeout_s=0.25, ca="/ca.pem", compresses=True
    )
    assert (options.logs.headers, options.logs.compresses) == ((("key", "all"),), False)


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"OTEL_SDK_DISABLED": "TRUE"}, ""),
        ({"OTEL_TRACES_EXPORTER": "none"}, "logs"),
        ({"OTEL_LOGS_EXPORTER": "none"}, "traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://c:4317"}, ""),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "traces logs"),
    ],
)
def test_what_is_turned_off_or_makes_no_sense(more, kept):
    options = options_of({**BASE, **more})
    assert {name for name in ("traces", "logs") if getattr(options, name)} == set(kept.split())


NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1)


@given(
    st.dictionaries(
        NAMES, st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1)
    )
)
def test_headers_are_percent_encoded_pairs(headers):
    text = ",".join(f"{name}={quote(value, safe='')}" for name, value in headers.items())
    options = options_of({**BASE, "OTEL_EXPORTER_OTLP_HEADERS": text})
    assert dict(options.traces.headers) == headers


@pytest.mark.parametrize(
    ("sampler", "argument", "share", "heeds_callers"),
    [
        ("", "", SHARE, True), ("", "0.5", 0.5, True), ("jaeger_remote", "0.5", SHARE, True),
        ("always_on", "", 1.0, False), ("parentbased_always_on", "", 1.0, True),
        ("always_off", "1", 0.0, False), ("parentbased_always_off", "", 0.0, True),
        ("traceidratio", "0.25", 0.25, False), ("parentbased_traceidratio", "0.5", 0.5, True),
        ("traceidratio", "", 1.0, False), ("traceidratio", "2", 1.0, False), ("traceidratio", "many", 1.0, False),
    ],
)  # fmt: skip
def test_sampler_is_the_standard_one_of_that_name(sampler, argument, share, heeds_callers):
    given = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert sampler_of(given) == Sampler(share=share, heeds_callers=heeds_callers)


def span(name, parent=b"", service="s"):
    return Span(
        name=name, kind=SpanKind.SERVER, trace_id=b"t" * 16, span_id=name.encode().ljust(8), parent_id=parent,
        start_ns=5, end_ns=9, service=service, instance="i", error="it broke",
        attributes={"a": 1, "b": True, "c": 0.5, "d": "x"}, state="k=v",
    )  # fmt: skip


def test_spans_arrive_as_they_were_made_each_below_its_process():
    with collecting() as collector:
        collector.take("/v1/traces", encode_spans([span("one"), span("two", b"p" * 8, "other")]))
    one, two = collector.spans
    assert (one.service, two.service, two.parent) == ("s", "other", (b"p" * 8).hex())
    assert one.attributes == {"a": 1, "b": True, "c": 0.5, "d": "x"}
    assert (one.kind, one.start_ns, one.end_ns, one.error, one.state) == (
        2,
        5,
        9,
        "it broke",
        "k=v",
    )


def outbox(url, **options):
    return Outbox(Target(url=url, timeout_s=5), encode_spans, **options)


def test_closing_sends_what_waits():
    with collecting() as collector:
        box = outbox(f"{collector.url}/v1/traces")
        for number in range(700):
            box.offer(span(f"s{number}"))
        box.close()
        assert len(collector.spans) == 700
        assert box.dropped == 0


def test_what_has_no_place_is_counted_and_offering_never_waits():
    told = []
    with collecting() as collector:
        collector.hangs = True
        box = outbox(f"{collector.url}/v1/traces", most_waiting=10, on_drop=told.append)
        threads = [
            threading.Thread(target=lambda: [box.offer(span("s")) for _ in range(100)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        assert box.dropped >= 400 - 10 - 4 - 512
        assert max(told) == box.dropped
        collector.hangs = False
        collector.over.set()
        box.close()


def test_collector_that_says_later_is_asked_again_and_one_that_refuses_is_not():
    for status, asked in ((503, 3), (400, 1)):
        with collecting() as collector:
            collector.status = status
            box = outbox(f"{collector.url}/v1/traces")
            box.offer(span("s"))
            while not box.dropped:
                threading.Event().wait(0.01)
            assert (len(collector.headers), box.dropped) == (asked, 1)
            collector.status = 200
            box.offer(span("later"))
            box.close()
            assert [one.name for one in collector.spans] == ["later"]


def test_certificates_that_cannot_be_read_are_named():
    with pytest.raises(CertificateUnusable, match=r"`/nowhere/ca\.pem`"):
        Outbox(Target(url="https://c", ca="/nowhere/ca.pem"), encode_spans)


def test_collector_whose_certificate_is_no_longer_trusted_is_told_of_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, "shipway.otlp")
    trusted, other = Authority(tmp_path / "trusted"), Authority(tmp_path / "other")
    for authority in (trusted, other):
        authority.issue("server")
    context = server_context(trusted.serving(asks=False), alpn=())
    with collecting(tls=context) as collector:
        box = Outbox(
            Target(url=f"{collector.url}/v1/traces", ca=str(trusted.ca), timeout_s=5),
            encode_spans,
        )
        sent_until(box, lambda: len(collector.spans) == 1)
        trusted.ca.unlink()  # what was read at the start is used on
        sent_until(box, lambda: len(collector.spans) == 2)
        files = other.pair("server")
        context.load_cert_chain(files.cert, files.key)
        sent_until(box, lambda: box.dropped == 1)
        sent_until(box, lambda: box.dropped == 2)
        files = trusted.pair("server")
        context.load_cert_chain(files.cert, files.key)
        sent_until(box, lambda: len(collector.spans) == 3)
        box.close()
    told, back = [record.getMessage() for record in caplog.records]
    assert "certificate" in told
    assert "takes again; 2 were dropped" in back


def sent_until(box, claim):
    box.offer(span("s"))
    until = time.monotonic() + 20
    while not claim():
        assert time.monotonic() < until
        threading.Event().wait(0.01)


def test_faults_of_headers_are_told_without_them(caplog):
    with collecting() as collector:
        headers = (("key", "geheimnis\n\xe9"),)
        box = Outbox(Target(url=f"{collector.url}/v1/traces", headers=headers), encode_spans)
        sent_until(box, lambda: box.dropped == 1)
        box.close()
    assert "takes nothing now" in caplog.text
    assert "geheimnis" not in caplog.text


def test_thread_survives_what_nobody_expected_and_tells_of_it_once(capfd, monkeypatch):
    dropped, faults = [], iter([KeyError("ours"), KeyError("ours"), None])

    def told(number):
        dropped.append(number)
        fault = next(faults)
        if fault is not None:
            raise fault

    monkeypatch.setattr(outbox_module, "SEND_EVERY_S", 0.01)
    with collecting() as collector:
        box = outbox(f"{collector.url}/v1/traces", on_drop=told)
        collector.status = 400
        for number in (1, 2, 3):
            sent_until(box, lambda number=number: dropped[-1:] == [number])
        collector.status = 200
        sent_until(box, lambda: len(collector.spans) == 1)
        box.close()
    assert capfd.readouterr().err.count("KeyError: 'ours'") == 1


def test_what_a_fault_kept_from_being_sent_is_counted_as_dropped(capfd, monkeypatch):
    box = outbox("http://127.0.0.1:9/v1/traces")
    monkeypatch.setattr(box, "_posted", lambda body: 1 / 0)
    sent_until(box, lambda: box.dropped == 1)
    box.close()
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("given", ["10%", "2", "-0.1", "nan", "many"])
def test_share_that_is_none_is_named(given):
    with pytest.raises(InvalidSpec, match="SHIPWAY_TRACE_SHARE"):
        chosen_sampler({"SHIPWAY_TRACE_SHARE": given})


def test_own_share_goes_before_that_of_the_standard_sampler():
    standard = {"OTEL_TRACES_SAMPLER": "always_on"}
    own = chosen_sampler({**standard, "SHIPWAY_TRACE_SHARE": "0.25"})
    assert own == Sampler(share=0.25, heeds_callers=True)
    unset = chosen_sampler({**standard, "SHIPWAY_TRACE_SHARE": ""})
    assert unset == Sampler(share=1.0, heeds_callers=False)


def until(claim, within_s=20.0):
    end = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_goes_past_the_loggers_is_sent_too_but_not_what_sending_says_of_itself():
    with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{collector.url}/v1/logs"}
        sending = Sending(environment, service="s", instance="i", spans_of=lambda span: (span,))
        say("of itself", logger="shipway.otlp.outbox")
        say("it is heard 100%", level="ERROR", trace_id="ab" * 16)
        until(lambda: collector.lines)
        sending.close()
        say("it has ended")
    (line,) = collector.lines
    assert (line.message, line.level, line.trace) == ("it is heard 100%", "ERROR", "ab" * 16)
    assert sending.dropped == 0


def test_a_process_knows_how_much_it_did_not_tell():
    environment = {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://127.0.0.1:9/v1/logs",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "100",
    }
    sending = Sending(environment, service="s", instance="i", spans_of=lambda span: (span,))
    say("nobody hears it")
    until(lambda: sending.dropped == 1)
    sending.close()


def test_records_keep_their_fields_and_no_password():
    record = logging.LogRecord(
        "shipway.x", logging.WARNING, "f", 1, "no %s", ("postgresql://u:pw@h/\ud800",), None
    )
    record.request_id, record.trace_id, record.status = "r1", "ab" * 16, 503
    line = line_of(record)
    assert line.message == "no postgresql://***@h/\\ud800"
    assert (line.severity, line.level, line.trace_id) == (13, "WARNING", bytes.fromhex("ab" * 16))
    assert line.attributes == {
        "logger": "shipway.x",
        "shipway.request_id": "r1",
        "shipway.status": 503,
    }

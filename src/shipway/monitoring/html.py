"""A run's report as one page that needs nothing else: no network, no script, light or dark as the reader likes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape

from shipway.core.monitor_runs import MonitorFinding, MonitorReport, MonitorVerdict

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p { margin: .3rem 0; } dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { opacity: .7; } dd { margin: 0; } svg { max-width: 100%; height: auto; }
.verdict { display: inline-block; padding: 0 .6rem; border-radius: .8rem; border: 1px solid currentColor; }
.firing { color: #e4572e; } .numbers { opacity: .75; font-size: .85rem; font-family: monospace; }
"""


def page_of(report: MonitorReport, *, title: str, plots: Sequence[str]) -> str:
    """The page. `plots` are the SVGs of the first findings, in their order."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f"<p><span class='verdict {report.verdict.value}'>{report.verdict.value}</span> "
            f"{escape(report.summary)}</p>",
            _facts(report),
            *(f"<p>{escape(note)}</p>" for note in report.notes),
            *_sections(report.findings, plots),
            "</body></html>",
        ]
    )


def _facts(report: MonitorReport) -> str:
    facts = {
        "window": f"{_time(report.start)} to {_time(report.end)}, {report.rows:,} rows",
        "compared with": f"{report.reference}, {report.reference_rows:,} rows",
        "claims tested": f"{report.checked:,}",
    }
    return f"<dl>{''.join(_pairs(facts))}</dl>"


def _pairs(facts: Mapping[str, str]) -> Iterator[str]:
    return (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())


def _sections(findings: Sequence[MonitorFinding], plots: Sequence[str]) -> Iterator[str]:
    for at, finding in enumerate(findings):
        firing = " class='firing'" if finding.verdict is MonitorVerdict.FIRING else ""
        yield f"<h2{firing}>{escape(finding.feature or 'all rows')}: {escape(finding.what)}</h2>"
        yield f"<p>{escape(finding.words)} {escape(_since(finding))}</p>"
        yield f"<p class='numbers'>{escape(_numbers(finding.numbers))}</p>"
        if at < len(plots):
            yield plots[at]


def _since(finding: MonitorFinding) -> str:
    return "" if finding.since is None else f"Since {_time(finding.since)}."


def _numbers(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"

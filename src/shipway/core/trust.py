"""What a policy asks of a version's bytes: how far they were looked into, and who signed them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from shipway.core.candidacy import Candidate, Rule
from shipway.core.policy import Artifacts, Checks
from shipway.core.scans import Substance

_LOADS = {
    Substance.DATA: "data",
    Substance.PICKLE: "a pickle",
    Substance.PROGRAM: "a program in torch's language",
    Substance.CODE: "Python code",
}


def trusted(checks: Checks, candidate: Candidate) -> Iterator[Rule]:
    """The rules about the bytes, met or not; none when anything is let in."""
    match checks.artifacts:
        case Artifacts.ANY | Artifacts.SIGNED:
            pass
        case Artifacts.SCANNED:
            yield _scanned(candidate)
        case Artifacts.SAFE_FORMATS_ONLY:
            yield _scanned(candidate)
            yield _safe(candidate)
        case _:
            assert_never(checks.artifacts)
    if needs_signature(checks):
        yield _signed(checks, candidate)


def needs_signature(checks: Checks) -> bool:
    """Whether bytes without a signer's signature are refused."""
    return bool(checks.signers) or checks.artifacts is Artifacts.SIGNED


def _scanned(candidate: Candidate) -> Rule:
    scan = candidate.scan
    found, next_step = "nothing found", ""
    if scan is None:
        found, next_step = "not scanned", "Register the same bundle again, which scans it"
    elif scan.findings:
        found = f"{len(scan.findings)} findings, first {scan.findings[0].line}"
    elif candidate.substance is Substance.CODE:
        found = "it is Python code, which a scan can say nothing about"
    return Rule(
        asks="scanned, and nothing found",
        found=found,
        met=scan is not None and scan.is_clean and candidate.substance is not Substance.CODE,
        next_step=next_step
        or f"See `shipway show {candidate.version}`, and package the model anew",
    )


def _safe(candidate: Candidate) -> Rule:
    return Rule(
        asks="served from data alone",
        found=f"it loads {_LOADS[candidate.substance]}",
        met=candidate.substance is Substance.DATA,
        next_step="Package it with `--sample`, so that it is served from ONNX; or save a booster in"
        " its own format",
    )


def _signed(checks: Checks, candidate: Candidate) -> Rule:
    names = ", ".join(signer.name for signer in checks.signers)
    return Rule(
        asks=f"signed by {names or 'a signer'}",
        found=f"signed by {', '.join(candidate.signed_by)}"
        if candidate.signed_by
        else "not signed",
        met=bool(candidate.signed_by),
        next_step=f"`shipway sign {candidate.version} --key KEY.pem` with the key of {names or 'one'}",
    )

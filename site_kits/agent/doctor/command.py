"""``consilium-site doctor [--json] [--local] [--bundle FILE]``."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from site_kits.agent.doctor.bundle import write_bundle
from site_kits.agent.doctor.checks import CHECKS
from site_kits.agent.doctor.examination import Finding, Outcome, Patient, examine
from site_kits.site_home import SiteHome
from site_kits.translation import _


def add_command(commands: Any) -> None:
    """Add the command to the parser of ``consilium-site``."""
    parser = commands.add_parser(
        "doctor", help=_("look for what is wrong and say the remedy; change nothing")
    )
    parser.add_argument("--json", action="store_true", help=_("one object for programs"))
    parser.add_argument("--local", action="store_true", help=_("ask nothing of the network"))
    parser.add_argument(
        "--bundle", type=Path, metavar="FILE", help=_("also write a zip for support, without personal data")
    )
    parser.set_defaults(command=run_doctor)


def run_doctor(home: SiteHome, parsed: argparse.Namespace) -> int:
    """Examine and say it; 1 when something is not in order."""
    patient, findings = Patient(home), []
    checks = [check for check in CHECKS if check.is_local or not parsed.local]
    try:
        for finding in examine(patient, checks):
            findings.append(finding)
            if not parsed.json:
                sys.stdout.write(line_of(finding) + "\n")
                sys.stdout.flush()  # a dead network takes seconds; who waits sees what is known
    finally:
        patient.close()
    if parsed.json:
        content = {"version": 1, "findings": [finding.as_json() for finding in findings]}
        sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    else:
        sys.stdout.write(_summary(findings) + "\n")
    if parsed.bundle:
        write_bundle(parsed.bundle, home, findings)
        sys.stderr.write(
            _("Written to {file}: read it before you send it, it is short.\n").format(file=parsed.bundle)
        )
    return 1 if any(finding.outcome == Outcome.FAILED for finding in findings) else 0


def line_of(finding: Finding) -> str:
    """One line of the report."""
    words = {
        Outcome.OK: _("ok"),
        Outcome.WARNING: _("look"),
        Outcome.FAILED: _("NOT OK"),
        Outcome.SKIPPED: _("-"),
    }
    start = f"{words[finding.outcome]:<8}{finding.title}"
    return f"{start}: {finding.sentence}" if finding.sentence else start


def _summary(findings: list[Finding]) -> str:
    found = Counter(finding.outcome for finding in findings)
    return _(
        "{all} checks: {good} in order, {look} to look at, {bad} not in order, {left} not examined."
    ).format(
        all=len(findings),
        good=found[Outcome.OK],
        look=found[Outcome.WARNING],
        bad=found[Outcome.FAILED],
        left=found[Outcome.SKIPPED],
    )

"""Check everything that a server needs, and give advice."""

from __future__ import annotations

import json
import sys

import click

from chatkeep.cli import checks
from chatkeep.cli.checks.finding import Finding
from chatkeep.cli.messages import filled, word
from chatkeep.i18n import _

WIDTH = 17
_STATUS = {"ok": _("ok"), "warn": _("warn"), "fail": _("fail")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help=_("Print JSON."))
def doctor(*, as_json: bool) -> None:
    """Check settings, database, disk, provider and everything else that a server needs.

    The exit status is 1 if a check fails. The command changes nothing, calls no model and shows no secrets. It can run
    beside a server. Run it as the server's user and in the server's folder.
    """
    found = []
    for finding in checks.findings():
        found.append(finding)
        if not as_json:
            _print(finding)
    failed = any(finding.status == "fail" for finding in found)
    if as_json:
        document = {"ok": not failed, "checks": list(map(_document, found))}
        # In other encodings the terminal would escape characters in a way that is not JSON.
        click.echo(json.dumps(document, indent=2, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))
    sys.exit(failed)


def _print(finding: Finding) -> None:
    """Print a finding, and its advice on a second line."""
    click.echo(f"{filled(word(_STATUS[finding.status]), 6)}{filled(word(finding.about), WIDTH)}{word(finding.told)}")
    if finding.advice:
        click.echo(f"{'':{6 + WIDTH}}-> {word(finding.advice)}")


def _document(finding: Finding) -> dict[str, str]:
    """Return a finding as JSON: stable names, and texts in the terminal's language."""
    found = {"check": finding.about, "status": finding.status, "detail": word(finding.told)}
    return found | ({"advice": word(finding.advice)} if finding.advice else {})

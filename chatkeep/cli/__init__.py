"""The command line: ``chatkeep serve``, ``chatkeep migrate``, ``chatkeep export`` and the others."""

from __future__ import annotations

import click

from chatkeep import __version__
from chatkeep.cli import audit, doctor, export, forget, health, imports, keys, serving, transfer, upkeep
from chatkeep.cli.messages import Commands
from chatkeep.runtime import garbage, logs


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chatkeep")
def main() -> None:
    """Run chatkeep, a self-hosted conversation server for LLM applications."""
    garbage.look_rarely()
    garbage.skip_the_last_look()
    logs.catch_uncaught()


for command in (
    serving.serve,
    serving.work,
    upkeep.migrate,
    transfer.backup,
    transfer.restore,
    transfer.copy,
    upkeep.sweep,
    upkeep.clear_cache,
    upkeep.stats,
    export.export,
    imports.import_files,
    keys.keys,
    audit.audit,
    forget.forget,
    health.health,
    doctor.doctor,
):
    main.add_command(command)

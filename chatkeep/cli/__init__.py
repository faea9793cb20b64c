"""The command line: ``chatkeep serve``, ``chatkeep migrate``, ``chatkeep export`` and the others."""

from __future__ import annotations

import click

from chatkeep import __version__
from chatkeep.cli.messages import LazyCommands
from chatkeep.runtime import garbage, logs

# Each command with the module that has it, which is imported when the command is needed.
COMMANDS = {
    "audit": "chatkeep.cli.audit:audit",
    "backup": "chatkeep.cli.transfer:backup",
    "clear-cache": "chatkeep.cli.upkeep:clear_cache",
    "copy": "chatkeep.cli.transfer:copy",
    "doctor": "chatkeep.cli.doctor:doctor",
    "export": "chatkeep.cli.export:export",
    "forget": "chatkeep.cli.forget:forget",
    "health": "chatkeep.cli.health:health",
    "import": "chatkeep.cli.imports:import_files",
    "keys": "chatkeep.cli.keys:keys",
    "migrate": "chatkeep.cli.upkeep:migrate",
    "restore": "chatkeep.cli.transfer:restore",
    "serve": "chatkeep.cli.serving:serve",
    "stats": "chatkeep.cli.upkeep:stats",
    "sweep": "chatkeep.cli.upkeep:sweep",
    "work": "chatkeep.cli.serving:work",
}


@click.group(cls=LazyCommands, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chatkeep")
def main() -> None:
    """Run chatkeep, a self-hosted conversation server for LLM applications."""
    garbage.collect_rarely()
    garbage.skip_final_collection()
    logs.catch_uncaught()

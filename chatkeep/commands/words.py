"""What the command line says, in the language of the terminal."""

from __future__ import annotations

import os
from typing import Any

import click

from chatkeep.languages import Language, language_of, translated

# In the order in which POSIX looks at them.
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


def language() -> Language:
    """Return the language of the terminal, by the environment."""
    return language_of(next(filter(None, map(os.environ.get, _VARIABLES)), ""))


def say(text: str, *, err: bool = False) -> None:
    """Write a line to standard output, or to standard error."""
    click.echo(translated(text, language()), err=err)


def failure(text: str) -> click.ClickException:
    """Return the exception that ends a command with a reason, and the exit status 1."""
    return click.ClickException(translated(text, language()))


class Commands(click.Group):
    """Commands whose help is in the language of the terminal."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command line."""
        for command in (self, *self.commands.values()):
            _translate(command)
        return super().main(*arguments, **options)


def _translate(command: click.Command) -> None:
    command.help = translated(command.help or "", language())
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            parameter.help = translated(parameter.help or "", language())

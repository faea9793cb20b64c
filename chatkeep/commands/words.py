"""What the command line says, in the language of the terminal."""

from __future__ import annotations

from typing import Any
from unicodedata import east_asian_width

import click

from chatkeep.languages import language_of_terminal, translated


def word(text: str) -> str:
    """Return a text in the language of the terminal."""
    return translated(text, language_of_terminal())


def say(text: str, *, err: bool = False) -> None:
    """Write a line to standard output, or to standard error."""
    click.echo(word(text), err=err)


def failure(text: str) -> click.ClickException:
    """Return the exception that ends a command with a reason, and the exit status 1."""
    return click.ClickException(word(text))


def wrong(text: str) -> click.BadParameter:
    """Return the exception that refuses the value of an option."""
    return click.BadParameter(word(text))


def filled(text: str, width: int, *, right: bool = False) -> str:
    """Return a text that takes so many columns of a terminal, in which a Chinese character takes two."""
    room = " " * (width - sum(2 if east_asian_width(char) in "WF" else 1 for char in text))
    return room + text if right else text + room


class Commands(click.Group):
    """Commands whose help is in the language of the terminal."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command line."""
        _translate(self)
        return super().main(*arguments, **options)


def _translate(command: click.Command) -> None:
    """Translate a command's help, and that of the commands in it."""
    command.help = word(command.help or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            parameter.help = word(parameter.help or "")
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _translate(inner)

"""What the command line says, in the language of the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO
from unicodedata import east_asian_width

import click

from chatkeep.i18n import N_, Text, _, translated
from chatkeep.runtime import files
from chatkeep.runtime.terminal import accept_every_character, language_of_terminal

# All but the line break and the tab.
_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {0x09, 0x0A}, "\ufffd")

# The help of options that Click adds.
_OF_CLICK = (N_("Show this message and exit."), N_("Show the version and exit."))


def word(text: Text) -> str:
    """Return a text in the language of the terminal."""
    return translated(text, language_of_terminal())


def say(text: Text, *, err: bool = False) -> None:
    """Write a line to standard output, or to standard error; what controls a terminal, as a file may hold, is shown."""
    click.echo(word(text).translate(_CONTROLS), err=err)


def failure(text: Text) -> click.ClickException:
    """Return the exception that ends a command with a reason, and the exit status 1."""
    return click.ClickException(word(text))


def wrong(text: Text) -> click.BadParameter:
    """Return the exception that refuses the value of an option."""
    return click.BadParameter(word(text))


@contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """Lend the file that --output names, which has its name only when it is whole; end the command if it cannot be."""
    try:
        with files.replacing(path) as file:
            yield file
    except OSError as error:
        told = _("{path} cannot be written: {reason}", path=path, reason=error.strerror)
        if sys.platform == "win32" and isinstance(error, PermissionError):
            told = _(
                "{path} cannot be written: {reason}. If another program has it open, close it there.",
                path=path,
                reason=error.strerror,
            )
        raise failure(told) from error


def filled(text: str, width: int, *, right: bool = False) -> str:
    """Return a text that takes so many columns of a terminal, in which a Chinese character takes two."""
    room = " " * (width - sum(2 if east_asian_width(char) in "WF" else 1 for char in text))
    return room + text if right else text + room


def require_consent(question: Text, *, given: bool) -> None:
    """Ask before something is erased, unless consent was given by --yes. Without a terminal to ask on, refuse."""
    if given:
        return
    if not sys.stdin.isatty():
        raise failure(_("This cannot be undone. There is no terminal for a prompt; confirm with --yes."))
    if not click.confirm(word(question)):
        raise failure(_("Nothing was erased."))


class Commands(click.Group):
    """Commands whose help is in the language of the terminal."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command line."""
        accept_every_character()
        _translate(self, None)
        return super().main(*arguments, **options)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first paragraph of each command's help, which Click cuts to a line."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, (command.help or "").split("\n\n")[0]) for name, command in commands if command]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class LazyCommands(Commands):
    """Commands that are imported when they are needed: ``modules`` names each as ``module:function``."""

    def __init__(self, *arguments: Any, modules: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._modules = dict(modules)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, whether they are imported or not."""
        return sorted({*self._modules, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. For a name that does not exist import all, so that Click can suggest a similar one."""
        for name in [cmd_name] if cmd_name in self.list_commands(ctx) else list(self._modules):
            self._load(ctx, name)
        return super().get_command(ctx, cmd_name)

    def _load(self, ctx: click.Context, name: str) -> None:
        if name in self._modules:
            module, _, function = self._modules.pop(name).partition(":")
            command: click.Command = getattr(import_module(module), function)
            _translate(command, ctx)
            self.add_command(command, name)


def _translate(command: click.Command, parent: click.Context | None) -> None:
    """Translate a command's help, and that of the commands in it."""
    context = click.Context(command, parent, **command.context_settings)
    command.help = "\n\n".join(word(Text(" ".join(part.split()))) for part in (command.help or "").split("\n\n"))
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option):
            parameter.help = word(Text(parameter.help or ""))
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _translate(inner, context)

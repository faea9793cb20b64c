"""Print the help of every command and option in the language of the terminal, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from chatkeep.cli import main


def texts(command: click.Command, path: str) -> Iterator[tuple[str, str | None]]:
    """Yield the path of a command, of its options and of its subcommands, each with its help."""
    yield path, command.help
    for option in command.params:
        if isinstance(option, click.Option):
            yield f"{path} {option.opts[0]}", option.help
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            yield from texts(inner, f"{path} {name}")


if __name__ == "__main__":
    main(["--help"], standalone_mode=False)  # translates the texts
    print(json.dumps(list(texts(main, "chatkeep"))))  # noqa: T201 - the output of this program

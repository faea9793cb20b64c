"""Resolve the --account and --end-user options to an owner."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from chatkeep.cli.messages import wrong
from chatkeep.i18n import _

Command = TypeVar("Command", bound=Callable[..., Any])


def of_owner(command: Command) -> Command:
    """Add the options --account and --end-user to a command."""
    account = click.option("--account", default="local", show_default=True, help=_("The account of the conversations."))
    end_user = click.option("--end-user", help=_("Only this end user of the account, named as in X-End-User."))
    return account(end_user(command))


def owner_named(account: str, end_user: str | None) -> str:
    """Return the owner of the options."""
    from chatkeep.auth.access import owner_of  # noqa: PLC0415 - --help does not import the database

    found = account_named(account)
    return found if end_user is None else owner_of(found, end_user_named(end_user))


def account_named(text: str) -> str:
    """Check the name of an account."""
    from chatkeep.auth.access import ACCOUNT  # noqa: PLC0415

    if not re.fullmatch(ACCOUNT, text):
        raise wrong(_("an account has 1 to 32 of a-z, 0-9, - and _, and begins with a letter or a digit"))
    return text


def name(text: str) -> str:
    """Check the name of a key."""
    from chatkeep.auth.access import MOST_CHARACTERS  # noqa: PLC0415

    return _name(text, MOST_CHARACTERS)


def end_user_named(text: str) -> str:
    """Check the name of an end user."""
    from chatkeep.auth.access import END_USER_CHARACTERS  # noqa: PLC0415

    return _name(text, END_USER_CHARACTERS)


def _name(text: str, most: int) -> str:
    from chatkeep.auth.access import is_name  # noqa: PLC0415

    if not is_name(text, most):
        raise wrong(_("a name has 1 to {most} characters, none of them a control character", most=most))
    return text

"""Erase an end user's data."""

from __future__ import annotations

import click

from chatkeep.cli.messages import require_consent, say
from chatkeep.cli.owners import owner_named
from chatkeep.errors import ChatkeepError
from chatkeep.i18n import _
from chatkeep.server import serving


@click.command()
@click.argument("end_user")
@click.option("--account", default="local", show_default=True, help=_("The account of the end user."))
@click.option("--yes", is_flag=True, help=_("Erase without asking."))
def forget(end_user: str, account: str, *, yes: bool) -> None:
    """Erase all data of END_USER, named as in X-End-User. This cannot be undone.

    Running servers apply it at once. The audit log records it.
    """
    from chatkeep.domain.audit import COMMAND_LINE  # noqa: PLC0415
    from chatkeep.server.app import eraser_of  # noqa: PLC0415 - --help does not import the database
    from chatkeep.store import migrations  # noqa: PLC0415
    from chatkeep.store.journal import Journal  # noqa: PLC0415

    owner = owner_named(account, end_user)
    try:
        settings = serving.checked_settings()
        database = migrations.existing(settings.database)
        question = _(
            "Erase all data of {end_user} in the account {account}? This cannot be undone.",
            end_user=end_user,
            account=account,
        )
        require_consent(question, given=yes)
        journal = Journal(database)
        erased = eraser_of(settings, database, journal).erase(owner, COMMAND_LINE).erased
        journal.close()
        database.close()
    except ChatkeepError as error:
        serving.stop(error)
    say(
        _(
            "erased {conversations} conversations with {messages} messages, {exports} exports",
            conversations=erased.conversations,
            messages=erased.messages,
            exports=erased.exports,
        )
    )

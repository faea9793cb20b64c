"""Erase an end user's data."""

from __future__ import annotations

import click

from chatkeep.cli.messages import require_consent, say, word
from chatkeep.cli.owners import owner_named
from chatkeep.errors import ChatkeepError
from chatkeep.server import serving


@click.command()
@click.argument("end_user")
@click.option("--account", default="local", show_default=True, help="The account whose end user it is.")
@click.option("--yes", is_flag=True, help="Erase without asking.")
def forget(end_user: str, account: str, *, yes: bool) -> None:
    """Erase everything of END_USER, named as in X-End-User; it cannot be undone.

    Running servers obey at once. The receipt is in the audit log.
    """
    from chatkeep.domain.audit import COMMAND_LINE  # noqa: PLC0415
    from chatkeep.server.app import eraser_of  # noqa: PLC0415 - --help does not import the database
    from chatkeep.store import migrations  # noqa: PLC0415
    from chatkeep.store.journal import Journal  # noqa: PLC0415

    owner = owner_named(account, end_user)
    try:
        settings = serving.checked_settings()
        database = migrations.existing(settings.database)
        question = word("Erase everything of {} in the account {}? It cannot be undone.")
        require_consent(question.format(end_user, account), given=yes)
        journal = Journal(database)
        erased = eraser_of(settings, database, journal).erase(owner, COMMAND_LINE).erased
        journal.close()
        database.close()
    except ChatkeepError as error:
        serving.stop(error)
    say(f"erased {erased.conversations} conversations with {erased.messages} messages, {erased.exports} exports")

"""Words that a database reserves, and those of them that stand unquoted in a statement.

Our statements have their grammar in capitals and their names in small letters, so a reserved word in small letters is
a name.
"""

from __future__ import annotations

import re

import apsw
from sqlalchemy.dialects.mysql.reserved_words import RESERVED_WORDS_MARIADB, RESERVED_WORDS_MYSQL
from sqlalchemy.dialects.sqlite.base import SQLiteIdentifierPreparer

# Of MySQL 9; SQLAlchemy's list is older.
NEWER = {"empty", "external", "library", "manual", "parallel", "qualify", "tablesample"}
RESERVED = frozenset(
    word.lower()
    for words in (
        RESERVED_WORDS_MYSQL,
        RESERVED_WORDS_MARIADB,
        SQLiteIdentifierPreparer.reserved_words,
        apsw.keywords,
        NEWER,
    )
    for word in words
)
# Texts, quoted names, parameters, and f-string placeholders.
_OTHER = re.compile(r"""'[^']*'|`[^`]*`|:\w+|%\(\w+\)s|%s|\{[^}]*\}""")


def unquoted(statement: str) -> set[str]:
    """Return the unquoted reserved words used as names in a statement or a part of one."""
    return set(re.findall(r"\b[a-z_][a-z0-9_]*\b", _OTHER.sub(" ", statement))) & RESERVED

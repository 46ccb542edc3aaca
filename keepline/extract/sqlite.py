"""SQLite as a source: one file, whose columns may hold a value of any type."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from keepline.errors import SourceUnavailableError, UsageError
from keepline.extract.database import Database, packaged_extension
from keepline.extract.sql import literal, quoted

if TYPE_CHECKING:
    from keepline.extract.session import Session

MAGIC = b"SQLite format 3\x00"
# Words by which DuckDB and SQLite mean different things.
AMBIGUOUS = re.compile(r"\bcast\s*\(|::|\|\||\btimestamp|\bdate\s*'", re.IGNORECASE)


class SQLite(Database):
    """SQLite; every column comes as text, because a column may hold more than its type says."""

    nul_bytes = True
    sums_text = True

    def attach(self, session: Session, name: str, dsn: str) -> str:
        """Attach it read-only; see `Database.attach`."""
        variable = session.operator.connections[name].dsn_env
        path = Path(dsn).expanduser().resolve()
        try:
            with path.open("rb") as file:
                magic = file.read(len(MAGIC))
        except OSError as error:
            raise SourceUnavailableError(
                f"the operator's database {path}, from {variable}, cannot be read: {error.strerror}"
            ) from None
        # An empty file is an empty database.
        if magic not in (MAGIC, b""):
            raise UsageError(f"{path}, from {variable}, is not an SQLite database")
        session.run(f"load {literal(packaged_extension('sqlite_scanner'))}")
        session.run("set sqlite_all_varchar = true")
        session.run(f"attach {literal(path)} as {quoted(name)} (type sqlite, read_only)")
        return str(path)

    def stopper(self, session: Session, name: str) -> Callable[[], None]:
        """Return DuckDB's own interruption: there is no server."""
        del name
        return session.connection.interrupt

    def instant(self, at: datetime) -> str:
        """Return the day: in text it is before every time of that day."""
        return self.day(at)

    def local(self, at: datetime) -> str:
        """Return the day, too."""
        return self.day(at)

    def day(self, at: datetime) -> str:
        """Return a text, which is what the columns are."""
        return f"'{at:%Y-%m-%d}'"

    def own_words(self, name: str, sql: str) -> str | None:
        """Strip the catalogue; None when a cast or an instant would mean something else."""
        return None if AMBIGUOUS.search(sql) else super().own_words(name, sql)

    def asked(self, name: str, sql: str) -> str:
        """Return the SELECT that has SQLite run a statement."""
        return f"select * from sqlite_query({literal(name)}, {literal(sql)})"

    def local_day(self, cursor: str, cursor_type: str, zone: str) -> str | None:
        """The load cursor is text, which may carry an offset: totals are compared."""
        del cursor, cursor_type, zone
        return None

    def total(self, column: str) -> str:
        """Return the total in three parts, as `sum_of` reads them: none overflows, and REAL loses no cent."""
        whole = f"cast(x.{column} as integer)"
        rest = f"(x.{column} - {whole})"
        # Infinity minus the largest integer is no part of one.
        cents = f"case when abs({rest}) < 1 then cast(round({rest} * 100) as integer) else 0 end"
        return (
            f"sum({whole} / 1000000000) || 'E9 ' || sum({whole} % 1000000000)"
            f" || ' ' || sum({cents}) || 'E-2'"
        )

"""The operator file: where one operator's data is, and the SELECT that fills each contract table.

An operator is one YAML file in `operators/`. Addresses and passwords stay in the environment; the
file only names the variables. docs/contract.md says how to write one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from keepline.contract import Contract
from keepline.errors import UsageError
from keepline.extract.statement import Select, SelectError, TableName, select_of

PLACEHOLDER = re.compile(r"\{([a-z]\w*)\}")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Connection(_Part):
    """A database of the operator.

    Attributes:
        type: kind of database; a new kind is an entry here and in `session.DATABASES`.
        dsn_env: variable that holds its connection string, of SQLite the path of its file.
        busy_share: part of the time in which keepline may keep the server busy; None reads without a rest.
    """

    type: Literal["postgres", "mysql", "sqlite"]
    dsn_env: str
    busy_share: float | None = Field(default=None, ge=0.001, le=1)

    @model_validator(mode="after")
    def _rests_at_a_server(self) -> Connection:
        if self.type == "sqlite" and self.busy_share is not None:
            raise ValueError("busy_share is for a server; SQLite has none")
        return self


class FileSet(_Part):
    """A folder of the operator's files.

    Attributes:
        path_env: variable that holds the folder.
        layout: path of a file below it; `{file}` is the table's `file`, `{date}` the load date.
            Without `{date}` there is one file, whose rows carry their own dates.
        manifest: path of the list that comes with the files of a date, or None.
        done: path of a file that is written when the others are complete, or None.
        settle_s: seconds that a file must have been left alone before it is read.
        format: `csv`, `jsonl` (one object in each line) or `parquet`; the first two may be gzipped.
        encoding: of the text; nothing is guessed.
        nulls: words of CSV and JSON-lines that mean no value, besides the empty text.
    """

    path_env: str
    layout: str
    manifest: str | None = None
    done: str | None = None
    settle_s: int = Field(default=0, ge=0)
    format: Literal["csv", "jsonl", "parquet"] = "csv"
    encoding: Literal["utf-8", "gbk", "gb18030"] = "utf-8"
    nulls: tuple[str, ...] = ()

    @property
    def dated(self) -> bool:
        """Whether there is one file per load date."""
        return "{date}" in self.layout

    def file_name(self, file: str, load_date: date | None) -> str:
        """Return the path of a file below the folder."""
        return _filled(self.layout, file, load_date)

    def manifest_name(self, load_date: date) -> str:
        """Return the path of a date's manifest below the folder."""
        return str(self.manifest).replace("{date}", str(load_date))

    def done_name(self, file: str, load_date: date | None) -> str:
        """Return the path of the marker that says that a file is complete."""
        return _filled(str(self.done), file, load_date)

    def is_marker(self, name: str, load_date: date) -> bool:
        """Whether a file of a date, by its name without folder, is the marker of some file."""
        marker = PurePosixPath(self.done_name("{file}", load_date)).name
        before, several, after = marker.partition("{file}")
        if self.done is None or not several:
            return self.done is not None and name == marker
        return name.startswith(before) and name.endswith(after)


class TableSource(_Part):
    """How one contract table is filled.

    Attributes:
        sql: SELECT in DuckDB's SQL that returns the contract's columns.
        file: name of the file that the SELECT reads as `records`, or None.
        files: file set of `file`; may be left out when the operator has only one.
        columns: names that the header of `file` must have, in any order; None asks for nothing.
        may_be_empty: whether a dated `file` may hold no record.
    """

    sql: str
    file: str | None = None
    files: str | None = None
    columns: tuple[str, ...] | None = None
    may_be_empty: bool = True


class History(_Part):
    """The business days that an operator can give, both ends included.

    Attributes:
        first_date: the first one, `from` in the file.
        last_date: the last one, `to` in the file.
        has_ended: no day will ever follow, `ended` in the file: an old release is not a stale one.
    """

    first_date: date = Field(alias="from")
    last_date: date = Field(alias="to")
    has_ended: bool = Field(default=False, alias="ended")

    @model_validator(mode="after")
    def _has_two_days(self) -> History:
        if not self.first_date < self.last_date:
            raise ValueError(f"`from` {self.first_date} must be before `to` {self.last_date}")
        return self


class _Document(_Part):
    name: str
    description: str
    history: History | None = None
    connections: dict[str, Connection] = {}
    files: dict[str, FileSet] = {}
    tables: dict[str, TableSource]


@dataclass(frozen=True)
class Operator:
    """An operator file, read and checked.

    Attributes:
        path: the file.
        name: name of the operator, which is also the file's.
        history: the days that `keepline run` loads, or None when the file does not say.
        connections: databases by the name that SELECTs use as catalogue.
        files: file sets by the name that SELECTs use as placeholder.
        tables: sources by contract table; tables left out are not provided.
    """

    path: Path
    name: str
    history: History | None
    connections: Mapping[str, Connection]
    files: Mapping[str, FileSet]
    tables: Mapping[str, TableSource]

    def environment(self, variable: str) -> str:
        """Return a variable that the file names.

        Raises:
            UsageError: it is not set.
        """
        value = os.environ.get(variable, "")
        if not value:
            raise UsageError(
                f"{self.path.name} needs the variable {variable}: set it and run again"
            )
        return value

    def folder(self, files: str) -> Path:
        """Return the folder of a file set.

        Raises:
            UsageError: its variable is not set.
        """
        return Path(self.environment(self.files[files].path_env)).expanduser().resolve()

    def file_set(self, table: str) -> str:
        """Return the name of the file set that a table with `file` reads from.

        Raises:
            UsageError: the file names none, or one that it does not have.
        """
        named = self.tables[table].files or ""
        if not named and len(self.files) == 1:
            return next(iter(self.files))
        if named not in self.files:
            raise UsageError(
                f"{self.path.name}, table {table}: `files` must be one of {', '.join(self.files)}"
            )
        return named

    def render(self, table: str, values: Mapping[str, str]) -> str:
        """Return a table's SELECT with its placeholders filled in.

        A file set's name stands for its folder, to be written inside quotes.

        Args:
            table: contract table.
            values: SQL text of the window's placeholders.

        Raises:
            UsageError: the SELECT uses a placeholder that does not exist.
        """

        def fill(match: re.Match[str]) -> str:
            name = match.group(1)
            if name in values:
                return values[name]
            if name in self.files:
                return str(self.folder(name)).replace("'", "''")
            raise UsageError(
                f"{self.path.name}, table {table}: no placeholder {{{name}}}; there are "
                + ", ".join(f"{{{known}}}" for known in (*values, *self.files))
            )

        return _plain(PLACEHOLDER.sub(fill, self.tables[table].sql))

    def select(self, table: str, values: Mapping[str, str], own: Sequence[Path] = ()) -> str:
        """Return a table's SELECT as it is run: one SELECT that reads what the file declares, no more.

        Args:
            table: contract table.
            values: SQL text of the window's placeholders.
            own: folders that hold keepline's own files.

        Raises:
            UsageError: it is something else.
        """
        source = self.tables[table]
        try:
            found = select_of(self.render(table, values))
            found.check(
                self.connections,
                [self.folder(name) for name in self._folders_of(table)],
                own,
                has_records=source.file is not None,
            )
            return found.without_hive()
        except SelectError as error:
            raise self.wrong(table, error) from None

    def _folders_of(self, table: str) -> list[str]:
        """The file sets whose folders a SELECT names."""
        return sorted(self.placeholders(table) & set(self.files))

    def busy_share(self, table: str) -> float | None:
        """Return the smallest part of the time that a database which a table's SELECT names allows."""
        shares = [self.connections[name].busy_share for name in self.connections_of(table)]
        return min((share for share in shares if share is not None), default=None)

    def placeholders(self, table: str) -> set[str]:
        """Return the names of the placeholders in a table's SELECT."""
        return set(PLACEHOLDER.findall(self.tables[table].sql))

    def connections_of(self, table: str) -> list[str]:
        """Return the connections that a table's SELECT names."""
        named = {found.connection.lower() for found in self.tables_of(table)}
        return [name for name in self.connections if name.lower() in named]

    def tables_of(self, table: str) -> list[TableName]:
        """Return the tables that a table's SELECT names, as DuckDB's parser reads it.

        Raises:
            UsageError: it is no single SELECT.
        """
        try:
            return self._sketch(table).tables(self.connections)
        except SelectError as error:
            raise self.wrong(table, error) from None

    def wrong(self, table: str, error: SelectError) -> UsageError:
        """Return the error about a table's SELECT."""
        return UsageError(f"{self.path.name}, table {table}: `sql` must be one SELECT: {error}")

    def _sketch(self, table: str) -> Select:
        """A table's SELECT before its placeholders are known."""

        def fill(match: re.Match[str]) -> str:
            return match.group(1) if match.group(1) in self.files else "null"

        return select_of(_plain(PLACEHOLDER.sub(fill, self.tables[table].sql)))


def confirm_there(path: Path) -> None:
    """Refuse the name of an operator that has no file.

    Raises:
        UsageError: there is no such file.
    """
    if path.exists():
        return
    known = sorted(other.stem for other in path.parent.glob("*.yml"))
    way_out = f"KEEPLINE_OPERATOR is one of {', '.join(known)}"
    if not known:
        way_out = f"{path.parent} holds none: KEEPLINE_OPERATORS_DIR names the folder that does"
    raise UsageError(f"no operator file {path}: {way_out}")


def load_operator(path: Path, contract: Contract) -> Operator:
    """Read an operator file.

    Raises:
        UsageError: there is no such file, it is not well formed, or it fills a table that the contract
            does not have.
    """
    confirm_there(path)
    try:
        document = _Document.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise UsageError(f"{path.name} is not YAML: {error}") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise UsageError(f"{path.name} cannot be used: {problems}") from None
    unknown = sorted(set(document.tables) - set(contract))
    if unknown:
        raise UsageError(
            f"{path.name}: the contract has no table {', '.join(unknown)}; it has {', '.join(contract)}"
        )
    if document.name != path.stem:
        raise UsageError(f"{path.name}: its name is {document.name!r}, not that of the file")
    for name, files in document.files.items():
        if files.manifest is not None and not files.dated:
            raise UsageError(f"{path.name}, files {name}: a manifest needs a layout with {{date}}")
        if files.done is not None and files.dated and "{date}" not in files.done:
            raise UsageError(f"{path.name}, files {name}: `done` needs {{date}}, as the layout has")
    operator = Operator(
        path,
        document.name,
        document.history,
        document.connections,
        document.files,
        document.tables,
    )
    for table, source in document.tables.items():
        if source.file is not None:
            operator.file_set(table)
    return operator


def _plain(sql: str) -> str:
    """SQL without what ends it; a comment at its end must not take along what is written behind it."""
    plain = sql.strip().rstrip(";").rstrip()
    return f"{plain}\n" if "--" in plain.rpartition("\n")[2] else plain


def _filled(path: str, file: str, load_date: date | None) -> str:
    return path.replace("{file}", file).replace("{date}", str(load_date))

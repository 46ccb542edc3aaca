"""The source contract: what each table of an operator must deliver, read from dbt's source YAML.

`dbt_project/models/staging/<system>/<table>.yml` is the only place where it is written; extraction,
raw loading, the landing gate and the docs all read it through this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from keepline.errors import UsageError

PII_KINDS = ("pseudonym", "masked", "vault")
MONEY = "decimal(18,2)"
TYPES = ("text", "integer", "bigint", MONEY, "date", "timestamp", "boolean")
NUMBERS = ("integer", "bigint", MONEY)
FORMATS = ("msisdn", "cn_id")
# How many rows of a table are usual: what the gate `landed` expects of its batches.
KEY_LIST, MASTER = "key_list", "table_name"
VOLUMES = ("usage", "events", "changes", "state", "reference", KEY_LIST)
UNKNOWN_CODE, EARLY_FACT = "UNKNOWN_CODE", "EARLY_FACT"
REASONS = (UNKNOWN_CODE, EARLY_FACT)
# What is written where a word must be said and nothing applies.
NONE = "none"
SEEDS = "seeds"
EVENT_DATE = "event_date"
LOAD_DATE = "load_date"
# Schema that every source table is loaded into.
RAW = "raw"
# Ends of the names of columns whose text is compared, never read by people.
IDENTIFIER_ENDS = ("_id", "_code")
TABLE_WORDS = {
    *("key", "load_cursor", "event_cursor", "max_ahead_s", "max_age_days", "quarantine_limit"),
    *("feeds", "volume", "base", "every_day", "when_unknown"),
}
COLUMN_WORDS = {
    *("nullable", "codes", "pii", "min", "max", "min_unless", "format", "format_if"),
    *("references", "total"),
}
# So many rows of a load date may break the contract whatever their share.
QUARANTINED_ROWS = 20


@dataclass(frozen=True)
class Choice:
    """Rows whose `column` holds one of `codes`."""

    column: str
    codes: tuple[str, ...]


@dataclass(frozen=True)
class QuarantineLimit:
    """A load date is held when more rows than `rows` and than `share` of it break the contract.

    Attributes:
        share: part of the rows, or None for the setting `quarantine_limit_share`.
        rows: rows.
    """

    share: float | None = None
    rows: int = QUARANTINED_ROWS


@dataclass(frozen=True)
class Feed:
    """The fact whose rows a table's rows become, or the dimension whose members its keys become.

    Attributes:
        model: dbt model, `fct_...` or `dim_...`.
        only: condition that the fact's rows of this table meet, in SQL.
        counted: column of the fact that counts the table's rows, or '' when each is a row of the fact.
        totals: what adds up in both beside the columns that are totals: expression over the table in
            DuckDB's SQL by the fact's column.
    """

    model: str
    only: str = "true"
    counted: str = ""
    totals: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_fact(self) -> bool:
        """Whether it is a fact."""
        return self.model.startswith("fct_")


@dataclass(frozen=True)
class Reference:
    """The column that has to know a value.

    Attributes:
        system: source system, or `seeds`.
        table: contract table, or dbt seed.
        column: column of it.
    """

    system: str
    table: str
    column: str

    @property
    def model(self) -> str:
        """The dbt model or seed with the column."""
        return self.table if self.system == SEEDS else f"stg_{self.system}__{self.table}"

    def __str__(self) -> str:
        return f"{self.system}.{self.table}.{self.column}"


@dataclass(frozen=True)
class Column:
    """A column of the contract.

    Attributes:
        name: name in landing and raw.
        data_type: one of `TYPES`; timestamps are UTC without a zone.
        description: what it holds, for people.
        nullable: whether a row without a value is accepted.
        codes: the only values accepted, or empty for any.
        pii: `pseudonym` (replaced by an HMAC), `masked` (middle hidden), `vault` (encrypted, never
            landed) or None.
        minimum: smallest number accepted, or None.
        maximum: largest number accepted, or None.
        min_unless: rows to which `minimum` does not apply, or None.
        format: named shape of a text before it is pseudonymised (`msisdn`, `cn_id`), or None.
        format_if: the only rows to which `format` applies, or None for all.
        references: the column that has to know its values, or None.
        says_references: whether the contract says so, `none` or not.
        is_total: whether its sum is the same in the fact that the table feeds.
    """

    name: str
    data_type: str
    description: str
    nullable: bool = False
    codes: tuple[str, ...] = ()
    pii: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    min_unless: Choice | None = None
    format: str | None = None
    format_if: Choice | None = None
    references: Reference | None = None
    says_references: bool = False
    is_total: bool = False

    @property
    def is_money(self) -> bool:
        """Whether it is an amount, which staging turns into whole fen."""
        return self.data_type == MONEY and (self.name == "amt" or self.name.endswith("_amt"))

    @property
    def staged_name(self) -> str:
        """Its name in staging and behind it."""
        if not self.is_money:
            return self.name
        return "amount_fen" if self.name == "amt" else self.name.removesuffix("amt") + "fen"


@dataclass(frozen=True)
class Table:
    """A table of the contract.

    Attributes:
        system: source system, which is also the dbt source.
        name: name in landing and raw, unique over all systems.
        description: what a row is, for people.
        key: columns that identify a row within one load date.
        load_cursor: timestamp that says in which business day's batch a row became known.
        event_cursor: timestamp or date that says when it happened.
        columns: every column, those for the vault among them.
        max_ahead_s: seconds that an event may be later than its row became known, or None for any.
        max_age_days: days that an event may be before the load date, or None for any.
        quarantine_limit: how many rows of a load date may break the contract.
        feeds: the fact or dimension that follows from it, or None when it only adds to others.
        volume: one of `VOLUMES`.
        is_base: whether nothing can be built before something of it has landed.
        is_every_day: whether a day without rows is odd.
        when_unknown: reason under which a value that refers to it and that it lacks is noted.
    """

    system: str
    name: str
    description: str
    key: tuple[str, ...]
    load_cursor: str
    event_cursor: str
    columns: tuple[Column, ...]
    max_ahead_s: int | None = None
    max_age_days: int | None = None
    quarantine_limit: QuarantineLimit = QuarantineLimit()
    feeds: Feed | None = None
    volume: str = "reference"
    is_base: bool = False
    is_every_day: bool = False
    when_unknown: str = UNKNOWN_CODE

    @property
    def identifiers(self) -> tuple[Column, ...]:
        """Text columns that are compared: keys, ids, codes, and what becomes a pseudonym."""
        return tuple(
            column
            for column in self.columns
            if column.data_type == "text"
            and (
                column.name in self.key
                or column.name.endswith(IDENTIFIER_ENDS)
                or column.codes
                or column.pii == "pseudonym"
            )
        )

    @property
    def staging_model(self) -> str:
        """The dbt model that reads it."""
        return f"stg_{self.system}__{self.name}"

    @property
    def totals(self) -> tuple[Column, ...]:
        """Columns whose sum is the same in the fact that it feeds: all amounts, and what says so."""
        return tuple(column for column in self.landed_columns if column.is_money or column.is_total)

    @property
    def is_covered(self) -> bool:
        """Whether its rows tell what has arrived: a list of keys tells of other tables."""
        return self.volume != KEY_LIST

    @property
    def identity(self) -> tuple[str, ...]:
        """Key of the thing that a row tells of, over all of its versions."""
        return tuple(name for name in self.key if name != self.load_cursor)

    @property
    def is_change_feed(self) -> bool:
        """Whether a row is one version of its thing: the time of the change is in the key."""
        return self.load_cursor in self.key

    @property
    def landed_columns(self) -> tuple[Column, ...]:
        """Columns that reach landing: all but the vault's, then the local day of the event."""
        kept = tuple(column for column in self.columns if column.pii != "vault")
        return (*kept, Column(EVENT_DATE, "date", "Operator's local day on which it happened."))

    @property
    def vault_columns(self) -> tuple[Column, ...]:
        """Columns that only the vault may hold, encrypted."""
        return tuple(column for column in self.columns if column.pii == "vault")

    def column(self, name: str) -> Column:
        """Return a column by name; KeyError when the table has none of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True)
class Contract(Mapping[str, Table]):
    """All tables of the contract by name, in the order of the files."""

    tables: dict[str, Table] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    @property
    def listed_masters(self) -> tuple[str, ...]:
        """Tables that key lists may be of."""
        lists = (table for table in self.values() if table.volume == KEY_LIST)
        return tuple(code for table in lists for code in table.column(MASTER).codes)


def load_contract(dbt_dir: Path) -> Contract:
    """Read the contract from the source YAML of a dbt project.

    Raises:
        UsageError: a file breaks the rules of the contract; the message names file, table and column.
    """
    tables: dict[str, Table] = {}
    systems: dict[str, str] = {}
    for path in sorted((dbt_dir / "models" / "staging").glob("*/[!_]*.yml")):
        system, table = _read(path)
        if table.name in tables:
            other = tables[table.name].system
            raise UsageError(
                f"{path.name}: {other} has a table {table.name}, too; rename one of them"
            )
        if systems.setdefault(table.system, system) != system:
            raise UsageError(
                f"{path.name}: the description of {table.system} is not that of the files beside it; "
                "write the same in all of them"
            )
        tables[table.name] = table
    if not tables:
        raise UsageError(f"no source YAML under {dbt_dir}/models/staging")
    contract = Contract(tables)
    _check_references(contract)
    _check_key_lists(contract)
    return contract


def _check_references(contract: Contract) -> None:
    """Refuse a reference that leads nowhere, and a column that is silent where others refer."""
    columns = [(table, column) for table in contract.values() for column in table.columns]
    named = {}
    for table, column in columns:
        if column.references is None:
            continue
        if not _is_there(column.references, contract):
            raise UsageError(
                f"{table.name}.yml, column {column.name}: it references {column.references}, "
                "which is not in the contract"
            )
        named[column.references.column] = column.references
    for table, column in columns:
        known = named.get(column.name)
        if known and not column.says_references and known.table != table.name:
            raise UsageError(
                f"{table.name}.yml, column {column.name}: others with this name reference {known}: "
                f"write `references: {known}` into its meta, or `references: {NONE}`"
            )


def _check_key_lists(contract: Contract) -> None:
    """Refuse a list of the keys of something that is no master with a key of one column."""
    for table in contract.values():
        if table.volume == KEY_LIST and MASTER not in {column.name for column in table.columns}:
            raise UsageError(
                f"{table.name}.yml: a key list says in a column {MASTER} what it lists"
            )
    for name in contract.listed_masters:
        master = contract.tables.get(name)
        if master is None or len(master.identity) != 1 or not master.is_change_feed:
            raise UsageError(
                f"a key list has {name} among the codes of its column {MASTER}, and the contract has no "
                "change feed of that name with a key of one column"
            )


def _is_there(reference: Reference, contract: Contract) -> bool:
    """Say whether a reference leads somewhere; dbt itself refuses a seed that is not there."""
    if reference.system == SEEDS:
        return True
    table = contract.tables.get(reference.table)
    return (
        table is not None
        and table.system == reference.system
        and any(column.name == reference.column for column in table.landed_columns)
    )


def _read(path: Path) -> tuple[str, Table]:
    """Return the description of the system and the table of a file, which is named after them."""
    document = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    try:
        (source,) = document["sources"]
        (raw,) = source["tables"]
        said = (source["name"], raw["name"], source["schema"])
        description = str(source["description"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path.name}: {error} is missing or wrong: a file holds one source with one table"
        ) from error
    if said != (path.parent.name, path.stem, RAW):
        raise UsageError(
            f"{path.name}: it tells of {said[0]}.{said[1]} in the schema {said[2]}; the file "
            f"{path.parent.name}/{path.name} is for {path.parent.name}.{path.stem} in {RAW}"
        )
    return description, _table(path.parent.name, raw, path)


def _table(system: str, raw: dict[str, Any], path: Path) -> Table:
    meta = raw.get("config", {}).get("meta", {})
    where = f"{path.name}, table {raw.get('name')}"
    _check_words(meta, TABLE_WORDS, where)
    try:
        table = Table(
            system=system,
            name=raw["name"],
            description=raw["description"],
            key=tuple(meta["key"]),
            load_cursor=meta["load_cursor"],
            event_cursor=meta["event_cursor"],
            columns=tuple(_column(item, where) for item in raw["columns"]),
            max_ahead_s=meta.get("max_ahead_s"),
            max_age_days=meta.get("max_age_days"),
            quarantine_limit=QuarantineLimit(**meta.get("quarantine_limit", {})),
            feeds=_feed(meta["feeds"], where),
            volume=meta["volume"],
            is_base=bool(meta.get("base", False)),
            is_every_day=bool(meta.get("every_day", False)),
            when_unknown=meta.get("when_unknown", UNKNOWN_CODE),
        )
    except (KeyError, TypeError) as error:
        raise UsageError(f"{where}: {error} is missing or wrong") from error
    if table.volume not in VOLUMES:
        raise UsageError(f"{where}: volume {table.volume} is not one of {', '.join(VOLUMES)}")
    if table.when_unknown not in REASONS:
        raise UsageError(
            f"{where}: when_unknown {table.when_unknown} is not one of {', '.join(REASONS)}"
        )
    names = {column.name for column in table.columns}
    choices = (choice for c in table.columns for choice in (c.min_unless, c.format_if) if choice)
    asked = (choice.column for choice in choices)
    for name in (*table.key, table.load_cursor, table.event_cursor, *asked):
        if name not in names:
            raise UsageError(
                f"{where}: meta names the column {name}, which the table does not have"
            )
    if table.feeds and not table.feeds.is_fact and len(table.identity) != 1:
        raise UsageError(
            f"{where}: it feeds the dimension {table.feeds.model}, so that its key must be one column, "
            "beside the load cursor"
        )
    return table


def _column(raw: dict[str, Any], where: str) -> Column:
    meta = raw.get("config", {}).get("meta", {})
    place = f"{where}, column {raw['name']}"
    _check_words(meta, COLUMN_WORDS, place)
    column = Column(
        name=raw["name"],
        data_type=raw["data_type"],
        description=raw["description"],
        nullable=bool(meta.get("nullable", False)),
        codes=tuple(str(code) for code in meta.get("codes", ())),
        pii=meta.get("pii"),
        minimum=meta.get("min"),
        maximum=meta.get("max"),
        min_unless=_choice(meta.get("min_unless")),
        format=meta.get("format"),
        format_if=_choice(meta.get("format_if")),
        references=_reference(meta.get("references", NONE), place),
        says_references="references" in meta,
        is_total=bool(meta.get("total", False)),
    )
    if column.data_type not in TYPES:
        raise UsageError(
            f"{where}, column {column.name}: type {column.data_type} is not one of {', '.join(TYPES)}"
        )
    if column.pii is not None and column.pii not in PII_KINDS:
        raise UsageError(
            f"{where}, column {column.name}: pii {column.pii} is not one of {', '.join(PII_KINDS)}"
        )
    if column.is_total and column.data_type not in NUMBERS:
        raise UsageError(f"{place}: a {column.data_type} adds up to nothing: take `total` away")
    if column.format is not None and column.format not in FORMATS:
        raise UsageError(
            f"{where}, column {column.name}: format {column.format} is not one of {', '.join(FORMATS)}"
        )
    return column


def _check_words(meta: dict[str, Any], words: set[str], where: str) -> None:
    unknown = sorted(set(meta) - words)
    if unknown:
        raise UsageError(
            f"{where}: {', '.join(unknown)}: no such word; docs/contract.md explains those there are"
        )


def _feed(raw: str | dict[str, Any], where: str) -> Feed | None:
    if raw == NONE:
        return None
    feed = Feed(raw) if isinstance(raw, str) else Feed(**raw)
    if not feed.model.startswith(("fct_", "dim_")):
        raise UsageError(
            f"{where}: feeds {feed.model} is neither a fact (fct_...) nor a dimension (dim_...) nor {NONE}"
        )
    return feed


def _reference(raw: str, place: str) -> Reference | None:
    if raw == NONE:
        return None
    parts = raw.split(".")
    if len(parts) != 3:
        raise UsageError(
            f"{place}: references {raw} is not <system>.<table>.<column>, {SEEDS}.<seed>.<column> "
            f"or {NONE}"
        )
    return Reference(*parts)


def _choice(raw: dict[str, Any] | None) -> Choice | None:
    return None if raw is None else Choice(raw["column"], tuple(str(c) for c in raw["codes"]))

"""The operator's SELECT as DuckDB's own parser reads it: what it touches, and that it is nothing else.

No regular expression decides what a statement reads: the parser knows quotes, comments and case. One SELECT
is all that an operator file may hold; it reads `records`, tables of the file's connections, and files below
the file's folders.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from keepline.extract.own_files import is_own_file
from keepline.landed_files import GLOB

RECORDS = "records"
# Table functions that read files, by whether DuckDB would let a folder called `column=value` speak.
READERS = {
    *("read_csv", "read_csv_auto", "read_parquet", "parquet_scan", "read_json", "read_json_auto"),
    *("read_ndjson", "read_ndjson_auto"),
}
MAKERS = {"range", "generate_series", "unnest", "repeat", "repeat_row"}
HIVE = "hive_partitioning"
# What is skipped as a whole when SQL is walked through as text.
TOKEN = re.compile(
    r"(?P<text>(?<!\w)[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*')|(?P<name>\"(?:[^\"]|\"\")*\")|(?P<comment>--[^\n]*|/\*.*?\*/)"
    r"|(?P<dollar>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)|(?P<open>[(\[{])|(?P<close>[)\]}])",
    re.DOTALL,
)


class SelectError(ValueError):
    """What is wrong with a SELECT, in words for the person who wrote it."""


@dataclass(frozen=True)
class TableName:
    """A table that a SELECT names.

    Attributes:
        connection: the connection that it is of, as the SELECT spells it; empty for a name without one.
        schema: its schema, or empty.
        name: the table.
        at: where the name begins in the SELECT, in bytes.
    """

    connection: str
    schema: str
    name: str
    at: int


class Select:
    """A SELECT, parsed."""

    def __init__(self, sql: str) -> None:
        """Parse.

        Raises:
            SelectError: it is no single SELECT.
        """
        self.sql = sql
        self._bytes = sql.encode()
        self._tree = _parsed(sql)
        self._parts = list(_walk(self._tree))

    def tables(self, connections: Collection[str]) -> list[TableName]:
        """Return the tables that it names; `connections` decides whether `a.b` is one of a connection."""
        known = {name.lower() for name in connections}
        found = []
        for part in self._parts:
            if part.get("type") != "BASE_TABLE" or "table_name" not in part:
                continue
            catalog, schema = part.get("catalog_name", ""), part.get("schema_name", "")
            if not catalog and schema.lower() in known:
                catalog, schema = schema, ""
            found.append(TableName(catalog, schema, part["table_name"], part["query_location"]))
        return found

    def check(
        self,
        connections: Collection[str],
        folders: Sequence[Path],
        own: Sequence[Path],
        *,
        has_records: bool,
    ) -> None:
        """Refuse whatever is not a plain reading of what the operator file declares.

        Args:
            connections: names of its databases.
            folders: folders that it may read files of.
            own: folders that hold keepline's own files.
            has_records: whether there is a relation `records`.

        Raises:
            SelectError: it reads something else.
        """
        declared = frozenset({RECORDS} if has_records else ())
        given = dict(_named_by_with(self._tree, declared))
        known = {name.lower() for name in connections}
        for table in self.tables(connections):
            if table.connection.lower() in known:
                continue
            if table.connection or table.schema or table.name.lower() not in given[table.at]:
                where = ".".join(p for p in (table.connection, table.schema, table.name) if p)
                raise SelectError(
                    f"it reads {where}, which is neither `records` nor a table of a connection;"
                    " a file is read by its file set or by read_csv('{folder}/name.csv')"
                )
        for part in self._parts:
            kind = part.get("type", "")
            if "function" in part and kind == "TABLE_FUNCTION":
                self._check_function(part["function"], folders, own)
            elif kind in ("SHOW_REF", "COLUMN_DATA", "BOUND_TABLE_REF"):
                raise SelectError("it is more than a SELECT")

    def without_hive(self) -> str:
        """Return the SELECT whose readers take no column from the folders of a path."""
        cuts = []
        for part in self._parts:
            if part.get("type") != "TABLE_FUNCTION" or "function" not in part:
                continue
            function = part["function"]
            if function["function_name"].lower() in READERS and HIVE not in _named(function):
                cuts.append(self._closing(function["query_location"]))
        text = self.sql
        for cut in sorted(cuts, reverse=True):
            text = f"{text[:cut]}, {HIVE} = false{text[cut:]}"
        return text

    def without_connection(self, name: str, schema: str) -> str:
        """Return the SELECT as the database itself reads it: without the connection's name.

        Args:
            name: of the connection.
            schema: of a table that the SELECT names without one; empty leaves it to the database.
        """
        cuts: dict[int, str] = {}
        for part in self._parts:
            at, kind = part.get("query_location"), part.get("type")
            if kind == "BASE_TABLE" and "table_name" in part:
                catalog, own = part.get("catalog_name", ""), part.get("schema_name", "")
                if catalog.lower() == name.lower():
                    cuts[int(str(at))] = ""
                elif not catalog and own.lower() == name.lower():
                    cuts[int(str(at))] = f"{schema}." if schema else ""
            elif kind == "COLUMN_REF":
                # connection.schema.table.column
                words = part.get("column_names", [])
                if len(words) > 3 and words[0].lower() == name.lower():
                    cuts[int(str(at))] = ""
        text = self._bytes
        word = re.compile(rb'\s*(?:"(?:[^"]|"")*"|[^\s."]+)\s*\.\s*')
        for at in sorted(cuts, reverse=True):
            found = word.match(text, at)
            if found is not None:
                text = text[:at] + cuts[at].encode() + text[found.end() :]
        return text.decode()

    # -- inside ----------------------------------------------------------------------------------

    def _check_function(
        self, function: Mapping[str, Any], folders: Sequence[Path], own: Sequence[Path]
    ) -> None:
        name = function["function_name"].lower()
        if name in MAKERS and not function.get("catalog"):
            return
        if name not in READERS:
            raise SelectError(f"it calls {name}, which is none of {', '.join(sorted(READERS))}")
        paths = list(_texts(function["children"][0])) if function["children"] else []
        if not paths:
            raise SelectError(f"{name} takes a path that is written out: {name}('{{folder}}/...')")
        for path in paths:
            _check_path(path, folders, own)

    def _closing(self, at: int) -> int:
        """Where the brackets of a function that begins at a byte close, in characters."""
        start = len(self._bytes[:at].decode())
        depth = 0
        for token in TOKEN.finditer(self.sql, start):
            depth += bool(token["open"]) - bool(token["close"])
            if token["close"] and not depth:
                # A comment to the end of the line may stand before the bracket.
                return token.start()
        raise SelectError("a bracket is not closed")


@functools.lru_cache(maxsize=256)
def select_of(sql: str) -> Select:
    """Return a SELECT, parsed once.

    Raises:
        SelectError: it is no single SELECT.
    """
    return Select(sql)


def requoted(sql: str, mark: str) -> str:
    """Return SQL whose quoted names are quoted by another mark; texts stay as they are."""

    def quote(token: re.Match[str]) -> str:
        if not token["name"]:
            return token[0]
        return mark + token["name"][1:-1].replace('""', '"') + mark

    return TOKEN.sub(quote, sql)


def _parsed(sql: str) -> object:
    try:
        row = _parser().cursor().execute("select json_serialize_sql(?)", [sql]).fetchone()
    except duckdb.Error:
        raise SelectError("it cannot be parsed") from None
    found = json.loads(row[0]) if row else {}
    if found.get("error"):
        text = str(found.get("error_message", ""))
        raise SelectError("it is no SELECT" if "Only SELECT" in text else text)
    if len(found.get("statements", ())) != 1:
        raise SelectError("it is not one statement")
    return found["statements"][0]


@functools.cache
def _parser() -> duckdb.DuckDBPyConnection:
    """A DuckDB that parses, and has nothing to read."""
    return duckdb.connect(
        config={
            "threads": 1,
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "lock_configuration": True,
        }
    )


def _walk(tree: object) -> Iterator[dict[str, Any]]:
    """Yield every object of a tree."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _named_by_with(tree: object, given: frozenset[str]) -> Iterator[tuple[int, frozenset[str]]]:
    """Yield where each table is named, with the names that a WITH around it gives there.

    Outside of its own SELECT such a name would be that of a table of DuckDB's or of keepline's.
    """
    if isinstance(tree, list):
        for item in tree:
            yield from _named_by_with(item, given)
    if not isinstance(tree, dict):
        return
    if tree.get("type") == "BASE_TABLE" and "table_name" in tree:
        yield tree["query_location"], given
    if tree.get("type") == "RECURSIVE_CTE_NODE":
        given |= {str(tree.get("cte_name", "")).lower()}
    for entry in (tree.get("cte_map") or {}).get("map", ()):
        # Each sees those before it, and not itself.
        yield from _named_by_with(entry["value"], given)
        given |= {str(entry["key"]).lower()}
    for key, item in tree.items():
        if key != "cte_map":
            yield from _named_by_with(item, given)


def _named(function: Mapping[str, Any]) -> set[str]:
    """The named arguments of a function."""
    names = set()
    for child in function["children"]:
        left = child.get("left") or {}
        if child.get("type") == "COMPARE_EQUAL" and left.get("type") == "COLUMN_REF":
            names.add(str(left["column_names"][-1]).lower())
    return names


def _texts(node: Mapping[str, Any]) -> Iterator[str]:
    """The texts of an argument that is a text or a list of them; nothing when it is anything else."""
    if node.get("type") == "VALUE_CONSTANT":
        value = node["value"]
        if value.get("type", {}).get("id") == "VARCHAR" and not value.get("is_null"):
            yield str(value["value"])
    elif node.get("function_name") == "list_value":
        found = [list(_texts(child)) for child in node["children"]]
        if all(found):
            yield from (text for texts in found for text in texts)


def _check_path(path: str, folders: Sequence[Path], own: Sequence[Path]) -> None:
    """Refuse a path that leaves the folders, by its words or by a link.

    Raises:
        SelectError: it does.
    """
    inside = [folder for folder in folders if Path(path).is_relative_to(folder)]
    if not inside or ".." in Path(path).parts:
        raise SelectError("it reads a file that is not below a folder of `files`")
    within = str(Path(path).relative_to(inside[0])) if inside[0] != Path(path) else ""
    found = inside[0].glob(within) if GLOB.search(within) else [Path(path)]
    for each in found:
        if not any(each.resolve().is_relative_to(folder) for folder in folders):
            raise SelectError("it reads a link that leaves the folders of `files`")
        if is_own_file(each, own):
            raise SelectError("it reads a file of keepline's own")

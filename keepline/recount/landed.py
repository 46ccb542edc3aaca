"""The hops `source` and `landing`: what the manifests say, and what the files hold."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from keepline import ops
from keepline.contract import LOAD_DATE, Contract, Table
from keepline.landed_files import OlderContractError, columns_sql, landed_days, unrecorded
from keepline.ops import Connection
from keepline.recount.outcome import ROWS, Difference, Figures, Hop, compared, over
from keepline.settings import Settings
from keepline.window import Window

MANIFEST, PART, QUARANTINE = "_manifest.json", "part-0.parquet", "rows.parquet"
SUMMED = ("integer", "bigint", "decimal(18,2)")
CONTENT = "content"
FIELDS = ("rows", "physical_rows", "quarantined", "skipped_rows", "sums", "sha256")
Key = tuple[str, date]


@dataclass
class Landed:
    """What landing holds of a window.

    Attributes:
        window: load dates that were looked at.
        manifests: by table and load date, those that can be read.
        figures: rows, totals in the smallest unit and a hash of the rows of each batch whose files are
            those that landed.
        spoiled: batches whose files are not.
        unproven: batches that are not what is on record.
    """

    window: Window
    manifests: dict[Key, dict[str, Any]] = field(default_factory=dict)
    figures: dict[Key, dict[str, int]] = field(default_factory=dict)
    spoiled: set[Key] = field(default_factory=set)
    unproven: set[Key] = field(default_factory=set)

    def expected(self, key: Key) -> Figures:
        """Return what later hops should hold of a batch: what was read, or what its manifest says."""
        said = self.manifests.get(key)
        return self.figures.get(key) or ({ROWS: said["rows"], **said["sums"]} if said else {})


def recount_landing(
    settings: Settings,
    contract: Contract,
    connection: Connection,
    duck: duckdb.DuckDBPyConnection,
    window: Window,
) -> tuple[Landed, list[Hop]]:
    """Recount the source's balance and landing.

    Args:
        settings: where landing and quarantine are.
        contract: tables of the contract.
        connection: of the store, for the balances on record.
        duck: any DuckDB connection.
        window: load dates.
    """
    landed = Landed(window)
    source, landing = Hop("source"), Hop("landing")
    for table in contract.values():
        _read_manifests(settings.landing_dir / table.name, table, landed, landing)
    _check_balances(settings, connection, duck, landed, source)
    whole = _check_files(settings, landed, landing)
    for table in contract.values():
        days = [day for name, day in whole if name == table.name]
        _read_rows(settings, duck, table, landed, landing, days)
    _compare_record(settings, contract, connection, landed, landing)
    _tell(contract, landed, source, landing)
    return landed, [source, landing]


def figures_sql(table: Table) -> str:
    """Return the SELECT list that counts a table's rows, its totals and its content in DuckDB's SQL.

    The totals are in the smallest unit; a sum of hashes, unlike an xor, also tells a row that is twice.
    """
    totals = "".join(
        f", cast(coalesce(sum({column.name}), 0){' * 100' if column.data_type == SUMMED[2] else ''}"
        " as hugeint)"
        for column in measures_of(table).values()
    )
    names = ", ".join(column.name for column in table.landed_columns)
    return f"count(*){totals}, coalesce(sum(hash({names})), 0)"


def measures_of(table: Table) -> dict[str, Any]:
    """Return the columns that manifests total, by the name of the total."""
    return {
        re.sub("amt$", "fen", column.name): column
        for column in table.columns
        if column.data_type in SUMMED and column.name not in table.key
    }


def named(table: Table, figures: Sequence[Any]) -> dict[str, int]:
    """Name what `figures_sql` gave."""
    names = [ROWS, *measures_of(table), CONTENT]
    return {name: int(value) for name, value in zip(names, figures, strict=True)}


# -- inside --------------------------------------------------------------------------------------


def _read_manifests(folder: Path, table: Table, landed: Landed, hop: Hop) -> None:
    for day, path in landed_days(folder, landed.window):
        try:
            said = json.loads((path / MANIFEST).read_bytes())
            missing = [name for name in FIELDS if name not in said]
        except (OSError, ValueError):
            missing = [MANIFEST]
        if missing:
            again = f"keepline extract {over(day)} --table {table.name}"
            told = f"the manifest cannot be read or lacks {', '.join(missing)}"
            hop.differences.append(Difference(hop.name, table.name, day, told, again))
        else:
            landed.manifests[table.name, day] = said


def _compare_record(
    settings: Settings, contract: Contract, connection: Connection, landed: Landed, hop: Hop
) -> None:
    """Find the batches that are not those on record, where nothing closer was said of them."""
    said = {(found.table, found.day) for found in hop.differences}
    recorded = ops.landed_batches(connection, landed.window)
    for one in unrecorded(settings.landing_dir, recorded, contract, landed.window):
        key = (one.table_name, one.load_date)
        landed.unproven.add(key)
        if key not in said:
            hop.differences.append(Difference(hop.name, *key, one.told, one.command))


def _check_balances(
    settings: Settings,
    connection: Connection,
    duck: duckdb.DuckDBPyConnection,
    landed: Landed,
    hop: Hop,
) -> None:
    """Compare each manifest with itself, with the balance on record and with quarantine."""
    recorded: dict[Key, tuple[Any, ...]] = {
        (row[0], row[1]): row[2:]
        for row in connection.execute(
            "select table_name, load_date, physical_rows, loaded_rows, quarantined_rows,"
            " skipped_rows, balanced from ops.reconciliation where load_date >= %s and load_date < %s",
            [landed.window.from_date, landed.window.to_date],
        ).fetchall()
    }
    aside = _quarantined(settings, duck, landed)
    for key in sorted({*landed.manifests, *recorded}, key=lambda key: (key[1], key[0])):
        told = _balance(landed.manifests.get(key), recorded.get(key), aside.get(key, 0))
        if told:
            again = f"keepline extract {over(key[1])} --table {key[0]}"
            hop.differences.append(Difference(hop.name, *key, told, again))


def _balance(said: Mapping[str, Any] | None, recorded: tuple[Any, ...] | None, aside: int) -> str:
    """Say what is wrong with one batch, or ''."""
    if said is None:
        if recorded is None or (recorded[-1] and recorded[1] == 0):
            return ""
        return (
            f"held: {recorded[0]:,} physical rows, nothing landed"
            if not recorded[-1]
            else f"{recorded[1]:,} rows landed on record, and landing has no such batch"
        )
    loaded, skipped = int(said["rows"]), int(said["skipped_rows"])
    physical, quarantined = int(said["physical_rows"]), sum(said["quarantined"].values())
    if physical != loaded + quarantined + skipped:
        return (
            f"{physical:,} physical rows are not {loaded:,} loaded + {quarantined:,} quarantined"
            f" + {skipped:,} skipped"
        )
    if recorded is None:
        return "landed, and no balance is on record"
    if not recorded[-1]:
        return (
            f"held: what landed before stays ({recorded[0]:,} physical rows in the held delivery)"
        )
    if recorded[:4] != (physical, loaded, quarantined, skipped):
        return (
            f"on record are {recorded[0]:,} physical = {recorded[1]:,} loaded + {recorded[2]:,}"
            f" quarantined + {recorded[3]:,} skipped, and the manifest says {physical:,} = {loaded:,}"
            f" + {quarantined:,} + {skipped:,}"
        )
    if aside != quarantined:
        return f"{quarantined:,} rows were quarantined, and quarantine holds {aside:,}"
    return ""


def _quarantined(
    settings: Settings, duck: duckdb.DuckDBPyConnection, landed: Landed
) -> dict[Key, int]:
    counted: dict[Key, int] = {}
    for folder in sorted(settings.quarantine_dir.glob("*")):
        for day, path in landed_days(folder, landed.window):
            if (file := path / QUARANTINE).exists():
                try:
                    row = duck.execute(
                        "select num_rows from parquet_file_metadata(?)", [_exact(file)]
                    ).fetchone()
                except duckdb.Error:
                    row = None
                counted[folder.name, day] = int(row[0]) if row else -1
    return counted


def _check_files(settings: Settings, landed: Landed, hop: Hop) -> list[Key]:
    """Hash the files; returns the batches whose file is the one that landed."""

    def digest(key: Key) -> str:
        path = settings.landing_dir / key[0] / f"{LOAD_DATE}={key[1]}"
        try:
            extra = [file.name for file in path.iterdir() if file.name not in (MANIFEST, PART)]
            with (path / PART).open("rb") as file:
                return ", ".join(extra) or hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""

    keys = list(landed.manifests)
    with ThreadPoolExecutor(settings.compute_threads) as pool:
        digests = list(pool.map(digest, keys))
    whole = []
    for key, found in zip(keys, digests, strict=True):
        said = landed.manifests[key]
        if found == said["sha256"]:
            whole.append(key)
            continue
        landed.spoiled.add(key)
        if not found:
            told = f"its file is gone: {said['rows']:,} rows"
        elif len(found) != len(said["sha256"]):
            told = f"the batch has files of nobody: {found}"
        else:
            path = settings.landing_dir / key[0] / f"{LOAD_DATE}={key[1]}" / PART
            told = f"its file is not the one that landed ({said['rows']:,} rows landed, {_rows_in(path)})"
        again = f"keepline extract {over(key[1])} --table {key[0]}"
        hop.differences.append(Difference(hop.name, *key, told, again))
    return whole


def _rows_in(path: Path) -> str:
    try:
        row = duckdb.execute(
            "select num_rows from parquet_file_metadata(?)", [_exact(path)]
        ).fetchone()
    except duckdb.Error:
        row = None
    return "it cannot be read" if row is None else f"it holds {row[0]:,}"


def _read_rows(
    settings: Settings,
    duck: duckdb.DuckDBPyConnection,
    table: Table,
    landed: Landed,
    hop: Hop,
    days: Sequence[date],
) -> None:
    """Count the rows of a table's files and compare them with the manifests."""
    folder = settings.landing_dir / table.name
    found: dict[date, dict[str, int]] = {}
    if days:
        # In a path nothing is a pattern, and nothing is data but the day in the folder that keepline named.
        files = [_exact(folder / f"{LOAD_DATE}={day}" / PART) for day in days]
        of_day = f"cast(left(right(part_path, {len(PART) + 11}), 10) as date)"
        query = (
            f"select {of_day}, {figures_sql(table)} from (select part_path, %s from read_parquet(?,"  # noqa: S608
            " hive_partitioning = false, union_by_name = true, filename = 'part_path')) group by 1"
        )
        try:
            rows = duck.execute(query % columns_sql(duck, table, files), [files]).fetchall()
        except (duckdb.Error, OlderContractError) as error:
            told = f"the files do not hold what the contract says ({type(error).__name__})"
            again = f"keepline extract {over(landed.window)} --table {table.name}"
            hop.differences.append(Difference(hop.name, table.name, days[0], told, again))
            landed.spoiled.update((table.name, day) for day in days)
            return
        found = {row[0]: named(table, row[1:]) for row in rows}
    nothing = named(table, [0] * (2 + len(measures_of(table))))
    for day in days:
        said = landed.manifests[table.name, day]
        figures = landed.figures[table.name, day] = found.get(day, nothing)
        told = compared({ROWS: said["rows"], **said["sums"]}, figures, ("the manifest", "the file"))
        if told:
            again = f"keepline extract {over(day)} --table {table.name}"
            hop.differences.append(Difference(hop.name, table.name, day, told, again))


def _exact(path: Path) -> str:
    """The pattern that means this one file."""
    return re.sub(r"[*?\[]", r"[\g<0>]", str(path))


def _tell(contract: Contract, landed: Landed, source: Hop, landing: Hop) -> None:
    said = landed.manifests.values()
    physical = sum(int(one["physical_rows"]) for one in said)
    loaded = sum(int(one["rows"]) for one in said)
    quarantined = sum(sum(one["quarantined"].values()) for one in said)
    skipped = sum(int(one["skipped_rows"]) for one in said)
    source.told = (
        f"{physical:,} physical = {loaded:,} loaded + {quarantined:,} quarantined"
        f" + {skipped:,} skipped"
    )
    tables = sum(1 for name in contract if any(key[0] == name for key in landed.manifests))
    rows = sum(figures[ROWS] for figures in landed.figures.values())
    landing.told = f"{rows:,} rows in {len(landed.manifests):,} batches of {tables} tables"

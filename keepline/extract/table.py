"""One table of one window: from the source's rows to partitions, quarantine and vault."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from keepline import home, lease
from keepline.contract import Column, Table
from keepline.errors import OutOfRoomError, SourceUnavailableError
from keepline.extract import pseudonyms
from keepline.extract.aside import (
    BATCH_ROWS,
    frequent_codes,
    mark_duplicates,
    spans,
    write_quarantine,
)
from keepline.extract.delivery import (
    BAD_LINES,
    STAGED,
    Delivery,
    FileReadError,
    UnreadableError,
    measures_of,
)
from keepline.extract.files import SourceFile, find_files
from keepline.extract.formats import file_delivery
from keepline.extract.landing import (
    LOAD_DAY,
    PART,
    QUARANTINE_ROWS,
    QUARANTINE_SCHEMA,
    Partitions,
    landed_schema,
)
from keepline.extract.own_files import own_folders
from keepline.extract.query import QueryDelivery
from keepline.extract.records import in_batches
from keepline.extract.registry import Registry
from keepline.extract.result import TableResult
from keepline.extract.rules import FOUND_IN, REASON, Rules
from keepline.extract.session import Session, TooSlowError, literal, memory_told, quoted
from keepline.extract.vault import VaultWriter
from keepline.extract.verdict import Finding
from keepline.failpoint import reach
from keepline.ops import Reconciliation
from keepline.window import Window

CHECKED, LOOKED = "checked", "looked"
NUMBER_REASONS = {"BAD_NUMBER", "OVERFLOW", "SCALE_LOST"}


@dataclass
class _Day:
    """What is known of one load date."""

    physical: int = 0
    skipped: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    sums: dict[str, int] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)


class TableExtract:
    """Extracts one contract table; `run` is called once."""

    def __init__(self, session: Session, registry: Registry, table: Table, window: Window) -> None:
        self._session = session
        self._registry = registry
        self._settings = session.settings
        self._table = table
        self._window = window
        self._days: dict[date, _Day] = {}
        self._files: list[SourceFile] = []
        self._findings: list[Finding] = []
        self._notes: list[Finding] = []
        # By column, over all deliveries of the window: one note and not one per delivery.
        self._new_codes: dict[str, Counter[str]] = {}
        self._held: set[date] = set()

    def run(self) -> TableResult:
        """Land the table's load dates, or hold some and say why.

        Raises:
            UsageError, SourceUnavailableError, BadDataError: see `extract_window`.
        """
        started = time.perf_counter()
        table, settings = self._table, self._settings
        with (
            Partitions(settings.landing_dir, table, landed_schema(table), PART) as landing,
            Partitions(
                settings.quarantine_dir, table, QUARANTINE_SCHEMA, QUARANTINE_ROWS
            ) as quarantine,
            VaultWriter(settings, table.name) as vault,
        ):
            waiting = self._deliveries()
            while waiting:
                delivery = waiting.pop(0)
                try:
                    with memory_told():
                        self._take(delivery, landing, quarantine, vault)
                except (duckdb.OutOfMemoryException, MemoryError):
                    waiting[:0] = self._smaller(delivery)
                except TooSlowError:
                    halves = delivery.halves()
                    if not halves:
                        raise
                    waiting[:0] = halves
                except FileReadError as error:
                    halves = delivery.halves()
                    waiting[:0] = halves
                    if not halves:
                        self._hold(error.finding, delivery)
                except UnreadableError as error:
                    self._hold(error.finding, delivery)
            self._refuse_changed_files()
            reconciliations = self._reconcile(landing.rows)
            good = [day for day in self._window.days() if day not in self._held]
            with lease.committing():
                # Of a held day only what was read: what is known of the others stays.
                quarantine.set_aside({*good, *self._days})
                reach("extract.set_aside")
                files = [file for file in self._files if file.load_date not in self._held]
                self._registry.accept(table.name, files)
                if good:
                    if table.vault_columns:
                        vault.commit(good)
                    reach("extract.sealed")
                    batches = landing.land(self._manifests(landing.rows), good)
                    reach("extract.unregistered")
                    self._registry.landed(table.name, files, good, batches)
        return TableResult(
            table_name=table.name,
            provided=True,
            rows=sum(row.loaded_rows for row in reconciliations),
            seconds=time.perf_counter() - started,
            reconciliations=tuple(reconciliations),
            findings=tuple(self._findings),
            held_days=tuple(sorted(self._held)),
            notes=(*self._notes, *self._told_codes()),
        )

    def _told_codes(self) -> Iterator[Finding]:
        """Yield a note per column of which many rows hold codes that the contract does not know."""
        mend = "Ask what it means, then map it in the SELECT or add it to the contract."
        for column, codes in self._new_codes.items():
            told = ", ".join(f"{code} ({rows} rows)" for code, rows in codes.items())
            yield Finding("NEW_CODE", self._table.name, f"{column}: {told}. {mend}")

    def _deliveries(self) -> list[Delivery]:
        session, table = self._session, self._table
        session.attach(table.name)
        if session.operator.tables[table.name].file is None:
            return [QueryDelivery(session, table, self._window)]
        found = find_files(
            session.operator,
            table,
            self._window.days(),
            self._settings.compute_threads,
            own_folders(self._settings),
        )
        self._notes += found.notes
        for finding in [*found.findings, *self._registry.findings(table.name, found.files)]:
            self._hold(finding)
        # Nothing of a held file is read: what is in it is not known to be what was sent.
        if not self._held.issuperset(self._window.days()):
            self._files = [file for file in found.files if file.load_date not in self._held]
        batches = in_batches(self._files)
        return [file_delivery(session, table, self._window, batch) for batch in batches]

    def _hold(self, finding: Finding, delivery: Delivery | None = None) -> None:
        """Hold the day that a finding names; else those of the files, or the whole window."""
        self._findings.append(finding)
        if finding.load_date is not None:
            self._held.add(finding.load_date)
        elif delivery is not None and delivery.load_date is not None:
            self._held.update(delivery.days)
        else:
            self._held.update(self._window.days())

    def _refuse_changed_files(self) -> None:
        changed = [file.name for file in self._files if not file.is_as_it_was()]
        if changed:
            raise SourceUnavailableError(
                f"{self._table.name}: {changed[0]} changed while it was read: run again"
            )

    def _smaller(self, delivery: Delivery) -> Sequence[Delivery]:
        halves = delivery.halves()
        if not halves and self._files:
            # One file is too much: the others land all the same.
            limit = self._settings.compute_memory_limit
            found = (
                f"If it is right, raise KEEPLINE_COMPUTE_MEMORY_LIMIT ({limit} now) and run again."
            )
            file = delivery.source(delivery.days[0])["file"]
            day = None if delivery.load_date is None else delivery.days[0]
            self._hold(Finding("NO_MEMORY", file, found, day), delivery)
        elif not halves:
            raise OutOfRoomError(
                f"the memory is full: the rows of one day of {self._table.name} do not fit into "
                f"{self._settings.compute_memory_limit}: raise KEEPLINE_COMPUTE_MEMORY_LIMIT"
            )
        return halves

    # -- one delivery ----------------------------------------------------------------------------

    def _take(
        self, delivery: Delivery, landing: Partitions, quarantine: Partitions, vault: VaultWriter
    ) -> None:
        session, table = self._session, self._table
        try:
            rules = Rules(
                table,
                delivery.stage(),
                load_date=delivery.load_date,
                nul_bytes=delivery.nul_bytes,
                unseen=delivery.unseen,
                clock=session.steady_clock(delivery.window),
            )
            reach("extract.read")
            with delivery.reading():
                self._check(delivery, rules, CHECKED)
                delivery.bad_lines()
            cursor = "own_day" if delivery.load_date is None else LOAD_DAY
            arrived = dict(session.rows(f"select {cursor}, count(*) from {CHECKED} group by 1"))
            balance = delivery.balance(arrived)
            self._only_window(delivery.window, CHECKED)
            mark_duplicates(session, table, CHECKED, rules)
            days = {day: _Day(physical=rows) for day, rows in balance.physical.items()}
            for day, rows in balance.skipped.items():
                days[day].skipped = rows
            self._set_aside(delivery, rules, days, quarantine)
            for day, figures in days.items():
                figures.source = delivery.source(day)
            self._sum(days)
            findings = [*balance.findings, *self._contradictions(delivery, days)]
            # Nobody asks for the rows as they came again, and they would be in memory twice.
            delivery.close()
            pseudonyms.make_pseudonyms(session, table, CHECKED)
            landing.write(self._landed())
            reach("extract.written")
            if table.vault_columns:
                vault.add(self._vault_values(pseudonyms.landed_sql(table, CHECKED)))
            # Only now: what does not fit into memory is taken again in halves.
            self._days.update(days)
            for finding in findings:
                self._hold(finding, delivery)
        finally:
            for name in (CHECKED, LOOKED, BAD_LINES, "pseudonym"):
                session.run(f"drop table if exists {name}")
            delivery.close()

    def _landed(self) -> Iterator[pa.RecordBatch]:
        """Yield the good rows as they land, sorting few of them at a time."""
        for span in spans(self._session, CHECKED, self._table.event_cursor):
            landed = pseudonyms.landed_sql(self._table, f"(from {CHECKED} where {span})")
            yield from self._session.run(landed).to_arrow_reader(BATCH_ROWS)

    def _check(
        self, delivery: Delivery, rules: Rules, name: str, looked_for: str | None = None
    ) -> None:
        first_day = delivery.window.from_date.isoformat()
        sql = rules.checked_sql(STAGED, first_day, looked_for=looked_for)
        self._session.run(f"create or replace temp table {name} as {sql}")

    def _only_window(self, window: Window, relation: str) -> None:
        """A file without a date in its name brings every day it has."""
        self._session.run(
            f"delete from {relation} where {LOAD_DAY} < {_day(window.from_date)}"
            f" or {LOAD_DAY} >= {_day(window.to_date)}"
        )

    # -- quarantine ------------------------------------------------------------------------------

    def _set_aside(
        self, delivery: Delivery, rules: Rules, days: dict[date, _Day], quarantine: Partitions
    ) -> None:
        """Write the rows and lines that break the contract, and count them by reason."""
        session = self._session
        bad = (
            f"select {LOAD_DAY}, count(*) as n from {CHECKED} where {REASON} is not null group by 1"
        )
        bad_rows = dict(session.rows(bad))
        bad_lines = dict(session.rows(f"select {LOAD_DAY}, count(*) from {BAD_LINES} group by 1"))
        if not bad_rows and not bad_lines:
            return
        with delivery.reading():
            delivery.look_again(sorted({*bad_rows, *bad_lines}))
            key = ", ".join(quoted(name) for name in self._table.key)
            again = f"{REASON} in ({rules.duplicate}, {rules.contradiction})"
            superfluous = f"select {key} from {CHECKED} where {again}"
            self._check(delivery, rules, LOOKED, superfluous)
        self._only_window(delivery.window, LOOKED)
        mark_duplicates(session, self._table, LOOKED, rules, [*FOUND_IN.values()])
        if dict(session.rows(bad.replace(CHECKED, LOOKED))) != bad_rows:
            raise SourceUnavailableError(
                f"{self._table.name}: its files changed while they were read: run again"
            )
        name = self._table.name
        for column, codes in frequent_codes(session, LOOKED, rules).items():
            self._new_codes.setdefault(column, Counter()).update(codes)
        for day, code, rows in write_quarantine(session, name, LOOKED, rules, quarantine):
            days.setdefault(day, _Day()).quarantined[code] = rows

    # -- figures ---------------------------------------------------------------------------------

    def _sum(self, days: Mapping[date, _Day]) -> None:
        measures = measures_of(self._table)
        if measures:
            columns = ", ".join(_sum_sql(column) for column in measures.values())
            for day, *sums in self._session.rows(
                f"select {LOAD_DAY}, {columns} from {CHECKED} where {REASON} is null group by 1"
            ):
                days[day].sums = dict(zip(measures, sums, strict=True))

    def _contradictions(self, delivery: Delivery, days: Mapping[date, _Day]) -> Iterator[Finding]:
        """Compare what arrived with what the source says of it: its day and its totals."""
        measures = measures_of(self._table)
        columns = "".join(", " + _sum_sql(column) for column in measures.values())
        rows = self._session.rows(
            f"""select {LOAD_DAY}, count(*), count(*) filter (own_day <> {LOAD_DAY}), min(own_day){columns}
            from {CHECKED} group by 1"""
        )
        for day, total, elsewhere, first, *sums in rows:
            place = delivery.source(day).get("file", f"{self._table.name} {day}")
            if elsewhere * 2 > total:
                found = f"{elsewhere} of {total} are of other days, from {first}."
                yield Finding("WRONG_DAY", place, found, day)
            if self._lines_lost(day) or not NUMBER_REASONS.isdisjoint(days[day].quarantined):
                # What could not be read is in quarantine, and missing in our totals.
                continue
            stated = delivery.stated_sums(day)
            for name, ours in zip(measures, sums, strict=True):
                if name in stated and stated[name] != ours:
                    found = f"{name}: {stated[name]:f} stated, {ours} found."
                    yield Finding("SUM_MISMATCH", place, found, day)

    def _lines_lost(self, day: date) -> bool:
        """Whether amounts stand in lines that could not be read."""
        lost = f"{LOAD_DAY} = {_day(day)} and reason_code <> 'REPEATED_HEADER'"
        return bool(self._session.rows(f"select 1 from {BAD_LINES} where {lost} limit 1"))

    def _vault_values(self, landed: str) -> Iterator[tuple[date, str, str, str]]:
        table = self._table
        key = ", ".join(quoted(name) for name in table.key)
        names = [column.name for column in table.vault_columns]
        cursor = self._session.run(
            f"select {LOAD_DAY}, concat_ws('|', {key}), {', '.join(quoted(n) for n in names)} from ({landed})"
        )
        while rows := cursor.fetchmany(10_000):
            for day, key_text, *values in rows:
                for name, value in zip(names, values, strict=True):
                    if value is not None:
                        yield day, key_text, name, str(value)

    # -- the table as a whole --------------------------------------------------------------------

    def _reconcile(self, landed: Mapping[date, int]) -> list[Reconciliation]:
        balances = []
        for day in self._window.days():
            figures = self._days.get(day, _Day())
            loaded, aside = landed.get(day, 0), sum(figures.quarantined.values())
            balanced = figures.physical == loaded + aside + figures.skipped
            if not balanced and day not in self._held:
                found = f"{figures.physical} at the source, {loaded} loaded, {aside} set aside."
                self._hold(Finding("UNBALANCED", f"{self._table.name} {day}", found, day))
            for finding in self._over_limit(day, figures, loaded):
                self._hold(finding)
            balances.append(
                Reconciliation(
                    table_name=self._table.name,
                    load_date=day,
                    physical_rows=figures.physical,
                    loaded_rows=loaded,
                    quarantined_rows=dict(sorted(figures.quarantined.items())),
                    skipped_rows=figures.skipped,
                    sums=figures.sums,
                    balanced=balanced,
                )
            )
        return [
            replace(row, loaded_rows=0, balanced=False) if row.load_date in self._held else row
            for row in balances
        ]

    def _over_limit(self, day: date, figures: _Day, loaded: int) -> Iterator[Finding]:
        """Hold a day of which too many rows break the contract."""
        aside = sum(figures.quarantined.values())
        own = self._table.quarantine_limit
        limit = self._settings.quarantine_limit_share if own.share is None else own.share
        if aside > max(own.rows, limit * (loaded + aside)):
            counted = ", ".join(f"{code} {n}" for code, n in figures.quarantined.most_common(5))
            yield Finding(
                "QUARANTINE_LIMIT",
                f"{self._table.name} {day}",
                f"{aside} of {loaded + aside} rows ({counted}), more than {limit:.1%} and {own.rows}. See "
                f"{self._settings.quarantine_dir / self._table.name}.",
                day,
            )

    def _manifests(self, landed: Mapping[date, int]) -> dict[date, dict[str, Any]]:
        keys = {"version": home.KEY_VERSION, **home.fingerprints(self._settings)}
        return {
            day: {
                "physical_rows": figures.physical,
                "quarantined": dict(sorted(figures.quarantined.items())),
                "skipped_rows": figures.skipped,
                "sums": figures.sums,
                "source": figures.source,
                "keys": keys,
            }
            for day, figures in self._days.items()
            if day not in self._held
            and (landed.get(day) or figures.quarantined or figures.physical)
        }


def _sum_sql(column: Column) -> str:
    scale = " * 100" if column.data_type.startswith("decimal") else ""
    return f"cast(coalesce(sum({quoted(column.name)}), 0){scale} as hugeint)"


def _day(day: date) -> str:
    return f"date {literal(day)}"

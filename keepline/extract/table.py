"""One table of one window: from the source's rows to partitions, quarantine and vault."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import duckdb

from keepline.contract import Column, Table
from keepline.errors import SourceUnavailableError, UsageError
from keepline.extract import pseudonyms
from keepline.extract.delivery import BAD_LINES, STAGED, Delivery, QueryDelivery, measures_of
from keepline.extract.files import find_files
from keepline.extract.landing import (
    LOAD_DAY,
    PART,
    QUARANTINE_ROWS,
    QUARANTINE_SCHEMA,
    Partitions,
    landed_schema,
)
from keepline.extract.records import FileDelivery, UnreadableError, in_batches
from keepline.extract.result import TableResult
from keepline.extract.rules import EVIDENCE, LINE_NO, REASON, SOURCE_FILE, Rules
from keepline.extract.session import Session, literal, quoted
from keepline.extract.vault import VaultWriter
from keepline.extract.verdict import Finding
from keepline.ops import Reconciliation
from keepline.window import Window

CHECKED, LOOKED = "checked", "looked"
BATCH_ROWS = 122_880
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

    def __init__(self, session: Session, table: Table, window: Window) -> None:
        self._session = session
        self._settings = session.settings
        self._table = table
        self._window = window
        self._days: dict[date, _Day] = {}
        self._findings: list[Finding] = []

    def run(self) -> TableResult:
        """Land the table, or hold it and say why.

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
            VaultWriter(settings, table.name, self._window) as vault,
        ):
            if table.vault_columns:
                vault.clear()
            waiting = self._deliveries()
            while waiting:
                delivery = waiting.pop(0)
                try:
                    self._take(delivery, landing, quarantine, vault)
                except duckdb.OutOfMemoryException:
                    waiting[:0] = self._smaller(delivery)
                except UnreadableError as error:
                    self._findings.append(error.finding)
            reconciliations = self._reconcile(landing.rows)
            # Of a held table only what was read: what is known of the other days stays.
            quarantine.set_aside(self._days if self._findings else self._window.days())
            if not self._findings:
                vault.commit()
                landing.land(self._manifests(landing.rows), self._window.days())
        return TableResult(
            table_name=table.name,
            provided=True,
            rows=0 if self._findings else sum(landing.rows.values()),
            seconds=time.perf_counter() - started,
            reconciliations=tuple(reconciliations),
            findings=tuple(self._findings),
        )

    def _deliveries(self) -> list[Delivery]:
        session, table = self._session, self._table
        if session.operator.tables[table.name].file is None:
            session.attach(table.name)
            return [QueryDelivery(session, table, self._window)]
        session.attach(table.name)
        files, self._findings = find_files(
            session.operator, table.name, self._window.days(), self._settings.compute_threads
        )
        if self._findings:
            # Nothing of a held delivery is read: what is in it is not known to be what was sent.
            return []
        return [FileDelivery(session, table, self._window, batch) for batch in in_batches(files)]

    def _smaller(self, delivery: Delivery) -> Sequence[Delivery]:
        halves = delivery.halves()
        if not halves:
            raise UsageError(
                f"{self._table.name}: the rows of one day do not fit into "
                f"{self._settings.compute_memory_limit}: raise KEEPLINE_COMPUTE_MEMORY_LIMIT"
            )
        return halves

    # -- one delivery ----------------------------------------------------------------------------

    def _take(
        self, delivery: Delivery, landing: Partitions, quarantine: Partitions, vault: VaultWriter
    ) -> None:
        session, table = self._session, self._table
        rules = Rules(table, delivery.stage(), nul_bytes=delivery.nul_bytes)
        try:
            with session.translated(table.name):
                self._check(delivery, rules, CHECKED)
                delivery.bad_lines()
            cursor = "own_day" if delivery.load_date is None else LOAD_DAY
            arrived = dict(session.rows(f"select {cursor}, count(*) from {CHECKED} group by 1"))
            balance = delivery.balance(arrived)
            self._only_window(delivery.window, CHECKED)
            self._mark_duplicates(rules, CHECKED)
            days = {day: _Day(physical=rows) for day, rows in balance.physical.items()}
            for day, rows in balance.skipped.items():
                days[day].skipped = rows
            self._set_aside(delivery, rules, days, quarantine)
            for day, figures in days.items():
                figures.source = delivery.source(day)
            self._sum(days)
            findings = [*balance.findings, *self._contradictions(delivery, days)]
            pseudonyms.make_pseudonyms(session, table, CHECKED)
            landed = pseudonyms.landed_sql(table, CHECKED)
            landing.write(session.run(landed).to_arrow_reader(BATCH_ROWS))
            if table.vault_columns:
                vault.add(self._vault_values(landed))
            # Only now: what does not fit into memory is taken again in halves.
            self._days.update(days)
            self._findings += findings
        finally:
            for name in (CHECKED, LOOKED, BAD_LINES, "pseudonym", "taken"):
                session.run(f"drop table if exists {name}")

    def _check(
        self, delivery: Delivery, rules: Rules, name: str, looked_for: str | None = None
    ) -> None:
        first_day = delivery.window.from_date.isoformat()
        sql = rules.checked_sql(STAGED, delivery.load_date, first_day, looked_for=looked_for)
        self._session.run(f"create or replace temp table {name} as {sql}")

    def _only_window(self, window: Window, relation: str) -> None:
        """A file without a date in its name brings every day it has."""
        self._session.run(
            f"delete from {relation} where {LOAD_DAY} < {_day(window.from_date)}"
            f" or {LOAD_DAY} >= {_day(window.to_date)}"
        )

    def _mark_duplicates(self, rules: Rules, relation: str) -> None:
        """Keep one of the good rows with the same key: the first by content, never by arrival."""
        session, table = self._session, self._table
        key = ", ".join([LOAD_DAY, *(quoted(name) for name in table.key)])
        twice = (
            f"select {key} from {relation} where {REASON} is null group by all having count(*) > 1"
        )
        if not session.rows(f"{twice} limit 1"):
            return
        order = ", ".join(quoted(column.name) for column in table.columns)
        line = f", {SOURCE_FILE}, {LINE_NO}" if relation == LOOKED else ""
        session.run(
            f"""update {relation} set {REASON} = {rules.duplicate} where rowid in (
                select id from (
                    select r.rowid as id, row_number() over (partition by {key} order by {order}{line}) as nth
                    from {relation} as r join ({twice}) using ({key}) where {REASON} is null
                ) where nth > 1
            )"""
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
        with session.translated(self._table.name):
            delivery.look_again(sorted({*bad_rows, *bad_lines}))
            key = ", ".join(quoted(name) for name in self._table.key)
            superfluous = f"select {key} from {CHECKED} where {REASON} = {rules.duplicate}"
            self._check(delivery, rules, LOOKED, superfluous)
        self._only_window(delivery.window, LOOKED)
        self._mark_duplicates(rules, LOOKED)
        if dict(session.rows(bad.replace(CHECKED, LOOKED))) != bad_rows:
            raise SourceUnavailableError(
                f"{self._table.name}: its files changed while they were read: run again"
            )
        session.run(
            "create or replace temp table reasons (number smallint, reason_code varchar, column_name varchar)"
        )
        session.run(
            "insert into reasons values "
            + ", ".join(
                f"({n}, {literal(reason.code)}, {literal(reason.column)})"
                for n, reason in enumerate(rules.reasons, start=1)
            )
        )
        # Lines that could not be read have no number of their own; those before a row count.
        session.run(
            f"""create or replace temp view set_aside as
            with unread as (
                select
                    *,
                    line_no + 1 - row_number() over (partition by source_file order by line_no) as before
                from {BAD_LINES}
            )
            select
                {LOAD_DAY}, reason_code, column_name, {SOURCE_FILE}, {EVIDENCE} as row_json,
                {LINE_NO} + (
                    select count(*) from unread
                    where unread.source_file = {LOOKED}.{SOURCE_FILE} and unread.before <= {LOOKED}.{LINE_NO}
                ) as line_no
            from {LOOKED} join reasons on reasons.number = {LOOKED}.{REASON}
            union all by name
            select {LOAD_DAY}, reason_code, null as column_name, source_file, '{{}}' as row_json, line_no
            from unread"""
        )
        for day, code, rows in session.rows(
            f"select {LOAD_DAY}, reason_code, count(*) from set_aside group by all"
        ):
            days.setdefault(day, _Day()).quarantined[code] = rows
        quarantine.write(
            session.run(
                f"""select {LOAD_DAY}, {literal(self._table.name)} as table_name, {LOAD_DAY} as load_date,
                    reason_code, column_name, source_file, line_no, row_json
                from set_aside order by {LOAD_DAY}, source_file, line_no, reason_code, row_json"""
            ).to_arrow_reader(BATCH_ROWS)
        )

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
                yield Finding("WRONG_DAY", place, found)
            if self._lines_lost(day) or not NUMBER_REASONS.isdisjoint(days[day].quarantined):
                # What could not be read is in quarantine, and missing in our totals.
                continue
            stated = delivery.stated_sums(day)
            for name, ours in zip(measures, sums, strict=True):
                if name in stated and stated[name] != ours:
                    found = f"{name}: {stated[name]:f} stated, {ours} found."
                    yield Finding("SUM_MISMATCH", place, found)

    def _lines_lost(self, day: date) -> bool:
        return bool(
            self._session.rows(f"select 1 from {BAD_LINES} where {LOAD_DAY} = {_day(day)} limit 1")
        )

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
            if not balanced and not self._findings:
                self._findings.append(
                    Finding(
                        "UNBALANCED",
                        f"{self._table.name} {day}",
                        f"{figures.physical} at the source, {loaded} loaded, {aside} set aside.",
                    )
                )
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
        loaded = sum(row.loaded_rows for row in balances)
        aside = sum(sum(row.quarantined_rows.values()) for row in balances)
        limit = self._settings.quarantine_limit_share
        if aside > limit * (loaded + aside):
            reasons: Counter[str] = sum((day.quarantined for day in self._days.values()), Counter())
            counted = ", ".join(f"{code} {rows}" for code, rows in reasons.most_common(5))
            self._findings.append(
                Finding(
                    "QUARANTINE_LIMIT",
                    self._table.name,
                    f"{aside} of {loaded + aside} rows ({counted}), more than {limit:.1%}. See "
                    f"{self._settings.quarantine_dir / self._table.name}.",
                )
            )
        if self._findings:
            return [replace(row, loaded_rows=0, balanced=False) for row in balances]
        return balances

    def _manifests(self, landed: Mapping[date, int]) -> dict[date, dict[str, Any]]:
        return {
            day: {
                "physical_rows": figures.physical,
                "quarantined": dict(sorted(figures.quarantined.items())),
                "skipped_rows": figures.skipped,
                "sums": figures.sums,
                "source": figures.source,
            }
            for day, figures in self._days.items()
            if landed.get(day) or figures.quarantined or figures.physical
        }


def _sum_sql(column: Column) -> str:
    scale = " * 100" if column.data_type.startswith("decimal") else ""
    return f"cast(coalesce(sum({quoted(column.name)}), 0){scale} as hugeint)"


def _day(day: date) -> str:
    return f"date {literal(day)}"

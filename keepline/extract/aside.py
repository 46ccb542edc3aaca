"""What breaks the contract: written to quarantine with its reason, its file and its line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from keepline.contract import Table
from keepline.extract.delivery import BAD_LINES
from keepline.extract.landing import LOAD_DAY, Partitions
from keepline.extract.rules import EVIDENCE, FOUND_IN, LINE_NO, REASON, SOURCE_FILE, Rules
from keepline.extract.session import Session, literal, quoted

BATCH_ROWS = 122_880
# Rows of one delivery that hold the same code: a slip of one row is no code.
FREQUENT_ROWS, SHOWN_CODES, LONGEST_CODE = 10, 5, 32
# More values than this that the contract does not know are no codes: names, in a column that is not theirs.
MOST_CODES = 20
# A word in small or in capital letters, with few digits: neither "Smith" nor "Li Lei" nor 13900001001.
CODE_SHAPE = r"[a-z][a-z_-]*\d{0,3}|[A-Z][A-Z_-]*\d{0,3}"
# Rows that are sorted or grouped at once, unless a single day has more.
SPAN_ROWS = 250_000


def spans(session: Session, relation: str, event: str | None = None) -> list[str]:
    """Return conditions that cut a relation into spans of few rows, in the order of load dates.

    Args:
        session: holds the relation.
        relation: judged rows.
        event: column of event times, by whose hours a day with many rows is cut; None cuts no day.
    """
    found = []
    for first, last, rows in _ranges(session, relation, LOAD_DAY):
        days = f"{LOAD_DAY} between date '{first}' and date '{last}'"
        if event is None or rows <= SPAN_ROWS:
            found.append(days)
            continue
        # No event is last in the order of events, too.
        hour = f"coalesce(date_trunc('hour', cast({quoted(event)} as timestamp)), timestamp '9999-12-31')"
        found += [
            f"{days} and {hour} between timestamp '{begin}' and timestamp '{end}'"
            for begin, end, _ in _ranges(session, f"(from {relation} where {days})", hour)
        ]
    return found


def _ranges(session: Session, relation: str, value: str) -> list[tuple[Any, Any, int]]:
    """Return first value, last value and rows of ranges of few rows each, or of a single value."""
    found: list[tuple[Any, Any, int]] = []
    counted = f"select {value}, count(*) from {relation} group by 1 order by 1"
    for each, rows in session.rows(counted):
        if found and found[-1][2] + rows <= SPAN_ROWS:
            first, _, before = found[-1]
            found[-1] = (first, each, before + rows)
        else:
            found.append((each, each, rows))
    return found


def mark_duplicates(
    session: Session, table: Table, relation: str, rules: Rules, places: Sequence[str] = ()
) -> None:
    """Give a reason to all but one of the good rows with the same key and load date.

    The first by content stays, never the first that came.

    Args:
        session: holds the relation.
        table: the contract.
        relation: judged rows.
        rules: which reason copies get, and which those that contradict what stays.
        places: columns that tell where equal rows came from.
    """
    key = ", ".join([LOAD_DAY, *(quoted(name) for name in table.key)])
    good, several = f"select {key} from {relation} where {REASON} is null", "having count(*) > 1"
    if not any(
        session.rows(f"{good} and {span} group by all {several} limit 1")
        for span in spans(session, relation)
    ):
        return
    twice = f"{good} group by all {several}"
    order = ", ".join(quoted(column.name) for column in table.columns)
    # Equal rows share a rank: those of the first one are copies of what stays.
    session.run(
        f"""update {relation} set {REASON} = again.number from (
            select
                r.rowid as id,
                row_number() over (partition by {key} order by {", ".join([order, *places])}) as nth,
                case when rank() over (partition by {key} order by {order}) = 1
                    then {rules.duplicate} else {rules.contradiction} end as number
            from {relation} as r join ({twice}) using ({key}) where {REASON} is null
        ) as again where again.id = {relation}.rowid and again.nth > 1"""
    )


def frequent_codes(session: Session, looked: str, rules: Rules) -> dict[str, dict[str, int]]:
    """Return codes that the contract does not know and many rows hold, by column, with their rows.

    People must map them, and so they are named: only values of a list of codes, and none that could be a
    number, a name or an address. A single word may be a name: in a column that holds many values, which a
    shifted line or a wrong SELECT fills, nothing is named.
    """
    found: dict[str, dict[str, int]] = {}
    for number, reason in enumerate(rules.reasons, start=1):
        if reason.code != "UNKNOWN_CODE":
            continue
        value = quoted(reason.column)
        ((values,),) = session.rows(
            f"select count(distinct {value}) from {looked} where {REASON} = {number}"
        )
        if values > MOST_CODES:
            continue
        rows = session.rows(
            f"select cast({value} as varchar), count(*) from {looked} where {REASON} = {number}"
            f" and regexp_full_match(cast({value} as varchar), {literal(CODE_SHAPE)})"
            f" and length(cast({value} as varchar)) <= {LONGEST_CODE}"
            f" group by 1 having count(*) >= {FREQUENT_ROWS} order by 2 desc, 1 limit {SHOWN_CODES}"
        )
        if rows:
            found[reason.column] = dict(rows)
    return found


def write_quarantine(
    session: Session, table_name: str, looked: str, rules: Rules, quarantine: Partitions
) -> list[tuple[date, str, int]]:
    """Write the refused rows of a relation and the lines that are no row.

    Args:
        session: holds the relation and `BAD_LINES`.
        table_name: contract table.
        looked: rows with their reason, file and line.
        rules: what the reasons mean.
        quarantine: where they go.

    Returns:
        Load date, code and rows of what was written.
    """
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
    session.run(
        f"""create or replace temp view set_aside as
        select
            {LOAD_DAY}, reasons.reason_code, reasons.column_name, {EVIDENCE} as row_json,
            {FOUND_IN[SOURCE_FILE]} as source_file, {FOUND_IN[LINE_NO]} as line_no
        from {looked} join reasons on reasons.number = {looked}.{REASON}
        union all by name
        select {LOAD_DAY}, reason_code, null as column_name, source_file, '{{}}' as row_json, line_no
        from {BAD_LINES}"""
    )
    counts = session.rows(f"select {LOAD_DAY}, reason_code, count(*) from set_aside group by all")
    quarantine.write(
        session.run(
            f"""select {LOAD_DAY}, {literal(table_name)} as table_name, {LOAD_DAY} as load_date,
                reason_code, column_name, source_file, line_no, row_json
            from set_aside order by {LOAD_DAY}, source_file, line_no, reason_code, row_json"""
        ).to_arrow_reader(BATCH_ROWS)
    )
    return counts

"""The contract as SQL: each column cast to its type, and the first rule that a row breaks.

A row is judged column by column in the contract's order, then as a whole; `Rules.reasons[n - 1]` is what
reason number n means. Text is never rounded, trimmed or guessed: what is not plainly a value of its type
is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keepline.contract import EVENT_DATE, LOAD_DATE, Choice, Column, Table
from keepline.extract import resident_id
from keepline.extract.sql import literal, quoted

LINE_NO = "line_no"
SOURCE_FILE = "source_file"
REASON = "reason"
EVIDENCE = "row_json"
OWN_DAY = "own_day"
# What the judged rows call file and line: a line of a bill has a `line_no` of its own.
FOUND_IN = {SOURCE_FILE: "_source_file", LINE_NO: "_line_no"}
PROVENANCE = (LOAD_DATE, *FOUND_IN, *FOUND_IN.values())

INTEGERS = {
    sign + size
    for sign in ("", "U")
    for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
}
INSTANT = (
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[ T]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
    r"(Z|[+-](0\d|1[0-5])(:?[0-5]\d)?)?"
)
TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
# The offset at the end of such a text; without one it is the operator's local time.
OFFSET = r"(Z|[+-]\d\d(:?\d\d)?)$"
# Days that a record of an operator can be of, and that every reader's client can hold, in UTC and on the
# operator's clock. Instants may begin on the day before in UTC.
FIRST_DAY, LAST_DAY = "date '1900-01-01'", "date '9999-12-31'"
FIRST_INSTANT, AFTER_INSTANT = "timestamp '1899-12-31 00:00:00'", "timestamp '10000-01-01 00:00:00'"
LAST_SAFE = "timestamp '9999-12-31 00:00:00'"
# Seconds after the end of a file's day within which its rows may have become known.
KNOWN_AHEAD_S = 3600
# Types that have no text of their own: cast to text they would become DuckDB's display form.
NO_TEXT = ("BLOB", "BIT", "STRUCT", "MAP", "UNION", "INTERVAL", "VARIANT", "GEOMETRY")
# Shape of a text before it is pseudonymised, and the code of a row that does not have it. One spelling
# only, because two spellings of one number would become two pseudonyms.
FORMATS = {"msisdn": (r"\d{7,15}", "BAD_MSISDN")}
# What nobody sees in an id, or takes for another character: control and format characters (zero-width,
# direction marks, byte order mark, soft hyphen), spaces but for the plain one, fillers, variation
# selectors, full-width forms of ASCII.
UNSEEN = (
    r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\x{00A0}\x{034F}\x{115F}\x{1160}\x{1680}\x{180B}-\x{180F}\x{2000}-\x{200A}"
    r"\x{202F}\x{205F}\x{2800}\x{3000}\x{3164}\x{FE00}-\x{FE0F}\x{FF01}-\x{FF5E}\x{FFA0}\x{E0100}-\x{E01EF}]"
)
# Types whose values are never empty and present at once, as '' is: they need not become text to be missed.
NEVER_EMPTY = (*INTEGERS, "DECIMAL", "DATE", "TIMESTAMP", "BOOLEAN")
DUCKDB_TYPES = {"text": "varchar"}
# What a wrong number or date may look like and still be shown.
HARMLESS = (
    r"[+-]?\d{0,9}([.,]\d{0,9})?([eE][+-]?\d{1,4})?"
    r"|\d{1,4}[-/]\d{1,2}[-/]\d{1,4}([ T][\d:.]{1,15}([+-][\d:]{1,5}|Z)?)?"
)
# Longer runs of digits could be a phone or document number that slid into another column.
LONG_DIGITS = r"(\d{3})\d{4,}(\d{4})"


def duckdb_type(column: Column) -> str:
    """Return the DuckDB type of a contract column."""
    return DUCKDB_TYPES.get(column.data_type, column.data_type)


def has_text(kind: str) -> bool:
    """Whether a value of a DuckDB type can be read as text without inventing one."""
    return not kind.upper().startswith(NO_TEXT) and not kind.endswith("]")


@dataclass(frozen=True)
class SteadyClock:
    """Instants within which the operator's clock keeps its distance from UTC.

    Days of such instants are a sum; those of others ask the time zone's table, at thirty times the cost.

    Attributes:
        from_us: first of them, in microseconds since 1970.
        to_us: the first one after them.
        ahead_us: what the clock is ahead of UTC.
    """

    from_us: int
    to_us: int
    ahead_us: int


@dataclass(frozen=True)
class Reason:
    """Why a row is refused: a code of `ROW_REASONS` and the column that it is about."""

    code: str
    column: str


class Rules:
    """The rules of one table for rows whose columns have given types."""

    def __init__(
        self,
        table: Table,
        given: Mapping[str, str],
        *,
        load_date: str | None,
        nul_bytes: bool,
        unseen: bool,
        clock: SteadyClock | None = None,
    ) -> None:
        """Prepare the rules.

        Args:
            table: the contract.
            given: columns of the source's rows with their DuckDB types.
            load_date: column that holds the load date; None takes the local day of the load cursor.
            nul_bytes: whether a text may hold a NUL byte, which only files can.
            unseen: whether a text may hold more than visible ASCII characters.
            clock: what is known of the operator's clock; it makes days cheaper, not other ones.
        """
        self.table = table
        self.given = given
        self.load_date = load_date
        self.nul_bytes = nul_bytes
        self._clock = clock
        self.reasons: list[Reason] = []
        self._numbers = {column.name: n for n, column in enumerate(table.columns)}
        self._identifiers = [
            self._numbers[column.name]
            for column in table.identifiers
            if unseen and given.get(column.name, "").upper() == "VARCHAR"
        ]
        self._values: list[str] = []
        # What stands there of times, before it is known whether it can be.
        self._read: list[str] = []
        self._checks: list[str] = []
        self._hidden: list[str] = []
        for number, column in enumerate(table.columns):
            self._add(number, column)
        self._add_times()
        key = ",".join(table.key)
        self.duplicate = self._reason("DUP_KEY", key)
        # Two versions of one thing at one instant: nobody knows which came last. Two events with one key
        # that differ are parts of one, or two that share a name: neither is a copy of the other.
        said = "AMBIGUOUS_CHANGE" if table.is_change_feed else "KEY_CONFLICT"
        self.contradiction = self._reason(said, key)

    def checked_sql(self, relation: str, first_day: str, *, looked_for: str | None = None) -> str:
        """Return the SELECT of typed rows with `event_date`, `load_date` and the reason's number.

        Args:
            relation: the source's rows.
            first_day: load date of rows that have none.
            looked_for: keys of the rows that another good row makes superfluous, as a SELECT of the table's
                key. With it only those rows and the bad ones come back, with source_file, line_no and the
                row as JSON without personal columns: too dear to make for every row.
        """
        raws = [f"{self._raw(column)} as r{n}" for n, column in enumerate(self.table.columns)]
        given = [f"{quoted(c.name)} as g{n}" for c, n in self._given_columns()]
        event = self._local_day(self.table.event_cursor)
        own_day = self._local_day(self.table.load_cursor)
        day = (
            quoted(self.load_date)
            if self.load_date
            else f"coalesce({OWN_DAY}, date {literal(first_day)})"
        )
        texts = ", ".join(f"r{n}" for n in self._identifiers)
        unseen = f", regexp_matches(concat({texts}), {literal(UNSEEN)}) as unseen" if texts else ""
        known = {
            FOUND_IN.get(name, name): name
            for name in PROVENANCE
            if name in self.given and name not in self._numbers
        }
        kept = [f"{quoted(name)} as {quoted(called)}" for called, name in known.items()]
        extra, wanted = [], ""
        if looked_for is not None:
            key = ", ".join(f"v{self._numbers[name]}" for name in self.table.key)
            wanted = f"\nwhere {REASON} is not null or ({key}) in ({looked_for})"
            extra = [
                quoted(found) if found in known else f"null as {quoted(found)}"
                for found in FOUND_IN.values()
            ]
            extra.append(f"{self._evidence()} as {EVIDENCE}")
        return f"""
with given as (select {", ".join([*raws, *given, *kept])} from {relation}),
read as (select {", ".join(["*", *self._read])} from given),
typed as (select *, {", ".join(f"{sql} as v{n}" for n, sql in enumerate(self._values))}{unseen} from read),
dated as (select *, {event} as {EVENT_DATE}, {own_day} as {OWN_DAY} from typed),
known as (select *, {day} as load_day from dated),
judged as (select *, cast({self._judgement()} as smallint) as {REASON} from known)
select
    {", ".join(f"v{n} as {quoted(column.name)}" for n, column in enumerate(self.table.columns))},
    {EVENT_DATE},
    load_day,
    {OWN_DAY},
    {REASON}{"".join(", " + item for item in extra)}
from judged{wanted}"""

    # -- one column ------------------------------------------------------------------------------

    def _reason(self, code: str, column: str) -> int:
        self.reasons.append(Reason(code, column))
        return len(self.reasons)

    def _check(self, condition: str, code: str, column: Column) -> None:
        self._checks.append(f"when {condition} then {self._reason(code, column.name)}")

    def _judgement(self) -> str:
        """The number of the first rule that a row breaks.

        Few rows hold something unseen, and only they are asked in which column.
        """
        every = f"case {' '.join(self._checks)} end"
        if not self._hidden:
            return every
        plain = " ".join(check for check in self._checks if check not in self._hidden)
        return f"case when unseen then {every} else case {plain} end end"

    def _among(self, choice: Choice | None) -> str:
        """Whether a row is one of the chosen ones."""
        if choice is None:
            return "true"
        codes = ", ".join(literal(code) for code in choice.codes)
        return f"coalesce(r{self._numbers[choice.column]} in ({codes}), false)"

    def _given_columns(self) -> list[tuple[Column, int]]:
        return [(c, n) for n, c in enumerate(self.table.columns) if c.name in self.given]

    def _raw(self, column: Column) -> str:
        """The value as text; an empty one is no value."""
        if column.name not in self.given:
            return "cast(null as varchar)"
        return f"nullif(cast({quoted(column.name)} as varchar), '')"

    def _add(self, number: int, column: Column) -> None:
        raw, value = f"r{number}", f"v{number}"
        given = self.given.get(column.name, "VARCHAR").upper()
        if not column.nullable:
            asked = f"g{number}" if given.startswith(NEVER_EMPTY) else raw
            self._check(f"{asked} is null", "MISSING_VALUE", column)
        if self.nul_bytes and given == "VARCHAR":
            self._check(f"contains({raw}, chr(0))", "NUL_BYTE", column)
        if number in self._identifiers:
            found = f"regexp_matches({raw}, {literal(UNSEEN)})"
            self._check(found, "HIDDEN_CHARACTER", column)
            self._hidden.append(self._checks[-1])
        cast = {
            "text": self._text,
            "integer": self._integer,
            "bigint": self._integer,
            "decimal(18,2)": self._decimal,
            "date": self._date,
            "timestamp": self._timestamp,
            "boolean": self._boolean,
        }[column.data_type]
        self._values.append(cast(number, column, given))
        amount = column.data_type.startswith("decimal")
        if column.minimum is not None:
            code = "NEGATIVE_AMOUNT" if amount else "OUT_OF_RANGE"
            unless = f" and not {self._among(column.min_unless)}" if column.min_unless else ""
            self._check(f"{value} < {column.minimum}{unless}", code, column)
        if column.maximum is not None:
            self._check(f"{value} > {column.maximum}", "OUT_OF_RANGE", column)
        if column.codes:
            codes = ", ".join(literal(code) for code in column.codes)
            self._check(f"cast({value} as varchar) not in ({codes})", "UNKNOWN_CODE", column)
        if column.format in FORMATS:
            pattern, code = FORMATS[column.format]
            only = f"{self._among(column.format_if)} and " if column.format_if else ""
            self._check(f"{only}not regexp_full_match({raw}, {literal(pattern)})", code, column)

    def _text(self, number: int, column: Column, _given: str) -> str:
        raw = f"r{number}"
        if column.format != "cn_id":
            return raw
        self._check(f"{raw} is not null and v{number} is null", "BAD_ID", column)
        return f"case when {self._among(column.format_if)} then {resident_id.canonical(raw)} else {raw} end"

    def _number(self, number: int, column: Column, decimals: int) -> str:
        raw, value = f"r{number}", f"v{number}"
        plain = r"[+-]?\d+(\.\d+)?"
        lost = rf"\.\d{{{decimals}}}\d*[1-9]"
        kept = rf"[+-]?\d+(\.\d{{0,{decimals}}}0*)?"
        self._check(f"not regexp_full_match({raw}, {literal(plain)})", "BAD_NUMBER", column)
        self._check(f"regexp_matches({raw}, {literal(lost)})", "SCALE_LOST", column)
        self._check(f"{raw} is not null and {value} is null", "OVERFLOW", column)
        # Casting would round.
        guarded = f"case when regexp_full_match({raw}, {literal(kept)}) then {raw} end"
        return f"try_cast({guarded} as {duckdb_type(column)})"

    def _integer(self, number: int, column: Column, given: str) -> str:
        if given not in INTEGERS:
            return self._number(number, column, decimals=0)
        self._check(f"g{number} is not null and v{number} is null", "OVERFLOW", column)
        return f"try_cast(g{number} as {column.data_type})"

    def _decimal(self, number: int, column: Column, given: str) -> str:
        scale = int(given[:-1].split(",")[1]) if given.startswith("DECIMAL(") else None
        if given not in INTEGERS and (scale is None or scale > 2):
            return self._number(number, column, decimals=2)
        self._check(f"g{number} is not null and v{number} is null", "OVERFLOW", column)
        return f"try_cast(g{number} as decimal(18,2))"

    def _date(self, number: int, column: Column, given: str) -> str:
        raw, value = f"r{number}", f"v{number}"
        self._check(f"{raw} is not null and {value} is null", "BAD_DATE", column)
        read = f"g{number}"
        if given != "DATE":
            day = r"\d{4}-\d{2}-\d{2}"
            guarded = f"case when regexp_full_match({raw}, {literal(day)}) then {raw} end"
            read = f"try_cast({guarded} as date)"
        self._read.append(f"{read} as w{number}")
        return f"case when w{number} between {FIRST_DAY} and {LAST_DAY} then w{number} end"

    def _timestamp(self, number: int, column: Column, given: str) -> str:
        raw, read = f"r{number}", f"w{number}"
        typed = given.startswith("TIMESTAMP") or given == "DATE"
        there = f"g{number}" if typed else raw
        self._check(f"{there} is not null and v{number} is null", "BAD_DATE", column)
        # Only text of this shape may reach the cast: after a zone's name DuckDB keeps that zone for the
        # rows behind it, and a plain timestamp cast drops the offset.
        guarded = f"case when regexp_full_match({raw}, {literal(INSTANT)}) then {raw} end"
        instant = (
            f"cast(g{number} as timestamptz)" if typed else f"try_cast({guarded} as timestamptz)"
        )
        self._read.append(f"{_utc(instant)} as {read}")
        if not typed:
            moved = f"{self._wall(read)} <> try_cast({raw} as timestamp)"
            without = f"not regexp_matches({raw}, {literal(OFFSET)})"
            self._check(self._unless_steady(read, f"{moved} and {without}"), "BAD_DATE", column)
        elif given.startswith("TIMESTAMP") and "TIME ZONE" not in given:
            moved = f"{self._wall(read)} <> cast(g{number} as timestamp)"
            self._check(self._unless_steady(read, moved), "BAD_DATE", column)
        # The local day is only asked where it can be another one: it is dear.
        possible = (
            f"{read} >= {FIRST_INSTANT} and {read} < {AFTER_INSTANT}"
            f" and ({read} < {LAST_SAFE} or {self._wall(read)} < {AFTER_INSTANT})"
        )
        return f"case when {possible} then {read} end"

    def _wall(self, value: str) -> str:
        """What the operator's clock shows at an instant; a time that it skips comes out as a later one."""
        return f"cast(make_timestamptz(epoch_us({value})) as timestamp)"

    def _unless_steady(self, value: str, condition: str) -> str:
        """A condition that only a change of the operator's clock can fulfil, asked only near one."""
        if self._clock is None:
            return condition
        us = f"epoch_us({value})"
        within = f"{us} >= {self._clock.from_us} and {us} < {self._clock.to_us}"
        return f"case when {within} then false else {condition} end"

    def _boolean(self, number: int, column: Column, given: str) -> str:
        raw = f"r{number}"
        if given == "BOOLEAN":
            return f"g{number}"
        yes, no = (", ".join(literal(word) for word in words) for words in (TRUE, FALSE))
        self._check(f"{raw} is not null and v{number} is null", "BAD_BOOLEAN", column)
        return f"case when lower({raw}) in ({yes}) then true when lower({raw}) in ({no}) then false end"

    # -- the row ---------------------------------------------------------------------------------

    def _add_times(self) -> None:
        """An event cannot be known before it happens, nor be older than what the operator keeps."""
        event = self.table.column(self.table.event_cursor)
        if self.table.max_ahead_s is not None:
            for ahead in self._ahead(event, self.table.max_ahead_s):
                self._check(ahead, "FUTURE_DATE", event)
        if self.load_date:
            known = self.table.column(self.table.load_cursor)
            self._check(self._after_file(known, KNOWN_AHEAD_S), "FUTURE_DATE", known)
        if self.table.max_age_days is not None:
            self._check(f"{EVENT_DATE} < load_day - {self.table.max_age_days}", "TOO_OLD", event)

    def _after_file(self, known: Column, seconds: int) -> str:
        """Condition of a row that became known after the day of its file.

        What decides which of two versions is the newer one must not lie in the future: it would hide every
        change that is to come.
        """
        at = f"epoch_us(v{self._numbers[known.name]})"
        # The day of a file is compared first: days of instants are dear.
        since = self._day_of(f"{at} - {seconds * 1_000_000 + 1}")
        return f"{OWN_DAY} > load_day and {since} > load_day"

    def _ahead(self, event: Column, seconds: int) -> list[str]:
        """Conditions of an event that is later than its row became known, or than its file's day."""
        known = f"epoch_us(v{self._numbers[self.table.load_cursor]}) + {seconds * 1_000_000}"
        if event.data_type == "date":
            later = f"{EVENT_DATE} > {OWN_DAY} and {EVENT_DATE} > {self._day_of(known)}"
            of_file = f"{EVENT_DATE} > load_day + {1 + seconds // 86_400}"
        else:
            happened = f"epoch_us(v{self._numbers[event.name]})"
            later = f"{happened} > {known}"
            # The day of a file is compared first: days of instants are dear.
            since = self._day_of(f"{happened} - {seconds * 1_000_000 + 1}")
            of_file = f"{EVENT_DATE} > load_day and {since} > load_day"
        return [later, of_file] if self.load_date else [later]

    def _local_day(self, cursor: str) -> str:
        value = f"v{self._numbers[cursor]}"
        if self.table.column(cursor).data_type == "date":
            return value
        return self._day_of(f"epoch_us({value})")

    def _day_of(self, microseconds: str) -> str:
        """The local day of an instant."""
        asked = f"cast(make_timestamptz({microseconds}) as date)"
        if self._clock is None:
            return asked
        within = f"{microseconds} >= {self._clock.from_us} and {microseconds} < {self._clock.to_us}"
        summed = f"cast(make_timestamp({microseconds} + {self._clock.ahead_us}) as date)"
        return f"case when {within} then {summed} else {asked} end"

    def _evidence(self) -> str:
        """The row as JSON without personal columns.

        A line of a file can be shifted, so that any column may hold a name or a phone number: of a file only
        codes, numbers and dates are shown, other text as its shape (`aaa-999`); file and line number find the
        row. Rows of a database are shown as given but for long runs of digits.
        """
        shown = []
        for column, number in self._given_columns():
            if column.pii is not None:
                continue
            raw = f"r{number}"
            masked = f"regexp_replace({raw}, {literal(LONG_DIGITS)}, '\\1****\\2', 'g')"
            if SOURCE_FILE in self.given:
                shape = (
                    f"regexp_replace(regexp_replace({raw}, '\\d', '9', 'g'), '\\p{{L}}', 'a', 'g')"
                )
                codes = ", ".join(literal(code) for code in column.codes)
                fits = f"v{number} is not null or regexp_full_match({raw}, {literal(HARMLESS)})"
                if column.data_type == "text":
                    fits = f"{raw} in ({codes})" if codes else "false"
                masked = f"case when {fits} then {masked} else {shape} end"
            elif column.name in self.table.key:
                masked = raw
            shown.append(f"{quoted(column.name)} := {masked}")
        return f"cast(to_json(struct_pack({', '.join(shown)})) as varchar)"


def _utc(instant: str) -> str:
    # As `timezone('UTC', instant)`, at a twentieth of its time.
    return f"make_timestamp(epoch_us({instant}))"

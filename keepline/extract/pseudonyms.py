"""Pseudonyms in SQL: HMAC-SHA-256 (RFC 2104), each distinct value once, equal to Python's `hmac`."""

from __future__ import annotations

from keepline.contract import Table
from keepline.errors import UsageError
from keepline.extract.session import Session, quoted

BLOCK = 64
KEY_BYTES = 32


def make_pseudonyms(session: Session, table: Table, relation: str) -> None:
    """Make the temporary table `pseudonym` (given, made) for the good rows of a relation.

    There are far fewer numbers than records, so that hashing each number once and joining back is the
    fast way.
    """
    columns = [column.name for column in table.columns if column.pii == "pseudonym"]
    if not columns:
        return
    key = pseudonym_key(session).ljust(BLOCK, b"\0")
    inner, outer = bytes(b ^ 0x36 for b in key), bytes(b ^ 0x5C for b in key)
    # The pads travel as parameters: a key in the SQL text could end up in an error text.
    session.run(
        "create or replace temp table pad as select ?::blob as inner_pad, ?::blob as outer_pad",
        [inner, outer],
    )
    values = " union all ".join(
        f"select {quoted(name)} as given from {relation} where reason is null" for name in columns
    )
    session.run(
        f"""create or replace temp table pseudonym as
        select given, sha256(outer_pad || unhex(sha256(inner_pad || encode(given)))) as made
        from (select distinct given from ({values}) where given is not null), pad"""
    )
    session.run("drop table pad")


def pseudonym_key(session: Session) -> bytes:
    """Return the key.

    Raises:
        UsageError: it is not 32 bytes in hex.
    """
    try:
        key = bytes.fromhex(session.settings.pseudonym_key.get_secret_value())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise UsageError("KEEPLINE_PSEUDONYM_KEY must be 32 bytes written as 64 hex digits")
    return key


def landed_sql(table: Table, relation: str) -> str:
    """Return the SELECT of a relation's good rows as they land, plus vault columns and `load_day`.

    Rows come by load date, then event time, then key, so that the same rows always give the same file.
    """
    columns, joins = [], []
    for number, column in enumerate(table.columns):
        name = f"given.{quoted(column.name)}"
        if column.pii == "pseudonym":
            columns.append(f"p{number}.made as {quoted(column.name)}")
            joins.append(f"left join pseudonym as p{number} on p{number}.given = {name}")
        elif column.pii == "masked":
            # A short text would be given away by its ends.
            hidden = f"left({name}, 3) || '****' || right({name}, 4)"
            columns.append(
                f"case when length({name}) >= 11 then {hidden} when {name} is not null then '****' end"
                f" as {quoted(column.name)}"
            )
        else:
            columns.append(f"{name} as {quoted(column.name)}")
    order = dict.fromkeys(["load_day", table.event_cursor, *table.key])
    return f"""
select * from (
    select {", ".join(columns)}, given.event_date, given.load_day
    from {relation} as given {" ".join(joins)}
    where given.reason is null
) order by {", ".join(quoted(name) for name in order)}"""

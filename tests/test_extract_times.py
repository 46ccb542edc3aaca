"""Times that cannot be: hours that a clock skips, years that nobody's client holds, changes of the future."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extract_source import DAY, RECHARGE_HEADER, Extraction, put, recharge, recharges

from keepline import store
from keepline.commands.read import query, show_what_python_cannot_hold, write_rows
from keepline.settings import Settings
from keepline.window import Window

NEW_YORK, SANTIAGO, SHANGHAI = "America/New_York", "America/Santiago", "Asia/Shanghai"
# Zone, local time, and the instant at which it lands, or none.
CLOCKS = [
    (NEW_YORK, "2025-03-09 01:59:59", "2025-03-09 06:59:59"),
    (NEW_YORK, "2025-03-09 02:00:00", None),
    (NEW_YORK, "2025-03-09 02:30:00", None),
    (NEW_YORK, "2025-03-09T02:59:59.999999", None),
    (NEW_YORK, "2025-03-09 03:00:00", "2025-03-09 07:00:00"),
    # With its offset it is an instant, whatever the clock shows.
    (NEW_YORK, "2025-03-09 02:30:00-05:00", "2025-03-09 07:30:00"),
    (NEW_YORK, "2025-03-09 02:30:00Z", "2025-03-09 02:30:00"),
    # Of the hour that comes twice it is the second one.
    (NEW_YORK, "2025-11-02 01:30:00", "2025-11-02 06:30:00"),
    (NEW_YORK, "2025-11-02 01:30:00-04:00", "2025-11-02 05:30:00"),
    (SANTIAGO, "2025-09-07 00:00:00", None),
    (SANTIAGO, "2025-09-07 00:30:00", None),
    (SANTIAGO, "2025-09-07 01:00:00", "2025-09-07 04:00:00"),
    (SANTIAGO, "2026-04-04 23:30:00", "2026-04-05 03:30:00"),
    # Shanghai had summer time from 1986 to 1991.
    (SHANGHAI, "1986-05-04 02:30:00", None),
    (SHANGHAI, "2026-06-30 02:30:00", "2026-06-29 18:30:00"),
]
YEARS = [
    "0000-01-01 00:00:00",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01 00:00:00",
    "1899-12-30 12:00:00",
]
YEARS += ["9999-12-31T23:59:59Z", "9999-12-31 23:59:59.999999-14:00"]

LINES = """
name: demo
description: masters, a file a day
files:
  drops: {path_env: KEEPLINE_DEMO_DROPS, layout: "{date}/{file}.csv"}
tables:
  subscription:
    file: sub
    sql: |
      select
          id as subscription_id, id as customer_id, 'B' as brand_code, 'postpaid' as payment_type,
          '2020-01-01 00:00:00' as activated_at, status as status_code, nullif(ended, '') as terminated_at,
          changed as status_at, changed as updated_at
      from records
"""


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


def in_zone(extraction, zone):
    update = {"timezone": zone}
    extraction.settings = type(extraction.settings)(
        **{**extraction.settings.model_dump(), **update}
    )


@pytest.mark.parametrize(
    ("zone", "text", "instant", "typed"),
    [
        (*clock, typed)
        for clock in CLOCKS
        for typed in (False, True)
        # A typed column without a zone has no offset.
        if not typed or not re.search(r"(Z|[+-]\d\d:\d\d)$", clock[1])
    ],
)
def test_a_local_time_that_the_clock_skips_is_no_time(extraction, zone, text, instant, typed):
    # Given one recharge at a local time, as text or as a typed column without a zone
    in_zone(extraction, zone)
    form = "parquet" if typed else "csv"
    recharges(extraction, f"{{date}}/{{file}}.{form}", form)
    day = date.fromisoformat(text[:10]) - timedelta(days=text.endswith("Z"))
    path = put(extraction.drops, f"{day}/recharge.{form}", RECHARGE_HEADER, recharge(1, made=text))
    if typed:
        made = pa.array([text.replace("T", " ")]).cast(pa.timestamp("us"))
        columns = {"id": ["R1"], "line": ["S1"], "made": made, "face": ["1.00"], "paid": ["1.00"]}
        pq.write_table(pa.table(columns), path)

    # When its day is extracted
    extraction.run(day)

    # Then it lands at its instant, or is set aside
    landed = extraction.landed("recharge", "cast(recharged_at as varchar)")
    aside = extraction.quarantined("reason_code, column_name", "recharge")
    assert landed == ([] if instant is None else [(instant,)])
    assert aside == ([("BAD_DATE", "recharged_at")] if instant is None else [])


@pytest.mark.parametrize("layout", ["{file}.csv", "{date}/{file}.csv"])
@pytest.mark.parametrize("text", YEARS)
def test_a_year_that_no_client_holds_is_no_date_and_stops_nothing(extraction, text, layout):
    recharges(extraction, layout)
    name = layout.format(date=DAY, file="recharge")
    put(extraction.drops, name, RECHARGE_HEADER, *map(recharge, range(7)), recharge(8, made=text))

    result = extraction.run()["recharge"]

    assert len(extraction.landed("recharge")) == 7
    assert extraction.quarantined("reason_code", "recharge") == [("BAD_DATE",)]
    assert result.reconciliations[0].balanced


def test_the_last_day_of_the_calendar_stays_an_end_that_is_open(extraction):
    extraction.operator_file.write_text(LINES)
    put(
        extraction.drops,
        f"{DAY}/sub.csv",
        "id,status,ended,changed",
        f"S1,active,9999-12-31 23:59:59,{DAY} 09:00:00",
        f"S2,active,9999-12-31T23:59:59Z,{DAY} 09:00:00",
    )

    extraction.run()

    landed = extraction.landed("subscription", "subscription_id, cast(terminated_at as varchar)")
    assert landed == [("S1", "9999-12-31 15:59:59")]
    assert extraction.quarantined("reason_code", "subscription") == [("BAD_DATE",)]


def test_a_change_of_the_future_does_not_hide_those_that_come(extraction):
    extraction.operator_file.write_text(LINES)
    first, last = date(2026, 6, 24), date(2026, 6, 27)
    for day, rows in {
        first: ["S6,active,,2026-06-24 09:00:00", "S7,active,,2062-06-24 09:00:00"],
        last: [
            *(f"S{n},active,,2026-06-27 09:00:00" for n in range(5)),
            "S6,terminated,2026-06-27 08:00:00,2026-06-27 09:00:00",
            # Known within an hour of the end of the file's day.
            "S7,terminated,2026-06-27 08:00:00,2026-06-28 00:59:59",
            "S8,active,,2026-06-28 01:00:01",
        ],
    }.items():
        put(extraction.drops, f"{day}/sub.csv", "id,status,ended,changed", *rows)

    for day in (first, last):
        extraction.run(Window.day(day))

    assert extraction.quarantined("load_date, reason_code, column_name", "subscription") == [
        (first, "FUTURE_DATE", "updated_at"),
        (last, "FUTURE_DATE", "updated_at"),
    ]
    landed = extraction.landed("subscription", "load_date, subscription_id, status_code")
    assert [row for row in landed if row[1] > "S5"] == [
        (first, "S6", "active"),
        (last, "S6", "terminated"),
        (last, "S7", "terminated"),
    ]


@pytest.mark.parametrize(
    ("made", "code"), [("1970-01-01 00:00:00", "TOO_OLD"), ("2027-01-01 00:00:00", "FUTURE_DATE")]
)
def test_money_is_of_a_time_that_can_be(extraction, made, code):
    recharges(extraction)
    rows = [*map(recharge, range(5)), recharge(6, made=made)]
    put(extraction.drops, f"{DAY}/recharge.csv", RECHARGE_HEADER, *rows)

    extraction.run()

    assert extraction.quarantined("reason_code", "recharge") == [(code,)]


ODD = (
    "select date '10000-01-01' as a, date '0044-03-15 BC' as b, timestamptz '294276-01-01 00:00:00Z' as c,"
    " 'infinity'::timestamp as d, '24:00:00'::time as e, 'NaN'::numeric as f, 'infinity'::numeric as g,"
    " interval '170000000 years' as h, array[date '10000-01-01'] as i, null::date as j,"
    " (repeat('[', 3000) || repeat(']', 3000))::jsonb as k, date '2026-06-30' as l,"
    " 1e131000::numeric as m, 'NaN'::float8 as n, array['-Infinity'::float8] as o"
)


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_query_shows_values_that_python_cannot_hold(settings, capsys, form):
    with store.connect(settings) as connection:
        show_what_python_cannot_hold(connection)
        cursor = connection.execute(ODD)
        names = [column.name for column in cursor.description]
        write_rows(names, cursor.fetchall(), form)

    said = capsys.readouterr().out
    for text in (
        "10000-01-01",
        "0044-03-15 BC",
        "294276-01-01",
        "infinity",
        "24:00:00",
        "2026-06-30",
    ):
        assert text in said
    if form == "json":

        def refuse(word: str) -> None:
            pytest.fail(f"{word} is no JSON")

        (row,) = json.loads(said, parse_constant=refuse)
        assert (row["n"], row["o"]) == ("NaN", ["-Infinity"])


def test_a_query_of_the_command_ends_well_over_such_values(settings, capsys, monkeypatch):
    login = store.dsn(settings)
    monkeypatch.setattr(Settings, "load", lambda: settings)
    monkeypatch.setattr(store, "dsn", lambda *_: login)

    query(ODD, format_="csv")

    assert "10000-01-01" in capsys.readouterr().out

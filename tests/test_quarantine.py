"""What was set aside is told by table, day and reason, shown without personal values, and decided."""

from __future__ import annotations

import json
import os
import pwd
import re
from pathlib import Path

import duckdb
import pytest
import typer
from extract_source import DAY, Extraction, call, calls

from keepline import store
from keepline.commands import quarantine
from keepline.commands.quarantine import _windows, discard_rows
from keepline.commands.set_aside import Chosen, groups
from keepline.errors import UsageError
from keepline.settings import Settings
from keepline.window import Window


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch) -> Extraction:
    """Return an operator whose settings the command finds, with the tables of the run book."""
    monkeypatch.setattr(Settings, "load", classmethod(lambda _: settings))
    with store.connect(settings) as connection:
        ops = Path(store.__file__).parent / "release" / "sql" / "ops.sql"
        connection.execute(ops.read_bytes())
    return Extraction(settings, tmp_path, monkeypatch)


def told(capsys: pytest.CaptureFixture[str], **options: object) -> list:
    quarantine.list_(format_="json", **options)
    return json.loads(capsys.readouterr().out)


def deliver(extraction: Extraction, *bad: str) -> None:
    extraction.mediation.deliver([*calls(50), *bad])
    extraction.run()


def test_what_is_set_aside_is_told_by_table_day_and_reason(extraction, capsys):
    # given two calls with a bad date and one with a bad number
    deliver(
        extraction,
        *(call(n, start_at="yesterday") for n in (60, 61)),
        call(62, duration_s="ten"),
    )

    # then both reasons are told, with what they mean
    listed = told(capsys)
    assert [(row["reason_code"], row["rows"], row["state"]) for row in listed] == [
        ("BAD_DATE", 2, "open"),
        ("BAD_NUMBER", 1, "open"),
    ]
    assert listed[0]["meaning"] == "not a day or instant of the calendar"
    assert told(capsys, reason="bad_number")[0]["columns"] == "duration_s"
    assert told(capsys, table="cdr_sms") == []
    assert told(capsys, date="2026-01-01") == []
    quarantine.list_()
    assert (
        f"next: keepline quarantine show --table cdr_voice --date {DAY}" in capsys.readouterr().out
    )


def test_a_row_is_shown_with_file_and_line_and_no_personal_value(extraction, capsys):
    deliver(extraction, call(60, start_at="yesterday"))

    quarantine.show(table="cdr_voice", reason="BAD_DATE", limit=5, format_="json")

    shown = capsys.readouterr().out
    (row,) = json.loads(shown)
    assert (row["source_file"], row["line_no"], row["column_name"]) == (
        f"{DAY}/cdr_voice.csv.gz",
        52,
        "start_at",
    )
    assert "13900000060" not in shown
    with pytest.raises(UsageError, match="say which rows"):
        quarantine.show(limit=5)
    with pytest.raises(UsageError, match="nothing is set aside there"):
        quarantine.show(table="cdr_sms", limit=5)


def test_rows_that_are_discarded_are_not_asked_about_again_but_other_ones_are(extraction, capsys):
    deliver(extraction, call(60, start_at="yesterday"))
    chosen = Chosen("cdr_voice")

    # when nobody says why, then nothing is decided
    with pytest.raises(UsageError, match="say why"):
        discard_rows(extraction.settings, chosen, " ")
    # when somebody does
    discard_rows(extraction.settings, chosen, "test calls")

    # then it is on record and nobody is asked again
    capsys.readouterr()
    assert told(capsys) == []
    assert told(capsys, all_=True)[0]["state"] == "discarded"
    with store.connect(extraction.settings) as connection:
        rows = connection.execute(
            "select action, load_date, reason_code, rows_before, rows_after, decided_by, why"
            " from ops.quarantine_decision"
        ).fetchall()
    who = pwd.getpwuid(os.getuid()).pw_name
    assert rows == [("discard", DAY, "BAD_DATE", 1, 1, who, "test calls")]
    with pytest.raises(UsageError, match="nothing there waits"):
        discard_rows(extraction.settings, chosen, "again")

    # when the same day brings other bad rows, then those are open
    extraction.mediation.deliver([*calls(50), call(60, start_at="tomorrow, perhaps")])
    extraction.run(ticket="OPS-7")
    assert told(capsys)[0]["state"] == "open"


def test_rows_that_the_star_schema_only_notes_do_not_wait(extraction, capsys):
    settings = extraction.settings
    settings.operator_home.mkdir(parents=True)
    with duckdb.connect(str(settings.compute_path)) as connection:
        connection.execute(
            f"""
            create schema core;
            create table core.set_aside as
            select *, date '{DAY}' as event_date, date '{DAY}' as load_date from (values
                ('cdr_voice', 'key', 'DUP_EARLIER', 'V1', 1::bigint, date '{DAY}'),
                ('cdr_voice', 'subscription_id', 'EARLY_FACT', 'S9', 4::bigint, null)
            ) t (table_name, column_name, reason_code, key_text, row_cnt, first_load_date)
            """
        )

    found = {group.reason_code: (group.rows, group.state) for group in groups(settings, Chosen())}

    assert found == {"DUP_EARLIER": (1, "open"), "EARLY_FACT": (4, "noted")}
    with pytest.raises(UsageError, match="nothing there waits"):
        discard_rows(settings, Chosen(reason_code="EARLY_FACT"), "why")
    quarantine.show(reason="EARLY_FACT", limit=5)
    assert "S9" in capsys.readouterr().out


def test_days_without_gaps_are_released_as_one_window():
    first = DAY.replace(day=1)
    days = [first, first.replace(day=2), first.replace(day=5)]

    assert _windows([("a", day) for day in days] + [("b", first)]) == [
        ("a", Window(first, first.replace(day=3))),
        ("a", Window.day(first.replace(day=5))),
        ("b", Window.day(first)),
    ]


@pytest.mark.parametrize("verb", ["list", "show", "release", "discard"])
def test_every_verb_shows_an_example_of_itself(verb):
    command = typer.main.get_command(quarantine.app).commands[verb]

    assert re.search(rf"Example: keepline quarantine {verb} ", command.help)

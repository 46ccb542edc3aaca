"""The command teaches, refuses in words, and leaves with the exit code that Airflow reads."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import typer

from keepline import store
from keepline.cli import _unexpected, app
from keepline.commands.context import stage
from keepline.commands.demo import Calendar
from keepline.commands.morning import _check_day
from keepline.commands.read import write_rows
from keepline.commands.status import command as command_of
from keepline.errors import EXIT_CODES, OutOfRoomError, UsageError
from keepline.ops import StageRun, last_stages
from keepline.window import Window

VERBS = [info.name for info in app.registered_commands]


def keepline(*words: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, with a home of its own."""
    environment = {**os.environ, "KEEPLINE_HOME": str(home), "COLUMNS": "100", **variables}
    return subprocess.run(
        [sys.executable, "-m", "keepline", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example_of_itself(verb):
    command = typer.main.get_command(app).commands[verb]

    assert re.search(rf"Example: .*keepline {verb}", command.help)


def test_the_verbs_are_those_that_people_were_promised():
    assert set(VERBS) >= {
        *("run", "extract", "load", "build", "train", "score", "stage", "audit", "publish"),
        *("rollback", "status", "query", "simulate", "doctor", "backfill", "rebuild", "verify"),
    }


def test_the_exit_codes_are_in_the_help(tmp_path):
    shown = " ".join(keepline("--help", home=tmp_path).stdout.split())

    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["extract"], 64, "--date 2026-06-30"),
        (["extract", "--date", "30.06.2026"], 64, "'30.06.2026' is not a day"),
        (["load", "--from", "2026-06-02", "--to", "2026-06-02"], 64, "holds no day"),
        (["load", "--date", "2026-06-02", "--to", "2026-06-02"], 64, "say which business days"),
        (["build", "--layer", "roof", "--date", "2026-06-02"], 64, "choose one of core"),
        (["fly"], 64, "No such command"),
        (["query", "select 1", "--role", "postgres"], 64, "no reader 'postgres'"),
        (["clean"], 64, "add --yes"),
        (["backfill", "--from", "2026-06-02"], 64, "say which business days"),
        (["quarantine", "discard", "--table", "cdr_voice"], 64, "--why"),
        (["quarantine", "list", "--format", "xml"], 64, "no format 'xml'"),
    ],
)
def test_a_wrong_command_is_refused_with_the_way_out(tmp_path, words, code, message):
    done = keepline(*words, home=tmp_path)

    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_is_down_is_told_apart_from_bad_data(tmp_path):
    dsn = "host=127.0.0.1 port=9 user=keepline password=s3cret dbname=x"

    done = keepline("status", home=tmp_path, KEEPLINE_STORE_DSN=dsn)

    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout


RECORDED = (
    *("extract", "load", "check", "build core", "build features", "build marts", "train", "score"),
    *("stage", "audit", "publish", "report"),
)


@pytest.mark.parametrize("verb", RECORDED)
def test_the_command_that_status_proposes_is_one_that_parses(verb):
    run = StageRun(verb, Window.day(date(2026, 6, 30)), 0, 1.0, "failed")

    program, name, *options = command_of(run).split()

    assert program == "keepline"
    typer.main.get_command(app).commands[name].make_context(name, options)


def test_a_history_that_failed_is_gone_on_with_by_make_run():
    run = StageRun("history", Window(date(2026, 5, 1), date(2026, 6, 30)), 0, 1.0, "failed")

    assert command_of(run).startswith("make run")


def test_a_defect_is_one_sentence_and_its_frames_are_kept_without_values(tmp_path, monkeypatch):
    monkeypatch.setenv("KEEPLINE_HOME", str(tmp_path))
    number = str(138 * 10**8 + 1234)
    try:
        raise ValueError(f"row ({number})")
    except ValueError as error:
        sentence = _unexpected(error)

    (kept,) = (tmp_path / "logs").iterdir()
    assert str(kept) in sentence
    assert "test_cli.py" in kept.read_text()
    assert number not in sentence + kept.read_text()


@pytest.mark.parametrize("defect", [KeyboardInterrupt(), RuntimeError("13800001234")])
def test_a_stage_that_is_stopped_is_on_record(settings, defect):
    with store.connect(settings) as connection:
        connection.execute(
            (Path(store.__file__).parent / "release" / "sql" / "ops.sql").read_bytes()
        )

    with pytest.raises(type(defect)), stage(settings, "load", Window.day(date(2026, 6, 30))):
        raise defect

    with store.connect(settings) as connection:
        (run,) = last_stages(connection)
    assert (run.status, run.message) == ("failed", f"stopped: {type(defect).__name__}")


def test_days_are_not_left_out():
    days = Calendar(date(2026, 1, 1), date(2026, 6, 30), date(2026, 7, 30), is_synthetic=True)

    with pytest.raises(UsageError, match="from 2026-07-01 to 2026-07-04 would be left out"):
        _check_day(date(2026, 7, 5), date(2026, 7, 1), days)
    with pytest.raises(UsageError, match="no business day 2026-07-31"):
        _check_day(date(2026, 7, 31), date(2026, 7, 1), days)
    _check_day(date(2026, 7, 1), date(2026, 7, 1), days)
    _check_day(date(2026, 6, 30), date(2026, 7, 1), days)


def test_rows_are_printed_as_csv_that_a_spreadsheet_cannot_run(capsys):
    write_rows(["name", "n"], [("=1+1", 1), ("plain", -2), (None, 3)], "csv")

    printed = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert printed == [["name", "n"], ["'=1+1", "1"], ["plain", "-2"], ["", "3"]]


@pytest.mark.case(49)
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_is_disarmed_and_numbers_stay_numbers(capsys, start):
    write_rows(["name", "n"], [(f"{start}1+1", Decimal("-1.50"))], "csv")

    printed = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    assert printed[1:] == [[f"'{start}1+1", "-1.50"]]


def test_rows_are_printed_as_json_with_numbers_as_numbers(capsys):
    write_rows(["n", "share"], [(Decimal(3), Decimal("0.5"))], "json")

    assert '"n": 3' in capsys.readouterr().out


def test_a_start_imports_none_of_the_libraries_that_few_commands_need() -> None:
    """Each task of a day is a start: what all of them import is paid eleven times."""
    asked = "import sys, keepline.cli; print(*{'airflow', 'dbt', 'great_expectations', 'lightgbm', 'numpy',"
    asked += " 'pandas', 'pyarrow', 'sklearn', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "verb", ["extract", "load", "check", "build", "train", "score", "stage", "publish", "report"]
)
def test_a_stage_of_a_store_that_was_never_migrated_says_what_comes_first(verb, settings):
    variables = {
        "KEEPLINE_STORE_DSN": settings.store_dsn.get_secret_value(),
        "KEEPLINE_OPERATOR": "megaline",
    }

    ended = keepline(verb, "--date", "2026-06-30", home=settings.home, **variables)

    assert ended.returncode == 64
    assert "run `keepline migrate` first" in ended.stderr
    assert not list(settings.home.glob("*/landing/*"))


@pytest.mark.parametrize("error", ["MemoryError", "SystemError('returned NULL')"])
def test_a_thread_without_memory_ends_the_process_that_waits_for_it(error):
    code = (
        "import threading\n"
        "from keepline import cli\n"
        "threading.excepthook = cli._end_with_thread\n"
        "def die():\n"
        f"    raise {error}\n"
        "threading.Thread(target=die).start()\n"
        "threading.Event().wait()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == OutOfRoomError.exit_code
    assert "the memory is full" in done.stderr


def test_a_process_whose_memory_ran_out_keeps_its_exit_code():
    code = (
        "import atexit, os\n"
        "from keepline import cli, room\n"
        # What a library that lost an allocation does while the interpreter ends.
        "atexit.register(os.abort)\n"
        "room.memory_ran_out.set()\n"
        "cli.main()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, "no-such-verb"], capture_output=True, text=True, check=False
    )

    assert done.returncode == UsageError.exit_code
    assert "no-such-verb" in done.stderr

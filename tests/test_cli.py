"""The command teaches, refuses in words, and leaves with the exit code that Airflow reads."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import typer

from keepline.cli import app
from keepline.commands.read import write_rows
from keepline.errors import EXIT_CODES

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
        *("rollback", "status", "query", "simulate", "doctor"),
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


def test_rows_are_printed_as_csv_that_a_spreadsheet_cannot_run(capsys):
    write_rows(["name", "n"], [("=1+1", 1), ("plain", -2), (None, 3)], "csv")

    printed = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert printed == [["name", "n"], ["'=1+1", "1"], ["plain", "-2"], ["", "3"]]


def test_rows_are_printed_as_json_with_numbers_as_numbers(capsys):
    write_rows(["n", "share"], [(Decimal(3), Decimal("0.5"))], "json")

    assert '"n": 3' in capsys.readouterr().out

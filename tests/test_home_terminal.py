"""Texts of others are shown: no terminal obeys them, and no spreadsheet runs them."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from decimal import Decimal

import psycopg
import pytest
from conftest import SECRETS
from rich.table import Table

from keepline import store
from keepline.commands.read import write_rows
from keepline.progress import SafeConsole, harmless

# Clears the screen; names the window; the same in one character; writes backwards from here;
# begins a line.
ATTACKS = ("\x1b[2J", "\x1b]0;owned\x07", "\x9b2J", "\u202e", "\u2028")
# Where a cell can begin for a spreadsheet: a separator or a quote, blanks after it, what it would run.
WIDE = "\uff1d\uff0b\uff0d\uff20\u2212\ufe62\ufe63\ufe66"
BEGINS = re.compile(rf"""(?:^|[,;|\t\r\n"])[ \t\r\n]*(?=[=+\-@{WIDE}])""")


@pytest.fixture
def reader(settings) -> dict[str, str]:
    """Return the variables of a command whose store lets readers in."""
    with store.connect(settings, autocommit=True) as connection:
        word = (
            "alter"
            if connection.execute("select 1 from pg_roles where rolname = 'bi_reader'").fetchone()
            else "create"
        )
        connection.execute(
            psycopg.sql.SQL(f"{word} role bi_reader login password {{}}").format(
                SECRETS["bi_reader_password"]
            )
        )
    own = {f"KEEPLINE_{name.upper()}": secret for name, secret in SECRETS.items()}
    own["KEEPLINE_STORE_DSN"] = settings.store_dsn.get_secret_value()
    return {**os.environ, **own, "KEEPLINE_HOME": str(settings.home), "TERM": "xterm-256color"}


def on_a_terminal(variables: dict[str, str], *words: str) -> str:
    """Run a command on a terminal of its own and return what the terminal got."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "keepline", *words],
        env=variables,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    got = b""
    try:
        while more := os.read(ours, 65536):
            got += more
    except OSError:  # the other side has left
        pass
    finally:
        os.close(ours)
        process.wait()
    return got.decode()


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_no_value_or_name_of_a_query_reaches_a_terminal_as_a_command(reader, format_):
    values = ", ".join(f"'{attack}seen' as \"n{attack}\"" for attack in ATTACKS)

    got = on_a_terminal(reader, "query", f"select {values}", "--format", format_)

    assert got.count("seen") == len(ATTACKS)
    assert not [attack for attack in ATTACKS[:3] if attack in got]
    assert (ATTACKS[3] in got) == (format_ == "json")


def test_no_message_reaches_a_terminal_as_a_command(reader):
    for attack in ATTACKS:
        got = on_a_terminal(reader, "query", f'select "{attack}seen"')

        assert "seen" in got
        assert attack not in got


def test_colours_of_keepline_stay():
    console = SafeConsole(file=io.StringIO(), force_terminal=True, width=60, highlight=False)
    table = Table("name", "n", box=None, header_style="bold")
    table.add_row("\x1b[31mred", "1")
    console.print(table)

    got = console.file.getvalue()
    assert "\x1b[1m" in got
    assert "\x1b[31m" not in got


def test_a_table_keeps_its_columns(capsys):
    write_rows(["name", "n"], [("\x1b[31mred", 1), ("plain", 2)], "table")

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].index("1", 6) == lines[2].index("2")


def test_all_that_terminals_obey_is_taken_out_and_nothing_else():
    kept = (
        "".join(map(chr, [9, 10, *range(32, 127), *range(0xA0, 0x100)]))
        + "\u738b\u5c0f\uff0c\uff21 \U0001f600"
    )

    assert harmless(kept) == kept
    assert harmless("".join(map(chr, [*range(9), *range(11, 32), *range(127, 160)]))) == "?" * 63


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", *WIDE])
@pytest.mark.parametrize(
    "before",
    [
        "",
        " ",
        "\t",
        "\r",
        "\n",
        "\r\n",
        "a,",
        "a;",
        "a|",
        "a\t",
        'a"',
        'a","',
        "a; ",
        "a\n",
        "\ufeff",
    ],
)
def test_csv_disarms_a_formula_wherever_a_cell_can_begin(capsys, sign, before):
    given = f"{before}{sign}cmd|' /C calc'!A0"

    write_rows([given], [(given,)], "csv")

    printed = capsys.readouterr().out
    cells = [cell for row in csv.reader(io.StringIO(printed, newline="")) for cell in row]
    assert len(cells) == 2
    for cell in cells:
        assert not BEGINS.search(cell.removeprefix("\ufeff")), cell
        # Nothing else was changed: without the quotes it is what it was.
        assert cell.replace("'", "") == given.replace("'", "")
    # Read with another separator it is no formula either.
    for row in csv.reader(io.StringIO(printed, newline=""), delimiter=";"):
        assert not [cell for cell in row if cell.lstrip("\ufeff \t\r\n").startswith(sign)]


@pytest.mark.parametrize("text", ["2026-06-30", "a-b", "1+1=2", "x@example.com", "GD01", "-", ""])
def test_csv_leaves_other_text_as_it_is(capsys, text):
    write_rows(["t", "d", "n"], [(text, Decimal("-1.50"), -2)], "csv")

    cells = capsys.readouterr().out.splitlines()[1].split(",")
    assert cells == ["'-" if text == "-" else text, "-1.50", "-2"]

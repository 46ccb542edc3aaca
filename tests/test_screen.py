"""The closing screen: what a person reads when the run is over, on a terminal or in a pipe."""

from __future__ import annotations

import io
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from report_store import JUNE_30, Morning, check, realistic, risk
from rich.cells import cell_len
from rich.console import Console

from keepline import ops
from keepline.errors import UsageError
from keepline.screen import EXAMPLE_QUERY, Screen, summary
from keepline.settings import Settings
from keepline.window import Window

HISTORY = Window(date(2025, 5, 27), JUNE_30)


def printed(screen: Screen, width: int = 100, *, soft_wrap: bool = True) -> str:
    """Return what a pipe gets; the command's own console never wraps by itself."""
    console = Console(file=io.StringIO(), width=width, highlight=False, soft_wrap=soft_wrap)
    console.print(screen)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row(text: str, start: str) -> list[str]:
    """Return the words of the line that begins with some."""
    found = [line for line in text.splitlines() if line.strip().startswith(start)]
    assert len(found) == 1, f"{len(found)} lines begin with {start!r}:\n{text}"
    return found[0].split()


def part(text: str, title: str) -> str:
    """Return the lines below a title."""
    lines = text.splitlines()
    first = lines.index(title) + 1
    return "\n".join(lines[first : lines.index("", first)])


def test_stages_are_told_with_their_speed(settings: Settings) -> None:
    # given a history, the training on its last day, and a day whose extraction failed once
    day, eve = Window.day(JUNE_30), Window.day(JUNE_30 - timedelta(days=1))
    morning = Morning(settings)
    morning.stages = [
        ops.StageRun("extract", HISTORY, 1_000_000, 4.0, "done"),
        ops.StageRun("build", HISTORY, 500_000, 2.0, "done", "core: 31 models, 110 tests"),
        ops.StageRun("build", HISTORY, 300, 1.0, "done", "marts: 5 models, 9 tests"),
        ops.StageRun("train", eve, 900, 3.0, "done", "churn-1 promoted"),
        ops.StageRun("history", HISTORY, 1_000_000, 70.0, "done"),
        ops.StageRun("extract", day, 0, 9.0, "failed", "the source went away"),
        ops.StageRun("extract", day, 8_000, 0.5, "done"),
        ops.StageRun("publish", day, 0, 0.02, "done"),
    ]
    release_id = morning.publish()

    # when
    first_run = printed(summary(settings, release_id, [HISTORY]))
    second_run = printed(summary(settings, release_id))

    # then
    ran = part(first_run, "What ran")
    assert ran.index("2025-05-27 to 2026-06-29") < ran.index("train") < ran.index("in all")
    assert ran.index("in all") < ran.index("publish")
    assert row(ran, "build core") == ["build", "core", "500,000", "2.0", "s", "250,000"]
    assert row(ran, "train") == ["train", "900", "3.0", "s", "300"]
    assert row(ran, "in all") == ["in", "all", "1,000,000", "1", "min", "10", "s", "14,286"]
    assert "failed" not in ran
    assert row(part(second_run, "What ran"), "extract") == [
        "extract",
        "8,000",
        "0.5",
        "s",
        "16,000",
    ]
    assert "train" not in part(second_run, "What ran")


def test_stage_that_failed_last_says_so(settings: Settings) -> None:
    morning = Morning(settings)
    morning.stages = [ops.StageRun("report", Window.day(JUNE_30), 0, 1.0, "failed", "no disk")]

    text = printed(summary(settings, morning.publish()))

    assert row(part(text, "What ran"), "report")[-1] == "failed"


def test_quarantine_and_gates_are_told(settings: Settings) -> None:
    # given
    morning = Morning(settings)
    morning.balances = [
        ops.Reconciliation(
            "cdr_sms", JUNE_30, 20, 8, {f"R{n}": n + 1 for n in range(4)}, 2, {}, balanced=True
        ),
        ops.Reconciliation("recharge", JUNE_30, 5, 4, {}, 0, {}, balanced=False),
    ]
    morning.checks = [
        check("recharge", "volume is as usual"),
        check("mart.rfm_month", "each line once a month [a-z]", success=False),
    ]

    # when
    text = printed(summary(settings, morning.publish()))

    # then
    aside = part(text, "What was set aside")
    assert "25 rows arrived: 12 loaded, 10 set aside, 2 left out; 1 batch does NOT add up." in aside
    assert row(aside, "R3") == ["R3", "cdr_sms", "4"]
    gates = part(text, "What the gates said")
    assert "landed: 1 of 1 check passed" in gates
    assert "leaving: 0 of 1 check passed" in gates
    assert "failed, critical: mart.rfm_month: each line once a month [a-z] (3 rows" in gates


def test_tiers_and_the_lines_to_call_are_told(settings: Settings) -> None:
    # given
    morning = Morning(settings)
    morning.rows["dim_brand"] = [
        {"brand_key": "b", "brand_code": "B1", "brand_name": "Star [bold]", "is_current": True}
    ]
    morning.rows["mart_churn_risk_daily"] = [
        *(risk(f"s{n}", "HIGH", msisdn_masked=f"138****{n:04d}", clv_12m_fen=200_000,
               expected_profit_of_contact_fen=n, reason_1_text="First.", reason_2_text="Second.",
               reason_3_text="Third.")
          for n in range(11)),
        risk("m", "MEDIUM", msisdn_masked="139****0000", expected_profit_of_contact_fen=1_000_000),
        risk("n", "NEW"),
        risk("b", "HIGH", eligible_flag=False, ineligible_reason="SUSPENDED", clv_12m_fen=200_000),
        risk("f", "SILENT", ineligible_reason="SILENT"),
    ]  # fmt: skip

    # when
    text = printed(summary(settings, morning.publish()))

    # then
    tiers = part(text, "Who may leave")
    assert row(tiers, "HIGH ") == ["HIGH", "12", "80.0", "%", "¥24,000", "¥12,000", "11"]
    assert row(tiers, "MEDIUM") == ["MEDIUM", "1", "6.7", "%", "¥1,000", "¥200", "1"]
    assert row(tiers, "NEW") == ["NEW", "1", "6.7", "%", "-", "-", "-"]
    assert row(tiers, "LOW") == ["LOW", "0", "0.0", "%", "-", "-", "-"]
    assert row(tiers, "SILENT ") == ["SILENT", "1", "6.7", "%", "-", "-", "-"]
    assert row(tiers, "all") == ["all", "15", "100.0", "%", "¥25,000", "¥12,200", "12"]
    assert "HIGH: 1 more may not be contacted (1 suspended)." in tiers
    assert "SILENT: 1 line beyond reach, silent for too long. No risk is told" in tiers
    call = part(text, "Call first")
    assert [word for word in call.split() if "****" in word] == [
        f"138****{n:04d}" for n in range(10, 0, -1)
    ]
    assert call.count("- First.") == call.count("- Third.") == 10
    assert "Star [bold]" in call


def test_bi_tool_can_connect_as_the_screen_says(settings: Settings) -> None:
    # given a password in its file, as the embedded store has it
    release_id = Morning(settings).publish()
    file = settings.home / "secrets" / "keepline_bi_reader_password"
    file.parent.mkdir(parents=True)
    file.write_text(settings.bi_reader_password.get_secret_value())

    # when
    text = printed(summary(settings, release_id), width=80)

    # then the lines to copy are whole, and they work
    connect = part(text, "Connect a BI tool")
    url = row(connect, "URL")[1]
    assert row(connect, "password") == ["password", "in", "the", "file", str(file)]
    assert f'PGPASSWORD=$(cat {file}) psql "{url}"' in connect
    with psycopg.connect(url, password=Path(file).read_text()) as connection:
        found = connection.execute("select count(*) from mart.churn_risk_latest").fetchone()
    assert found == (0,)
    assert settings.bi_reader_password.get_secret_value() not in text


def test_password_that_is_set_elsewhere_is_named_by_its_variable(settings: Settings) -> None:
    file = settings.home / "secrets" / "keepline_bi_reader_password"
    file.parent.mkdir(parents=True)
    file.write_text("an older one")

    text = printed(summary(settings, Morning(settings).publish()))

    assert "the variable KEEPLINE_BI_READER_PASSWORD" in text
    assert str(file) not in text


def test_screen_of_nothing_is_still_a_screen(settings: Settings) -> None:
    release_id = Morning(settings).publish()

    text = printed(summary(settings, release_id, report=Path("/reports/1/index.html")))

    for sentence in (
        f"Release {release_id} is published: demo, business date 2026-06-30",
        "No stage is on record.",
        "No arrival is on record for 2026-06-30.",
        "No check is on record: do not rely on this release.",
        "Nobody was scored.",
        "Nobody today.",
        "file:///reports/1/index.html",
    ):
        assert sentence in text
    assert "file://" not in printed(summary(settings, release_id))
    with pytest.raises(UsageError, match="there is no release 99"):
        summary(settings, 99)


@pytest.mark.parametrize(("width", "soft_wrap"), [(100, True), (80, True), (100, False)])
def test_screen_fits_its_width(settings: Settings, width: int, soft_wrap: bool) -> None:
    # given a morning like the demo's
    release_id = realistic(settings, lines=300).publish()

    # when
    text = printed(summary(settings, release_id, [HISTORY]), width, soft_wrap=soft_wrap)

    # then nothing but lines to copy is wider, and a pipe gets no colours
    to_copy = ("URL", "password", "psql", "read", "ask", "go on", "watch", "stop")
    wide = [line for line in text.splitlines() if cell_len(line) > width]
    assert [line for line in wide if not line.strip().startswith(to_copy)] == []
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.endswith(" ")]
    # and a line to copy is whole where the console, as the command's own, does not crop
    if soft_wrap:
        assert f'keepline query "{EXAMPLE_QUERY}"' in text

"""Days of instants: the sum taken where the operator's clock is steady says what the zone's table says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from keepline.contract import load_contract
from keepline.extract.operator import load_operator
from keepline.extract.rules import Rules
from keepline.extract.session import Session
from keepline.settings import Settings
from keepline.window import Window

WINDOW = Window(date(2026, 5, 1), date(2026, 5, 4))


def session(zone: str, home: Path) -> Session:
    settings = Settings(home=home, timezone=zone)
    return Session(settings, load_operator(settings.operator_file, load_contract(settings.dbt_dir)))


def test_a_clock_that_is_changed_within_reach_of_the_window_is_not_steady(tmp_path: Path) -> None:
    with session("Europe/Berlin", tmp_path) as berlin:
        assert berlin.steady_clock(Window(date(2026, 3, 1), date(2026, 3, 29))) is None
        found = berlin.steady_clock(WINDOW)
    assert found is not None
    assert found.ahead_us == 2 * 3_600_000_000


@pytest.mark.parametrize(
    "zone", ["Asia/Shanghai", "Asia/Kathmandu", "Europe/Berlin", "America/Bogota"]
)
def test_days_inside_and_outside_the_steady_time_are_those_of_the_zone(
    zone: str, tmp_path: Path
) -> None:
    contract = load_contract(Settings().dbt_dir)
    given = {
        "payment_id": "VARCHAR",
        "account_id": "VARCHAR",
        "paid_at": "TIMESTAMP WITH TIME ZONE",
    }
    # Around each midnight of a year and more: before, within and after the window.
    first = datetime(2025, 12, 1, tzinfo=ZoneInfo(zone))
    midnights = [(first + timedelta(days=n)).astimezone(UTC) for n in range(400)]
    instants = [at + timedelta(seconds=s) for at in midnights for s in (-1, 0, 1)]
    with session(zone, tmp_path) as duck:
        duck.run(
            "create temp table staged as select 'P' || n as payment_id, 'A1' as account_id,"
            " make_timestamptz(us) as paid_at from (select unnest(?) as us, generate_subscripts(?, 1) as n)",
            [[round(at.timestamp()) * 1_000_000 for at in instants]] * 2,
        )
        clock = duck.steady_clock(WINDOW)
        assert clock is not None
        rules = Rules(
            contract["payment"], given, load_date=None, nul_bytes=False, unseen=True, clock=clock
        )
        days = duck.rows(
            f"select own_day, event_date from ({rules.checked_sql('staged', '2026-05-01')}) order by paid_at"
        )
    expected = [at.astimezone(ZoneInfo(zone)).date() for at in instants]
    assert days == [(day, day) for day in expected]

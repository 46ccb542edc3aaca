"""A home of an older version goes on: its store, its compute and its landing are brought to this one.

`tests/older/de1db7c.tar.xz` was made by commit de1db7c with the keys and passwords of `conftest.SECRETS`:
`keepline simulate --subscribers 50 --days 35 --mornings 3`, then `keepline run`. It holds the operator's
folder without its reports and drops, and the store as `pg_dump --inserts` tells it. Nobody in it exists.
"""

from __future__ import annotations

import tarfile
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import SECRETS
from psycopg import sql

from keepline import store
from keepline.commands import modelling, pipeline, status, verify
from keepline.settings import Settings
from keepline.window import Window

KEPT = Path(__file__).parent / "older" / "de1db7c.tar.xz"
DAY = date(2026, 6, 30)
READ = (
    "select subscription_id, risk_tier, tier_rule_id from mart.churn_risk_latest order by 1",
    "select subscription_id, month_start, closing_flag, churn_flag"
    " from star.fct_subscription_month order by 1, 2",
)


@pytest.fixture
def older(settings: Settings) -> Settings:
    """Return the settings of the older home, restored."""
    settings.operator_home.parent.mkdir(parents=True)
    with tarfile.open(KEPT) as archive:
        archive.extractall(settings.home, filter="data")
    dump = settings.home / "store.sql"
    with psycopg.connect(settings.store_dsn.get_secret_value(), autocommit=True) as connection:
        # Logins are of the server and in no dump of a database.
        for role in ("bi_reader", "marketing"):
            found = connection.execute("select from pg_roles where rolname = %s", [role])
            if found.fetchone() is None:
                login = sql.SQL("create role {} login password {}")
                password = sql.Literal(SECRETS[f"{role}_password"])
                connection.execute(login.format(sql.Identifier(role), password))
        connection.execute(dump.read_bytes())
    dump.unlink()
    return settings


def read(settings: Settings) -> list[list[tuple[Any, ...]]]:
    """Return what BI reads."""
    with psycopg.connect(
        settings.store_dsn.get_secret_value(),
        user="bi_reader",
        password=SECRETS["bi_reader_password"],
    ) as connection:
        return [connection.execute(query).fetchall() for query in READ]


def test_its_release_stays_readable(older, monkeypatch, capsys):
    pipeline.migrate(older)

    risk, months = read(older)
    assert len(risk) == 51
    assert len(months) > 51
    monkeypatch.setattr(Settings, "load", classmethod(lambda _: older))
    status.status()
    assert f"readers see release 1, business day {DAY}" in capsys.readouterr().out


@pytest.mark.deep
def test_its_last_day_is_built_and_published_again(older):
    pipeline.migrate(older)
    before = read(older)
    day = Window.day(DAY)

    # Nothing is extracted again: landing is of before some columns.
    pipeline.load(older, day)
    pipeline.build(older, "core", day)
    pipeline.build(older, "features", day)
    modelling.score(older, DAY)
    pipeline.build(older, "marts", day)
    pipeline.stage_release(older, day)
    pipeline.audit(older, day)
    pipeline.publish(older, day)

    assert [len(rows) for rows in read(older)] == [len(rows) for rows in before]
    assert not [line for hop in verify.recount(older, day) for line in hop.differences]
    with store.connect(older) as connection:
        assert store.scalar(connection, "select count(*) from ctl.release") == 2

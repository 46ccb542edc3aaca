"""A simulated operator is reproducible, and a run replaces the one before, whole or not at all."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import psycopg
import pytest
from simulated import PASSWORD, START

from keepline.embedded import EmbeddedPostgres
from keepline.simulator import generate, simulate
from keepline.simulator.charges import Charges, tax_percents
from keepline.simulator.course import Course
from keepline.simulator.drops import Drop, write_drop
from keepline.simulator.truth import write_truth

# -- reproducible ---------------------------------------------------------------------------------


def days_of(subscribers: int, days: int, seed: int) -> list:
    return list(generate(subscribers=subscribers, days=days, seed=seed, start=START))


def test_the_same_seed_gives_the_same_rows_and_the_same_bytes():
    assert days_of(40, 12, seed=3) == days_of(40, 12, seed=3)


def test_another_seed_gives_another_operator():
    assert days_of(40, 2, seed=3) != days_of(40, 2, seed=4)


def test_the_history_does_not_depend_on_how_many_mornings_follow():
    short, long = days_of(60, 45, seed=3), days_of(60, 70, seed=3)

    assert short == long[:45]


def test_the_truth_of_a_longer_run_begins_with_the_truth_of_a_shorter_one(tmp_path: Path):
    for name, days in (("short", 40), ("long", 60)):
        course = Course(300, 3, START)
        for _ in course.days(days):
            pass
        write_truth(tmp_path / name, course, [])

    for truth, day in (("churn_truth", "leave_date"), ("stay_truth", "ended_date")):
        over = f"where {day} < date '{START + timedelta(days=40)}'"
        read = f"select * from read_parquet('{{}}/{truth}.parquet') "
        short = duckdb.sql(read.format(tmp_path / "short")).fetchall()
        long = duckdb.sql(read.format(tmp_path / "long") + over).fetchall()
        assert short
        assert short == long


def test_a_plan_that_a_short_run_does_not_see_the_end_of_is_no_loss_of_it(tmp_path: Path):
    course = Course(150, 3, START)
    for _ in course.days(40):
        pass
    write_truth(tmp_path, course, [])

    last = START + timedelta(days=39)
    read = "select max({}), min({}), count(*) from read_parquet('{}/{}.parquet')"
    lost = duckdb.sql(read.format("leave_date", "leave_date", tmp_path, "churn_truth")).fetchone()
    open_ = duckdb.sql(
        read.format("planned_date", "planned_date", tmp_path, "unfinished_truth")
    ).fetchone()
    assert START <= lost[1] <= lost[0] <= last < open_[1]
    assert open_[2] > 0


def test_a_drop_is_the_same_file_whenever_it_is_written(tmp_path: Path):
    drop = Drop("cdr_sms", b"usage_id\nM1\n", 1, {"charge_fen": 0})

    write_drop(tmp_path / "a", START, [drop])
    write_drop(tmp_path / "b", START, [drop])

    for name in ("cdr_sms.csv.gz", "manifest.json"):
        first, second = (tmp_path / k / str(START) / name for k in "ab")
        assert first.read_bytes() == second.read_bytes()


# -- running it again -----------------------------------------------------------------------------


def test_a_second_run_replaces_the_first_and_a_failed_one_leaves_the_databases(
    postgres: EmbeddedPostgres, tmp_path: Path
):
    postgres.ensure_database("again")
    dsn = postgres.dsn("again")

    def run(seed: int, days: int, stop_at: int = 0) -> None:
        def progress(_what: str, done: int, _total: int) -> None:
            if done == stop_at:
                raise KeyboardInterrupt

        simulate(
            dsn,
            tmp_path / "drops",
            tmp_path / "truth",
            subscribers=30,
            days=days,
            seed=seed,
            start=START,
            mornings=1,
            progress=progress,
            extractor_password=PASSWORD,
        )

    def recharges() -> list[tuple]:
        with psycopg.connect(dsn) as connection:
            return connection.execute("select * from ocs.recharge order by 1").fetchall()

    run(seed=1, days=9)
    first = recharges()
    run(seed=2, days=6)
    second = recharges()
    with pytest.raises(KeyboardInterrupt):
        run(seed=3, days=9, stop_at=4)

    assert first != second
    assert recharges() == second
    run(seed=2, days=6)
    assert recharges() == second
    assert len(list((tmp_path / "drops").iterdir())) == 7


def test_a_size_that_makes_no_sense_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="subscribers=3"):
        simulate(
            "host=nowhere",
            tmp_path,
            tmp_path,
            subscribers=3,
            days=10,
            seed=1,
            start=START,
            extractor_password=PASSWORD,
        )


# -- tax ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "percents"),
    [(date(2025, 12, 31), [9, 6, 6, 6, 6, 6]), (date(2026, 1, 1), [9, 9, 9, 9, 9, 6])],
)
def test_the_tax_is_that_of_the_service_on_the_day_of_the_bill(day: date, percents: list[int]):
    """Calls, messages, data, the operator's own content, a plan's fee, content of a partner."""
    usage, partner = np.array([0, 1, 2, 3, -1, 3]), np.array([-1, -1, -1, -1, -1, 0])
    n = np.arange(6)
    lines = Charges(n, n, n, usage, partner, np.full(6, 1000))

    assert tax_percents(lines, day).tolist() == percents

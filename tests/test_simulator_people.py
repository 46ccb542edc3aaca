"""People of the simulated operator leave as often as real ones, for reasons that show, or do not."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest
from simulated import START

from keepline.simulator.course import Course
from keepline.simulator.truth import write_truth


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Course, duckdb.DuckDBPyConnection]:
    """A year of a bigger operator: its truth, and the events of each line and day."""
    course = Course(1500, 11, START)
    usage: list[tuple] = []
    for day in course.days(365):
        for name, made in day.records.items():
            direction = made.rows["direction.0"] if name != "cdr_data" else None
            lines = (
                made.rows["subscription_id.0"]
                if direction is None
                else (made.rows["subscription_id.0"][direction == b"out"])
            )
            usage += [(day.date, line) for line in lines.tolist()]
    folder = tmp_path_factory.mktemp("lives")
    write_truth(folder, course, [])
    connection = duckdb.connect()
    table = pa.table({"day": [d for d, _ in usage], "line": [line.decode() for _, line in usage]})
    connection.register("events", table)
    connection.execute(
        "create table usage as select line, day, count(*) as events from events group by all"
    )
    for name in ("churn_truth", "stay_truth", "base_truth"):
        connection.execute(f"create table {name} as select * from '{folder}/{name}.parquet'")
    return course, connection


def test_two_to_four_in_a_hundred_leave_each_month(lives: tuple[Course, duckdb.DuckDBPyConnection]):
    course, _ = lives

    assert 0.02 < course.monthly_churn(365) < 0.04
    for month in range(12):
        days = slice(30 * month, 30 * month + 30)
        rate = sum(course.left[days]) / (sum(course.lines_in_use[days]) / 30)
        assert 0.012 < rate < 0.05, month
    assert 0.85 < course.lines_in_use[-1] / 1500 < 1.2


def test_every_cause_and_every_way_to_leave_occurs(lives: tuple[Course, duckdb.DuckDBPyConnection]):
    _, db = lives
    causes = dict(db.sql("select cause, count(*) from churn_truth group by all").fetchall())
    kinds = dict(db.sql("select kind, count(*) from churn_truth group by all").fetchall())

    assert len(causes) == 8
    assert len(kinds) == 5
    assert kinds["silent"] > kinds["termination"] > kinds["administrative"]
    assert max(causes.values()) < 0.4 * sum(causes.values())


def test_who_fades_away_uses_less_in_the_weeks_before(
    lives: tuple[Course, duckdb.DuckDBPyConnection],
):
    _, db = lives

    def ratio(where: str) -> float:
        """Outgoing events of the last 14 days to those of days 61 to 90 before leaving, per day."""
        recent, before = db.sql(
            f"""
            select
                sum(events) filter (day >= leave_date - 14) / 14,
                sum(events) filter (day < leave_date - 60) / 30
            from churn_truth
            join base_truth using (subscription_id)
            join usage on line = subscription_id and day >= leave_date - 90 and day < leave_date
            where leave_date between date '2026-02-15' and date '2026-10-25'
            and activated_date < leave_date - 90 and {where}
            """
        ).fetchone()
        return recent / before

    fading = ratio("cause = 'declining_usage' and shows_signs")
    pulled = ratio("cause = 'competitor_pull' and shows_signs")
    sudden = ratio("cause = 'no_sign'")
    assert fading < 0.5
    assert pulled < 0.7
    assert 0.75 < sudden < 1.3


def test_some_show_the_signs_and_stay(lives: tuple[Course, duckdb.DuckDBPyConnection]):
    _, db = lives
    leave, unseen, stay = db.sql(
        """select count(*), count(*) filter (not shows_signs), (select count(*) from stay_truth)
        from churn_truth"""
    ).fetchone()

    assert 0.15 < stay / leave < 0.8
    assert 0.05 < unseen / leave < 0.3

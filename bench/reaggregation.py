"""Re-aggregation of one day against the full one: the fact of daily usage, one window and from nothing.

    python -m bench.reaggregation               5 million records of 90 days, 3 rounds
    python -m bench.reaggregation --rows 30000000

Both are the same dbt model, each time in a process of its own; the seconds are those that dbt counts for the
model. What an invocation of dbt costs besides is the same for both: that is the row of the fixed overhead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from functools import partial
from typing import Any

from .alone import Clock, run_alone, serve
from .row import Row, contest, environment_of, print_rows, settings_for, workplace

AIM = 1 / 20
MODEL = "fct_usage_daily"
FIRST_DAY, DAYS = date(2026, 1, 1), 90
# Records of one kind for a line and a day, as the simulator's are in the mean.
SHARES = {"cdr_voice": 0.5, "cdr_sms": 0.1, "cdr_data": 0.4}
SELECTS = {
    "cdr_voice": """
        'V' || n as usage_id, 'S' || hash(n) % {lines} as subscription_id,
        'N' || hash(n + 1) % {lines} as other_number_hash,
        cast(130 + hash(n + 2) % 60 as varchar) as other_prefix,
        case when n % 2 = 0 then 'out' else 'in' end as direction, utc as start_at,
        cast(hash(n + 3) % 300 as integer) as duration_s, 'home' as roam_type, 'local' as call_type,
        'completed' as status, utc + interval 2 hours as received_at,
        cast(hash(n) % 100 as decimal(18, 2)) / 100 as charge_amt""",
    "cdr_sms": """
        'M' || n as usage_id, 'S' || hash(n) % {lines} as subscription_id,
        'N' || hash(n + 1) % {lines} as other_number_hash,
        cast(130 + hash(n + 2) % 60 as varchar) as other_prefix,
        case when n % 2 = 0 then 'out' else 'in' end as direction, utc as sent_at, 'p2p' as sms_class,
        utc + interval 2 hours as received_at, cast(0.1 as decimal(18, 2)) as charge_amt""",
    "cdr_data": """
        'D' || n as usage_id, 'S' || hash(n) % {lines} as subscription_id, utc as session_start_at,
        cast(hash(n + 3) % 1000000 as bigint) as bytes_up,
        cast(hash(n + 4) % 9000000 as bigint) as bytes_down,
        '5G' as rat, 'home' as roam_type, utc + interval 2 hours as received_at,
        cast(0 as decimal(18, 2)) as charge_amt""",
}


def full(_given: Mapping[str, Any], clock: Clock) -> int:
    """Build the model from nothing."""
    return _build(clock, full_refresh=True)


def day(_given: Mapping[str, Any], clock: Clock) -> int:
    """Build the last day anew."""
    return _build(clock, full_refresh=False)


CONTENDERS = {"full": full, "day": day}


def _build(clock: Clock, *, full_refresh: bool) -> int:
    from keepline import build
    from keepline.compute import compute_for
    from keepline.settings import Settings
    from keepline.window import Window

    settings = Settings.load()
    build.LAYERS["bench"] = (MODEL,)
    last = FIRST_DAY + timedelta(days=DAYS - 1)
    results = build.build(settings, "bench", Window.day(last), full_refresh=full_refresh)
    clock.seconds = next(result.seconds for result in results if result.model == MODEL)
    found = compute_for(settings).execute(f"select sum(record_cnt) from core.{MODEL}")
    return int(found[0][0])


def measure(rows: int, rounds: int = 3) -> list[Row]:
    """Build the last of 90 days and all of them in turns; both leave the same table."""
    from keepline import build
    from keepline.compute import compute_for
    from keepline.contract import load_contract
    from keepline.window import Window

    with workplace("reaggregation") as (folder, server):
        settings = settings_for(folder, server)
        window = Window(FIRST_DAY, FIRST_DAY + timedelta(days=DAYS))
        compute = compute_for(settings)
        compute.load(load_contract(settings.dbt_dir), window)
        with compute.connection() as duck:
            for name, share in SHARES.items():
                duck.execute(_fill(name, int(rows * share)))
        # What the model reads besides the records; small here.
        build.LAYERS["bench"] = (f"+{MODEL}",)
        build.build(settings, "bench", window, full_refresh=True)
        environment = environment_of(settings)
        found = contest(
            {
                name: partial(run_alone, "bench.reaggregation", name, {}, environment)
                for name in CONTENDERS
            },
            rounds,
        )
    return [
        Row(
            *(
                "re-aggregation",
                f"1 of {DAYS} days, {rows:,} records",
                "keepline's window of a day",
            ),
            *("the same model from nothing", found.ratio("day", "full"), AIM, found.peak_mb("day")),
            seconds=found.seconds("day"),
        )
    ]


def _fill(name: str, rows: int) -> str:
    lines = max(rows // (DAYS * 2), 100)
    # The records lie evenly over the days of a zone eight hours ahead.
    passed = f"to_microseconds((n::hugeint * {DAYS * 86_400 * 1_000_000} // {rows})::bigint)"
    instant = f"timestamp '{FIRST_DAY} 00:00:00' - interval 8 hours + {passed}"
    day = "cast(utc + interval 8 hours as date)"
    return (
        f"insert into raw.{name} by name select {SELECTS[name].format(lines=lines)},"
        f" {day} as event_date, {day} as load_date"
        f" from (select n, {instant} as utc from range({rows}) as t(n))"
    )


if __name__ == "__main__" and not serve(CONTENDERS):
    print_rows(__doc__, measure, rows=5_000_000)

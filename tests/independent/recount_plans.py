"""The end of the commitment that holds for a subscription on each day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from independent.landed import Row, Rows, by, days, local_day, newest_versions
from independent.recount_life import Life

NEVER = date.min
WHEN_TOLD = ("load_date", "updated_at")


def commitments(
    rows: Rows, all_lives: Mapping[str, Life], last: date
) -> dict[tuple[str, date], date | None]:
    """Return, by subscription and day, the last day of the commitment as known on that day.

    From the load date of its first version on; a day on which the key lists lack it has none.
    """
    mains = by(
        (row for row in rows.get("subscription_offering", ()) if row["role"] == "main"),
        "subscription_id",
    )
    return {
        (name, day): commitment_on(mains.get(name, ()), day)
        for name, life in all_lives.items()
        for day in days(life.versions[0]["load_date"], last)
        if not _is_gone(life, day)
    }


def commitment_on(mains: Iterable[Row], day: date) -> date | None:
    """Return what the main holdings of one subscription say on a day."""
    landed = [row for row in mains if row["load_date"] <= day]
    holdings = [_newest(told) for told in by(landed, "offering_id", "start_at").values()]
    running = [holding for holding in holdings if _runs(holding, day)]
    if not running:
        return None
    said = max(
        running,
        key=lambda row: (row["start_at"], row["updated_at"], row["contract_end_date"] or NEVER),
    )
    return said["contract_end_date"]


def _newest(told: list[Row]) -> Row:
    """Return the newest version of one holding, of several of its instant what each says at most.

    Told again on a later load date with the same time of recording it is a newer version.
    """
    newest = newest_versions(told)[-1]
    last = [row for row in told if all(row[name] == newest[name] for name in WHEN_TOLD)]
    longest = max(row.get("contract_end_date") or NEVER for row in last)
    ends = [row.get("end_at") for row in last]
    return {
        **newest,
        "contract_end_date": None if longest == NEVER else longest,
        # No end is the latest.
        "end_at": None if None in ends else max(ends),
    }


def _runs(holding: Row, day: date) -> bool:
    start, end = local_day(holding["start_at"]), local_day(holding["end_at"])
    return start is not None and start <= day and (end is None or day < end)


def _is_gone(life: Life, day: date) -> bool:
    return any(end.reason == "deleted" and end.known_on <= day < end.until for end in life.ends)

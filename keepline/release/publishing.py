"""`keepline publish` and `keepline rollback`: one row says which release readers see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from keepline import lease, store
from keepline.errors import BadDataError, GateFailedError, UsageError
from keepline.failpoint import reach
from keepline.ops import Connection
from keepline.release import catalogue, retention
from keepline.release.published import from_store
from keepline.settings import Settings
from keepline.window import Window


@dataclass(frozen=True)
class ReleaseInfo:
    """A release, as the control tables describe it.

    Attributes:
        release_id: its number; later releases have higher ones.
        status: staged, audited, rejected, published or retired (its rows are gone).
        window: load dates that it was staged for.
        code_version: version of keepline that staged it.
        created_at: when it was staged.
        published_at: when readers first saw it, or None.
        is_current: readers see it now.
    """

    release_id: int
    status: str
    window: Window
    code_version: str
    created_at: datetime
    published_at: datetime | None
    is_current: bool


def mark_audited(settings: Settings, release_id: int, passed: bool) -> None:
    """Record what the gate `leaving` said; a release that readers have had stays published.

    Raises:
        UsageError: there is no such release, or its rows are gone.
    """
    with store.connect(settings) as connection:
        lease.fence(connection)
        info = _lock(connection, release_id)
        if info.status != "published":
            connection.execute(
                "update ctl.release set status = %s, audited_at = now() where release_id = %s",
                ["audited" if passed else "rejected", release_id],
            )
        if passed:
            connection.execute(
                "update ctl.part set is_audited = true where not is_audited and part_id in"
                " (select rp.part_id from ctl.release_part as rp where rp.release_id = %s)",
                [release_id],
            )


def publish(settings: Settings, release_id: int) -> ReleaseInfo:
    """Show an audited release to the readers: all tables at once, in one UPDATE of one row.

    No reader waits, and none sees a mixture. Publishing what readers already see changes nothing.
    Then releases beyond `releases_kept` are retired; that clean-up can fail without harm.

    Raises:
        GateFailedError: the release did not pass its audit.
        UsageError: there is no such release, it was not audited, or a later one was published.
        BadDataError: the store's catalogue no longer protects what is published.
    """
    info = _move(settings, release_id, _check_publishable)
    reach("publish.committed")
    retention.clean(settings)
    return info


def rollback(settings: Settings, to: int | None = None) -> ReleaseInfo:
    """Show an earlier published release again: the one before, or the one named.

    Naming a later one that was published rolls forward again.

    Raises:
        UsageError: there is no such release, or it was never published, or its rows are gone.
        BadDataError: the store's catalogue no longer protects what is published.
    """
    if to is None:
        with store.connect(settings) as connection:
            row = connection.execute(
                "select max(r.release_id) from ctl.release as r where r.status = 'published'"
                " and r.release_id < (select c.release_id from ctl.current_release as c)"
            ).fetchone()
        if row is None or row[0] is None:
            raise UsageError("there is no earlier release to roll back to")
        to = int(row[0])
    return _move(settings, to, _check_was_published)


def current_release(settings: Settings) -> ReleaseInfo | None:
    """Return the release that readers see, or None before the first publish."""
    with store.connect(settings) as connection:
        found = _read(connection, "is_current")
    return found[0] if found else None


def staged_release(
    settings: Settings, window: Window, release_id: int | None = None
) -> ReleaseInfo:
    """Return what the last stage of a window made or found, to audit or publish it.

    The last one is that of the store's own count of stages, whatever the clocks said.

    Args:
        settings: where the store is.
        window: load dates that it was staged for.
        release_id: the release that it must be, as `stage` gave it; None takes the last one.

    Raises:
        UsageError: nothing is staged for this window, or another release than that one.
    """
    with store.connect(settings) as connection:
        found = _read(
            connection,
            "from_date = %s and to_date = %s and status <> 'retired'",
            [window.from_date, window.to_date],
        )
    if not found:
        raise UsageError(f"nothing is staged for {window}: run `keepline stage` first")
    if release_id is not None and found[0].release_id != release_id:
        raise UsageError(
            f"release {release_id} is not the one that was staged last for {window}; that is release "
            f"{found[0].release_id}. Audit and publish that one (--release {found[0].release_id}), or "
            "stage the window again"
        )
    return found[0]


def history(settings: Settings, limit: int = 20) -> list[ReleaseInfo]:
    """Return the newest releases, the last one staged first."""
    with store.connect(settings) as connection:
        return _read(connection, "true")[:limit]


# -- inside --------------------------------------------------------------------------------------

_COLUMNS = """
    select r.release_id, r.status, r.from_date, r.to_date, r.code_version, r.created_at,
        r.published_at, c.release_id is not null as is_current, r.staging_no
    from ctl.release as r
    left join ctl.current_release as c on c.release_id = r.release_id
"""


def _read(
    connection: Connection, condition: LiteralString, values: Sequence[object] = ()
) -> list[ReleaseInfo]:
    """Return the releases that fulfil a condition, the last one staged first."""
    rows = connection.execute(
        # The condition is one of this file's own.
        f"select * from ({_COLUMNS}) as r where {condition}"  # noqa: S608
        " order by staging_no desc",
        values,
    ).fetchall()
    return [ReleaseInfo(row[0], row[1], Window(row[2], row[3]), *row[4:8]) for row in rows]


def _lock(connection: Connection, release_id: int) -> ReleaseInfo:
    connection.execute("select 1 from ctl.release where release_id = %s for update", [release_id])
    found = _read(connection, "release_id = %s", [release_id])
    if not found:
        raise UsageError(f"there is no release {release_id}: `keepline status` tells what there is")
    if found[0].status == "retired":
        raise UsageError(
            f"release {release_id} was retired, its rows are gone: stage its window anew"
        )
    return found[0]


def _move(
    settings: Settings, release_id: int, check: Callable[[Connection, ReleaseInfo], None]
) -> ReleaseInfo:
    with store.connect(settings) as connection:
        lease.fence(connection)
        check(connection, _lock(connection, release_id))
        connection.execute(
            "insert into ctl.release_move (from_release_id, to_release_id)"
            " select (select c.release_id from ctl.current_release as c), %(release)s where not exists"
            " (select from ctl.current_release as c where c.release_id = %(release)s)",
            {"release": release_id},
        )
        connection.execute(
            "update ctl.release set status = 'published',"
            " published_at = coalesce(published_at, now()) where release_id = %s",
            [release_id],
        )
        reach("publish.marked")
        # In the same transaction: what is not protected is not shown.
        said = catalogue.problems(connection, from_store(connection, with_withdrawn=True))
        if said:
            raise BadDataError(
                f"release {release_id} is not shown, because readers' rights are not what roles.yml "
                f"says: {'; '.join(said[:5])}. `keepline migrate` puts them right"
            )
        connection.execute(
            "insert into ctl.current_release (release_id) values (%s)"
            " on conflict (one) do update set release_id = excluded.release_id",
            [release_id],
        )
        reach("publish.flipped")
        return _lock(connection, release_id)


def _check_publishable(connection: Connection, info: ReleaseInfo) -> None:
    if info.status == "rejected":
        raise GateFailedError(
            f"release {info.release_id} ({info.window}) did not pass its audit: readers keep what "
            "they have; ops.gate_result says why"
        )
    if info.status == "staged":
        raise UsageError(f"release {info.release_id} was not audited: run `keepline audit` first")
    later = connection.execute(
        "select max(release_id) from ctl.release where status = 'published' and release_id > %s",
        [info.release_id],
    ).fetchone()
    if info.status == "audited" and later is not None and later[0] is not None:
        raise UsageError(
            f"release {info.release_id} is older than release {later[0]}, which was published: "
            "stage its window again"
        )


def _check_was_published(_connection: Connection, info: ReleaseInfo) -> None:
    if info.status != "published":
        raise UsageError(
            f"release {info.release_id} was never published (it is {info.status}): "
            "`keepline publish` is for that"
        )

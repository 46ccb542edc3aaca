"""Asks the store the questions of `queries` and hands back rows; nothing else here knows the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import TupleRow, class_row

from keepline import store
from keepline.errors import UsageError
from keepline.report import queries
from keepline.report.rows import (
    Arrivals,
    Check,
    Lack,
    Movement,
    NotToCall,
    Outcome,
    ParetoMonth,
    ParetoPlace,
    PlaceChurn,
    PlaceRisk,
    RfmBand,
    RfmCell,
    RfmScored,
    RipeScores,
    Scoring,
    Segment,
    SetAside,
    Stage,
    Tier,
    TierDay,
    Trend,
    Urgent,
)
from keepline.settings import Settings
from keepline.window import Window

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Connection = psycopg.Connection[TupleRow]
T = TypeVar("T")

# A page shows this many days of scores; the mart keeps all of them.
DAYS_OF_SCORES = 62
URGENT_ROWS = 10
UNKNOWN = "UNKNOWN"
MONEY_TABLES = ("bill_line", "recharge")


@dataclass(frozen=True)
class Release:
    """The release that a page or a screen is about."""

    release_id: int
    window: Window

    @property
    def business_date(self) -> date:
        """The day whose end the release describes."""
        return self.window.last_date


@dataclass(frozen=True)
class Marts:
    """What readers see of the current release.

    Attributes:
        movement: the base month by month, oldest first.
        silence_lost_by: days of silence by which a line is lost, where a loss names them.
        churn_by_place: losses of the month of the headline.
        risk_by_place: today's risk by brand and province.
        tiers: today's tiers.
        not_to_call: lines that may not be contacted, by tier and reason, most first.
        tier_days: tiers of the last score dates.
        urgent: the lines to call first.
        scorings: the runs that scored the newest score date.
        rfm_month: first day of the last whole month of the RFM rows, or None.
        rfm_cells: lines and revenue by R and F.
        rfm_bands: the days behind each R, best first.
        rfm_scored: lines with scores by payment type.
        segments: lines and revenue by segment, most revenue first.
        trends: lines by brand and trend of use.
        pareto: concentration of revenue by whole month, oldest first.
        pareto_places: the same by brand and province, in the last of these months.
        lacks: source tables without rows or with few, by the mart that would read them.
        marts_covered: marts whose coverage is known.
    """

    movement: Sequence[Movement]
    silence_lost_by: int | None
    churn_by_place: Sequence[PlaceChurn]
    risk_by_place: Sequence[PlaceRisk]
    tiers: Sequence[Tier]
    not_to_call: Sequence[NotToCall]
    tier_days: Sequence[TierDay]
    urgent: Sequence[Urgent]
    scorings: Sequence[Scoring]
    rfm_month: date | None
    rfm_cells: Sequence[RfmCell]
    rfm_bands: Sequence[RfmBand]
    rfm_scored: Sequence[RfmScored]
    segments: Sequence[Segment]
    trends: Sequence[Trend]
    pareto: Sequence[ParetoMonth]
    pareto_places: Sequence[ParetoPlace]
    lacks: Sequence[Lack]
    marts_covered: int

    @property
    def whole(self) -> Sequence[Movement]:
        """The whole months, oldest first: others cannot be compared with them."""
        return [row for row in self.movement if row.is_whole]

    @property
    def settled(self) -> Movement | None:
        """The last whole month of which all losses are known."""
        return last_settled(self.movement)

    @property
    def told(self) -> Movement | None:
        """The month that the page tells: the settled one, else the last whole one, provisionally."""
        return told_month(self.movement)

    def why_lacking(self, mart: str) -> str:
        """Return what a mart says of all tables that it lacks, or nothing."""
        lacks = [lack.sentence for lack in self.lacks if lack.mart_name == mart]
        return "".join(f" {sentence}" for sentence in dict.fromkeys(lacks))

    def why_empty(self, mart: str) -> str:
        """Return what a mart says of the tables that it lacks, or nothing."""
        lacks = [lack for lack in self.lacks if lack.mart_name == mart]
        return "".join(f" {lack.sentence}" for lack in lacks if lack.mart_coverage == "empty")

    def why_no_money(self, mart: str) -> str:
        """Return what a mart without any revenue says of the money tables that it lacks."""
        return "".join(
            f" {lack.sentence}"
            for lack in self.lacks
            if lack.mart_name == mart and lack.contract_table in MONEY_TABLES
        )


@dataclass(frozen=True)
class RunBook:
    """What the run book says about one release.

    Attributes:
        checks: every check, failed ones first.
        set_aside: rows in quarantine, most first.
        arrivals: what arrived in the window.
        training_message: what the last training said, or empty.
    """

    checks: Sequence[Check]
    set_aside: Sequence[SetAside]
    arrivals: Arrivals
    training_message: str


def read_release(connection: Connection, release_id: int) -> Release:
    """Return a release as the control tables describe it.

    Raises:
        UsageError: there is no such release.
    """
    row = connection.execute(queries.RELEASE, {"release_id": release_id}).fetchone()
    if row is None:
        raise UsageError(f"there is no release {release_id}: `keepline status` lists them")
    return Release(release_id, Window(row[0], row[1]))


def require_current(connection: Connection, release: Release) -> None:
    """Make sure that readers see this release: a page must not bear another one's number.

    Raises:
        UsageError: readers see another release, or none.
    """
    current = store.scalar(connection, queries.CURRENT)
    if current != release.release_id:
        raise UsageError(
            f"readers see release {current}, not {release.release_id}: only the release that is "
            "published can be shown"
        )


def read_marts(settings: Settings, release: Release) -> Marts:
    """Read every mart of the page as the login `bi_reader`, all from one moment.

    Raises:
        SourceUnavailableError: the store cannot be reached.
        UsageError: readers see another release, whose page would bear this one's number.
    """
    with store.connect(settings, "bi_reader") as connection:
        connection.execute("set transaction isolation level repeatable read, read only")
        require_current(connection, release)
        return _read_marts(connection, release)


def _read_marts(connection: Connection, release: Release) -> Marts:
    names = Names.read(connection)
    movement = rows(connection, Movement, queries.MOVEMENT)
    told = told_month(movement)
    silence = store.scalar(connection, queries.SILENCE_LOST_BY)
    rfm_month = store.scalar(connection, queries.RFM_MONTH)
    pareto = rows(connection, ParetoMonth, queries.PARETO_ALL)
    of_month = {"month_start": rfm_month}
    return Marts(
        movement=movement,
        silence_lost_by=None if silence is None else int(str(silence)),
        churn_by_place=names.put_on(
            rows(
                connection,
                PlaceChurn,
                queries.CHURN_BY_PLACE,
                month_start=told.month_start if told else None,
            )
        ),
        risk_by_place=names.put_on(rows(connection, PlaceRisk, queries.RISK_BY_PLACE)),
        tiers=read_tiers(connection),
        not_to_call=read_not_to_call(connection),
        tier_days=rows(
            connection,
            TierDay,
            queries.TIER_DAYS,
            first=release.business_date - timedelta(days=DAYS_OF_SCORES - 1),
        ),
        urgent=read_urgent(connection, names),
        scorings=read_scorings(connection),
        rfm_month=rfm_month if isinstance(rfm_month, date) else None,
        rfm_cells=rows(connection, RfmCell, queries.RFM_CELLS, **of_month),
        rfm_bands=rows(connection, RfmBand, queries.RFM_BANDS, **of_month),
        rfm_scored=rows(connection, RfmScored, queries.RFM_SCORED, **of_month),
        segments=rows(connection, Segment, queries.SEGMENTS, **of_month),
        trends=names.put_on(rows(connection, Trend, queries.TRENDS, **of_month)),
        pareto=pareto,
        pareto_places=names.put_on(
            rows(
                connection,
                ParetoPlace,
                queries.PARETO_BY_PLACE,
                month_start=pareto[-1].month_start if pareto else None,
            )
        ),
        lacks=rows(connection, Lack, queries.LACKS),
        marts_covered=int(str(store.scalar(connection, queries.MARTS_COVERED))),
    )


def read_outcomes(
    settings: Settings, release: Release, *, gap_days: int, window_days: int
) -> list[Outcome]:
    """Return what came of the newest score date of each payment type that is old enough.

    Args:
        settings: where the store is.
        release: the release that readers see.
        gap_days: days after a score date before the window begins.
        window_days: days of the window in which the losses are counted.

    Raises:
        SourceUnavailableError: the store cannot be reached.
        UsageError: readers see another release.
    """
    with store.connect(settings, "bi_reader") as connection:
        connection.execute("set transaction isolation level repeatable read, read only")
        require_current(connection, release)
        ripe = rows(connection, RipeScores, queries.RIPE_SCORES, span=gap_days + window_days)
        return [
            outcome
            for scores in ripe
            for outcome in rows(
                connection,
                Outcome,
                queries.OUTCOMES,
                payment_type=scores.payment_type,
                score_date=scores.score_date,
                gap_days=gap_days,
                window_days=window_days,
            )
        ]


def read_run_book(settings: Settings, release: Release) -> RunBook:
    """Read what the run book says about a release, as the pipeline's login.

    Raises:
        SourceUnavailableError: the store cannot be reached.
    """
    with store.connect(settings) as connection:
        training = connection.execute(queries.LAST_TRAINING, _bounds(release.window)).fetchone()
        return RunBook(
            checks=read_checks(connection, release),
            set_aside=read_set_aside(connection, release.window),
            arrivals=read_arrivals(connection, release.window),
            training_message="" if training is None else str(training[0]),
        )


def read_urgent(connection: Connection, names: Names) -> list[Urgent]:
    """Return the lines to call first: HIGH before MEDIUM, then by profit of a contact."""
    return names.put_on(rows(connection, Urgent, queries.URGENT, rows=URGENT_ROWS))


def read_tiers(connection: Connection) -> list[Tier]:
    """Return the tiers of the current release."""
    return rows(connection, Tier, queries.TIERS)


def read_not_to_call(connection: Connection) -> list[NotToCall]:
    """Return the lines that may not be contacted, by tier and reason."""
    return rows(connection, NotToCall, queries.NOT_TO_CALL)


def read_scorings(connection: Connection) -> list[Scoring]:
    """Return the runs that scored the newest score date of the current release."""
    return rows(connection, Scoring, queries.SCORINGS)


def read_checks(connection: Connection, release: Release) -> list[Check]:
    """Return every check of a release and of the batches in it, failed ones first."""
    return rows(
        connection,
        Check,
        queries.CHECKS,
        release_id=release.release_id,
        **_bounds(release.window),
    )


def read_set_aside(connection: Connection, window: Window) -> list[SetAside]:
    """Return rows in quarantine of a window by reason and table, most first."""
    return rows(connection, SetAside, queries.SET_ASIDE, **_bounds(window))


def read_arrivals(connection: Connection, window: Window) -> Arrivals:
    """Return what arrived in a window and what became of it."""
    return rows(connection, Arrivals, queries.ARRIVALS, **_bounds(window))[0]


def read_stages(connection: Connection, window: Window) -> list[Stage]:
    """Return the attempts at a window and at days within it, in the order of the run."""
    return rows(connection, Stage, queries.STAGES, **_bounds(window))


def rows(connection: Connection, kind: type[T], query: LiteralString, **values: object) -> list[T]:
    """Return the rows of a query as objects; its columns bear the names of their fields."""
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query, values).fetchall()


P = TypeVar("P", bound="DataclassInstance")


@dataclass(frozen=True)
class Names:
    """Brand and province names of today, by code."""

    brands: Mapping[str, str]
    provinces: Mapping[str, str]

    @classmethod
    def read(cls, connection: Connection) -> Names:
        """Read the names, as any login that may read `star`."""
        return cls(
            _distinct(connection.execute(queries.BRANDS).fetchall()),
            _distinct(connection.execute(queries.PROVINCES).fetchall()),
        )

    def put_on(self, found: Sequence[P]) -> list[P]:
        """Return rows with names in place of the codes in `brand` and `province`."""
        if not found:
            return []
        known = {field.name for field in fields(found[0])}
        sources = {
            name: names
            for name, names in (("brand", self.brands), ("province", self.provinces))
            if name in known
        }
        return [
            replace(
                row,
                **{name: _named(getattr(row, name), names) for name, names in sources.items()},
            )
            for row in found
        ]


def last_settled(movement: Sequence[Movement]) -> Movement | None:
    """Return the last whole month that is settled for every payment type; months are in order."""
    return next((row for row in reversed(movement) if row.is_whole and row.is_settled), None)


def told_month(movement: Sequence[Movement]) -> Movement | None:
    """Return the last settled month, or the last whole one as long as none is settled."""
    whole = next((row for row in reversed(movement) if row.is_whole), None)
    return last_settled(movement) or whole


def _named(code: str | None, names: Mapping[str, str]) -> str:
    if not code or code == UNKNOWN:
        return "unknown"
    return names.get(code, code)


def _distinct(found: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    """Return name by code; a name that two codes share carries its code."""
    names = [str(name or code) for code, name in found]
    return {
        str(code): name if names.count(name) == 1 else f"{name} ({code})"
        for (code, _), name in zip(found, names, strict=True)
    }


def _bounds(window: Window) -> dict[str, date]:
    return {"from_date": window.from_date, "to_date": window.to_date}

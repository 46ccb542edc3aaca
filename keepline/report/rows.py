"""The rows that the queries return: counts are of lines (subscriptions), money is in fen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from keepline.report.formats import ratio
from keepline.window import Window


@dataclass(frozen=True)
class Movement:
    """The whole base in one month."""

    month_start: date
    opening: int
    gross_adds: int
    moved_in: int
    moved_out: int
    churned: int
    closing: int

    @property
    def is_balanced(self) -> bool:
        """Opening plus what came minus what went is the closing base."""
        came, went = self.gross_adds + self.moved_in, self.moved_out + self.churned
        return self.opening + came - went == self.closing

    @property
    def churn_rate(self) -> float | None:
        """Share of the opening base that left, or None without a base."""
        return ratio(self.churned, self.opening)


@dataclass(frozen=True)
class PlaceChurn:
    """Losses of one brand in one province in one month, of the base before."""

    brand: str
    province: str
    churned: int
    opening: int


@dataclass(frozen=True)
class PlaceRisk:
    """Today's tiers of one brand in one province."""

    brand: str
    province: str
    scored: int
    high: int
    medium: int
    high_worth_fen: int


@dataclass(frozen=True)
class Tier:
    """A tier today.

    Attributes:
        tier: HIGH, MEDIUM, LOW, NEW or NODATA.
        lines: how many.
        worth_fen: margin to expect from them in 12 months.
        at_risk_fen: loss to expect: risk times worth.
        profit_fen: profit to expect from contacting them all.
    """

    tier: str
    lines: int
    worth_fen: int
    at_risk_fen: int
    profit_fen: int


@dataclass(frozen=True)
class TierDay:
    """A tier on one score date."""

    score_date: date
    tier: str
    lines: int


@dataclass(frozen=True)
class Urgent:
    """A line to call, its number masked."""

    msisdn_masked: str
    brand: str
    province: str
    payment_type: str
    tier: str
    probability: float | None
    worth_fen: int | None
    profit_fen: int | None
    reason_1: str | None
    reason_2: str | None
    reason_3: str | None

    @property
    def reasons(self) -> list[str]:
        """The reasons that there are, weightiest first."""
        return [text for text in (self.reason_1, self.reason_2, self.reason_3) if text]


@dataclass(frozen=True)
class RfmCell:
    """Lines with one recency score and one frequency score, 1 to 5."""

    r_score: int
    f_score: int
    lines: int
    revenue_fen: int


@dataclass(frozen=True)
class Segment:
    """Lines of one RFM segment."""

    segment: str
    lines: int
    revenue_fen: int


@dataclass(frozen=True)
class Trend:
    """Lines of one brand that use more, the same or less than before."""

    brand: str
    trend: str
    lines: int


@dataclass(frozen=True)
class ParetoMonth:
    """How concentrated the revenue of a month is over the whole base.

    Attributes:
        month_start: first day of the month.
        lines: lines of the month.
        revenue_fen: their own revenue.
        top_share: share of it that the top fifth brings, 0 to 1, or None without revenue.
        makers_share: share of the lines that together bring 80 % of it.
    """

    month_start: date
    lines: int
    revenue_fen: int
    top_share: float | None
    makers_share: float | None


@dataclass(frozen=True)
class ParetoPlace:
    """The same for one brand in one province and one month."""

    brand: str
    province: str
    lines: int
    revenue_fen: int
    top_share: float | None
    makers_share: float | None


@dataclass(frozen=True)
class Lack:
    """A source table without rows that a mart would read, and what the mart cannot say for it."""

    mart_name: str
    contract_table: str
    mart_coverage: str
    sentence: str


@dataclass(frozen=True)
class Check:
    """A check of a gate."""

    gate: str
    table_name: str
    column_name: str
    expectation: str
    severity: str
    success: bool
    observed: str

    @property
    def is_judged(self) -> bool:
        """Whether there was enough to judge by: a gate records what it could not judge, too."""
        return not (self.success and self.observed.startswith("not judged"))


@dataclass(frozen=True)
class SetAside:
    """Rows of one table in quarantine for one reason."""

    reason_code: str
    table_name: str
    rows: int


@dataclass(frozen=True)
class Arrivals:
    """What arrived in a window and what became of it, in rows."""

    batches: int
    physical: int
    loaded: int
    quarantined: int
    skipped: int
    unbalanced: int


@dataclass(frozen=True)
class Stage:
    """One attempt of a stage."""

    verb: str
    from_date: date
    to_date: date
    rows: int
    seconds: float
    status: str
    message: str

    @property
    def window(self) -> Window:
        """The days that it worked on."""
        return Window(self.from_date, self.to_date)

    @property
    def title(self) -> str:
        """The verb; a build also names its layer, which its message begins with."""
        layer, colon, _ = self.message.partition(":")
        return f"{self.verb} {layer}" if self.verb == "build" and colon else self.verb


@dataclass(frozen=True)
class Scoring:
    """A run that scored lines of the newest score date; without a model the version is None."""

    score_date: date
    score_run_id: str | None
    model_version: str | None


@dataclass(frozen=True)
class Tenth:
    """A tenth of the scored lines of a payment type: the risk said and the churn that came true."""

    payment_type: str
    said: float
    seen: float
    lines: int

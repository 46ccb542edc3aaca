"""The rows that the queries return: counts are of lines (subscriptions), money is in fen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from keepline.report.formats import ratio
from keepline.window import Window


@dataclass(frozen=True)
class Movement:
    """The whole base in one month.

    Attributes:
        month_start: first day of the month.
        opening: lines before it.
        gross_adds: lines that are new.
        won_back: lines that were lost and came back.
        moved_in: lines that came from another place, brand or payment type.
        moved_out: lines that went there.
        churned: losses as known now.
        first_told: losses as they were first told, whatever became of them.
        closing: lines after it.
        is_whole: the month has ended, and the record does not begin within it.
        waiting_for: payment types of which losses of the month can still become known.
    """

    month_start: date
    opening: int
    gross_adds: int
    won_back: int
    moved_in: int
    moved_out: int
    churned: int
    first_told: int
    closing: int
    is_whole: bool
    waiting_for: Sequence[str]

    @property
    def is_settled(self) -> bool:
        """Whether all losses of the month are known."""
        return not self.waiting_for

    @property
    def moved(self) -> int:
        """What moving added; over the whole base it cancels out."""
        return self.moved_in - self.moved_out

    @property
    def is_balanced(self) -> bool:
        """Opening plus what came minus what went is the closing base."""
        came = self.gross_adds + self.won_back + self.moved
        return self.opening + came - self.churned == self.closing

    @property
    def corrected(self) -> int:
        """Losses that were told and turned out to be none."""
        return max(0, self.first_told - self.churned)

    @property
    def churn_rate(self) -> float | None:
        """Share of the opening base that left, or None without a base or without a whole month."""
        return ratio(self.churned, self.opening) if self.is_whole else None


@dataclass(frozen=True)
class PlaceChurn:
    """Losses of one brand in one province in one month, of the base before."""

    brand: str
    province: str
    churned: int
    opening: int


@dataclass(frozen=True)
class PlaceRisk:
    """Today's risk of one brand in one province.

    Attributes:
        brand: name of the brand.
        province: name of the province.
        judged: lines that have a risk.
        high: lines of tier HIGH that may be contacted.
        medium: the same of tier MEDIUM.
        high_revenue_fen: revenue of 12 months of those of tier HIGH.
        at_risk_fen: loss to expect from all that have a risk.
    """

    brand: str
    province: str
    judged: int
    high: int
    medium: int
    high_revenue_fen: int
    at_risk_fen: int


@dataclass(frozen=True)
class Tier:
    """A tier today.

    Attributes:
        tier: HIGH, MEDIUM, LOW, SILENT (beyond reach), NEW or NODATA.
        lines: how many.
        judged: how many of them have a risk.
        callable: how many of them may be contacted.
        revenue_fen: own revenue to expect in 12 months from those that have a risk.
        at_risk_fen: loss to expect: risk times revenue.
        profit_fen: what contacting all that may be contacted is expected to bring.
    """

    tier: str
    lines: int
    judged: int
    callable: int
    revenue_fen: int
    at_risk_fen: int
    profit_fen: int


@dataclass(frozen=True)
class NotToCall:
    """Lines of a tier that may not be contacted, for one reason."""

    tier: str
    reason: str
    lines: int


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
    revenue_fen: int | None
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
class RfmBand:
    """How many days ago a payment type's lines of a recency score were last used, if ever."""

    payment_type: str
    r_score: int
    least_days: int | None
    most_days: int | None
    has_silent: bool


@dataclass(frozen=True)
class RfmScored:
    """How many lines of a payment type have scores.

    Attributes:
        payment_type: how the lines pay.
        lines: all of them.
        used: those with a recency and a frequency score.
        paying: those with a money score.
        named: those with a segment.
    """

    payment_type: str
    lines: int
    used: int
    paying: int
    named: int


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
    """A source table without rows, or with few, and what a mart that reads it cannot say."""

    mart_name: str
    contract_table: str
    table_coverage: str
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


@dataclass(frozen=True)
class RipeScores:
    """A score date of a payment type of whose window all losses are known."""

    payment_type: str
    score_date: date


@dataclass(frozen=True)
class Outcome:
    """What was said of the lines of a tier, and what came.

    Attributes:
        payment_type: how the lines pay.
        tier: their tier when they were scored.
        score_date: when that was; None for lines of the model's own test.
        lines: how many.
        said: how many of them the risks said would leave.
        came: how many left.
    """

    payment_type: str
    tier: str
    score_date: date | None
    lines: int
    said: float
    came: int

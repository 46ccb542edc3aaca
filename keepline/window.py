"""The window of load dates: the unit of work of every stage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from keepline.errors import UsageError


@dataclass(frozen=True, order=True)
class Window:
    """Business days `[from_date, to_date)`: the first day is in, the last is out.

    A daily run is a window of one day and a backfill a wider one; both take the same code path.
    Days are the operator's local days.
    """

    from_date: date
    to_date: date

    def __post_init__(self) -> None:
        if self.to_date <= self.from_date:
            raise UsageError(
                f"the window [{self.from_date}, {self.to_date}) holds no day: --to is the day after "
                "the last one, so it must be later than --from"
            )

    @classmethod
    def day(cls, business_date: date) -> Window:
        """Return the window of one business day."""
        return cls(business_date, business_date + timedelta(days=1))

    @property
    def last_date(self) -> date:
        """The last business day of the window."""
        return self.to_date - timedelta(days=1)

    def days(self) -> list[date]:
        """Return every business day of the window, in order."""
        return [
            self.from_date + timedelta(days=n) for n in range((self.to_date - self.from_date).days)
        ]

    def __str__(self) -> str:
        if self.last_date == self.from_date:
            return self.from_date.isoformat()
        return f"{self.from_date} to {self.last_date}"

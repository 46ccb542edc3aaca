"""Numbers of Chinese resident identity cards in SQL: checked, and in one spelling (GB 11643).

Eighteen characters: area, day of birth, serial number, and a check character by ISO 7064 MOD 11-2. Cards
of before 1999 have fifteen: the year of birth has two digits, all of the 20th century, and nothing checks.
"""

from __future__ import annotations

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
CHECKS = "10X98765432"


def canonical(raw: str) -> str:
    """Return SQL for the number in its one spelling, or null when it is none.

    A person whose card is written with `x` or with 15 digits must not become a second person.

    Args:
        raw: SQL of the text.
    """
    body = (
        f"case when regexp_full_match({raw}, '\\d{{17}}[\\dXx]') then left({raw}, 17)"
        f" when regexp_full_match({raw}, '\\d{{15}}') then left({raw}, 6) || '19' || right({raw}, 9) end"
    )
    born = "body[7:10] || '-' || body[11:12] || '-' || body[13:14]"
    total = " + ".join(f"cast(body[{n}] as integer) * {w}" for n, w in enumerate(WEIGHTS, 1))
    check = f"substr('{CHECKS}', 1 + ({total}) % 11, 1)"
    right = f"length({raw}) = 15 or upper(right({raw}, 1)) = {check}"
    # `body` once, not at each of its places.
    return (
        f"list_transform([{body}], lambda body:"
        f" case when try_cast({born} as date) is not null and ({right}) then body || {check} end)[1]"
    )

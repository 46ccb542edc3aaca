"""The fixed facts of the invented operator: rivals, numbers, places, brands, offerings, dealers.

The codes of generated rows are tuples here and in `schema`; rows hold positions in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

# -- Operators and their numbers

OPERATORS: Final = ("POLARIS", "VEGA", "ORION", "LYRA")
OPERATOR_NAMES: Final = ("Polaris Mobile", "Vega Mobile", "Orion Telecom", "Lyra Virtual")
OPERATOR_TYPES: Final = ("MNO", "MNO", "MNO", "MVNO")
OWN: Final = 0

PREFIXES: Final[tuple[tuple[str, ...], ...]] = (
    (
        "134",
        "135",
        "136",
        "137",
        "138",
        "139",
        "150",
        "151",
        "152",
        "157",
        "158",
        "159",
        "187",
        "188",
    ),
    ("130", "131", "132", "155", "156", "185", "186"),
    ("133", "153", "180", "189"),
    ("170",),
)
RIVAL_SHARES: Final = (0.46, 0.40, 0.14)
"""How people outside the own network spread over VEGA, ORION and LYRA."""

HOTLINES: Final = ("10010", "10000", "10040")
"""Service numbers of VEGA, ORION and LYRA."""

SHORT_NUMBERS: Final = ("10086", "95588", "95533", "12306", "12345")
SERVICE_SENDERS: Final = ("10086", "95588", "95533", "106902", "106575", "106980")

# -- Brands, offerings

BRANDS: Final = ("AURORA", "BREEZE", "CAMPUS")
BRAND_NAMES: Final = ("Aurora", "Breeze", "Campus")
BRAND_SHARES: Final = (0.35, 0.40, 0.25)
CAMPUS_PREPAID_SHARE: Final = 0.60
AURORA, BREEZE, CAMPUS = 0, 1, 2

PAYMENT_TYPES: Final = ("postpaid", "prepaid")


class Offering(NamedTuple):
    """One offering of the catalogue; fees in fen with tax, `share` = its share of new lines of its kind."""

    offering_id: str
    name: str
    family: str
    brand: int | None
    prepaid: bool | None
    fee: int
    voice_min: int
    data_mb: int
    sms_cnt: int
    promo_months: int
    fee_after: int
    network_gen: str
    share: float
    partner: str = ""
    usage_type: str = ""


def _main(
    code: str, name: str, brand: int, prepaid: bool, fee: int, bundle: tuple[int, int, int], share: float,
    promo: tuple[int, int] = (0, 0), gen: str = "5G",
) -> Offering:  # fmt: skip
    months, fee_after = promo
    return Offering(
        code, name, "mobile", brand, prepaid, fee, *bundle, months, fee_after or fee, gen, share
    )


def _add_on(
    code: str, name: str, family: str, fee: int, share: float,
    data_mb: int = 0, partner: str = "", usage_type: str = "vas", gen: str = "5G",
) -> Offering:  # fmt: skip
    return Offering(
        code, name, family, None, None, fee, 0, data_mb, 0, 0, fee, gen, share, partner, usage_type
    )  # fmt: skip


OFFERINGS: Final[tuple[Offering, ...]] = (
    _main("AU088", "Aurora 88", AURORA, False, 8800, (300, 20480, 50), 0.28),
    _main("AU128", "Aurora 128", AURORA, False, 12800, (500, 40960, 100), 0.24),
    _main("AU198", "Aurora 198", AURORA, False, 19800, (1000, 81920, 200), 0.13),
    _main(
        "AU099P", "Aurora 99 for a year", AURORA, False, 9900, (500, 40960, 100), 0.35, (12, 12800)
    ),
    _main("BR019", "Breeze 19", BREEZE, True, 1900, (60, 3072, 10), 0.28, gen="4G"),
    _main("BR029", "Breeze 29", BREEZE, True, 2900, (100, 8192, 20), 0.24, gen="4G"),
    _main("BR039", "Breeze 39", BREEZE, True, 3900, (150, 12288, 30), 0.18),
    _main("BR029P", "Breeze 29 half a year", BREEZE, True, 2900, (150, 15360, 30), 0.30, (6, 4900)),
    _main("CA029", "Campus 29", CAMPUS, True, 2900, (80, 20480, 20), 0.55),
    _main("CA019P", "Campus 19 first year", CAMPUS, True, 1900, (60, 15360, 20), 0.45, (12, 3900)),
    _main("CA049", "Campus 49", CAMPUS, False, 4900, (150, 30720, 50), 0.55),
    _main(
        "CA039P", "Campus 39 half a year", CAMPUS, False, 3900, (150, 30720, 50), 0.45, (6, 5900)
    ),
    _add_on("DP005", "Data pack 5 GB", "mobile", 1000, 0.10, data_mb=5120, usage_type="data"),
    _add_on("DP020", "Data pack 20 GB", "mobile", 2500, 0.06, data_mb=20480, usage_type="data"),
    _add_on("VMUSIC", "Music", "vas", 1200, 0.09, partner="SP01"),
    _add_on("VVIDEO", "Video", "vas", 1900, 0.11, partner="SP02"),
    _add_on("VRING", "Ring-back tone", "vas", 500, 0.12, partner="SP03"),
    _add_on("VCLOUD", "Cloud drive", "vas", 600, 0.08),
    _add_on("BB200", "Home broadband 200", "broadband", 4000, 0.10, gen="FIXED"),
    _add_on("TV001", "Home television", "tv", 1500, 0.06, gen="FIXED"),
)
N_MAIN: Final = 12
ADD_ONS: Final = range(N_MAIN, len(OFFERINGS))
FAMILIES: Final = ("mobile", "broadband", "tv", "vas")
GENERATIONS: Final = ("4G", "5G", "FIXED")
PARTNERS: Final = ("SP01", "SP02", "SP03")
HOME_ADD_ONS: Final = ("BB200", "TV001")
"""Sold with a postpaid line only: there is a household behind it."""

TAX_SERVICES: Final = ("voice", "value_added", "content")
"""What the tax tells apart: calls; data, messages, broadband and the like; partners' content."""
VOICE_TAX, VALUE_ADDED_TAX, CONTENT_TAX = range(len(TAX_SERVICES))
TAX_PERCENTS: Final = (
    (date(1900, 1, 1), (9, 6, 6)),
    (date(2026, 1, 1), (9, 9, 6)),
)
"""Value-added tax of each service from a day on, as in China. A bill is taxed by its own day."""

PRICE_RISE_DAY: Final = 150
PRICE_RISE: Final = ("BR019", 2300)
"""On this day of the history the operator raises a fee for everybody who pays it."""

CLOSED_FOR_SALE_DAY: Final = 210
CLOSED_FOR_SALE: Final = "AU099P"

# -- Places


class County(NamedTuple):
    """A county with the city and province that hold it; `area` opens an identity document's number."""

    county_code: str
    county_name: str
    city_code: str
    city_name: str
    province_code: str
    province_name: str
    region_name: str
    urban: bool
    area: str


_PROVINCES: Final = (
    ("GD", "Guangdong", "South", 0.26, "44", (
        ("Guangzhou", ("Tianhe", "Yuexiu", "Zengcheng*")), ("Shenzhen", ("Futian", "Nanshan", "Longgang")),
        ("Zhanjiang", ("Chikan", "Xuwen*")))),
    ("ZJ", "Zhejiang", "East", 0.19, "33", (
        ("Hangzhou", ("Xihu", "Gongshu", "Tonglu*")), ("Ningbo", ("Haishu", "Ninghai*")),
        ("Wenzhou", ("Lucheng", "Taishun*")))),
    ("SC", "Sichuan", "West", 0.19, "51", (
        ("Chengdu", ("Jinjiang", "Wuhou", "Pujiang*")), ("Mianyang", ("Fucheng", "Santai*")))),
    ("HB", "Hubei", "Central", 0.15, "42", (
        ("Wuhan", ("Jianghan", "Hongshan", "Huangpi*")), ("Yichang", ("Xiling", "Zigui*")))),
    ("LN", "Liaoning", "North", 0.11, "21", (
        ("Shenyang", ("Heping", "Hunnan", "Faku*")), ("Dalian", ("Zhongshan", "Zhuanghe*")))),
    ("SN", "Shaanxi", "West", 0.10, "61", (
        ("Xian", ("Beilin", "Yanta", "Lantian*")), ("Baoji", ("Weibin", "Meixian*")))),
)  # fmt: skip


def _counties() -> tuple[tuple[County, ...], tuple[float, ...]]:
    counties: list[County] = []
    shares: list[float] = []
    for code, province, region, share, area, cities in _PROVINCES:
        weights = [
            (0.4 if name.endswith("*") else 1.0) / (k + 1)
            for k, (_, c) in enumerate(cities)
            for name in c
        ]
        position = 0
        for k, (city, names) in enumerate(cities, start=1):
            for j, name in enumerate(names, start=1):
                city_code = f"{code}{k:02d}"
                counties.append(
                    County(
                        f"{city_code}{j:02d}",
                        name.rstrip("*"),
                        city_code,
                        city,
                        code,
                        province,
                        region,
                        not name.endswith("*"),
                        f"{area}{k:02d}{j:02d}",
                    )
                )
                shares.append(share * weights[position] / sum(weights))
                position += 1
    return tuple(counties), tuple(shares)


COUNTIES, COUNTY_SHARES = _counties()
PROVINCES: Final = tuple(row[0] for row in _PROVINCES)
CITIES: Final = tuple(dict.fromkeys(c.city_code for c in COUNTIES))
CELLS_PER_COUNTY: Final = 12

# -- Dealers and channels


class Dealer(NamedTuple):
    """A dealer; `quality` multiplies the daily chance that a line it sold leaves."""

    dealer_id: str
    name: str
    type: int
    level: int
    province: int
    city: int
    quality: float


def _dealers() -> tuple[Dealer, ...]:
    dealers: list[Dealer] = []
    for city, code in enumerate(CITIES):
        name = next(c.city_name for c in COUNTIES if c.city_code == code)
        province = PROVINCES.index(code[:2])
        dealers.append(
            Dealer(f"D{len(dealers) + 1:03d}", f"Polaris {name}", 0, 0, province, city, 0.85)
        )
        for k in (1, 2):
            bad = (city + k) % 5 == 0
            dealers.append(
                Dealer(
                    f"D{len(dealers) + 1:03d}",
                    f"{name} Agency {k}",
                    1,
                    2 if bad else 1,
                    province,
                    city,
                    2.2 if bad else 1.1,
                )
            )
    dealers.append(Dealer(f"D{len(dealers) + 1:03d}", "polaris.example", 2, 0, -1, -1, 1.0))
    return tuple(dealers)


DEALERS: Final = _dealers()
OUTLETS: Final = tuple(f"{dealer.dealer_id}-{k}" for dealer in DEALERS for k in (1, 2))

CHANNELS: Final = (
    "shop",
    "agent",
    "web",
    "app",
    "hotline",
    "ivr",
    "chat",
    "sms",
    "bank",
    "wallet",
    "kiosk",
)
SHOP, AGENT, WEB, APP, HOTLINE, IVR, CHAT, SMS, BANK, WALLET, KIOSK = range(len(CHANNELS))

# -- Why people leave

CAUSES: Final = (
    "price_shock",
    "bad_service",
    "competitor_pull",
    "declining_usage",
    "non_payment",
    "moving",
    "no_sign",
    "fraud",
)
PRICE, SERVICE, PULL, DECLINE, NON_PAYMENT, MOVING, NO_SIGN, FRAUD = range(len(CAUSES))

KINDS: Final = ("termination", "port_out", "silent", "involuntary", "administrative")
TERMINATION, PORT_OUT, SILENT, INVOLUNTARY, ADMINISTRATIVE = range(len(KINDS))


@dataclass(frozen=True)
class Rates:
    """The rates of the world. A share is of 1; a rate is per line and day unless it says otherwise."""

    adds_per_month: float = 0.031
    """New lines a month, as a share of the lines in use."""
    leave: float = 1.65
    """Multiplies every daily chance to leave; 1.65 gives about 2.6 % a month."""
    stay_share: float = 0.30
    """Share of people who show the signs of leaving and then stay."""
    show_share: float = 0.92
    """Share of leavers who show any sign."""
    port_in_share: float = 0.12
    second_line_share: float = 0.12
    voice_out: float = 0.88
    voice_in: float = 0.78
    sms_out: float = 0.22
    sms_in: float = 0.18
    sms_service: float = 0.34
    data: float = 2.20
    late_share: float = 0.015
    """Share of call records that mediation hands over one to five days late."""
    dirty_share: float = 0.0002
    """Share of call records that break the contract."""


RATES: Final = Rates()

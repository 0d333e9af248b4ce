"""Real and made logs: The Complete Journey, made logs whose truth or whose tastes are known, and small logs of other trades."""

from persopredict.datasets.journey import complete_journey_sources, complete_journey_tables
from persopredict.datasets.made import MadeFiles, MadeLog, made_log, made_log_parquet
from persopredict.datasets.shop import Channel, Shop, Stream
from persopredict.datasets.tastes import MadeTastes, made_tastes
from persopredict.datasets.trades import (
    gym_visits,
    insurance_quotes,
    loan_applications,
    news_site,
    subscriptions,
    travel_bookings,
    wholesale,
)

__all__ = [
    "Channel",
    "MadeFiles",
    "MadeLog",
    "MadeTastes",
    "Shop",
    "Stream",
    "complete_journey_sources",
    "complete_journey_tables",
    "gym_visits",
    "insurance_quotes",
    "loan_applications",
    "made_log",
    "made_log_parquet",
    "made_tastes",
    "news_site",
    "subscriptions",
    "travel_bookings",
    "wholesale",
]

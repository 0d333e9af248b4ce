"""Real and made logs: The Complete Journey, a made shop whose truth is known, and small logs of other trades."""

from persopredict.datasets.journey import complete_journey_sources, complete_journey_tables
from persopredict.datasets.made import MadeFiles, MadeLog, made_log, made_log_parquet
from persopredict.datasets.shop import Channel, Shop, Stream
from persopredict.datasets.trades import loan_applications, news_site, subscriptions

__all__ = [
    "Channel",
    "MadeFiles",
    "MadeLog",
    "Shop",
    "Stream",
    "complete_journey_sources",
    "complete_journey_tables",
    "loan_applications",
    "made_log",
    "made_log_parquet",
    "news_site",
    "subscriptions",
]

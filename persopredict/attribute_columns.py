"""The columns of `predictive_attributes`, in SQL and in Arrow: names and types alone, for those who make a part of them without frames."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

SCORED, NOT_SCORED = "scored", "not_scored"
NOT_SCORED_REASONS = (
    "no_history",
    "not_active",
    "already_converted",
    "not_in_cohort",
    "no_consent",
    "too_little_data",
    "target_failed",
)
# One reason: a feature, its value as a number and in words, and what it does to the score.
REASON_FIELDS = {
    "feature": "TEXT",
    "label": "TEXT",
    "value": "DOUBLE",
    "value_text": "TEXT",
    "direction": "TEXT",
    "contribution": "DOUBLE",
}
_REASONS = "STRUCT(" + ", ".join(f"{name} {kind}" for name, kind in REASON_FIELDS.items()) + ")[]"
# The 23 columns of `predictive_attributes`, in order, with their SQL types; `SCHEMA` has the same in Arrow.
COLUMNS: dict[str, str] = {
    "customer_id": "TEXT",
    "target": "TEXT",
    "category": "TEXT",
    "probability": "DOUBLE",
    "expected_value": "DOUBLE",
    "currency": "TEXT",
    "lower": "DOUBLE",
    "upper": "DOUBLE",
    # JSON, not a MAP: factors differ by model kind and may nest, and text survives every sink and dataframe.
    "factors": "TEXT",
    "affinity_index": "DOUBLE",
    "rank": "INTEGER",
    "is_new": "BOOLEAN",
    "percentile": "INTEGER",
    "band": "TEXT",
    "reasons": _REASONS,
    "model_kind": "TEXT",
    "status": "TEXT",
    "not_scored_reason": "TEXT",
    "as_of": "TIMESTAMPTZ",
    "valid_until": "TIMESTAMPTZ",
    "scored_at": "TIMESTAMPTZ",
    "model_version": "TEXT",
    "run_id": "TEXT",
}
INSTANT, TEXT = pa.timestamp("us", tz="UTC"), pa.string()
_ARROW_TYPES = {
    "TEXT": TEXT,
    "DOUBLE": pa.float64(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMPTZ": INSTANT,
}
#: A customer's reasons in Arrow.
REASONS = pa.list_(pa.struct([(name, _ARROW_TYPES[kind]) for name, kind in REASON_FIELDS.items()]))
_ARROW_TYPES[_REASONS] = REASONS


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of columns given with their SQL types.

    >>> arrow_schema({"a": "TEXT", "at": "TIMESTAMPTZ"}).types
    [DataType(string), TimestampType(timestamp[us, tz=UTC])]
    """
    return pa.schema([(name, _ARROW_TYPES[sql_type]) for name, sql_type in columns.items()])


SCHEMA = arrow_schema(COLUMNS)

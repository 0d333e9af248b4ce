"""Attributes that wait in files: the same attributes, and nothing left behind."""

import logging

import numpy as np
import pandas as pd
import pytest

from persopredict import staging
from persopredict.attributes import attributes, conform
from persopredict.staging import staged
from persopredict.warehouse import Warehouse

REASON = {"feature": "recency", "label": "the last purchase", "value": 3.0, "value_text": "3 days", "direction": "for", "contribution": 0.3}


@pytest.fixture
def frame():
    rows = 500
    scores = pd.DataFrame({"customer_id": [f"ä{number:03}" for number in range(rows)], "probability": np.linspace(0.01, 0.9, rows)})
    scores["reasons"] = [[REASON] * (number % 3) for number in range(rows)]
    scores["not_scored_reason"] = None
    scores.loc[::7, ["probability", "reasons", "not_scored_reason"]] = [None, None, "not_active"]
    return attributes(scores, "churn", "2024-01-01", model_version="3")


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(staging, "LEAST", 1)


def test_staged_attributes_are_the_same_and_leave_no_file(frame, tmp_path, large):
    found = staged(frame, tmp_path)
    assert found is not frame
    pd.testing.assert_frame_equal(found, frame)
    assert conform(found).equals(conform(frame))
    assert list(tmp_path.iterdir()) == []


def test_staged_attributes_can_be_changed_kept_and_published(frame, tmp_path, large):
    found = staged(frame, tmp_path)
    kept = found.head(3)
    found.loc[0, "probability"] = 0.5
    del found
    pd.testing.assert_frame_equal(kept, frame.head(3))
    Warehouse(tmp_path / "warehouse.duckdb").publish(staged(frame, tmp_path))
    assert conform(Warehouse(tmp_path / "warehouse.duckdb").attributes("churn"))["reasons"].equals(conform(frame)["reasons"])


def test_few_attributes_stay_where_they_are(frame, tmp_path):
    assert staged(frame, tmp_path) is frame


def test_no_attributes_at_all_are_staged_too(frame, tmp_path, large):
    pd.testing.assert_frame_equal(staged(frame.iloc[:0], tmp_path), frame.iloc[:0])


def test_without_room_attributes_stay_in_memory_and_the_log_says_so(frame, tmp_path, large, caplog):
    with caplog.at_level(logging.WARNING):
        assert staged(frame, tmp_path / "gone") is frame
    assert "stay in memory" in caplog.text


def test_a_full_disk_half_way_leaves_the_attributes_as_they_were(frame, tmp_path, large, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging.mmap, "mmap", full)
    assert staged(frame, tmp_path) is frame
    assert list(tmp_path.iterdir()) == []

"""Made logits and labels whose true calibration is known, for the tests of calibration."""

import numpy as np

from persopredict.calibration import sigmoid


def made(slope, intercept, rows, seed, level=-2.0):
    """Logits whose true calibration is sigmoid(slope · logit + intercept), and labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(level, 1.5, rows)
    return logits, (rng.random(rows) < sigmoid(slope * logits + intercept)).astype(np.int8)


def misfit(logits):
    """A planted curve that no straight line comes near: scores that are shy in the middle and too sure at both ends."""
    return -2.2 + 2.5 * np.tanh((logits + 2.5) / 1.5)


def bent(rows, seed, level=-2.5):
    rng = np.random.default_rng(seed)
    logits = rng.normal(level, 1.5, rows)
    return logits, (rng.random(rows) < sigmoid(misfit(logits))).astype(np.int8)


def months(levels, rows=3000, seed=0, slope=1.0):
    return [made(slope, level, rows, (seed, month)) for month, level in enumerate(levels)]

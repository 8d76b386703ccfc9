"""What sites report at the end of a run."""

import hashlib

ARMS = ("local", "global", "tuned", "personal")
VERDICTS = ("helps", "no proven difference", "cannot be tested here", "no proven difference")


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def finish_line(sites, *, round_number=8, shared=None, keeps=()):
    """The finish record; ``keeps`` names sites whose policy keeps figures to themselves."""
    shared = shared or {arm: sha(f"shared {arm}") for arm in ("global", "personal")}
    return {
        "kind": "finish",
        "chosen": {"local": round_number, "global": round_number, "personal": round_number},
        "aggregate_sha256": shared,
        "sites": {
            name: _site_finish(name, index, round_number, shared, kept=name in keeps)
            for index, name in enumerate(sorted(sites))
        },
    }


def _site_finish(name, index, round_number, shared, *, kept):
    values = {"local": 0.912 + index / 200, "global": 0.925, "tuned": 0.934, "personal": 0.951 - index / 300}
    report = {
        "rows": {"train": 85, "validation": 29, "test": 28},
        "files": {arm: {"round": round_number, "personal_sha256": sha(f"{name} {arm}")} for arm in ARMS},
        "shared_sha256": shared,
        "absent_labels": [],
    }
    if not kept:
        report |= {
            "cells": {arm: _cell(value) for arm, value in values.items()},
            "differences": {
                arm: _difference(arm, index, values[arm] - values["local"])
                for arm in ("global", "tuned", "personal")
            },
            "proposal": "personal" if VERDICTS[index % 4] == "helps" else "local",
        }
    return report


def _cell(value):
    return {
        "accuracy": value,
        "balanced_accuracy": value - 0.006,
        "auroc": 0.97,
        "macro_f1": value - 0.01,
        "log_loss": 0.21,
        "ece": 0.031,
        "ece_bins": 2.0,
        "sensitivity": 0.88,
        "specificity": 0.91,
        "threshold": 0.42,
        "low": value - 0.05,
        "high": value + 0.03,
    }


def _difference(arm, index, value):
    return {
        "metric": "balanced_accuracy",
        "value": value,
        "low": value - 0.04 * (index > 0),
        "high": value + 0.05,
        "groups": {"benign": 47, "malignant": 11 if index % 4 == 2 else 38},
        "verdict": VERDICTS[index % 4] if arm == "personal" else "no proven difference",
        "lower": value - 0.03 * (index > 0),
        "margin": 0.02,
        "p_gain": 0.004 if index == 0 else 0.2,
        "p_harm": 0.9,
        "validation": {"value": value - 0.004, "error": 0.012},
    }

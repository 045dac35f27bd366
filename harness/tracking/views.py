"""Saved views of MLflow's UI: charts of an experiment's generators, which its users find under `Views`.

A view is a tag of the experiment, in the form in which the UI's own button `Save view` writes it (3.17). Where another
version does not know it, its users draw these charts themselves.
"""

import json
from collections.abc import Sequence
from typing import Any

from harness.tracking.addresses import ui_of

TAG = "mlflow.sharedViewState."
SEEDS, COST = "curves-over-seeds", "curves-over-cost"
NAMES = {SEEDS: "Mean curves over seeds", COST: "Curves over device-seconds"}
LOOKS = (("looks/conditional_accuracy",), ("looks/cas",))
PLAYERS = ("train/gan_loss_critic", "train/gan_loss_generator")
SECONDS = "cost/device_seconds"
SECTION = "curves"


def tags() -> dict[str, str]:
    """The tags of an experiment with generators."""
    means = _view(SEEDS, ("arm", "n_real"), [_lines(names) for names in (*LOOKS, PLAYERS)])
    single = _view(COST, ("arm", "n_real", "seed"), [_lines(names, over=SECONDS) for names in LOOKS])
    return {TAG + SEEDS: means, TAG + COST: single}


def addresses(experiment_id: str, tracking_uri: str) -> dict[str, str]:
    """Where a store's UI shows each view, by its name."""
    start = f"{ui_of(tracking_uri)}/#/experiments/{experiment_id}/runs?compareRunsMode=CHART&viewStateShareKey="
    return {name: start + key for key, name in NAMES.items()}


def _view(key: str, params: Sequence[str], charts: Sequence[dict[str, Any]]) -> str:
    """The charts in a section of their own, which is the first, a line for each value of the params."""
    by = [{"mode": "param", "groupByData": param} for param in params]
    state = {
        "searchFilter": "tags.kind = 'generator'",
        "groupBy": {"aggregateFunction": "average", "groupByKeys": by},
        "compareRunCharts": charts,
        "compareRunSections": [{"uuid": SECTION, "name": NAMES[key], "display": True, "isGenerated": False}],
        "isAccordionReordered": True,
    }
    return json.dumps({"name": NAMES[key], "createdAt": 0, "state": json.dumps(state)})


def _lines(names: tuple[str, ...], over: str | None = None) -> dict[str, Any]:
    """One chart of some metrics, over steps or over another metric."""
    return {
        "uuid": names[0],
        "type": "LINE",
        "metricSectionId": SECTION,
        "metricKey": names[0],
        "selectedMetricKeys": names,
        "xAxisKey": "metric" if over else "step",
        "selectedXAxisMetricKey": over or "",
        "useGlobalXaxisKey": False,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
        "runsCountToCompare": 10,
    }

"""Thousands of bad minutes. `SIM_RUNS` is how many seeds each scenario gets; `SIM_SEED` is one seed, alone."""

import os

import pytest

from tests.simulation.play import Failed, play
from tests.simulation.scenarios import SCENARIOS

RUNS = 50


def _seeds(weight: float) -> range:
    first, runs = os.environ.get("SIM_SEED"), os.environ.get("SIM_RUNS")
    if first is not None:
        return range(int(first), int(first) + int(runs or 1))
    return range(int(int(runs or RUNS) * weight))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_message_once_and_in_order_whatever_happens(name: str) -> None:
    scenario = SCENARIOS[name]
    for seed in _seeds(scenario.weight):
        try:
            play(scenario, seed)
        except Failed as failed:
            pytest.fail(f"{failed}\nAgain: SIM_SEED={seed} pytest tests/simulation -k '[{name}]'", pytrace=False)

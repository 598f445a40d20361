"""The real gateway, session and policy in a simulated world: virtual time, one random stream, every fault at any moment.

A seed is a run. `SIM_SEED=17 pytest tests/simulation -k broker` runs one seed again, `SIM_RUNS=5000` as many a scenario.
Everything outside the code under test is a twin here (log, projection, processor's host, network, clients); `watch` knows
from the log alone what each client must see.
"""

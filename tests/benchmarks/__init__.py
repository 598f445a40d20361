"""How fast it is, and where the processor's time goes: `python -m tests.benchmarks.run` (see `--help`).

The program starts the whole service and, before it, the smallest do-it-yourself mailbox (`baseline`) on the same machine,
plays the same scenarios against both, and prints every figure with its ratio and the one to reach. Figures are printed,
never asserted: what can fail here is only the correctness that is checked on the way (everything accepted is drained once).

`client`, `stream` and `load` make the traffic, `dialect` knows both HTTP interfaces, `service` starts and stops, `measure`
reads /proc, `single`, `batch`, `drain`, `deep`, `push` and `waiting` are the scenarios (the last two have no peer), `goals`
and `report` compare and print, `sampling` profiles. `append`, `decide`, `project` and `security` are programs of their own.
"""

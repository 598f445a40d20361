"""A whole service on one machine: Kafka, PostgreSQL and the roles as child processes of one supervisor.

`kafka` and `postgres` know how to prepare and start one server each and how to ask whether it answers; `child` owns a
process; `supervisor` starts, restarts and stops; `home` owns the data directory, its lock and its secrets.
"""

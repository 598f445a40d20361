"""The outermost ring: reads the settings, wires the roles together and runs them.

`settings` is the one reader of the environment, `wiring` the one place where the other packages meet, `cli` what a person
types. `local/` runs a real Kafka and a real PostgreSQL on this machine and keeps all processes of a service alive.
`evidence/` answers questions from the log itself.
Nothing imports `deploy`.
"""

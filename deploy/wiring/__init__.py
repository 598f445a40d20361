"""The composition root: the one place where the packages meet. A module a role, so that a role loads only what it runs.

Each has one function that runs until SIGTERM or SIGINT and opens and closes in order what the role is made of.
"""

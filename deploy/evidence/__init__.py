"""The log as evidence: what was recorded, read back and judged. Here the log reader, the database where it helps, and the
pure parts (`processors.audit`, `schemas.lifecycle`) meet; `deploy.commands.evidence` shows the answers."""

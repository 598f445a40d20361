"""The commands of `restante`, one module a noun. Each reads the settings, does one thing and prints what came of it."""

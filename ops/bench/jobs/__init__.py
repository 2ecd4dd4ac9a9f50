"""Durable jobs beside PgQueuer and Procrastinate, in one run on one PostgreSQL.

``docs/benchmarks.md`` says what is measured, how, and what is weak about it.

    python -m ops.bench.jobs --help

Parent (this program's interpreter): `__main__` reads the command line; `arena` runs PostgreSQL and
makes databases; `peers` installs the others; `entrants` says who takes part with which settings;
`processes` starts them; `throughput`, `latency` and `endurance` measure; `report` judges.

Children: `worker` and one module of `contenders` each, in a process and an interpreter of its own.
"""

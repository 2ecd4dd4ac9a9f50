"""Answers of the analytics port beside what a first version would do, on one PostgreSQL.

- `__main__`: the command line. `data`: two million events of one tenant, and nine small ones.
- `ours`: the analytics group in a process of its own, as the program runs it.
- `naive`: COUNT(DISTINCT) and joins over event tables, through FastAPI, uvicorn and asyncpg; and a
  constant answer from the same.
- `client`: keep-alive connections that ask and measure. `measures`: what is asked.
"""

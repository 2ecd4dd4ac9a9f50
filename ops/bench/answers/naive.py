"""What a first version would have: figures counted from event tables, question by question.

Runs in the peers' environment and imports nothing of ours. Its SQL is what such a version has:
COUNT(DISTINCT …) over the events of the range, joins between event tables for abandoned carts, an
index on (tenant, date) everywhere. ``/constant`` answers the bytes of the file that CONSTANT names.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import uvicorn
from fastapi import FastAPI, Response

STATS = """
SELECT (SELECT coalesce(sum(revenue), 0) FROM naive.purchase
        WHERE tenant_id = $1 AND event_date BETWEEN $2 AND $3)::text AS revenue,
       (SELECT count(DISTINCT transaction_id) FROM naive.purchase
        WHERE tenant_id = $1 AND event_date BETWEEN $2 AND $3) AS purchases,
       (SELECT count(DISTINCT user_pseudo_id) FROM naive.events
        WHERE tenant_id = $1 AND event_date BETWEEN $2 AND $3) AS total_users,
       (SELECT count(DISTINCT (user_pseudo_id, ga_session_id)) FROM naive.events
        WHERE tenant_id = $1 AND event_date BETWEEN $2 AND $3) AS sessions,
       (SELECT count(DISTINCT (user_pseudo_id, ga_session_id)) FROM naive.events
        WHERE tenant_id = $1 AND event_date BETWEEN $2 AND $3 AND session_engaged)
           AS engaged_sessions,
       (SELECT count(*) FROM naive.events
        WHERE tenant_id = $1 AND event_date BETWEEN $2 AND $3) AS events,
       (SELECT count(DISTINCT (c.user_pseudo_id, c.ga_session_id))
        FROM naive.add_to_cart c
        LEFT JOIN naive.purchase p
          ON p.tenant_id = c.tenant_id AND p.user_pseudo_id = c.user_pseudo_id
         AND p.ga_session_id = c.ga_session_id
        WHERE c.tenant_id = $1 AND c.event_date BETWEEN $2 AND $3 AND p.transaction_id IS NULL)
           AS abandoned,
       (SELECT count(*) FROM naive.events
        WHERE tenant_id = $1 AND event_date BETWEEN $2 AND $3
          AND event_name IN ('view_search_results', 'no_search_results')) AS searches
"""
CHART = """
SELECT e.event_date::text AS day, count(DISTINCT e.user_pseudo_id) AS total_users,
       count(DISTINCT (e.user_pseudo_id, e.ga_session_id)) AS sessions,
       max(p.revenue)::text AS revenue
FROM naive.events e
LEFT JOIN (
    SELECT event_date, sum(revenue) AS revenue FROM naive.purchase
    WHERE tenant_id = $1 AND event_date BETWEEN $2 AND $3 GROUP BY event_date
) p ON p.event_date = e.event_date
WHERE e.tenant_id = $1 AND e.event_date BETWEEN $2 AND $3
GROUP BY e.event_date ORDER BY e.event_date
"""
LOCATIONS = """
SELECT l.location_id, l.name, count(DISTINCT e.user_pseudo_id) AS total_users,
       count(DISTINCT (e.user_pseudo_id, e.ga_session_id)) AS sessions,
       max(p.revenue)::text AS revenue, max(p.purchases) AS purchases
FROM naive.locations l
JOIN naive.events e ON e.tenant_id = l.tenant_id AND e.location_id = l.location_id
LEFT JOIN (
    SELECT location_id, sum(revenue) AS revenue, count(DISTINCT transaction_id) AS purchases
    FROM naive.purchase
    WHERE tenant_id = $1 AND event_date BETWEEN $2 AND $3 GROUP BY location_id
) p ON p.location_id = l.location_id
WHERE l.tenant_id = $1 AND e.event_date BETWEEN $2 AND $3
GROUP BY l.location_id, l.name ORDER BY l.location_id
"""


def make_app() -> FastAPI:
    """The application."""
    pool: list[asyncpg.Pool] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=4, max_size=4) as made:
            pool.append(made)
            yield

    app = FastAPI(lifespan=lifespan)
    constant = Path(os.environ["CONSTANT"]).read_bytes()

    @app.get("/stats")
    async def stats(tenant: str, start_date: date, end_date: date) -> dict[str, Any]:
        return dict(await pool[0].fetchrow(STATS, tenant, start_date, end_date))

    @app.get("/stats/chart")
    async def chart(tenant: str, start_date: date, end_date: date) -> list[dict[str, Any]]:
        return [dict(row) for row in await pool[0].fetch(CHART, tenant, start_date, end_date)]

    @app.get("/stats/locations")
    async def locations(tenant: str, start_date: date, end_date: date) -> list[dict[str, Any]]:
        return [dict(row) for row in await pool[0].fetch(LOCATIONS, tenant, start_date, end_date)]

    @app.get("/constant")
    async def answer() -> Response:
        return Response(constant, media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(),
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )

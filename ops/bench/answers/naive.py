"""What a first version would have: figures counted from event tables, question by question.

Runs in the peers' environment and imports nothing of ours. Its SQL is what such a version has:
COUNT(DISTINCT …) over the events of the range, joins between event tables for abandoned carts, an
index on (tenant, date) everywhere. The list of purchases has what a sales person needs of ours:
who, where, what, and whether it is the first. ``/constant`` answers the bytes of the file
that CONSTANT names. LEVEL is that of uvicorn's log; at info, its default, it has a line for each
request.
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
PURCHASES = """
SELECT p.transaction_id, p.event_at::text AS at, p.revenue::text AS revenue, p.user_pseudo_id,
       p.location_id, max(l.name) AS location_name, p.items::text AS items, p.customer_id,
       max(c.company) AS company, max(c.contact) AS contact, max(c.email) AS email,
       max(c.phone) AS phone, count(DISTINCT o.transaction_id) AS earlier_purchases,
       min(e.event_at)::text AS began, count(DISTINCT e.event_at) AS events,
       count(*) OVER () AS total
FROM naive.purchase p
JOIN naive.events e
  ON e.tenant_id = p.tenant_id AND e.user_pseudo_id = p.user_pseudo_id
 AND e.ga_session_id = p.ga_session_id
LEFT JOIN naive.locations l
  ON l.tenant_id = p.tenant_id AND l.location_id = p.location_id
LEFT JOIN naive.customers c
  ON c.tenant_id = p.tenant_id AND c.customer_id = p.customer_id
LEFT JOIN naive.purchase o
  ON o.tenant_id = p.tenant_id AND o.user_pseudo_id = p.user_pseudo_id
 AND o.event_at < p.event_at
WHERE p.tenant_id = $1 AND p.event_date BETWEEN $2 AND $3
GROUP BY p.transaction_id, p.event_at, p.revenue, p.user_pseudo_id, p.location_id, p.items,
         p.customer_id
ORDER BY p.event_at DESC LIMIT 50
"""
CARTS = """
SELECT c.user_pseudo_id, c.ga_session_id, max(c.location_id) AS location_id,
       count(DISTINCT c.event_at) AS additions, max(e.event_at)::text AS at,
       count(*) OVER () AS total
FROM naive.add_to_cart c
JOIN naive.events e
  ON e.tenant_id = c.tenant_id AND e.user_pseudo_id = c.user_pseudo_id
 AND e.ga_session_id = c.ga_session_id
LEFT JOIN naive.purchase p
  ON p.tenant_id = c.tenant_id AND p.user_pseudo_id = c.user_pseudo_id
 AND p.event_at > c.event_at
WHERE c.tenant_id = $1 AND c.event_date BETWEEN $2 AND $3 AND p.transaction_id IS NULL
GROUP BY c.user_pseudo_id, c.ga_session_id
ORDER BY max(e.event_at) DESC LIMIT 50
"""
SEARCHES = """
SELECT s.user_pseudo_id, s.ga_session_id, lower(s.search_term) AS term,
       max(s.location_id) AS location_id, count(DISTINCT s.event_at) AS searches,
       count(DISTINCT s.event_at) FILTER (WHERE s.event_name = 'no_search_results') AS failed,
       max(s.event_at)::text AS at, count(*) OVER () AS total
FROM naive.search s
JOIN naive.events e
  ON e.tenant_id = s.tenant_id AND e.user_pseudo_id = s.user_pseudo_id
 AND e.ga_session_id = s.ga_session_id
LEFT JOIN naive.purchase p
  ON p.tenant_id = s.tenant_id AND p.user_pseudo_id = s.user_pseudo_id
 AND p.ga_session_id = s.ga_session_id
WHERE s.tenant_id = $1 AND s.event_date BETWEEN $2 AND $3
GROUP BY s.user_pseudo_id, s.ga_session_id, lower(s.search_term)
HAVING bool_or(s.event_name = 'no_search_results')
ORDER BY max(s.event_at) DESC LIMIT 50
"""
VISITS = """
SELECT e.user_pseudo_id, count(DISTINCT e.ga_session_id) AS visits, max(e.event_at)::text AS at,
       count(*) OVER () AS total
FROM naive.events e
WHERE e.tenant_id = $1 AND e.event_date BETWEEN $2 AND $3 AND e.session_engaged
  AND NOT EXISTS (SELECT FROM naive.purchase p
                  WHERE p.tenant_id = e.tenant_id AND p.user_pseudo_id = e.user_pseudo_id
                    AND p.event_date BETWEEN $2 AND $3)
GROUP BY e.user_pseudo_id
HAVING count(DISTINCT e.ga_session_id) >= 3
ORDER BY max(e.event_at) DESC LIMIT 50
"""
PAGES = """
WITH entrance AS (
    SELECT DISTINCT ON (v.user_pseudo_id, v.ga_session_id)
           v.user_pseudo_id, v.ga_session_id, split_part(v.page_location, '?', 1) AS page
    FROM naive.page_view v
    WHERE v.tenant_id = $1 AND v.event_date BETWEEN $2 AND $3
    ORDER BY v.user_pseudo_id, v.ga_session_id, v.event_at
), engaged AS (
    SELECT DISTINCT e.user_pseudo_id, e.ga_session_id FROM naive.events e
    WHERE e.tenant_id = $1 AND e.event_date BETWEEN $2 AND $3 AND e.session_engaged
)
SELECT n.page, count(*) AS sessions, count(g.user_pseudo_id) AS engaged
FROM entrance n
LEFT JOIN engaged g USING (user_pseudo_id, ga_session_id)
GROUP BY n.page HAVING count(*) >= 30
ORDER BY count(*) - count(g.user_pseudo_id) DESC LIMIT 50
"""
SESSION = """
SELECT e.event_at::text AS at, e.event_name, e.location_id FROM naive.events e
WHERE e.tenant_id = $1 AND e.user_pseudo_id = $2 AND e.ga_session_id = $3
ORDER BY e.event_at LIMIT 100
"""
PERSON = """
SELECT e.event_at::text AS at, e.event_name, e.location_id FROM naive.events e
WHERE e.tenant_id = $1 AND e.user_pseudo_id = $2
ORDER BY e.event_at DESC LIMIT 100
"""
RANGES = {
    "/stats/chart": CHART,
    "/stats/locations": LOCATIONS,
    "/tasks/purchases": PURCHASES,
    "/tasks/cart-abandonment": CARTS,
    "/tasks/search-analysis": SEARCHES,
    "/tasks/repeat-visits": VISITS,
    "/tasks/performance/pages": PAGES,
    "/tasks/performance/locations": LOCATIONS,
}


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

    async def stats(tenant: str, start_date: date, end_date: date) -> dict[str, Any]:
        (row,) = await pool[0].fetch(STATS, tenant, start_date, end_date)
        return dict(row)

    def declare(path: str, statement: str) -> None:
        async def listed(tenant: str, start_date: date, end_date: date) -> list[dict[str, Any]]:
            rows = await pool[0].fetch(statement, tenant, start_date, end_date)
            return [dict(row) for row in rows]

        app.add_api_route(path, listed)

    for path, statement in RANGES.items():
        declare(path, statement)

    async def session(tenant: str, visitor: str, session: int) -> list[dict[str, Any]]:
        return [dict(row) for row in await pool[0].fetch(SESSION, tenant, visitor, session)]

    async def person(tenant: str, visitor: str) -> list[dict[str, Any]]:
        return [dict(row) for row in await pool[0].fetch(PERSON, tenant, visitor)]

    async def answer() -> Response:
        return Response(constant, media_type="application/json")

    # Called, not decorated with: where the library is not there, a decorator of it hides the types.
    app.add_api_route("/stats", stats)
    app.add_api_route("/history/sessions", session)
    app.add_api_route("/history/users", person)
    app.add_api_route("/constant", answer)
    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(),
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        log_level=os.environ["LEVEL"],
    )

"""What must be true after any trouble; each check tells what is wrong in sentences."""

from collections.abc import Iterable
from pathlib import Path

from tests.support.chaos.ground import Ground
from tests.support.chaos.operations import read_operations

STALE = """
    SELECT count(*) AS effects, count(DISTINCT job_id) AS jobs FROM public.effects WHERE NOT held
"""
DISORDERED = """
    SELECT count(*) FROM (
        SELECT fencing_token
             < max(fencing_token) OVER (PARTITION BY job_id ORDER BY position) AS late
        FROM public.effects) e
    WHERE late
"""
COMPLETIONS = """
    SELECT count(*) FROM (
        SELECT FROM public.effects WHERE step = $1 GROUP BY job_id HAVING count(*) > 1) e
"""
# The result names the attempt that thought it was completing; the row, the one that was.
BORROWED = """
    SELECT count(*) FROM platform.all_jobs
    WHERE result ? 'token' AND (result ->> 'token')::bigint <> fencing_token
"""
# A span reaches from an attempt's first effect to its last; it held the job all the time between.
OVERLAPS = """
    WITH spans AS MATERIALIZED (
        SELECT e.tenant_id, e.fencing_token, min(e.done_at) AS began, max(e.done_at) AS ended
        FROM public.effects e
        JOIN platform.all_jobs j ON j.tenant_id = e.tenant_id AND j.job_id = e.job_id
        WHERE j.kind = $1 AND e.held GROUP BY 1, 2
    )
    SELECT coalesce(max(everywhere), 0) AS everywhere, coalesce(max(of_tenant), 0) AS of_tenant
    FROM (
        SELECT (SELECT count(*) FROM spans o WHERE a.began BETWEEN o.began AND o.ended)
                   AS everywhere,
               (SELECT count(*) FROM spans o WHERE a.began BETWEEN o.began AND o.ended
                AND o.tenant_id = a.tenant_id) AS of_tenant
        FROM spans a) s
"""
LOST = """
    SELECT state, count(*) AS jobs FROM platform.all_jobs WHERE state <> 'done' GROUP BY 1
"""
MISSING_EFFECTS = """
    SELECT count(*) FROM unnest($1::uuid[], $2::bigint[], $3::int[]) AS o (job_id, token, step)
    WHERE (SELECT count(*) FROM public.effects e
           WHERE e.job_id = o.job_id AND e.fencing_token = o.token AND e.step = o.step) <> 1
"""
MADE = """
    SELECT k.key, count(j.job_id) AS jobs
    FROM unnest($1::text[]) AS k (key)
    LEFT JOIN platform.all_jobs j ON j.idempotency_key = k.key
    GROUP BY 1
"""


async def stale_effects(ground: Ground) -> list[str]:
    """Effects that an attempt committed although the job was no longer its own."""
    (stale,) = await ground.rows(STALE)
    late = await ground.look(DISORDERED)
    found = []
    if stale["effects"]:
        found.append(f"{stale['effects']} stale effects on {stale['jobs']} jobs")
    if late:
        found.append(f"{late} effects behind those of a later attempt")
    return found


async def doubled_completions(ground: Ground, step: int) -> list[str]:
    """Jobs that were completed twice, or by an attempt that did not hold them."""
    twice = await ground.look(COMPLETIONS, step)
    borrowed = await ground.look(BORROWED)
    found = []
    if twice:
        found.append(f"{twice} jobs were completed more than once")
    if borrowed:
        found.append(f"{borrowed} jobs were completed by an attempt that did not hold them")
    return found


async def exceeded_limits(ground: Ground, kind: str, limit: int, tenant_limit: int) -> list[str]:
    """Attempts that held jobs at the same time although their kind's limits forbid it."""
    (most,) = await ground.rows(OVERLAPS, kind)
    found = []
    if most["everywhere"] > limit:
        found.append(f"{most['everywhere']} jobs at a time, {limit} allowed")
    if most["of_tenant"] > tenant_limit:
        found.append(f"{most['of_tenant']} jobs of a tenant at a time, {tenant_limit} allowed")
    return found


async def lost_jobs(ground: Ground, enqueued: int) -> list[str]:
    """Jobs that are gone, or ended otherwise than done."""
    found = [f"{row['jobs']} jobs are {row['state']}" for row in await ground.rows(LOST)]
    there = await ground.look("SELECT count(*) FROM platform.all_jobs")
    if there != enqueued:
        found.append(f"{there} jobs are known, {enqueued} were enqueued")
    return found


async def doubled_effects(ground: Ground, step: int) -> list[str]:
    """Jobs whose one effect is there twice or not at all."""
    jobs = await ground.look("SELECT count(*) FROM platform.all_jobs WHERE state = 'done'")
    effects = await ground.look("SELECT count(*) FROM public.effects WHERE step = $1", step)
    distinct = "SELECT count(DISTINCT job_id) FROM public.effects WHERE step = $1"
    affected = await ground.look(distinct, step)
    if (effects, affected) == (jobs, jobs):
        return []
    return [f"{jobs} jobs are done, {affected} have an effect, {effects} effects in all"]


async def unkept_promises(ground: Ground, logs: Iterable[Path]) -> list[str]:
    """What operation logs call acknowledged, and is not there, or is there twice."""
    effects, acknowledged, asked = [], set(), set()
    for operation in read_operations(logs):
        if operation["operation"] == "effect":
            effects.append((operation["job"], operation["token"], operation["step"]))
        else:
            asked.add(operation["key"])
            if operation["acknowledged"]:
                acknowledged.add(operation["key"])
    found = []
    jobs, tokens, steps = zip(*effects, strict=True) if effects else ((), (), ())
    if missing := await ground.look(MISSING_EFFECTS, jobs, tokens, steps):
        found.append(f"{missing} of {len(effects)} acknowledged effects are not there once")
    made = {row["key"]: row["jobs"] for row in await ground.rows(MADE, sorted(asked))}
    if lost := sum(made[key] == 0 for key in acknowledged):
        found.append(f"{lost} of {len(acknowledged)} acknowledged jobs are gone")
    if twice := sum(made[key] > 1 for key in asked):
        found.append(f"{twice} jobs were made twice for one key")
    return found

-- A process that was declared dead gives nothing back itself.
--
-- A job whose process dies pays with an attempt, since the job may be what killed it. A process that
-- learns of its own death ends its attempts and compares with the database what it runs; asking under
-- its old name, it was told of the very jobs it had just let go, gave them back free of charge, and
-- could be killed by them again without end. They are the rescue's.
DROP FUNCTION platform.jobs_of_process(uuid);
CREATE FUNCTION platform.jobs_of_process(p_process uuid)
    RETURNS TABLE (tenant_id uuid, job_id uuid, fencing_token bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT j.tenant_id, j.job_id, j.fencing_token FROM platform.jobs AS j
    JOIN platform.processes AS p ON p.process_id = j.process_id
    WHERE j.state = 'running' AND j.process_id = p_process AND p.dead_at IS NULL
$$;

REVOKE ALL ON FUNCTION platform.jobs_of_process(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform.jobs_of_process(uuid) TO troupe_runtime;
ALTER FUNCTION platform.jobs_of_process(uuid) OWNER TO troupe_system;

-- What was looked at, added up day by day: which pages, products and terms stand at the top of a list is
-- a sum of some hundred rows a day then. Only of those that are shown are visitors and sessions counted,
-- from interests.
--
-- A trigger on interests keeps it, so that it is right whoever writes there, in the same transaction.
CREATE TABLE data.subject_days (
    tenant_id       uuid NOT NULL,
    kind            varchar NOT NULL,           -- 'page', 'product', 'term'
    day             date NOT NULL,              -- reporting zone
    -- No text: an erasure changes texts wherever they are, and the interests, which this follows, have been
    -- changed as well.
    subject         varchar NOT NULL,
    views           bigint NOT NULL,
    cart_additions  bigint NOT NULL,
    failures        bigint NOT NULL,
    PRIMARY KEY (tenant_id, kind, day, subject)
);
ALTER TABLE data.subject_days ENABLE ROW LEVEL SECURITY;
ALTER TABLE data.subject_days FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON data.subject_days USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = (SELECT platform.current_tenant()));
GRANT SELECT, INSERT, UPDATE, DELETE ON data.subject_days TO troupe_runtime;

-- After a statement on interests: what it took away and what it added. Runs with the writer's rights.
CREATE FUNCTION data.follow_interests() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moved text := concat_ws(' UNION ALL ',
        CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN 'SELECT tenant_id, kind, day, subject, views,'
            ' cart_additions, failures FROM added' END,
        CASE WHEN TG_OP IN ('DELETE', 'UPDATE') THEN 'SELECT tenant_id, kind, day, subject, -views,'
            ' -cart_additions, -failures FROM removed' END);
BEGIN
    EXECUTE format($statement$
        WITH difference AS (
            SELECT m.tenant_id, m.kind, m.day, m.subject, sum(m.views)::bigint AS views,
                   sum(m.cart_additions)::bigint AS cart_additions, sum(m.failures)::bigint AS failures
            FROM (%s) AS m (tenant_id, kind, day, subject, views, cart_additions, failures)
            GROUP BY m.tenant_id, m.kind, m.day, m.subject
        )
        MERGE INTO data.subject_days AS t
        USING (SELECT * FROM difference d
               WHERE d.views <> 0 OR d.cart_additions <> 0 OR d.failures <> 0) AS d
           ON t.tenant_id = d.tenant_id AND t.kind = d.kind AND t.day = d.day AND t.subject = d.subject
        WHEN MATCHED AND t.views + d.views = 0 AND t.cart_additions + d.cart_additions = 0 THEN DELETE
        WHEN MATCHED THEN UPDATE SET
            views = t.views + d.views, cart_additions = t.cart_additions + d.cart_additions,
            failures = t.failures + d.failures
        -- What is to be taken away from nothing: the tenant is being erased, table by table.
        WHEN NOT MATCHED AND d.views >= 0 AND d.cart_additions >= 0 THEN
            INSERT (tenant_id, kind, day, subject, views, cart_additions, failures)
            VALUES (d.tenant_id, d.kind, d.day, d.subject, d.views, d.cart_additions, d.failures)
        $statement$, moved);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION data.follow_interests() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION data.follow_interests() TO troupe_runtime;

CREATE TRIGGER subjects_added AFTER INSERT ON data.interests
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_interests();
CREATE TRIGGER subjects_removed AFTER DELETE ON data.interests
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_interests();
CREATE TRIGGER subjects_changed AFTER UPDATE ON data.interests
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION data.follow_interests();

-- What was loaded before. Row-level security binds the owner too, so it is lifted for this transaction.
ALTER TABLE data.interests NO FORCE ROW LEVEL SECURITY;
ALTER TABLE data.subject_days NO FORCE ROW LEVEL SECURITY;
INSERT INTO data.subject_days
SELECT i.tenant_id, i.kind, i.day, i.subject, sum(i.views), sum(i.cart_additions), sum(i.failures)
FROM data.interests i
GROUP BY i.tenant_id, i.kind, i.day, i.subject;
ALTER TABLE data.interests FORCE ROW LEVEL SECURITY;
ALTER TABLE data.subject_days FORCE ROW LEVEL SECURITY;

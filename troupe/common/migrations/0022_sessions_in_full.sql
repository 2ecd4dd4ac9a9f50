-- What a session did, in full, beside it: a question about channels, devices, countries or customers is
-- then a look at the sessions of its days. Their activity, hour by hour, is read only of the few that
-- reach over the edge of a range. docs/adr/0025-sessions-in-full.md tells why.
ALTER TABLE data.sessions
    ADD COLUMN searches integer NOT NULL DEFAULT 0,
    ADD COLUMN failed_searches integer NOT NULL DEFAULT 0,
    -- METRICS "Users", of its events; that an engaged session's visitor is active is added when it is read.
    ADD COLUMN active boolean NOT NULL DEFAULT false,
    ADD COLUMN new boolean NOT NULL DEFAULT false;

-- A subject as it is kept: its beginning. An index has no room for more than 2,700 bytes, and a text that
-- somebody has typed may have four a character.
CREATE FUNCTION data.subject_of(p_text text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN octet_length(left(p_text, 1024)) > 2500 THEN left(p_text, 600)
                ELSE left(p_text, 1024) END;

-- As before (0018_entrances_and_searching.sql), and no longer than a subject may be.
CREATE OR REPLACE FUNCTION data.page_of(p_location text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN data.subject_of(split_part(split_part(p_location, '?', 1), '#', 1));

-- What happened outside of sessions, of which there is little.
CREATE INDEX activity_without_session ON data.activity (tenant_id, day) WHERE ga_session_id IS NULL;

-- Subjects, too, are looked for: those of one page of a list, those that an answer is narrowed to. What
-- looked for days alone finds them as before.
CREATE INDEX interests_by_subject ON data.interests (tenant_id, kind, day, subject);
DROP INDEX data.interests_by_day;

-- Sessions that have to do with what is looked for: of each kind (p_kinds and p_subjects stand side by side)
-- one of its subjects. A page that was viewed; a product that was viewed, put into the cart or bought (by
-- what counts as a purchase); a term that was searched for. Looked for are sessions that reach into one of
-- the periods, and of these all days: at the edge of a range a session is the same one on both sides.
-- The planner's settings are those of joins by key, whatever the caller's.
CREATE FUNCTION data.sessions_with(
    p_tenant uuid, p_first_days date[], p_last_days date[], p_kinds text[], p_subjects text[])
    RETURNS TABLE (stream_id text, user_pseudo_id text, ga_session_id bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_nestloop = on
AS $$
    WITH wanted AS (
        SELECT DISTINCT w.kind, CASE w.kind WHEN 'page' THEN data.page_of(w.subject)
                   WHEN 'term' THEN data.search_key(w.subject) ELSE data.subject_of(w.subject) END AS subject
        FROM unnest(p_kinds, p_subjects) AS w (kind, subject)
    ), reach AS (
        SELECT least(p.first_day, min(s.day)) AS first_day,
               greatest(p.last_day, max(s.last_day)) AS last_day
        FROM unnest(p_first_days, p_last_days) AS p (first_day, last_day)
        LEFT JOIN data.sessions s
          ON s.tenant_id = p_tenant AND s.last_day > s.day
         AND s.last_day >= p.first_day AND s.day <= p.last_day
        GROUP BY p.first_day, p.last_day
    ), met AS (
        SELECT w.kind, i.stream_id, i.user_pseudo_id, i.ga_session_id
        FROM reach r
        CROSS JOIN wanted w
        JOIN data.interests i
          ON i.tenant_id = p_tenant AND i.kind = w.kind AND i.subject = w.subject
         AND i.day BETWEEN r.first_day AND r.last_day
        WHERE i.ga_session_id IS NOT NULL
        UNION ALL
        SELECT 'product', coalesce(b.stream_id, ''), b.user_pseudo_id, b.ga_session_id
        FROM reach r
        JOIN data.purchases b
          ON 'product' = ANY (p_kinds) AND b.tenant_id = p_tenant AND b.counted
         AND b.day BETWEEN r.first_day AND r.last_day
        WHERE b.user_pseudo_id IS NOT NULL AND b.ga_session_id IS NOT NULL
          AND EXISTS (
              SELECT FROM jsonb_array_elements(
                  CASE WHEN jsonb_typeof(b.items) = 'array' THEN b.items ELSE '[]' END) AS element
              JOIN wanted w ON w.kind = 'product' AND w.subject = data.subject_of(element ->> 'id')
              WHERE w.subject <> '(not set)')
    )
    SELECT m.stream_id, m.user_pseudo_id, m.ga_session_id
    FROM met m
    GROUP BY m.stream_id, m.user_pseudo_id, m.ga_session_id
    HAVING count(DISTINCT m.kind) = (SELECT count(DISTINCT w.kind) FROM wanted w)
$$;
REVOKE ALL ON FUNCTION data.sessions_with(uuid, date[], date[], text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION data.sessions_with(uuid, date[], date[], text[], text[]) TO troupe_runtime;

-- What was loaded before. Row-level security binds the owner too, so it is lifted for this transaction;
-- what follows from sessions does not follow from these columns.
ALTER TABLE data.sessions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE data.activity NO FORCE ROW LEVEL SECURITY;
ALTER TABLE data.sessions DISABLE TRIGGER entrances_changed;
UPDATE data.sessions s
SET searches = a.searches, failed_searches = a.failed_searches, active = a.active, new = a.new
FROM (
    SELECT a.tenant_id, a.stream_id, a.user_pseudo_id, a.ga_session_id, sum(a.searches) AS searches,
           sum(a.failed_searches) AS failed_searches, bool_or(a.active) AS active,
           bool_or(a.new) AS new
    FROM data.activity a
    WHERE a.ga_session_id IS NOT NULL
    GROUP BY a.tenant_id, a.stream_id, a.user_pseudo_id, a.ga_session_id
) AS a
WHERE s.tenant_id = a.tenant_id AND s.user_pseudo_id = a.user_pseudo_id
  AND s.ga_session_id = a.ga_session_id AND s.stream_id = a.stream_id;
ALTER TABLE data.sessions ENABLE TRIGGER entrances_changed;
ALTER TABLE data.sessions FORCE ROW LEVEL SECURITY;
ALTER TABLE data.activity FORCE ROW LEVEL SECURITY;

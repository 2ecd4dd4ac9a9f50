-- What people searched for. METRICS "Search"; run by searches.py inside a publication.

-- name: typed_terms
-- $1 tenant, $2 the tenant's failed-search event. The different terms as typed.
SELECT coalesce(array_agg(DISTINCT e.search_term), '{}')
FROM pg_temp.day_acts e
WHERE e.tenant_id = $1
  AND e.event_name IN ('view_search_results', $2) AND e.search_term IS NOT NULL

-- name: drop_searches
-- $1 tenant, $2 source day.
DELETE FROM data.searches WHERE tenant_id = $1 AND source_day = $2

-- name: derive_searches
-- $1 tenant, $2 source day, $3 the tenant's failed-search event, $4 reporting zone, $5 terms as
-- typed and $6 what they are normalised to, side by side. Who bought afterwards is marked later, once
-- it is known which purchases count.
INSERT INTO data.searches (
    tenant_id, source_day, day, first_at, last_at, stream_id, user_pseudo_id, ga_session_id,
    location_id, term, searches, failed_searches, purchased)
SELECT $1, $2, e.day, min(e.event_at), max(e.event_at), e.stream_id, e.user_pseudo_id,
       e.ga_session_id, coalesce(s.location_id, e.own_location_id), coalesce(t.term, ''), count(*),
       count(*) FILTER (WHERE e.event_name = $3), false
FROM (
    SELECT (d.event_at AT TIME ZONE $4)::date AS day, d.event_at, d.event_name, d.search_term,
           d.user_pseudo_id,
           CASE WHEN key.complete THEN coalesce(d.stream_id, '') END AS stream_id,
           CASE WHEN key.complete THEN d.ga_session_id END AS ga_session_id,
           CASE WHEN NOT key.complete THEN coalesce(d.location_id, '') END AS own_location_id
    FROM pg_temp.day_acts d
    CROSS JOIN LATERAL (
        SELECT d.user_pseudo_id IS NOT NULL AND d.ga_session_id IS NOT NULL AS complete
    ) AS key
    WHERE d.tenant_id = $1 AND d.event_name IN ('view_search_results', $3)
) AS e
LEFT JOIN data.sessions s
  ON s.tenant_id = $1 AND s.user_pseudo_id = e.user_pseudo_id
 AND s.ga_session_id = e.ga_session_id AND s.stream_id = e.stream_id
LEFT JOIN unnest($5::text[], $6::text[]) AS t (typed, term) ON t.typed = e.search_term
GROUP BY e.day, e.stream_id, e.user_pseudo_id, e.ga_session_id,
         coalesce(s.location_id, e.own_location_id), coalesce(t.term, '')

-- name: mark_searches
-- $1 tenant. The searches of changed sessions, on any source day: under which branch, and whether a
-- purchase that counts came after them.
UPDATE data.searches q
SET location_id = found.location_id, purchased = found.last_purchase > q.first_at
FROM (
    SELECT s.stream_id, s.user_pseudo_id, s.ga_session_id, s.location_id,
           coalesce(max(p.purchased_at) FILTER (WHERE p.counted), '-infinity') AS last_purchase
    FROM pg_temp.changed_sessions c
    JOIN data.sessions s
      ON s.tenant_id = $1 AND s.user_pseudo_id = c.user_pseudo_id
     AND s.ga_session_id = c.ga_session_id AND s.stream_id = c.stream_id
    LEFT JOIN data.purchases p
      ON p.tenant_id = $1 AND p.user_pseudo_id = c.user_pseudo_id
     AND p.ga_session_id = c.ga_session_id AND coalesce(p.stream_id, '') = c.stream_id
    WHERE EXISTS (
        SELECT FROM data.searches found
        WHERE found.tenant_id = $1 AND found.user_pseudo_id = c.user_pseudo_id
          AND found.ga_session_id = c.ga_session_id AND found.stream_id = c.stream_id)
    GROUP BY s.stream_id, s.user_pseudo_id, s.ga_session_id, s.location_id
) AS found
WHERE q.tenant_id = $1 AND q.user_pseudo_id = found.user_pseudo_id
  AND q.ga_session_id = found.ga_session_id AND q.stream_id = found.stream_id
  AND (q.location_id <> found.location_id
       OR q.purchased <> (found.last_purchase > q.first_at))

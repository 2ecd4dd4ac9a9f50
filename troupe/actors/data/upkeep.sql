-- Days that are there already: derived anew, and taken away.

-- name: outdated_days
-- $1 tenant, $2 how days are derived now. Loaded days that were derived otherwise, oldest first.
SELECT source_day FROM data.source_days
WHERE tenant_id = $1 AND loaded_at IS NOT NULL AND derived_as IS DISTINCT FROM $2
ORDER BY source_day

-- name: expired_days
-- $1 tenant, $2 first day that is kept. Loaded days before it, oldest first.
SELECT source_day FROM data.source_days
WHERE tenant_id = $1 AND loaded_at IS NOT NULL AND source_day < $2
ORDER BY source_day

-- name: needs
-- $1 tenant, $2 how days are derived now, $3 first day that is kept.
SELECT coalesce(bool_or(derived_as IS DISTINCT FROM $2), false) AS outdated,
       coalesce(bool_or(source_day < $3), false) AS expired
FROM data.source_days
WHERE tenant_id = $1 AND loaded_at IS NOT NULL

-- name: note_derived
-- $1 tenant, $2 source day, $3 how it is derived, $4 how it is cut. A row, if that is news. What was
-- read need not be read again: only the second half of the fingerprint changes.
UPDATE data.source_days
SET derived_as = $3, extraction = split_part(extraction, ' ', 1) || ' ' || $4
WHERE tenant_id = $1 AND source_day = $2 AND loaded_at IS NOT NULL AND derived_as IS DISTINCT FROM $3
RETURNING true

-- name: note_removed
-- $1 tenant, $2 source day. A row, if it was there.
WITH counts AS (
    DELETE FROM data.source_event_counts WHERE tenant_id = $1 AND source_day = $2
)
UPDATE data.source_days
SET state = 'removed', family = NULL, source_modified = NULL, source_rows = NULL,
    loaded_rows = NULL, loaded_at = NULL, first_event_at = NULL, last_event_at = NULL,
    extraction = NULL, derived_as = NULL, scanned_bytes = NULL, counted_at = NULL,
    counted_modified = NULL, checked_at = now(), problem = NULL
WHERE tenant_id = $1 AND source_day = $2 AND loaded_at IS NOT NULL
RETURNING true

-- name: drop_empty_day
-- $1 tenant, $2 source day.
SELECT data.drop_empty_day($1, $2)

-- GoogleSQL, run by BigQuery: what one day of an export holds, for comparison with what was loaded.

-- name: count_events
-- One column is read, so this costs a hundredth of what loading the day does.
SELECT event_name, COUNT(*) AS source_rows
FROM `{table}`
GROUP BY event_name

-- What makes a day's digest cheaper and has to be in the database (docs/adr/0024-digests.md).

-- As before (0022_sessions_in_full.sql): a text of so few bytes is its own beginning, and its characters
-- need not be counted. Hardly any is longer.
CREATE OR REPLACE FUNCTION data.subject_of(p_text text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN octet_length(p_text) <= 1024 THEN p_text
                WHEN octet_length(left(p_text, 1024)) > 2500 THEN left(p_text, 600)
                ELSE left(p_text, 1024) END;

CREATE OR REPLACE FUNCTION data.page_of(p_location text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN octet_length(p_location) <= 1024
                THEN split_part(split_part(p_location, '?', 1), '#', 1)
                ELSE data.subject_of(split_part(split_part(p_location, '?', 1), '#', 1)) END;

-- The first value that is not NULL, of rows that come in an order (from a sorted subquery right below):
-- any_value does that, but promises only some value. Its transition function is strict, so PostgreSQL
-- begins with the first value, and gives back what it has. Unlike array_agg it keeps no others.
-- PostgreSQL 15 has none, and takes one of ours.
DO $$
BEGIN
    IF to_regprocedure('pg_catalog.any_value_transfn(anyelement, anyelement)') IS NOT NULL THEN
        CREATE AGGREGATE data.first_known(anyelement) (
            SFUNC = pg_catalog.any_value_transfn, STYPE = anyelement);
    ELSE
        CREATE FUNCTION data.keep_first(p_kept anyelement, p_next anyelement) RETURNS anyelement
            LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
            RETURN p_kept;
        CREATE AGGREGATE data.first_known(anyelement) (
            SFUNC = data.keep_first, STYPE = anyelement);
    END IF;
END
$$;

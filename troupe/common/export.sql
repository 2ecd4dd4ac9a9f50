-- name: tables
-- Every table with rows of tenants that the program may read, with its columns (secrets and hashes,
-- which are bytea, left out) and the condition of a person's rows.
SELECT t.schema_name || '.' || t.name AS name, t.relation::text AS quoted,
       platform.person_condition(t.relation) AS condition,
       (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
        FROM pg_attribute AS a
        WHERE a.attrelid = t.relation AND a.attnum > 0 AND NOT a.attisdropped
          AND a.atttypid <> 'bytea'::regtype) AS columns
FROM platform.tenant_tables() AS t
WHERE has_table_privilege(t.relation, 'SELECT')
ORDER BY 1;

-- name: members
-- The people of the transaction's tenant; their table is nobody's to read.
SELECT row_to_json(m)::text AS line FROM auth.list_members(NULL, 1001) AS m;

-- name: patterns
-- $1 identifiers.
SELECT platform.person_parts($1) AS parts, platform.person_quoted($1) AS quoted;

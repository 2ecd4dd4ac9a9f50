-- Tenants that come and go, persons who want to be forgotten, keys that change.
--
-- What is erased is found in the catalogue, not in a list: a table that somebody adds later is covered
-- when it carries tenant_id. docs/adr/0013-erasure.md says what is deleted, what is renamed, and why.

-- For work of the operator that visits every tenant, the deactivated ones included.
CREATE FUNCTION platform.all_tenants() RETURNS TABLE (tenant_id uuid, state text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.tenant_id, t.state FROM platform.tenants AS t ORDER BY t.tenant_id
$$;

-- Who was erased, so that loading an old day again or the next master data file does not bring them
-- back. The digest is salted with the tenant; an identifier cannot be read from it, but somebody who
-- has one can ask whether it was erased.
CREATE TABLE data.erased_persons (
    tenant_id  uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    digest     bytea NOT NULL CHECK (length(digest) = 32),
    pseudonym  text NOT NULL CHECK (pseudonym ~ '^erased-[0-9a-f]{20}$'),
    erased_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, digest)
);
ALTER TABLE data.erased_persons ENABLE ROW LEVEL SECURITY;
ALTER TABLE data.erased_persons FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON data.erased_persons USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = platform.current_tenant());
GRANT SELECT ON data.erased_persons TO troupe_runtime;

CREATE FUNCTION data.person_digest(p_tenant uuid, p_identifier text) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN sha256(convert_to(p_tenant::text || ':' || lower(p_identifier), 'UTF8'));

-- ---- finding a person's identifiers in what is stored

-- Tables with rows of tenants, partitions left out: what is asked of the parent reaches them.
CREATE FUNCTION platform.tenant_tables() RETURNS TABLE (relation regclass, schema_name text, name text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid::regclass, n.nspname::text, c.relname::text
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('platform', 'auth', 'data', 'analytics')
      AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND EXISTS (SELECT FROM pg_attribute AS a
                  WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
    ORDER BY 2, 3
$$;

-- Whether a column of this name may name a person by a value of its own. Short identifiers (a
-- customer number 42) are looked for there only: elsewhere 42 is a branch, a version, a channel.
CREATE FUNCTION platform.names_a_person(p_column text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN p_column ~ '(user|customer|visitor|person|contact|email|phone|assignee|recipient)';

-- The pseudonym that stands for an identifier in one erasure. Nobody keeps the salt.
CREATE FUNCTION platform.pseudonym(p_identifier text, p_salt text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'erased-' || substr(encode(sha256(convert_to(p_salt || p_identifier, 'UTF8')), 'hex'), 1, 20);

CREATE FUNCTION platform.redacted(p_value text, p_identifiers text[], p_salt text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    identifier text;
BEGIN
    FOREACH identifier IN ARRAY p_identifiers LOOP
        IF p_value = identifier THEN
            RETURN platform.pseudonym(identifier, p_salt);
        ELSIF length(identifier) >= 8 THEN
            p_value := replace(p_value, identifier, platform.pseudonym(identifier, p_salt));
        END IF;
    END LOOP;
    RETURN p_value;
END
$$;

CREATE FUNCTION platform.redacted(p_value jsonb, p_identifiers text[], p_salt text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    identifier text;
    written text;
    told text := p_value::text;
BEGIN
    FOREACH identifier IN ARRAY p_identifiers LOOP
        written := btrim(to_jsonb(identifier)::text, '"');
        IF length(identifier) >= 8 THEN
            told := replace(told, written, platform.pseudonym(identifier, p_salt));
        ELSE
            told := regexp_replace(
                told,
                '("[^"]*(?:user|customer|visitor|person|contact|email|phone)[^"]*": )"'
                    || regexp_replace(written, '([^[:alnum:]])', '\\\1', 'g') || '"',
                '\1"' || platform.pseudonym(identifier, p_salt) || '"', 'gi');
        END IF;
    END LOOP;
    RETURN told::jsonb;
END
$$;

-- Identifiers as patterns: parts of a longer text (from eight characters on), and in the text of jsonb.
CREATE FUNCTION platform.person_parts(p_identifiers text[]) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN (SELECT coalesce(array_agg('%' || regexp_replace(i, '([\\%_])', '\\\1', 'g') || '%'), '{}')
            FROM unnest(p_identifiers) AS i WHERE length(i) >= 8);

CREATE FUNCTION platform.person_quoted(p_identifiers text[]) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN (SELECT array_agg('%' || regexp_replace(
                CASE WHEN length(i) >= 8 THEN btrim(to_jsonb(i)::text, '"')
                     ELSE to_jsonb(i)::text END, '([\\%_])', '\\\1', 'g') || '%')
            FROM unnest(p_identifiers) AS i);

-- The rows of one table in which a person's identifiers may be, as a condition on $1 tenant,
-- $2 identifiers, $3 their person_parts, $4 their person_quoted. NULL: no column could hold one.
CREATE FUNCTION platform.person_condition(p_relation regclass) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('tenant_id = $1 AND (%s)', string_agg(
        CASE WHEN a.atttypid = 'jsonb'::regtype
             THEN format('%I::text LIKE ANY ($4)', a.attname)
             WHEN platform.names_a_person(a.attname)
             THEN format('%1$I = ANY ($2) OR %1$I LIKE ANY ($3)', a.attname)
             ELSE format('%I LIKE ANY ($3)', a.attname) END, ' OR ' ORDER BY a.attnum))
    FROM pg_attribute AS a
    WHERE a.attrelid = p_relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      AND a.atttypid IN ('text'::regtype, 'jsonb'::regtype)
    HAVING count(*) > 0
$$;

-- Puts pseudonyms for a person's identifiers wherever the transaction's tenant has them: in every text
-- and jsonb column of every table, but for the audit log, which cannot change and names nobody, and
-- for what administrators configure. Says how many rows changed, by table.
CREATE FUNCTION platform.redact_person(p_tenant uuid, p_identifiers text[], p_salt text)
    RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
    touched bigint;
    counts jsonb := '{}';
BEGIN
    FOR t IN
        SELECT tables.*, platform.person_condition(tables.relation) AS condition, (
            SELECT string_agg(format('%1$I = platform.redacted(%1$I, $2, $5)', a.attname), ', ')
            FROM pg_attribute AS a
            WHERE a.attrelid = tables.relation AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attgenerated = '' AND a.atttypid IN ('text'::regtype, 'jsonb'::regtype)
        ) AS assignments
        FROM platform.tenant_tables() AS tables
        WHERE tables.schema_name <> 'auth'
          AND (tables.schema_name, tables.name) NOT IN
              (('platform', 'tenants'), ('data', 'erased_persons'), ('data', 'staged_days'))
    LOOP
        CONTINUE WHEN t.condition IS NULL;
        EXECUTE format('UPDATE %s SET %s WHERE %s', t.relation, t.assignments, t.condition)
            USING p_tenant, p_identifiers, platform.person_parts(p_identifiers),
                  platform.person_quoted(p_identifiers), p_salt;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched > 0 THEN
            counts := counts || jsonb_build_object(t.schema_name || '.' || t.name, touched);
        END IF;
    END LOOP;
    RETURN counts;
END
$$;

-- ---- erasing a person

-- Everything that leads to a person, from one identifier: a visitor's id, a customer's number, an
-- address, a telephone number. A customer brings along the visitors that were seen as that customer;
-- a visitor brings nobody along, because a company's number is shared by many.
CREATE FUNCTION data.identifiers_of(p_tenant uuid, p_identifier text) RETURNS text[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    numbers text[];
    named_all text[];
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    SELECT array_agg(DISTINCT named) INTO numbers FROM (
        SELECT p_identifier AS named
        UNION ALL
        SELECT customer_id FROM data.customers
        WHERE tenant_id = p_tenant
          AND (customer_id = p_identifier OR lower(email) = lower(p_identifier) OR phone = p_identifier)
    ) AS every;
    SELECT array_agg(DISTINCT named) INTO named_all FROM (
        SELECT unnest(numbers) AS named
        UNION ALL
        SELECT user_pseudo_id FROM data.sessions
        WHERE tenant_id = p_tenant AND customer_id = ANY (numbers)
        UNION ALL
        SELECT user_pseudo_id FROM data.events
        WHERE tenant_id = p_tenant AND user_pseudo_id IS NOT NULL
          AND (customer_id = ANY (numbers) OR user_id = ANY (numbers))
        UNION ALL
        SELECT unnest(ARRAY[customer_id, email, phone, contact]) FROM data.customers
        WHERE tenant_id = p_tenant AND customer_id = ANY (numbers)
    ) AS every WHERE named IS NOT NULL AND length(named) >= 1;
    RETURN named_all;
END
$$;

-- Wipes what describes a person in rows of events: everything that is not a figure.
CREATE FUNCTION data.wipe_statement(p_table text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    RETURN format(
        'UPDATE %s AS e SET user_pseudo_id = coalesce(who.pseudonym, e.user_pseudo_id),'
        ' user_id = NULL, customer_id = NULL, erp_customer_id = NULL, parameters = NULL,'
        ' page_location = split_part(e.page_location, ''?'', 1),'
        ' page_referrer = split_part(e.page_referrer, ''?'', 1), region = NULL, city = NULL,'
        ' transaction_id = CASE WHEN e.transaction_id IS NULL THEN NULL'
        ' ELSE platform.pseudonym(e.transaction_id, who.pseudonym) END', p_table);

-- Erases a person of the transaction's tenant in one transaction: renames in every table, wipes in
-- events, drops the customer, remembers for days that are loaded again. Figures stay as they were.
-- p_job is the job that does so: who it is about does not stay in its arguments either.
CREATE FUNCTION data.erase_person(p_tenant uuid, p_identifiers text[], p_job uuid) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    salt text := gen_random_uuid()::text;
    touched bigint;
    counts jsonb := '{}';
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    -- As a publication does: neither sees the other half-way.
    PERFORM FROM data.versions WHERE tenant_id = p_tenant FOR UPDATE;

    INSERT INTO data.erased_persons (tenant_id, digest, pseudonym)
    SELECT DISTINCT ON (1, 2) p_tenant, data.person_digest(p_tenant, i), platform.pseudonym(i, salt)
    FROM unnest(p_identifiers) AS i
    WHERE i !~ '^erased-[0-9a-f]{20}$'
    ON CONFLICT DO NOTHING;

    DELETE FROM data.customers WHERE tenant_id = p_tenant AND customer_id = ANY (p_identifiers);
    GET DIAGNOSTICS touched = ROW_COUNT;
    counts := counts || jsonb_build_object('customers', touched);

    EXECUTE data.wipe_statement('data.events')
        || ' FROM (SELECT i AS named, platform.pseudonym(i, $2) AS pseudonym'
           '       FROM unnest($3) AS i) AS who'
           ' WHERE e.tenant_id = $1 AND e.user_pseudo_id = who.named'
        USING p_tenant, salt, p_identifiers;
    GET DIAGNOSTICS touched = ROW_COUNT;
    counts := counts || jsonb_build_object('events', touched);

    UPDATE data.purchases AS p SET transaction_id =
        platform.pseudonym(p.transaction_id, platform.pseudonym(p.user_pseudo_id, salt))
    WHERE p.tenant_id = p_tenant AND p.user_pseudo_id = ANY (p_identifiers)
      AND p.transaction_id IS NOT NULL;
    UPDATE data.refunds AS r SET transaction_id =
        platform.pseudonym(r.transaction_id, platform.pseudonym(r.user_pseudo_id, salt))
    WHERE r.tenant_id = p_tenant AND r.user_pseudo_id = ANY (p_identifiers)
      AND r.transaction_id IS NOT NULL;

    UPDATE platform.jobs SET arguments = '{}' WHERE tenant_id = p_tenant AND job_id = p_job;
    -- Answers that are kept for repeated requests may hold anything; they are worth a day at most.
    DELETE FROM platform.idempotency_keys WHERE tenant_id = p_tenant;
    counts := counts || platform.redact_person(p_tenant, p_identifiers, salt);

    UPDATE data.versions SET data_version = data_version + 1 WHERE tenant_id = p_tenant;
    PERFORM pg_notify('troupe_data_version', p_tenant::text);
    RETURN counts;
END
$$;

-- Applies earlier erasures to a staged day, before it is sealed.
CREATE FUNCTION data.apply_erasures(p_tenant uuid, p_table text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    touched bigint;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    PERFORM FROM data.erased_persons WHERE tenant_id = p_tenant LIMIT 1;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM FROM data.staged_days WHERE tenant_id = p_tenant AND table_name = p_table;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no staged table of that name' USING ERRCODE = 'undefined_table';
    END IF;
    EXECUTE data.wipe_statement(format('staging.%I', p_table))
        || format(' FROM ('
           '   SELECT v.user_pseudo_id AS visitor, min(x.pseudonym) AS pseudonym'
           '   FROM (SELECT DISTINCT user_pseudo_id, customer_id, user_id FROM staging.%I) AS v'
           '   JOIN data.erased_persons AS x ON x.tenant_id = $1 AND x.digest IN ('
           '       data.person_digest($1, v.user_pseudo_id),'
           '       data.person_digest($1, v.customer_id), data.person_digest($1, v.user_id))'
           '   GROUP BY 1) AS who'
           ' WHERE e.user_pseudo_id = who.visitor', p_table)
        USING p_tenant;
    GET DIAGNOSTICS touched = ROW_COUNT;
    RETURN touched;
END
$$;

-- A customer who was erased does not come back with the next file.
CREATE FUNCTION data.refuse_erased_customer() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM data.erased_persons AS x
        WHERE x.tenant_id = NEW.tenant_id AND x.digest IN (
            data.person_digest(NEW.tenant_id, NEW.customer_id),
            data.person_digest(NEW.tenant_id, NEW.email)))
    THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse_erased BEFORE INSERT ON data.customers
    FOR EACH ROW EXECUTE FUNCTION data.refuse_erased_customer();

-- Erases a member: out of this tenant with everything that was theirs; the person's own row too when
-- no other tenant knows them. Says what else may name them, for data.erase_person.
CREATE FUNCTION auth.erase_member(p_user uuid) RETURNS text[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant uuid := platform.current_tenant();
    person auth.users;
BEGIN
    PERFORM FROM auth.members AS m WHERE m.tenant_id = tenant AND m.user_id = p_user;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO person FROM auth.users AS u WHERE u.user_id = p_user;
    DELETE FROM auth.login_sessions AS s
        WHERE s.user_id = p_user AND (s.tenant_id = tenant OR s.provider_tenant_id = tenant);
    DELETE FROM auth.members AS m WHERE m.tenant_id = tenant AND m.user_id = p_user;
    DELETE FROM auth.users AS u WHERE u.user_id = p_user
        AND NOT EXISTS (SELECT FROM auth.members AS m WHERE m.user_id = p_user);
    RETURN array_remove(ARRAY[person.email, person.subject, nullif(person.name, '')], NULL);
END
$$;

-- One member of the transaction's tenant, as people know them.
CREATE FUNCTION auth.member(p_user uuid)
    RETURNS TABLE (name text, email text, last_login_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT u.name, u.email, u.last_login_at
    FROM auth.members AS m JOIN auth.users AS u USING (user_id)
    WHERE m.tenant_id = platform.current_tenant() AND m.user_id = p_user
$$;

-- ---- erasing a tenant

-- Drops days of a tenant's events, at most p_limit; says whether some are left. It locks nobody else
-- out, so it is called until there is nothing left, before the rest goes in one transaction.
CREATE FUNCTION data.drop_events(p_tenant uuid, p_limit integer) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '4s'
AS $$
DECLARE
    name text;
    parent text := data.tenant_partition(p_tenant);
    dropped integer := 0;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    FOR name IN
        DELETE FROM data.staged_days WHERE tenant_id = p_tenant RETURNING table_name
    LOOP
        EXECUTE format('DROP TABLE IF EXISTS staging.%I', name);
    END LOOP;
    FOR name IN
        SELECT i.inhrelid::regclass::text FROM pg_inherits AS i
        WHERE i.inhparent = to_regclass(format('data.%I', parent)) LIMIT p_limit
    LOOP
        EXECUTE format('DROP TABLE %s', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped = p_limit;
END
$$;

-- People whom no other tenant knows.
CREATE FUNCTION auth.forget_people() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenant uuid := platform.current_tenant();
    forgotten bigint;
BEGIN
    DELETE FROM auth.users AS u
    WHERE EXISTS (SELECT FROM auth.members AS m
                  WHERE m.user_id = u.user_id AND m.tenant_id = tenant)
      AND NOT EXISTS (SELECT FROM auth.members AS m
                      WHERE m.user_id = u.user_id AND m.tenant_id <> tenant);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;

-- Deletes every row of the transaction's tenant. The partition goes last: from there until the commit
-- everybody's events are locked.
CREATE FUNCTION platform.erase_tenant(p_tenant uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
    t record;
    deleted bigint;
    touched bigint;
BEGIN
    PERFORM data.demand_tenant(p_tenant);
    -- Triggers that keep one table in step with another may write behind us; hence until nothing is
    -- left to delete.
    FOR pass IN 1..10 LOOP
        deleted := 0;
        FOR t IN
            SELECT * FROM platform.tenant_tables() AS tables
            WHERE tables.schema_name <> 'auth'
              AND (tables.schema_name, tables.name) NOT IN (('platform', 'tenants'), ('data', 'events'))
        LOOP
            EXECUTE format('DELETE FROM %s WHERE tenant_id = $1', t.relation) USING p_tenant;
            GET DIAGNOSTICS touched = ROW_COUNT;
            deleted := deleted + touched;
        END LOOP;
        EXIT WHEN deleted = 0;
    END LOOP;
    IF deleted > 0 THEN
        RAISE EXCEPTION 'rows of the tenant come back as fast as they are deleted';
    END IF;
    DELETE FROM platform.tenants WHERE tenant_id = p_tenant;
    EXECUTE format('DROP TABLE IF EXISTS data.%I', data.tenant_partition(p_tenant));
END
$$;

-- ---- changing keys

-- The sealed tokens of sessions at providers of the transaction's tenant, and putting one back under
-- another key: only if it is still what was read.
CREATE FUNCTION auth.sealed_sessions()
    RETURNS TABLE (session_id uuid, provider_tokens bytea)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.session_id, s.provider_tokens FROM auth.login_sessions AS s
    WHERE s.provider_tenant_id = platform.current_tenant() AND s.provider_tokens IS NOT NULL
$$;

CREATE FUNCTION auth.reseal_session(p_session uuid, p_old bytea, p_new bytea) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE auth.login_sessions AS s SET provider_tokens = p_new
    WHERE s.provider_tenant_id = platform.current_tenant() AND s.session_id = p_session
      AND s.provider_tokens = p_old;
    RETURN FOUND;
END
$$;

ALTER TABLE auth.data_keys ADD COLUMN retired_at timestamptz;

-- ---- rights

GRANT DELETE ON auth.users, auth.members TO troupe_system;

DO $$
DECLARE
    door regprocedure;
BEGIN
    FOREACH door IN ARRAY ARRAY[
        'platform.all_tenants()', 'auth.member(uuid)', 'auth.erase_member(uuid)', 'auth.forget_people()',
        'auth.sealed_sessions()', 'auth.reseal_session(uuid, bytea, bytea)'
    ]::regprocedure[] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', door);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO troupe_runtime', door);
        EXECUTE format('ALTER FUNCTION %s OWNER TO troupe_system', door);
    END LOOP;
    FOREACH door IN ARRAY ARRAY[
        'data.identifiers_of(uuid, text)', 'data.erase_person(uuid, text[], uuid)',
        'data.apply_erasures(uuid, text)', 'data.drop_events(uuid, integer)',
        'platform.erase_tenant(uuid)'
    ]::regprocedure[] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', door);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO troupe_runtime', door);
    END LOOP;
END
$$;

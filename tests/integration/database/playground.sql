CREATE TABLE notes (
    tenant_id uuid,
    id int,
    body jsonb,
    amount numeric,
    PRIMARY KEY (tenant_id, id)
);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notes
    USING (tenant_id = nullif(current_setting('troupe.tenant_id', true), '')::uuid);
CREATE TABLE staging (id int, body jsonb, amount numeric);
CREATE TABLE slots (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
-- Whose tenant a deferred trigger runs under.
CREATE TABLE overheard (tenant text);
CREATE FUNCTION overhear() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO overheard VALUES (current_setting('troupe.tenant_id', true));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER overhear AFTER INSERT ON staging DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.id = -1) EXECUTE FUNCTION overhear();
CREATE FUNCTION fail_with(state text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'failing with %', state USING ERRCODE = state;
END $$;
GRANT ALL ON notes, staging, slots, overheard TO troupe_runtime;

-- The real databases do not let the runtime role make temporary tables; here a unit shall try.
DO $$ BEGIN
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO troupe_runtime', current_database());
END $$;

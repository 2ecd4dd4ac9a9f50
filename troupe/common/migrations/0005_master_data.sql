-- What the last import of master data found at the tenant's server, file by file.
CREATE TABLE data.master_files (
    tenant_id       uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    content         text NOT NULL CHECK (content IN ('locations', 'customers')),
    path            text NOT NULL,               -- on the server
    -- Size to imported_at tell of the file as it was last imported; NULL: never.
    size            bigint,
    modified_at     timestamptz,
    sha256          bytea,
    reading         text,                        -- fingerprint of where and how it was read
    loaded_rows     bigint,                      -- usable rows
    bad_rows        bigint,
    imported_at     timestamptz,
    checked_at      timestamptz NOT NULL DEFAULT now(),
    problem         text,                        -- why the last look did not import it; NULL: none
    PRIMARY KEY (tenant_id, content, path)
);

ALTER TABLE data.master_files ENABLE ROW LEVEL SECURITY;
ALTER TABLE data.master_files FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON data.master_files USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = platform.current_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON data.master_files TO troupe_runtime;

ALTER TABLE data.customers ADD COLUMN city text;

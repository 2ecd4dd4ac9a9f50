-- Files on their way to being imported, and what was wrong with those that were.

-- Uploads until a job has taken them, and what has arrived of transfers that broke.
CREATE TABLE data.held_files (
    tenant_id       uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    file_id         uuid NOT NULL,
    purpose         text NOT NULL CHECK (purpose IN ('upload', 'transfer')),
    content         text NOT NULL CHECK (content IN ('locations', 'customers')),
    name            text NOT NULL,               -- an upload's own, a transfer's path on the server
    size            bigint NOT NULL CHECK (size >= 0),   -- bytes that are held
    sha256          bytea,                       -- of an upload
    found           text,                        -- of a transfer: what the server said of the file
    held_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, file_id),
    CHECK ((purpose = 'upload') = (sha256 IS NOT NULL)),
    CHECK ((purpose = 'transfer') = (found IS NOT NULL))
);
CREATE UNIQUE INDEX held_files_transfer ON data.held_files (tenant_id, name)
    WHERE purpose = 'transfer';

CREATE TABLE data.held_pieces (
    tenant_id       uuid NOT NULL,
    file_id         uuid NOT NULL,
    number          integer NOT NULL,            -- from 0
    bytes           bytea NOT NULL,
    PRIMARY KEY (tenant_id, file_id, number),
    FOREIGN KEY (tenant_id, file_id) REFERENCES data.held_files ON DELETE CASCADE
);
-- Written once, read once.
ALTER TABLE data.held_pieces ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- Faults of the rows of one file, as one job found them.
CREATE TABLE data.row_reports (
    tenant_id       uuid NOT NULL REFERENCES platform.tenants ON DELETE CASCADE,
    job_id          uuid NOT NULL,
    content         text NOT NULL CHECK (content IN ('locations', 'customers')),
    path            text NOT NULL,               -- as in data.master_files
    taken           boolean NOT NULL,            -- whether the good rows were
    bad_rows        bigint NOT NULL,
    errors_total    bigint NOT NULL,
    errors          text NOT NULL,               -- JSON: arrays of line, column, message
    reported_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id, content, path)
);
CREATE INDEX row_reports_age ON data.row_reports (tenant_id, reported_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['held_files', 'held_pieces', 'row_reports'] LOOP
        EXECUTE format('ALTER TABLE data.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE data.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON data.%I USING (tenant_id = platform.current_tenant())'
            ' WITH CHECK (tenant_id = platform.current_tenant())', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON data.%I TO troupe_runtime', name);
    END LOOP;
END
$$;

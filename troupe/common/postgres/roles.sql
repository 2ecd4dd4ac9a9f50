-- What the roles and the database of a server must be before the first migration.

-- name: lock
-- Two supervisors that start together prepare one after the other. Released with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('troupe.roles', 0))

-- name: roles
-- Which of our roles exist and whether any of them could get around row-level security.
SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls AS unbound
FROM pg_roles
WHERE rolname = ANY ($1::text[])

-- name: create_owner
-- Owns everything and migrates; subject to row-level security like anyone.
CREATE ROLE troupe_owner LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOINHERIT

-- name: create_runtime
-- What the program runs as.
CREATE ROLE troupe_runtime LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOINHERIT

-- name: create_system
-- Owns the functions that look across tenants; nobody logs in as it.
CREATE ROLE troupe_system NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOINHERIT

-- name: is_member
-- Whether a role may become another; by its own grant, not as a superuser.
SELECT EXISTS (
    SELECT FROM pg_auth_members
    WHERE member = (SELECT oid FROM pg_roles WHERE rolname = $1)
      AND roleid = (SELECT oid FROM pg_roles WHERE rolname = $2)
)

-- name: grant_system
-- Functions are handed over to troupe_system, which takes being a member of it.
GRANT troupe_system TO troupe_owner

-- name: may_become_owner
-- Whether who connected may SET ROLE troupe_owner; $1 is SET, or MEMBER before PostgreSQL 16. (From
-- 16 on, whoever makes a role may administer it without being able to become it.)
SELECT pg_has_role(current_user, 'troupe_owner', $1)

-- name: grant_owner
-- Who connected migrates as troupe_owner.
GRANT troupe_owner TO CURRENT_USER

-- name: password_statement
-- ALTER ROLE takes no parameters; $2 is a verifier, never a password.
SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)

-- name: database_exists
-- Whether there is a database of that name.
SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)

-- name: create_database_statement
-- $1 name, $2 database to copy. Files are copied as they are, which takes a third of the time of writing
-- every page to the log.
SELECT format('CREATE DATABASE %I OWNER troupe_owner TEMPLATE %I STRATEGY FILE_COPY', $1::text, $2::text)

-- name: close_database_statement
-- By default every role may connect to a new database and make temporary tables in it.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $1::text)

-- name: open_database_statement
-- The runtime role may connect; what else it may, migrations say.
SELECT format('GRANT CONNECT ON DATABASE %I TO troupe_runtime', $1::text)

-- name: own_schemas_statement
-- The owner of everything makes schemas in a database that belongs to somebody else.
SELECT format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO troupe_owner', current_database())

-- name: has_owner_privileges
-- Whether troupe_owner may already make schemas here.
SELECT has_database_privilege('troupe_owner', current_database(), 'CREATE')

-- name: has_runtime_privileges
-- Whether the runtime role may already connect here.
SELECT has_database_privilege('troupe_runtime', current_database(), 'CONNECT')

-- name: identifiers
-- Everything that leads to a person from one identifier. $1 tenant, $2 identifier.
SELECT data.identifiers_of($1, $2);

-- name: erase_person
-- How many rows changed, by table. $1 tenant, $2 identifiers, $3 the job that does so.
SELECT data.erase_person($1, $2, $3);

-- name: erase_invitations
-- Those that wait for a person. $1 tenant, $2 identifiers.
DELETE FROM auth.invitations
WHERE tenant_id = $1 AND lower(email) = ANY (SELECT lower(named) FROM unnest($2::text[]) AS named);

-- name: drop_events
-- Whether days are left. $1 tenant, $2 how many to drop at most.
SELECT data.drop_events($1, $2);

-- name: forget_people
-- Deletes the people whom no other tenant than the transaction's knows.
SELECT auth.forget_people();

-- name: erase_tenant
-- $1 tenant.
SELECT platform.erase_tenant($1);

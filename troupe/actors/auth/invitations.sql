-- name: member_has_address
-- $1 address, lower case.
SELECT auth.address_is_a_members($1);

-- name: invitation_counts
-- How many wait, and how many were made within the last hour, the earliest of which is how many
-- seconds old. $1 tenant.
SELECT count(*) FILTER (WHERE ended_at IS NULL AND expires_at > now()) AS waiting,
       count(*) FILTER (WHERE created_at > now() - interval '1 hour') AS recent,
       extract(epoch FROM now() - min(created_at) FILTER (
           WHERE created_at > now() - interval '1 hour'))::float8 AS oldest
FROM auth.invitations WHERE tenant_id = $1;

-- name: only_provider
-- The tenant's enabled providers, two at most. $1 tenant, $2 provider or NULL.
SELECT provider_id FROM auth.identity_providers
WHERE tenant_id = $1 AND enabled AND ($2::uuid IS NULL OR provider_id = $2)
ORDER BY provider_id LIMIT 2;

-- name: drop_expired_invitation
-- Makes room for a new one to the same address. $1 tenant, $2 provider, $3 address.
DELETE FROM auth.invitations
WHERE tenant_id = $1 AND provider_id = $2 AND email = $3 AND expires_at <= now();

-- name: invite
-- No row when the address has been invited there. $1 tenant, $2 invitation, $3 provider, $4 address,
-- $5 role, $6 who invites or NULL, $7 lifetime.
INSERT INTO auth.invitations
    (tenant_id, invitation_id, provider_id, email, role, invited_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval)
ON CONFLICT (tenant_id, provider_id, email) DO NOTHING
RETURNING invitation_id, provider_id, email, role, invited_by, created_at, expires_at,
          false AS expired;

-- name: invitations
-- One page of those that are not over, oldest first. $1 tenant, $2 after this one or NULL, $3 how many.
SELECT invitation_id, provider_id, email, role, invited_by, created_at, expires_at,
       expires_at <= now() AS expired
FROM auth.invitations
WHERE tenant_id = $1 AND ended_at IS NULL AND ($2::uuid IS NULL OR invitation_id > $2)
ORDER BY invitation_id LIMIT $3;

-- name: count_invitations
-- $1 tenant.
SELECT count(*) FROM auth.invitations WHERE tenant_id = $1 AND ended_at IS NULL;

-- name: lock_invitation
-- $1 tenant, $2 invitation.
SELECT role FROM auth.invitations
WHERE tenant_id = $1 AND invitation_id = $2 AND ended_at IS NULL FOR UPDATE;

-- name: end_invitation
-- The address goes with it. $1 tenant, $2 invitation.
UPDATE auth.invitations SET ended_at = now(), email = NULL
WHERE tenant_id = $1 AND invitation_id = $2 AND ended_at IS NULL;

-- name: waiting_invitation
-- The one that a login may accept, held until the end of the transaction; whoever made it must still
-- be one who may. $1 tenant, $2 provider, $3 verified address, lower case.
SELECT i.invitation_id, i.role
FROM auth.invitations AS i
WHERE i.tenant_id = $1 AND i.provider_id = $2 AND i.email = $3 AND i.expires_at > now()
  AND (i.invited_by IS NULL OR EXISTS (
      SELECT FROM auth.members AS m
      WHERE m.tenant_id = i.tenant_id AND m.user_id = i.invited_by
        AND auth.role_rank(m.role) >= greatest(
            auth.role_rank('admin'), auth.role_rank(i.role))))
FOR UPDATE OF i;

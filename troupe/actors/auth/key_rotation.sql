-- name: data_keys
-- $1 tenant.
SELECT key_id, wrapped_key, state FROM auth.data_keys WHERE tenant_id = $1;

-- name: connections_sealed
-- Sealed values of the transaction's tenant, each with the rest of its key as text.
SELECT kind AS key, secret AS sealed FROM auth.connections
WHERE tenant_id = platform.current_tenant() AND secret IS NOT NULL;

-- name: connections_put
-- Whether the value was still what it was. $1 key, $2 as it was, $3 sealed anew.
WITH changed AS (
    UPDATE auth.connections SET secret = $3
    WHERE tenant_id = platform.current_tenant() AND kind = $1 AND secret = $2 RETURNING 1
) SELECT EXISTS (SELECT FROM changed);

-- name: providers_sealed
-- As above.
SELECT provider_id::text AS key, client_secret AS sealed FROM auth.identity_providers
WHERE tenant_id = platform.current_tenant() AND client_secret IS NOT NULL;

-- name: providers_put
-- As above.
WITH changed AS (
    UPDATE auth.identity_providers SET client_secret = $3
    WHERE tenant_id = platform.current_tenant() AND provider_id = $1::text::uuid
      AND client_secret = $2 RETURNING 1
) SELECT EXISTS (SELECT FROM changed);

-- name: sessions_sealed
-- As above; through a door, since sessions belong to no tenant.
SELECT session_id::text AS key, provider_tokens AS sealed FROM auth.sealed_sessions();

-- name: sessions_put
-- As above.
SELECT auth.reseal_session($1::text::uuid, $2, $3);

-- name: alerts_sealed
-- As above.
SELECT alert_id::text AS key, webhook_secret AS sealed FROM analytics.alerts
WHERE tenant_id = platform.current_tenant() AND webhook_secret IS NOT NULL;

-- name: alerts_put
-- As above.
WITH changed AS (
    UPDATE analytics.alerts SET webhook_secret = $3
    WHERE tenant_id = platform.current_tenant() AND alert_id = $1::text::uuid
      AND webhook_secret = $2 RETURNING 1
) SELECT EXISTS (SELECT FROM changed);

-- name: drop_unused_keys
-- Retired data keys that no value names any more. A sealed value names its key in bytes 2 to 17; one
-- that waits in a job is base64. $1 tenant, $2 how long a retired key stays in any case.
DELETE FROM auth.data_keys AS k
WHERE k.tenant_id = $1 AND k.state = 'retired' AND k.retired_at < now() - $2::interval
  AND uuid_send(k.key_id) NOT IN (
      SELECT substr(secret, 2, 16) FROM auth.connections
      WHERE tenant_id = $1 AND secret IS NOT NULL
      UNION ALL
      SELECT substr(client_secret, 2, 16) FROM auth.identity_providers
      WHERE tenant_id = $1 AND client_secret IS NOT NULL
      UNION ALL
      SELECT substr(webhook_secret, 2, 16) FROM analytics.alerts
      WHERE tenant_id = $1 AND webhook_secret IS NOT NULL
      UNION ALL
      SELECT substr(provider_tokens, 2, 16) FROM auth.sealed_sessions()
      UNION ALL
      SELECT substr(decode(arguments ->> 'sealed', 'base64'), 2, 16) FROM platform.all_jobs
      WHERE tenant_id = $1 AND arguments ->> 'sealed' IS NOT NULL)
RETURNING key_id;

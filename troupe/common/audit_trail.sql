-- name: append
-- For the transaction's tenant. $1 kind of actor, $2 actor or NULL, $3 action, $4 target, $5 detail.
SELECT auth.append_audit($1, $2, $3, $4, $5);

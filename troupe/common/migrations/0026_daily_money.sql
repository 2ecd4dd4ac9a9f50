-- Money by day and branch: answers over whole days read a row of it where they would read one for each hour.

CREATE TABLE data.daily_money (
    tenant_id      uuid NOT NULL,
    day            date NOT NULL,
    location_id    text NOT NULL,
    currency       text NOT NULL,
    purchases      bigint NOT NULL,             -- deduplicated
    gross_revenue  numeric NOT NULL,
    refund_value   numeric NOT NULL,
    PRIMARY KEY (tenant_id, day, location_id, currency)
);
ALTER TABLE data.daily_money ENABLE ROW LEVEL SECURITY;
ALTER TABLE data.daily_money FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON data.daily_money USING (tenant_id = platform.current_tenant())
    WITH CHECK (tenant_id = (SELECT platform.current_tenant()));
GRANT SELECT, INSERT, UPDATE, DELETE ON data.daily_money TO troupe_runtime;

-- What was loaded before. Row-level security binds the owner too, so it is lifted for this transaction.
ALTER TABLE data.money_rollup NO FORCE ROW LEVEL SECURITY;
ALTER TABLE data.daily_money NO FORCE ROW LEVEL SECURITY;
INSERT INTO data.daily_money
SELECT tenant_id, day, location_id, currency, sum(purchases), sum(gross_revenue), sum(refund_value)
FROM data.money_rollup
GROUP BY tenant_id, day, location_id, currency;
ALTER TABLE data.money_rollup FORCE ROW LEVEL SECURITY;
ALTER TABLE data.daily_money FORCE ROW LEVEL SECURITY;

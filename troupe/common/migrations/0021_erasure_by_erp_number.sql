-- Erasing a customer also finds the visitors who ordered for that customer's ERP number.
--
-- data.identifiers_of followed the number a visitor was logged in with. A shop may send only the
-- number that the order is for (`erp_customer_id`); such a visitor was not found.

CREATE OR REPLACE FUNCTION data.identifiers_of(p_tenant uuid, p_identifier text) RETURNS text[]
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
        WHERE tenant_id = p_tenant
          AND (customer_id = ANY (numbers) OR erp_customer_id = ANY (numbers))
        UNION ALL
        SELECT user_pseudo_id FROM data.events
        WHERE tenant_id = p_tenant AND user_pseudo_id IS NOT NULL
          AND (customer_id = ANY (numbers) OR user_id = ANY (numbers)
               OR erp_customer_id = ANY (numbers))
        UNION ALL
        SELECT unnest(ARRAY[customer_id, email, phone, contact]) FROM data.customers
        WHERE tenant_id = p_tenant AND customer_id = ANY (numbers)
    ) AS every WHERE named IS NOT NULL AND length(named) >= 1;
    RETURN named_all;
END
$$;

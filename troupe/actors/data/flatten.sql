-- GoogleSQL, run by BigQuery: one day of a GA4 export, flattened to the columns of data.events.
--
-- A day is scanned once, by the engine that is built for it, and only for the columns named here;
-- what travels are flat rows. Parameters are turned into columns in one pass over the array, not in
-- one sub-query each. Should a key occur twice, the greater value is taken: any choice would do, as
-- long as it is always the same.
--
-- Exports differ between properties, and a property's between its days. A line that ends in
--     -- optional: PATH TYPE
-- reads a column that a table may lack; where it does, flattening.py writes a NULL of that type in
-- its place. With every column there the text below is what BigQuery gets.

-- name: flatten_day
-- Parameters: the names of TenantSettings.
WITH exported AS (
  SELECT
    event_timestamp,
    event_name,
    event_params,
    user_properties,
    user_pseudo_id,
    user_id AS user_id, -- optional: user_id STRING
    CAST(stream_id AS STRING) AS stream_id, -- optional: stream_id STRING
    is_active_user AS is_active_user, -- optional: is_active_user BOOL
    event_bundle_sequence_id AS bundle_sequence_id, -- optional: event_bundle_sequence_id INT64
    batch_event_index AS batch_event_index, -- optional: batch_event_index INT64
    device.category AS device_category, -- optional: device.category STRING
    device.operating_system AS operating_system, -- optional: device.operating_system STRING
    device.web_info.browser AS web_browser, -- optional: device.web_info.browser STRING
    device.browser AS app_browser, -- optional: device.browser STRING
    device.language AS language, -- optional: device.language STRING
    geo.country AS country, -- optional: geo.country STRING
    geo.region AS region, -- optional: geo.region STRING
    geo.city AS city, -- optional: geo.city STRING
    session_traffic_source_last_click.cross_channel_campaign.default_channel_group AS channel, -- optional: session_traffic_source_last_click.cross_channel_campaign.default_channel_group STRING
    session_traffic_source_last_click.cross_channel_campaign.source AS cross_source, -- optional: session_traffic_source_last_click.cross_channel_campaign.source STRING
    session_traffic_source_last_click.cross_channel_campaign.medium AS cross_medium, -- optional: session_traffic_source_last_click.cross_channel_campaign.medium STRING
    session_traffic_source_last_click.cross_channel_campaign.campaign_name AS cross_campaign, -- optional: session_traffic_source_last_click.cross_channel_campaign.campaign_name STRING
    session_traffic_source_last_click.manual_campaign.source AS manual_source, -- optional: session_traffic_source_last_click.manual_campaign.source STRING
    session_traffic_source_last_click.manual_campaign.medium AS manual_medium, -- optional: session_traffic_source_last_click.manual_campaign.medium STRING
    session_traffic_source_last_click.manual_campaign.campaign_name AS manual_campaign, -- optional: session_traffic_source_last_click.manual_campaign.campaign_name STRING
    collected_traffic_source.manual_source AS collected_source, -- optional: collected_traffic_source.manual_source STRING
    collected_traffic_source.manual_medium AS collected_medium, -- optional: collected_traffic_source.manual_medium STRING
    collected_traffic_source.manual_campaign_name AS collected_campaign, -- optional: collected_traffic_source.manual_campaign_name STRING
    ecommerce.transaction_id AS transaction_id, -- optional: ecommerce.transaction_id STRING
    ecommerce.purchase_revenue AS purchase_revenue, -- optional: ecommerce.purchase_revenue FLOAT64
    ecommerce.refund_value AS refund_value, -- optional: ecommerce.refund_value FLOAT64
    ecommerce.shipping_value AS shipping_value, -- optional: ecommerce.shipping_value FLOAT64
    ecommerce.tax_value AS tax_value, -- optional: ecommerce.tax_value FLOAT64
    items AS items -- optional: items ARRAY<STRUCT<item_id STRING, item_name STRING, item_category STRING, price FLOAT64, quantity INT64, item_revenue FLOAT64>>
  FROM `{table}`
), gathered AS (
  SELECT
    exported.*,
    (
      SELECT AS STRUCT
        MAX(IF(key = 'ga_session_id', value.int_value, NULL)) AS ga_session_id,
        MAX(IF(key = 'ga_session_number', value.int_value, NULL)) AS ga_session_number,
        -- A string in most rows, an integer in others.
        LOGICAL_OR(IF(key = 'session_engaged', COALESCE(value.string_value, CAST(value.int_value AS STRING)) = '1', NULL)) AS session_engaged,
        MAX(IF(key = 'engagement_time_msec', value.int_value, NULL)) AS engagement_ms,
        MAX(IF(key = @branch_parameter, COALESCE(value.string_value, CAST(value.int_value AS STRING)), NULL)) AS location_id,
        MAX(IF(key = 'page_location', value.string_value, NULL)) AS page_location,
        MAX(IF(key = 'page_title', value.string_value, NULL)) AS page_title,
        MAX(IF(key = 'page_referrer', value.string_value, NULL)) AS page_referrer,
        MAX(IF(key = 'search_term', COALESCE(value.string_value, CAST(value.int_value AS STRING)), NULL)) AS search_term,
        MAX(IF(key = @failed_search_parameter, COALESCE(value.string_value, CAST(value.int_value AS STRING)), NULL)) AS failed_term,
        MAX(IF(key = 'source', value.string_value, NULL)) AS source,
        MAX(IF(key = 'medium', value.string_value, NULL)) AS medium,
        MAX(IF(key = 'campaign', value.string_value, NULL)) AS campaign,
        MAX(IF(key = 'currency', value.string_value, NULL)) AS currency,
        -- Whole amounts arrive as integers.
        MAX(IF(key = 'value', COALESCE(value.double_value, value.float_value, CAST(value.int_value AS FLOAT64)), NULL)) AS event_value,
        STRING_AGG(
          IF(
            key IN ('ga_session_id', 'ga_session_number', 'session_engaged', 'engagement_time_msec', 'engaged_session_event', 'page_location', 'page_title', 'page_referrer', 'search_term', 'source', 'medium', 'campaign', 'currency', 'value', @branch_parameter, @failed_search_parameter),
            NULL,
            CONCAT(
              TO_JSON_STRING(key),
              ':',
              CASE
                WHEN value.string_value IS NOT NULL THEN TO_JSON_STRING(value.string_value)
                WHEN value.int_value IS NOT NULL THEN CAST(value.int_value AS STRING)
                WHEN value.double_value IS NOT NULL THEN TO_JSON_STRING(value.double_value)
                WHEN value.float_value IS NOT NULL THEN TO_JSON_STRING(value.float_value)
                ELSE 'null'
              END
            )
          ),
          ','
        ) AS others
      FROM UNNEST(event_params)
    ) AS parameter,
    (
      SELECT AS STRUCT
        MAX(IF(key = @web_user_property, COALESCE(value.string_value, CAST(value.int_value AS STRING)), NULL)) AS login_id,
        MAX(IF(key = @web_customer_property, COALESCE(value.string_value, CAST(value.int_value AS STRING)), NULL)) AS erp_id,
        MAX(IF(key = @branch_property, COALESCE(value.string_value, CAST(value.int_value AS STRING)), NULL)) AS location_id
      FROM UNNEST(user_properties)
    ) AS property
  FROM exported
)
SELECT
  TIMESTAMP_MICROS(event_timestamp) AS event_at,
  event_name,
  stream_id,
  NULLIF(user_pseudo_id, '') AS user_pseudo_id,
  parameter.ga_session_id AS ga_session_id,
  parameter.ga_session_number AS ga_session_number,
  parameter.session_engaged AS session_engaged,
  parameter.engagement_ms AS engagement_ms,
  is_active_user,
  user_id,
  COALESCE(NULLIF(property.login_id, ''), NULLIF(property.erp_id, '')) AS customer_id,
  NULLIF(property.erp_id, '') AS erp_customer_id,
  COALESCE(NULLIF(parameter.location_id, ''), NULLIF(property.location_id, '')) AS location_id,
  parameter.page_location AS page_location,
  parameter.page_title AS page_title,
  parameter.page_referrer AS page_referrer,
  IF(event_name = @failed_search_event, parameter.failed_term, parameter.search_term) AS search_term,
  COALESCE(cross_source, manual_source, collected_source, parameter.source) AS source,
  COALESCE(cross_medium, manual_medium, collected_medium, parameter.medium) AS medium,
  COALESCE(cross_campaign, manual_campaign, collected_campaign, parameter.campaign) AS campaign,
  channel,
  device_category,
  operating_system,
  COALESCE(web_browser, app_browser) AS browser,
  language,
  country,
  region,
  city,
  NULLIF(parameter.currency, '') AS currency,
  parameter.event_value AS event_value,
  transaction_id,
  purchase_revenue,
  refund_value,
  shipping_value,
  tax_value,
  NULLIF(TO_JSON_STRING(ARRAY(SELECT AS STRUCT item_id AS id, item_name AS name, item_category AS category, price, quantity, item_revenue AS revenue FROM UNNEST(items))), '[]') AS items,
  CONCAT('{', parameter.others, '}') AS parameters,
  bundle_sequence_id,
  batch_event_index
FROM gathered

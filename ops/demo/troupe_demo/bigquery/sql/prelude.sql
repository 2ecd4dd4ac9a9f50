-- DuckDB macros that give DuckDB's functions BigQuery's meaning; the compiler emits calls of them.
-- Instants are zoneless timestamps in UTC. A branch that ends in error('The stand-in …') refuses
-- an input whose answer in BigQuery is not certain.

-- name: bq_refuse
-- Raise a refusal; the text is checked by the engine and never swallowed by a SAFE variant.
CREATE MACRO bq_refuse(what) AS error('The stand-in does not support ' || what)

-- name: bq_float_text
-- FLOAT64 to STRING: 15 digits if they read back as the same number, else 17.
CREATE MACRO bq_float_text(x) AS CASE
    WHEN isnan(x) THEN 'nan'
    WHEN isinf(x) THEN CASE WHEN x > 0 THEN 'inf' ELSE '-inf' END
    WHEN x = 0 THEN '0'
    WHEN CAST(format('{:.15g}', x) AS DOUBLE) = x THEN format('{:.15g}', x)
    WHEN x IS NOT NULL THEN format('{:.17g}', x) END

-- name: bq_checked
-- The float ``result`` of an operation on a and b, unless finite operands gave an infinite result.
CREATE MACRO bq_checked(result, a, operator, b) AS CASE
    WHEN isinf(result) AND isfinite(a) AND isfinite(b)
    THEN error('double overflow: ' || bq_float_text(a) || operator || bq_float_text(b))
    ELSE result END

-- name: bq_divide
-- FLOAT64 division.
CREATE MACRO bq_divide(a, b) AS CASE
    WHEN b = 0
    THEN error('division by zero: ' || bq_float_text(a) || ' / ' || bq_float_text(b))
    ELSE bq_checked(a / b, a, ' / ', b) END

-- name: bq_safe_divide
-- FLOAT64 division; NULL where it would fail.
CREATE MACRO bq_safe_divide(a, b) AS CASE
    WHEN b = 0 OR (isinf(a / b) AND isfinite(a) AND isfinite(b)) THEN NULL ELSE a / b END

-- name: bq_equal
-- FLOAT64 equality: NaN equals nothing.
CREATE MACRO bq_equal(a, b) AS CASE WHEN isnan(a) AND b IS NOT NULL THEN false ELSE a = b END

-- name: bq_less
-- FLOAT64 order: NaN is neither less nor greater.
CREATE MACRO bq_less(a, b) AS CASE
    WHEN (isnan(a) AND b IS NOT NULL) OR (isnan(b) AND a IS NOT NULL) THEN false ELSE a < b END

-- name: bq_less_or_equal
-- FLOAT64 order: NaN is neither less nor greater.
CREATE MACRO bq_less_or_equal(a, b) AS CASE
    WHEN (isnan(a) AND b IS NOT NULL) OR (isnan(b) AND a IS NOT NULL) THEN false ELSE a <= b END

-- name: bq_in_array
-- Three-valued membership in an array.
CREATE MACRO bq_in_array(x, items) AS CASE
    WHEN coalesce(len(items), 0) = 0 THEN false
    WHEN x IS NULL THEN NULL
    WHEN list_contains(items, x) THEN true
    WHEN list_aggregate(items, 'count') < len(items) THEN NULL
    ELSE false END

-- name: bq_in_float_array
-- Membership of a FLOAT64, where NaN is in nothing.
CREATE MACRO bq_in_float_array(x, items) AS CASE
    WHEN isnan(x) AND list_aggregate(items, 'count') < len(items) THEN NULL
    WHEN isnan(x) THEN false
    ELSE bq_in_array(x, items) END

-- name: bq_element
-- Array element by zero-based place.
CREATE MACRO bq_element(items, place) AS CASE
    WHEN items IS NULL THEN NULL
    WHEN place < 0 OR place >= len(items)
    THEN error('Array index ' || place || ' is out of bounds')
    ELSE items[place + 1] END

-- name: bq_safe_element
-- Array element by zero-based place, or NULL.
CREATE MACRO bq_safe_element(items, place) AS CASE
    WHEN place < 0 OR place >= len(items) THEN NULL ELSE items[place + 1] END

-- name: bq_single
-- The one value of a scalar subquery.
CREATE MACRO bq_single(items) AS CASE
    WHEN len(items) > 1 THEN error('Scalar subquery produced more than one element')
    ELSE items[1] END

-- name: bq_list_sum
-- SUM of a list of FLOAT64.
CREATE MACRO bq_list_sum(items) AS CASE
    WHEN isinf(list_sum(items)) AND list_bool_and(list_transform(items, lambda x: isfinite(x)))
    THEN error('double overflow')
    ELSE list_sum(items) END

-- name: bq_list_avg
-- AVG of a list of numbers.
CREATE MACRO bq_list_avg(items) AS CASE
    WHEN isinf(list_avg(items)) AND list_bool_and(list_transform(items, lambda x: isfinite(x)))
    THEN bq_refuse('an AVG whose sum overflows')
    ELSE list_avg(items) END

-- name: bq_repeated
-- An array as a result column: NULL becomes empty, a NULL element is an error.
CREATE MACRO bq_repeated(items, field) AS CASE
    WHEN items IS NULL THEN []
    WHEN list_aggregate(items, 'count') < len(items)
    THEN error('Array cannot have a null element; error in writing field ' || field)
    ELSE items END

-- name: bq_int_of_text
-- STRING to INT64.
CREATE MACRO bq_int_of_text(s, safe) AS CASE
    WHEN s IS NULL THEN NULL
    WHEN regexp_full_match(s, '\s*[-+]?[0-9]+\s*')
    THEN CASE WHEN safe THEN TRY_CAST(trim(s, E' \t\n\f\r') AS BIGINT)
              ELSE CAST(trim(s, E' \t\n\f\r') AS BIGINT) END
    WHEN regexp_full_match(s, '\s*[-+]?0[xX][0-9a-fA-F]+\s*')
    THEN bq_refuse('reading hexadecimal numbers')
    WHEN safe THEN NULL
    ELSE error('Bad int64 value: ' || s) END

-- name: bq_float_of_text
-- STRING to FLOAT64.
CREATE MACRO bq_float_of_text(s, safe) AS CASE
    WHEN s IS NULL THEN NULL
    WHEN regexp_full_match(s, '(?i)\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?\s*')
      OR regexp_full_match(s, '(?i)\s*[-+]?(inf|infinity|nan)\s*')
    THEN CAST(trim(s, E' \t\n\f\r') AS DOUBLE)
    WHEN regexp_full_match(s, '(?i)\s*[-+]?0x[0-9a-f.]+(p[-+]?[0-9]+)?\s*')
    THEN bq_refuse('reading hexadecimal numbers')
    WHEN safe THEN NULL
    ELSE error('Bad double value: ' || s) END

-- name: bq_numeric_of_text
-- STRING to NUMERIC: nine places, half away from zero.
CREATE MACRO bq_numeric_of_text(s, safe) AS CASE
    WHEN s IS NULL THEN NULL
    WHEN regexp_full_match(s, '[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)')
    THEN CASE WHEN safe THEN TRY_CAST(s AS DECIMAL(38,9)) ELSE CAST(s AS DECIMAL(38,9)) END
    WHEN regexp_matches(s, '[0-9]') THEN bq_refuse('reading NUMERIC from "' || s || '"')
    WHEN safe THEN NULL
    ELSE error('Invalid NUMERIC value: ' || s) END

-- name: bq_numeric_of_float
-- FLOAT64 to NUMERIC, from the exact binary value.
CREATE MACRO bq_numeric_of_float(x, safe) AS CASE
    WHEN x IS NULL THEN NULL
    WHEN NOT isfinite(x) OR abs(x) >= 1e29
    THEN CASE WHEN safe THEN NULL ELSE error('numeric out of range: ' || bq_float_text(x)) END
    ELSE CAST(format('{:.60f}', x) AS DECIMAL(38,9)) END

-- name: bq_numeric_text
-- NUMERIC to STRING: no trailing zeros.
CREATE MACRO bq_numeric_text(x) AS rtrim(rtrim(CAST(x AS VARCHAR), '0'), '.')

-- name: bq_int_of_float
-- FLOAT64 to INT64, half away from zero.
CREATE MACRO bq_int_of_float(x, safe) AS CASE
    WHEN x IS NULL THEN NULL
    WHEN isnan(x) OR round(x) < -9223372036854775808.0 OR round(x) >= 9223372036854775808.0
    THEN CASE WHEN safe THEN NULL ELSE error('int64 out of range: ' || bq_float_text(x)) END
    ELSE CAST(round(x) AS BIGINT) END

-- name: bq_bool_of_text
-- STRING to BOOL.
CREATE MACRO bq_bool_of_text(s, safe) AS CASE
    WHEN s IS NULL THEN NULL
    WHEN lower(s) = 'true' THEN true
    WHEN lower(s) = 'false' THEN false
    WHEN safe THEN NULL
    ELSE error('Bad bool value: ' || s) END

-- name: bq_date_of_text
-- STRING to DATE.
CREATE MACRO bq_date_of_text(s, safe) AS CASE
    WHEN s IS NULL THEN NULL
    WHEN regexp_full_match(s, '[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}') AND TRY_CAST(s AS DATE) IS NOT NULL
    THEN TRY_CAST(s AS DATE)
    WHEN safe THEN NULL
    ELSE error('Invalid date: ''' || s || '''') END

-- name: bq_timestamp_of_text
-- STRING to TIMESTAMP, in UTC unless the text says otherwise.
CREATE MACRO bq_timestamp_of_text(s, safe) AS CASE
    WHEN s IS NULL THEN NULL
    WHEN regexp_full_match(s, '[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([ Tt][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]{1,6})?( ?UTC|[Zz]|[+-][0-9]{2}(:[0-9]{2})?)?)?')
     AND TRY_CAST(s AS TIMESTAMPTZ) IS NOT NULL
    THEN timezone('UTC', TRY_CAST(s AS TIMESTAMPTZ))
    WHEN regexp_matches(s, '^\s*[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}')
    THEN bq_refuse('reading the timestamp "' || s || '"')
    WHEN safe THEN NULL
    ELSE error('Invalid timestamp: ''' || s || '''') END

-- name: bq_datetime_of_text
-- STRING to DATETIME.
CREATE MACRO bq_datetime_of_text(s, safe) AS CASE
    WHEN s IS NULL THEN NULL
    WHEN regexp_full_match(s, '[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([ Tt][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]{1,6})?)?')
     AND TRY_CAST(s AS TIMESTAMP) IS NOT NULL
    THEN TRY_CAST(s AS TIMESTAMP)
    WHEN regexp_matches(s, '^\s*[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}')
    THEN bq_refuse('reading the datetime "' || s || '"')
    WHEN safe THEN NULL
    ELSE error('Invalid datetime string "' || s || '"') END

-- name: bq_fraction
-- The fraction of a second as BigQuery prints it: none, milliseconds or microseconds.
CREATE MACRO bq_fraction(t) AS CASE
    WHEN epoch_us(t) % 1000000 = 0 THEN ''
    WHEN epoch_us(t) % 1000 = 0 THEN strftime(t, '.%g')
    ELSE strftime(t, '.%f') END

-- name: bq_datetime_text
-- DATETIME to STRING with ``between`` date and time.
CREATE MACRO bq_datetime_text(t, between) AS
    strftime(t, '%Y-%m-%d') || between || strftime(t, '%H:%M:%S') || bq_fraction(t)

-- name: bq_in_range
-- A point in time that BigQuery can hold.
CREATE MACRO bq_in_range(t, what) AS CASE
    WHEN t < TIMESTAMP '0001-01-01 00:00:00' OR t > TIMESTAMP '9999-12-31 23:59:59.999999'
    THEN error(what || ' is out of the range 0001-01-01 to 9999-12-31')
    ELSE t END

-- name: bq_safe_timestamp_of_micros
-- INT64 microseconds since 1970 to TIMESTAMP, NULL out of range.
CREATE MACRO bq_safe_timestamp_of_micros(n) AS CASE
    WHEN n BETWEEN -62135596800000000 AND 253402300799999999 THEN make_timestamp(n) END

-- name: bq_timestamp_of_micros
-- INT64 microseconds since 1970 to TIMESTAMP.
CREATE MACRO bq_timestamp_of_micros(n) AS CASE
    WHEN n < -62135596800000000 OR n > 253402300799999999
    THEN error('Input value ' || n || ' cannot be converted into a TIMESTAMP')
    ELSE make_timestamp(n) END

-- name: bq_floor_div
-- Integer division that rounds down; b > 0.
CREATE MACRO bq_floor_div(a, b) AS (a - ((a % b) + b) % b) // b

-- name: bq_to_zone
-- Local time in a zone of an instant.
CREATE MACRO bq_to_zone(t, zone) AS timezone(zone, timezone('UTC', t))

-- name: bq_offset
-- What a zone adds to UTC at an instant.
CREATE MACRO bq_offset(t, zone) AS bq_to_zone(t, zone) - t

-- name: bq_earlier
-- Of the two instants that a local time can be when clocks go back, the first, as in BigQuery.
-- ``later`` is DuckDB's answer; a day before it the offset was still the old one.
CREATE MACRO bq_earlier(t, later, zone) AS CASE
    WHEN bq_to_zone(t - bq_offset(later - to_days(1), zone), zone) = t
     AND t - bq_offset(later - to_days(1), zone) < later
    THEN t - bq_offset(later - to_days(1), zone)
    ELSE later END

-- name: bq_from_zone
-- Instant of a local time in a zone.
CREATE MACRO bq_from_zone(t, zone) AS
    bq_earlier(t, timezone('UTC', timezone(zone, t)), zone)

-- name: bq_week_start
-- The first day of the week that holds ``d``; ``first`` is 0 for Sunday to 6 for Saturday.
CREATE MACRO bq_week_start(d, first) AS d - CAST((dayofweek(d) - first + 7) % 7 AS INTEGER)

-- name: bq_substr
-- SUBSTR from ``start`` to the end.
CREATE MACRO bq_substr(s, start) AS substr(s, CASE
    WHEN start > 0 THEN start
    WHEN start = 0 THEN 1
    ELSE greatest(length(s) + start + 1, 1) END)

-- name: bq_substr_length
-- SUBSTR of ``size`` characters.
CREATE MACRO bq_substr_length(s, start, size) AS CASE
    WHEN size < 0 AND s IS NOT NULL AND start IS NOT NULL THEN error('Third argument in SUBSTR() cannot be negative')
    ELSE substr(bq_substr(s, start), 1, size) END

-- name: bq_round
-- ROUND(FLOAT64, places): ``digits`` is the exact value as a decimal of that many places.
CREATE MACRO bq_round(x, digits) AS CASE
    WHEN NOT isfinite(x) OR abs(x) >= 4503599627370496 THEN x
    ELSE CAST(CAST(digits AS VARCHAR) AS DOUBLE) END

-- name: bq_lower
-- LOWER; letters whose case mapping depends on their neighbours are refused.
CREATE MACRO bq_lower(s) AS CASE
    WHEN regexp_matches(s, '[\x{130}\x{3A3}]') THEN bq_refuse('LOWER of "' || s || '"')
    ELSE lower(s) END

-- name: bq_upper
-- UPPER; ß becomes SS as in BigQuery, other letters that grow in upper case are refused.
CREATE MACRO bq_upper(s) AS CASE
    WHEN regexp_matches(s, '[\x{149}\x{1F0}\x{390}\x{3B0}\x{587}\x{1E96}-\x{1E9A}\x{1F50}\x{1F52}\x{1F54}\x{1F56}\x{1F80}-\x{1FAF}\x{1FB2}-\x{1FB4}\x{1FB6}-\x{1FB7}\x{1FBC}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FC7}\x{1FCC}\x{1FD2}-\x{1FD3}\x{1FD6}-\x{1FD7}\x{1FE2}-\x{1FE4}\x{1FE6}-\x{1FE7}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FF7}\x{1FFC}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}]')
    THEN bq_refuse('UPPER of "' || s || '"')
    ELSE upper(replace(s, 'ß', 'SS')) END

-- name: bq_json_text
-- A JSON string. DuckDB writes control characters with capital digits, BigQuery with small ones.
CREATE MACRO bq_json_text(s) AS CASE
    WHEN regexp_matches(s, '[\x0b\x0e\x0f\x1a-\x1f]') THEN bq_refuse('control characters in JSON')
    ELSE replace(replace(CAST(to_json(s) AS VARCHAR), chr(8232), '\u2028'), chr(8233), '\u2029') END

-- name: bq_json_float
-- A JSON number, or a string for what JSON has no number for.
CREATE MACRO bq_json_float(x) AS CASE
    WHEN isnan(x) THEN '"NaN"'
    WHEN isinf(x) THEN CASE WHEN x > 0 THEN '"Infinity"' ELSE '"-Infinity"' END
    ELSE bq_float_text(x) END

-- name: bq_json_int
-- A JSON number, or a string beyond what a double holds.
CREATE MACRO bq_json_int(x) AS CASE
    WHEN x BETWEEN -9007199254740992 AND 9007199254740992 THEN CAST(x AS VARCHAR)
    ELSE '"' || x || '"' END

-- name: bq_rest_float
-- FLOAT64 in a row of the REST API.
CREATE MACRO bq_rest_float(x) AS CASE
    WHEN isnan(x) THEN 'NaN'
    WHEN isinf(x) THEN CASE WHEN x > 0 THEN 'Infinity' ELSE '-Infinity' END
    ELSE CAST(x AS VARCHAR) END

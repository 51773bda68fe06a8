-- What Grafana may read of PostgreSQL: each role sees the rows of its cell and of all cells below it, and never an
-- address, a token or a note. The views have the rights of their owner, the roles none but to read them; a
-- security barrier keeps a reader's own condition from seeing rows that the view's has not let through.
-- Times are timestamps, and NULL where the desk has 0.

CREATE SCHEMA fenghuo_views;

CREATE TABLE fenghuo_views.readers (role name PRIMARY KEY, cell text NOT NULL);
COMMENT ON TABLE fenghuo_views.readers IS 'whose rows a role sees: a cell with all below it, or '''' for everything';

CREATE TABLE fenghuo_views.words (key text PRIMARY KEY, words text NOT NULL);
COMMENT ON TABLE fenghuo_views.words IS 'what a rule says of its subject, Chinese and English';

CREATE FUNCTION fenghuo_views.moment(microseconds bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN microseconds > 0 THEN 'epoch'::timestamptz + microseconds * interval '1 microsecond' END;

CREATE VIEW fenghuo_views.cells WITH (security_barrier) AS
WITH RECURSIVE grid AS (
    SELECT key AS id, body::jsonb ->> 'name' AS name, coalesce(body::jsonb ->> 'parent', '') AS parent
    FROM records WHERE kind = 'cell'
), below AS (
    SELECT grid.*, ARRAY[grid.id::text] AS path
    FROM grid JOIN fenghuo_views.readers ON role = current_user AND (cell = id OR cell = '' AND parent = '')
    UNION ALL
    SELECT grid.*, path || grid.id::text FROM below JOIN grid ON grid.parent = below.id
)
SELECT id::text, name, path FROM below;
COMMENT ON VIEW fenghuo_views.cells IS 'path: from the reader''s own cell down to this one';

CREATE VIEW fenghuo_views.enterprises WITH (security_barrier) AS
SELECT key::text AS code, body::jsonb ->> 'name' AS name, body::jsonb ->> 'cell' AS cell
FROM records WHERE kind = 'enterprise' AND body::jsonb ->> 'cell' IN (SELECT id FROM fenghuo_views.cells);

CREATE VIEW fenghuo_views.units WITH (security_barrier) AS
SELECT * FROM (
    SELECT key::text AS enterprise, unit ->> 'id' AS unit, unit ->> 'name' AS name
    FROM records, jsonb_array_elements(body::jsonb -> 'units') AS unit WHERE kind = 'enterprise'
    UNION ALL
    SELECT code, '', '其他 · other' FROM fenghuo_views.enterprises
) AS every
WHERE enterprise IN (SELECT code FROM fenghuo_views.enterprises);
COMMENT ON VIEW fenghuo_views.units IS
    'production units, and '''' for what belongs to none. A UNION at the top is taken apart, and would be no barrier';

CREATE VIEW fenghuo_views.points WITH (security_barrier) AS
SELECT enterprise::text, body::jsonb ->> 'point' AS id,
    coalesce(body::jsonb ->> 'name', body::jsonb ->> 'point') AS name,
    body::jsonb ->> 'kind' AS kind, body::jsonb ->> 'engineering_unit' AS engineering_unit,
    coalesce(body::jsonb ->> 'unit', '') AS unit,
    (body::jsonb ->> 'LL')::float8 AS ll, (body::jsonb ->> 'L')::float8 AS l,
    (body::jsonb ->> 'H')::float8 AS h, (body::jsonb ->> 'HH')::float8 AS hh
FROM records WHERE kind = 'point' AND enterprise IN (SELECT code FROM fenghuo_views.enterprises);

CREATE VIEW fenghuo_views.pipelines WITH (security_barrier) AS
SELECT enterprise::text, body::jsonb ->> 'id' AS id, coalesce(body::jsonb ->> 'name', body::jsonb ->> 'id') AS name,
    body::jsonb ->> 'flow_in' AS flow_in, body::jsonb ->> 'flow_out' AS flow_out
FROM records WHERE kind = 'pipelines' AND enterprise IN (SELECT code FROM fenghuo_views.enterprises);

-- Nobody may read the next three: those below do, and show of them what a role may see. The desk's own numbers, µs,
-- are there for conditions: only such a one is asked of the table itself, before anything of a row is worked out.

-- Deadlines that passed. The desk starts the next clock at once, so only the step tells of one, until it is made good
-- by somebody who was asked (others: "seen"), or people are called anew (to a "rung"). And those no desk has come to.
CREATE VIEW fenghuo_views.missed AS
SELECT alert, event::text, due FROM steps
WHERE event IN ('confirm_due', 'action_due', 'return_due') AND NOT EXISTS (
    SELECT FROM steps AS later
    WHERE later.alert = steps.alert AND later.step > steps.step AND (
        later.event = 'act' AND NOT later.detail::jsonb ? 'seen'
        OR later.event IN ('confirm', 'take_over') AND NOT later.detail::jsonb ? 'seen' AND steps.event = 'confirm_due'
        OR later.event IN ('ended', 'withdrawn') AND steps.event = 'return_due'
        OR later.actor = 'engine' AND later.detail::jsonb ? 'rung'
    )
)
UNION ALL
SELECT id, event, due
FROM alerts, LATERAL (
    VALUES ('confirm_due', confirm_due), ('action_due', action_due), ('return_due', return_due)
) AS clock (event, due)
WHERE fenghuo_views.moment(due) < now();

CREATE VIEW fenghuo_views.all_alerts AS
SELECT a.id::text, a.enterprise::text, coalesce(e.body::jsonb ->> 'name', a.enterprise) AS enterprise_name,
    a.cell::text,
    CASE WHEN a.subject LIKE 'unit:%' THEN substr(a.subject, 6) ELSE coalesce(s.body::jsonb ->> 'unit', '') END AS unit,
    a.subject::text,
    coalesce(
        s.body::jsonb ->> 'name', a.basis::json ->> 'name', nullif(split_part(a.subject, ':', 2), ''), a.subject
    ) AS subject_name,
    a.rule::text,
    coalesce(
        nullif(concat_ws(' · ', a.basis::json -> 'why' ->> 'zh', a.basis::json -> 'why' ->> 'en'), ''),
        (
            SELECT words FROM fenghuo_views.words
            WHERE key IN (
                a.rule, split_part(a.rule, '.', 1), a.rule || '.' || a.level,
                split_part(a.rule, '.', 1) || '.' || a.level
            )
            ORDER BY length(key) DESC LIMIT 1
        ),
        a.rule
    ) AS words,
    a.tier, a.condition::text, a.answer::text, a.value, a.unit AS engineering_unit, a.clause,
    CASE WHEN a.rule = 'leak' THEN
        (SELECT string_agg(one, '; ') FROM json_array_elements_text(a.evidence::json) AS one)
    END AS evidence,
    coalesce(p.body::jsonb ->> 'name', a.holder) AS holder,
    fenghuo_views.moment(a.raised) AS raised, fenghuo_views.moment(a.since) AS since,
    fenghuo_views.moment(a.confirmed) AS confirmed, fenghuo_views.moment(a.ended) AS ended,
    fenghuo_views.moment(a.closed) AS closed, fenghuo_views.moment(a.confirm_due) AS confirm_due,
    fenghuo_views.moment(
        (SELECT min(due) FROM fenghuo_views.missed WHERE alert = a.id AND a.closed = 0)
    ) AS missed_since,
    (
        SELECT event FROM fenghuo_views.missed WHERE alert = a.id AND a.closed = 0 ORDER BY due LIMIT 1
    ) AS missed,
    date_trunc(
        'day', fenghuo_views.moment(a.raised),
        coalesce(
            (SELECT body::jsonb ->> 'time_zone' FROM records WHERE kind = 'settings' AND key = 'registry'),
            'Asia/Shanghai'
        )
    ) AS raised_day,
    a.raised AS raised_us, a.since AS since_us, a.confirmed AS confirmed_us, a.ended AS ended_us, a.closed AS closed_us
FROM alerts AS a
LEFT JOIN records AS e ON e.kind = 'enterprise' AND e.key = a.enterprise
LEFT JOIN records AS p ON p.kind = 'person' AND p.key = a.holder
LEFT JOIN records AS s ON s.key = a.enterprise || '/' || substr(a.subject, strpos(a.subject, ':') + 1)
    AND s.kind = CASE split_part(a.subject, ':', 1)
        WHEN 'point' THEN 'point' WHEN 'pipeline' THEN 'pipelines' WHEN 'equipment' THEN 'equipment' END;

CREATE VIEW fenghuo_views.everything AS
SELECT EXISTS (SELECT FROM fenghuo_views.readers WHERE role = current_user AND cell = '') AS seen;

CREATE VIEW fenghuo_views.alerts WITH (security_barrier) AS
SELECT * FROM fenghuo_views.all_alerts
WHERE cell IN (SELECT id FROM fenghuo_views.cells) OR (SELECT seen FROM fenghuo_views.everything);

CREATE VIEW fenghuo_views.steps WITH (security_barrier) AS
SELECT s.alert::text, s.step, fenghuo_views.moment(s.time) AS time, s.late / 1e6 AS late,
    s.event::text, coalesce(p.body::jsonb ->> 'name', s.actor) AS actor,
    a.enterprise, a.enterprise_name, a.cell, a.subject, a.subject_name, a.rule, a.words, s.time AS time_us
FROM steps AS s
JOIN fenghuo_views.all_alerts AS a ON a.id = s.alert
LEFT JOIN records AS p ON p.kind = 'person' AND p.key = s.actor
WHERE a.cell IN (SELECT id FROM fenghuo_views.cells) OR (SELECT seen FROM fenghuo_views.everything);
COMMENT ON COLUMN fenghuo_views.steps.late IS 'seconds';

CREATE VIEW fenghuo_views.findings WITH (security_barrier) AS
SELECT f.enterprise::text, coalesce(e.body::jsonb ->> 'name', f.enterprise) AS enterprise_name,
    f.cell::text,
    coalesce(
        s.body::jsonb ->> 'name', f.body::json ->> 'name', nullif(split_part(f.subject, ':', 2), ''), f.subject
    ) AS subject_name,
    f.rule::text,
    coalesce(
        (
            SELECT words FROM fenghuo_views.words
            WHERE key IN (
                f.rule, split_part(f.rule, '.', 1), f.rule || '.' || (f.body::json ->> 'level'),
                split_part(f.rule, '.', 1) || '.' || (f.body::json ->> 'level')
            )
            ORDER BY length(key) DESC LIMIT 1
        ),
        f.rule
    ) AS words,
    f.phase::text, f.tier, f.late, nullif(f.alert, '')::text AS alert, fenghuo_views.moment(f.since) AS since,
    f.since AS since_us, f.arrival AS arrival_us
FROM findings AS f
LEFT JOIN records AS e ON e.kind = 'enterprise' AND e.key = f.enterprise
LEFT JOIN records AS s ON s.key = f.enterprise || '/' || substr(f.subject, strpos(f.subject, ':') + 1)
    AND s.kind = CASE split_part(f.subject, ':', 1)
        WHEN 'point' THEN 'point' WHEN 'pipeline' THEN 'pipelines' WHEN 'equipment' THEN 'equipment' END
WHERE f.cell IN (SELECT id FROM fenghuo_views.cells) OR (SELECT seen FROM fenghuo_views.everything);

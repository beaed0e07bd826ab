-- The guards of a protected database. Run by history/protect.py, as a superuser, in one transaction; can be run again.
--
-- They live in a schema of their own and belong to the superuser: dropping what they guard does not drop them, and
-- the owner of the tables cannot change them. Some ways round remain, and only backups and the events help against
-- those: DROP DATABASE, and a superuser who first drops or disables the event triggers or sets event_triggers off.

CREATE SCHEMA IF NOT EXISTS nightmail_guard;

-- What this database is. One row.
CREATE TABLE IF NOT EXISTS nightmail_guard.identity (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    name text NOT NULL,
    environment text NOT NULL CHECK (environment IN ('production', 'staging', 'development')),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Every migration window there was; those that are neither closed nor over are open.
CREATE TABLE IF NOT EXISTS nightmail_guard.window (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ticket text NOT NULL,
    opened_by name NOT NULL,
    opened_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    closed_at timestamptz
);

-- Whether this login may change the schema now: a window lets in who opened it, and nightmail_migrate.
CREATE OR REPLACE FUNCTION nightmail_guard.admitted() RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM nightmail_guard.window
        WHERE closed_at IS NULL AND until > clock_timestamp() AND session_user IN (opened_by, 'nightmail_migrate')
    )
$$;

CREATE OR REPLACE FUNCTION nightmail_guard.refuse(what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'nightmail_guard: % outside a migration window', what
        USING ERRCODE = 'insufficient_privilege', HINT = 'See `nightmail database open-window --help`.';
END $$;

-- Returns where the login is admitted, and refuses where it is not.
CREATE OR REPLACE FUNCTION nightmail_guard.demand_window(what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT nightmail_guard.admitted() THEN
        PERFORM nightmail_guard.refuse(what);
    END IF;
END $$;

-- TRUNCATE has no event trigger, and DELETE neither: a trigger on each table, see arm().
CREATE OR REPLACE FUNCTION nightmail_guard.on_rows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM nightmail_guard.demand_window(format('%s of %I', TG_OP, TG_TABLE_NAME));
    RETURN NULL;
END $$;

-- Before anything is done: these commands could take the guards along or replace them, and it is too late afterwards.
CREATE OR REPLACE FUNCTION nightmail_guard.on_start() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM nightmail_guard.demand_window(TG_TAG);
END $$;

-- Tables, columns, indexes and whatever else of ours a command dropped, by whichever command.
CREATE OR REPLACE FUNCTION nightmail_guard.on_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dropped record;
BEGIN
    FOR dropped IN SELECT * FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary LOOP
        -- A trigger or a schema has no schema_name, but its address begins with one.
        IF coalesce(dropped.schema_name, dropped.address_names[1]) IN ('public', 'nightmail_guard') THEN
            PERFORM nightmail_guard.demand_window(
                format('%s of %s %s', TG_TAG, dropped.object_type, dropped.object_identity)
            );
        END IF;
    END LOOP;
END $$;

-- Renaming, moving, disabling a trigger, changing a type: anything that changes our schemas or a table of ours.
-- Rebuilding an index is maintenance. GRANT and REVOKE name no object here, and destroy nothing.
CREATE OR REPLACE FUNCTION nightmail_guard.on_end() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed record;
BEGIN
    FOR changed IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag <> 'REINDEX' LOOP
        IF changed.schema_name IN ('public', 'nightmail_guard')
            OR changed.command_tag = 'ALTER SCHEMA'
            OR changed.classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass)
            OR EXISTS (
                SELECT FROM pg_class
                WHERE changed.classid = 'pg_class'::regclass AND oid = changed.objid
                    AND relowner = 'nightmail_owner'::regrole
            )
        THEN
            PERFORM nightmail_guard.demand_window(format('%s of %s', changed.command_tag, changed.object_identity));
        END IF;
    END LOOP;
END $$;

-- The connections of each login, for the recorder's alarms (history/sessions.py): how many it may hold, holds, and has
-- left idle for two seconds. Not what they ask: pg_read_all_stats would show the queries of everybody.
CREATE OR REPLACE FUNCTION nightmail_guard.sessions()
RETURNS TABLE (login name, most integer, held bigint, unused bigint)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT
        usename,
        CASE WHEN rolconnlimit < 0 THEN current_setting('max_connections')::integer ELSE rolconnlimit END,
        count(*),
        count(*) FILTER (WHERE state <> 'active' AND state_change < clock_timestamp() - interval '2 seconds')
    FROM pg_stat_activity JOIN pg_roles ON rolname = usename
    WHERE backend_type = 'client backend'
    GROUP BY usename, rolconnlimit
$$;

-- Opens a window for the caller. Production asks for a ticket and for the name of the database: whoever believes to
-- be somewhere else gives another name (February 2024).
CREATE OR REPLACE FUNCTION nightmail_guard.open_window(ticket text, name text, minutes integer) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mark nightmail_guard.identity;
    until timestamptz := clock_timestamp() + make_interval(mins => minutes);
BEGIN
    SELECT * INTO STRICT mark FROM nightmail_guard.identity;
    IF minutes NOT BETWEEN 1 AND 240 THEN
        RAISE EXCEPTION 'a window lasts 1 to 240 minutes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF mark.environment = 'production' AND (coalesce(btrim(ticket), '') = '' OR name IS NULL) THEN
        PERFORM nightmail_guard.refuse('on a production database: no ticket, or no name, so no change');
    END IF;
    IF name <> mark.name THEN
        PERFORM nightmail_guard.refuse(format('this is not the database %L, so no change', name));
    END IF;
    INSERT INTO nightmail_guard.window (ticket, opened_by, opened_at, until)
        VALUES (coalesce(ticket, ''), session_user, clock_timestamp(), until);
    GRANT nightmail_owner TO nightmail_migrate;
    RETURN until;
END $$;

-- Takes the owner's rights back from nightmail_migrate where no window is open any more. Closing a window calls it;
-- until somebody does, the guards stop what those rights would allow.
CREATE OR REPLACE FUNCTION nightmail_guard.sweep() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM nightmail_guard.window WHERE closed_at IS NULL AND until > clock_timestamp())
        AND EXISTS (
            SELECT FROM pg_auth_members
            WHERE roleid = 'nightmail_owner'::regrole AND member = 'nightmail_migrate'::regrole
        )
    THEN
        REVOKE nightmail_owner FROM nightmail_migrate;
    END IF;
END $$;

-- Closes the caller's windows.
CREATE OR REPLACE FUNCTION nightmail_guard.close_window() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE nightmail_guard.window SET closed_at = clock_timestamp()
        WHERE closed_at IS NULL AND opened_by = session_user;
    PERFORM nightmail_guard.sweep();
END $$;

-- Gives each table of ours its rights and its triggers; a migration calls it after its last step.
-- Nobody deletes rows but the recorder, which deletes its checkpoint to start again at event 0.
CREATE OR REPLACE FUNCTION nightmail_guard.arm() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ours record;
    operation text;
BEGIN
    FOR ours IN
        SELECT oid, relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relowner = 'nightmail_owner'::regrole
    LOOP
        EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC', ours.relname);
        EXECUTE format(
            'GRANT SELECT ON public.%I TO nightmail_recorder, nightmail_control, nightmail_readonly', ours.relname
        );
        IF ours.relname <> 'alembic_version' THEN
            EXECUTE format('GRANT INSERT, UPDATE ON public.%I TO nightmail_recorder', ours.relname);
        END IF;
        IF ours.relname = 'checkpoint' THEN
            EXECUTE format('GRANT DELETE ON public.%I TO nightmail_recorder', ours.relname);
        END IF;
        FOREACH operation IN ARRAY ARRAY['truncate', 'delete'] LOOP
            CONTINUE WHEN operation = 'delete' AND ours.relname IN ('checkpoint', 'alembic_version');
            CONTINUE WHEN EXISTS (
                SELECT FROM pg_trigger WHERE tgrelid = ours.oid AND tgname = 'nightmail_guard_' || operation
                    AND tgenabled = 'A'
            );
            EXECUTE format('DROP TRIGGER IF EXISTS %I ON public.%I', 'nightmail_guard_' || operation, ours.relname);
            EXECUTE format(
                'CREATE TRIGGER %I BEFORE %s ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION nightmail_guard.on_rows()',
                'nightmail_guard_' || operation, operation, ours.relname
            );
            -- Always: also where session_replication_role is `replica`, under which ordinary triggers sleep.
            EXECUTE format(
                'ALTER TABLE public.%I ENABLE ALWAYS TRIGGER %I', ours.relname, 'nightmail_guard_' || operation
            );
        END LOOP;
    END LOOP;
END $$;

REVOKE ALL ON SCHEMA nightmail_guard FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA nightmail_guard FROM PUBLIC;
GRANT USAGE ON SCHEMA nightmail_guard
    TO nightmail_owner, nightmail_migrate, nightmail_recorder, nightmail_control, nightmail_readonly;
GRANT SELECT ON nightmail_guard.identity, nightmail_guard.window
    TO nightmail_owner, nightmail_migrate, nightmail_recorder, nightmail_control, nightmail_readonly;
GRANT EXECUTE ON FUNCTION nightmail_guard.sessions() TO nightmail_recorder;
GRANT EXECUTE ON FUNCTION nightmail_guard.sweep()
    TO nightmail_migrate, nightmail_recorder, nightmail_control, nightmail_readonly;
GRANT EXECUTE ON FUNCTION
    nightmail_guard.open_window(text, text, integer), nightmail_guard.close_window(), nightmail_guard.arm()
    TO nightmail_migrate;

CREATE EVENT TRIGGER nightmail_guard_start ON ddl_command_start
    WHEN TAG IN (
        'DROP SCHEMA', 'DROP OWNED', 'DROP EXTENSION', 'DROP LANGUAGE', 'DROP FUNCTION', 'DROP ROUTINE',
        'CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE'
    )
    EXECUTE FUNCTION nightmail_guard.on_start();
CREATE EVENT TRIGGER nightmail_guard_drop ON sql_drop EXECUTE FUNCTION nightmail_guard.on_drop();
CREATE EVENT TRIGGER nightmail_guard_end ON ddl_command_end EXECUTE FUNCTION nightmail_guard.on_end();
ALTER EVENT TRIGGER nightmail_guard_start ENABLE ALWAYS;
ALTER EVENT TRIGGER nightmail_guard_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER nightmail_guard_end ENABLE ALWAYS;

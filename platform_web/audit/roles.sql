-- Roles of the audit log on PostgreSQL. Run as the database's administrator, after setup_platform and again
-- after each upgrade, which may have brought tables:
--   python manage.py audit_roles | psql "$ADMIN_URL"
-- Then give each process its own login: web, agents, workers and beat consilium_app; the sequencer
-- consilium_sequencer; an auditor's tools consilium_auditor. The owner of the tables runs setup_platform only.
DO $$ BEGIN
  CREATE ROLE consilium_app NOLOGIN;
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN
  CREATE ROLE consilium_sequencer NOLOGIN;
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN
  CREATE ROLE consilium_auditor NOLOGIN;
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

GRANT USAGE ON SCHEMA public TO consilium_app, consilium_sequencer, consilium_auditor;
-- the portal's other tables
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO consilium_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO consilium_app, consilium_sequencer;

-- the log: nobody changes, removes or empties
REVOKE ALL ON {tables} FROM consilium_app, consilium_sequencer, consilium_auditor, PUBLIC;
GRANT SELECT ON {tables} TO consilium_app, consilium_sequencer;
GRANT SELECT ON {public_tables} TO consilium_auditor;
GRANT INSERT ON audit_event, audit_body, audit_cosignature, audit_witness, audit_evidence TO consilium_app;
GRANT DELETE ON audit_body TO consilium_app;
-- it writes entries of its own: alarms, the opening of a year
GRANT INSERT ON audit_event, audit_shard, audit_seq, audit_tile, audit_head TO consilium_sequencer;

-- a transaction left open holds up every entry after it
ALTER ROLE consilium_app SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE consilium_sequencer SET idle_in_transaction_session_timeout = '10s';

-- A claim walks over what is due and over nothing else, however many jobs wait for a later time.

DROP INDEX jobs_due;
CREATE INDEX jobs_due ON jobs (queue, available_at, id) WHERE state IN ('queued', 'running');

-- What is open is counted exactly; of what has ended only the newest.
CREATE INDEX outbox_rest ON outbox (state) WHERE state IN ('open', 'orphan');

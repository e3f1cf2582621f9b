-- What calls may take and what they took.
--
--   reserve:  a row in calls ('reserved'), its estimate in accounts.reserved, its first attempt
--   settle:   an entry, accounts.reserved - estimate, accounts.spent + what was really taken
--   release:  accounts.reserved - estimate
--
-- So at every commit, for each account: reserved = the sum of the estimates of the calls that are 'reserved', and spent =
-- the sum of the entries, each within the account's holder and window.

-- One row per sort of fact that others keep a copy of; raised by every change.
CREATE TABLE revisions (
    name TEXT PRIMARY KEY,
    revision BIGINT NOT NULL
);

INSERT INTO revisions (name, revision) VALUES ('limits', 1);

CREATE TABLE limits (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('run', 'key', 'user', 'chat', 'org')),
    -- Whom it is about; NULL is each of them by itself, or the organisation's pool.
    subject TEXT,
    measure TEXT NOT NULL CHECK (measure IN ('micros', 'tokens', 'requests')),
    period TEXT NOT NULL CHECK (period IN ('day', 'week', 'month', 'total')),
    amount BIGINT NOT NULL CHECK (amount >= 0),
    policy TEXT NOT NULL CHECK (policy IN ('warn', 'ask', 'block', 'hard')),
    -- Percents, separated by commas.
    thresholds TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    -- A limit that is gone leaves its row, because its accounts are kept.
    removed_at BIGINT
);

CREATE INDEX limits_org ON limits (org_id);

-- What is taken of one measure by one holder in one window. Made when a limit first applies there.
--
-- `cap` is the lowest amount of the limits that apply and refuse; NULL if none does. A reservation never goes beyond it.
-- `grace` is what lies beyond it for other reasons: a call that took more than was reserved for it, a call that an admin
-- let through, a limit that was lowered, use from before the limit. It is never more than what lies beyond, so that a
-- reservation cannot hide in it.
CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL,
    -- The scope, the organisation and the subject as one text.
    holder TEXT NOT NULL,
    scope TEXT NOT NULL,
    subject TEXT NOT NULL,
    measure TEXT NOT NULL,
    period TEXT NOT NULL,
    window_start BIGINT NOT NULL,
    window_end BIGINT NOT NULL,
    cap BIGINT,
    grace BIGINT NOT NULL CHECK (grace >= 0),
    reserved BIGINT NOT NULL CHECK (reserved >= 0),
    spent BIGINT NOT NULL CHECK (spent >= 0),
    -- Raised by every change; whoever writes proves that nobody else did meanwhile.
    version BIGINT NOT NULL,
    -- Why nothing is reserved here any more: the account and its entries disagree.
    stopped TEXT,
    checked_at BIGINT NOT NULL,
    CHECK (cap IS NULL OR reserved + spent <= cap + grace)
);

CREATE INDEX accounts_holder ON accounts (holder, window_end);
CREATE INDEX accounts_org ON accounts (org_id, window_end);
CREATE INDEX accounts_check ON accounts (checked_at);

CREATE TABLE calls (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('held', 'approved', 'denied', 'reserved', 'settled', 'released', 'unknown')),
    org_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    key_id TEXT,
    chat TEXT,
    turn_id TEXT,
    run TEXT,
    door TEXT NOT NULL,
    model TEXT NOT NULL,
    -- The most that it may take.
    micros BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    -- When it was reserved (or held). Decides to which windows it belongs, however late it is settled.
    at BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    ended_at BIGINT,
    -- The limit because of which it is held, and who decided.
    limit_id TEXT,
    decided_by TEXT,
    -- Of the reservation that wrote this: by it a transaction that is run again knows its own row.
    nonce BIGINT NOT NULL
);

CREATE INDEX calls_open ON calls (deadline) WHERE state = 'reserved';
CREATE INDEX calls_held ON calls (org_id, user_id) WHERE state = 'held';
CREATE INDEX calls_waiting ON calls (deadline) WHERE state IN ('held', 'approved');
CREATE INDEX calls_unknown ON calls (org_id, at) WHERE state = 'unknown';

-- Every question that was, or may have been, put to an upstream.
CREATE TABLE attempts (
    call_id TEXT NOT NULL,
    n BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('started', 'ok', 'failed', 'unknown')),
    upstream TEXT NOT NULL,
    model TEXT NOT NULL,
    -- Whose provider key was used, and which one.
    whose TEXT NOT NULL,
    secret_id TEXT,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    note TEXT,
    PRIMARY KEY (call_id, n)
);

-- Append only.
CREATE TABLE entries (
    -- 'settle:<call>' once per call; 'adjust:<call>' for a call whose end nobody knows, 'return:<call>' if it then comes.
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('settle', 'adjust')),
    call_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    key_id TEXT,
    chat TEXT,
    turn_id TEXT,
    run TEXT,
    door TEXT NOT NULL,
    model TEXT NOT NULL,
    upstream TEXT NOT NULL,
    upstream_model TEXT NOT NULL,
    whose TEXT NOT NULL,
    input BIGINT NOT NULL,
    output BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    cache_read BIGINT NOT NULL,
    cache_write_5m BIGINT NOT NULL,
    cache_write_1h BIGINT NOT NULL,
    audio_in BIGINT NOT NULL,
    audio_out BIGINT NOT NULL,
    -- What limits count: the sum of the above, or an estimate.
    tokens BIGINT NOT NULL,
    micros BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    estimated BIGINT NOT NULL CHECK (estimated IN (0, 1)),
    suspect BIGINT NOT NULL CHECK (suspect IN (0, 1)),
    cache_hit BIGINT NOT NULL CHECK (cache_hit IN (0, 1)),
    -- When the call was reserved, and when this was written.
    at BIGINT NOT NULL,
    settled_at BIGINT NOT NULL
);

CREATE INDEX entries_org ON entries (org_id, at);
CREATE INDEX entries_user ON entries (user_id, at);
CREATE INDEX entries_key ON entries (key_id, at) WHERE key_id IS NOT NULL;
CREATE INDEX entries_chat ON entries (chat, at) WHERE chat IS NOT NULL;
CREATE INDEX entries_run ON entries (run, at) WHERE run IS NOT NULL;

-- That a threshold was reached, once per window.
CREATE TABLE crossings (
    limit_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    threshold BIGINT NOT NULL,
    at BIGINT NOT NULL,
    told_at BIGINT,
    PRIMARY KEY (limit_id, account_id, threshold)
);

CREATE INDEX crossings_untold ON crossings (at) WHERE told_at IS NULL;

-- Requests of our own API that carry an Idempotency-Key.
CREATE TABLE idempotency (
    -- The organisation, the user and the route.
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'done')),
    -- Raised by whoever takes the work over; a write that carries an older one changes nothing.
    epoch BIGINT NOT NULL,
    owner TEXT NOT NULL,
    boot TEXT NOT NULL,
    -- Made for one try to begin: by it a transaction that is run again knows its own row.
    nonce TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    status BIGINT,
    headers TEXT,
    -- NULL if it was too long to be kept.
    body BYTEA,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE INDEX idempotency_age ON idempotency (created_at);
CREATE INDEX idempotency_owner ON idempotency (owner) WHERE state = 'running';

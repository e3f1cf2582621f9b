-- Columns are TEXT, BIGINT, DOUBLE PRECISION or BYTEA, so that one text serves both databases.
-- Ids are ULID text, times Unix milliseconds, flags 0 or 1, JSON is text. A released migration is never edited.

CREATE TABLE bots (
    id TEXT PRIMARY KEY,
    -- The fingerprint of the token the offset belongs to: another token is another queue at Telegram.
    token_hash TEXT NOT NULL,
    -- The id of the last update received, plus one.
    poll_offset BIGINT,
    updated_at BIGINT NOT NULL
);

CREATE TABLE chats (
    bot_id TEXT NOT NULL,
    chat_id BIGINT NOT NULL,
    lang TEXT,
    -- When the chat stopped taking messages (the bot was blocked, the chat is gone), and Telegram's word for it.
    parked_at BIGINT,
    parked_why TEXT,
    -- When somebody who may not use the bot was last told so.
    refused_at BIGINT,
    PRIMARY KEY (bot_id, chat_id)
);

CREATE TABLE dialogs (
    id TEXT PRIMARY KEY,
    channel TEXT NOT NULL CHECK (channel IN ('telegram')),
    bot_id TEXT,
    chat_id BIGINT,
    engine TEXT NOT NULL,
    -- What the bot shows here, if not what it shows everywhere.
    view TEXT,
    thread TEXT,
    summary TEXT NOT NULL,
    window_from BIGINT NOT NULL,
    -- The number of the newest turn; raised in the transaction that inserts it.
    turns BIGINT NOT NULL,
    active BIGINT NOT NULL CHECK (active IN (0, 1)),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX dialogs_active ON dialogs (bot_id, chat_id) WHERE active = 1;

CREATE TABLE turns (
    id TEXT PRIMARY KEY,
    dialog_id TEXT NOT NULL REFERENCES dialogs (id),
    number BIGINT NOT NULL,
    user_id BIGINT,
    question TEXT NOT NULL,
    asked_at BIGINT NOT NULL,
    answer TEXT,
    answered_at BIGINT,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'stopped')),
    engine TEXT NOT NULL,
    model TEXT,
    tokens_in BIGINT NOT NULL,
    tokens_out BIGINT NOT NULL,
    usage_estimated BIGINT NOT NULL,
    usage_suspect BIGINT NOT NULL,
    error TEXT,
    -- Where the question stands in Telegram, so that an edit of it finds the turn.
    source_message_id BIGINT,
    UNIQUE (dialog_id, number)
);

CREATE TABLE events (
    turn_id TEXT NOT NULL REFERENCES turns (id),
    seq BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (turn_id, seq)
);

CREATE TABLE lanes (
    lane TEXT PRIMARY KEY,
    next_seq BIGINT NOT NULL
);

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    -- At most once, ever, until swept.
    key TEXT UNIQUE,
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- One at a time, in order of seq.
    lane TEXT NOT NULL,
    seq BIGINT NOT NULL,
    bot_id TEXT,
    payload TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'stopped', 'dead')),
    -- Raised by every claim; a write that carries an older one changes nothing.
    epoch BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    owner TEXT,
    boot TEXT,
    lease_until BIGINT,
    available_at BIGINT NOT NULL,
    stop_requested BIGINT NOT NULL CHECK (stop_requested IN (0, 1)),
    error TEXT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);

-- In the order of claims, so that a claim stops at its limit however many jobs wait behind.
CREATE INDEX jobs_due ON jobs (queue, created_at, id) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_lane ON jobs (lane, seq) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_owner ON jobs (owner) WHERE state = 'running';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE tokens (
    -- SHA-256 of what is shown.
    hash TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    bot_id TEXT,
    chat_id BIGINT,
    user_id BIGINT,
    turn_id TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE INDEX tokens_expiry ON tokens (expires_at);

CREATE TABLE outbox (
    -- The turn or the job that speaks.
    owner TEXT NOT NULL,
    -- Pages of an answer, counted from 0.
    part BIGINT NOT NULL,
    bot_id TEXT NOT NULL,
    chat_id BIGINT NOT NULL,
    -- The message that was placed; NULL until Telegram said its number.
    message_id BIGINT,
    state TEXT NOT NULL CHECK (state IN ('open', 'shown', 'orphan', 'dropped')),
    note TEXT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (owner, part)
);

CREATE INDEX outbox_chat ON outbox (bot_id, chat_id, message_id);

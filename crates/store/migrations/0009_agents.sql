-- Agents: what they want to be allowed, the files they leave, and what a dialog says about them.

-- The engine's own model, if not its usual one; a folder from the administrator's list, if not the chat's own.
ALTER TABLE dialogs ADD COLUMN model TEXT;
ALTER TABLE dialogs ADD COLUMN project TEXT;
-- Until when nobody is asked before something is done.
ALTER TABLE dialogs ADD COLUMN trusted_until BIGINT;

-- Words that a token stands for, such as a question that waits to be queued.
ALTER TABLE tokens ADD COLUMN text TEXT;

-- Questions that a running engine asks people. What they say is in the turn's log; here is what was answered.
CREATE TABLE asks (
    id TEXT PRIMARY KEY,
    turn_id TEXT NOT NULL REFERENCES turns (id),
    state TEXT NOT NULL CHECK (state IN ('open', 'once', 'session', 'deny', 'expired')),
    -- Who answered, by the name that people know.
    answered_by TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    answered_at BIGINT
);

CREATE INDEX asks_turn ON asks (turn_id);

-- Files that an engine leaves for people.
CREATE TABLE files (
    id TEXT PRIMARY KEY,
    turn_id TEXT NOT NULL REFERENCES turns (id),
    name TEXT NOT NULL,
    media TEXT NOT NULL,
    size BIGINT NOT NULL,
    data BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX files_turn ON files (turn_id);

-- Threads of agents, so that an earlier one can be gone on with.
CREATE TABLE threads (
    dialog_id TEXT NOT NULL REFERENCES dialogs (id),
    engine TEXT NOT NULL,
    thread TEXT NOT NULL,
    -- What was asked first.
    title TEXT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (dialog_id, engine, thread)
);

-- Whoever is unlinked goes on with what was used while they were linked.

-- What somebody's limits count beside their own entries: what the account used that a chat was unlinked from.
CREATE TABLE carried (
    org_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    micros BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    requests BIGINT NOT NULL
);
CREATE INDEX carried_user ON carried (user_id, at);

-- Who somebody of Telegram was here before they were linked, and is again afterwards.
ALTER TABLE links ADD COLUMN was TEXT;

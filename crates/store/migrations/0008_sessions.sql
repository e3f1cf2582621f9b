-- Dialogs of programs, which a user owns and no chat holds: the sessions of the API.

-- Its check knew one channel only, and no database can widen a check.
ALTER TABLE dialogs DROP COLUMN channel;
ALTER TABLE dialogs ADD COLUMN channel TEXT NOT NULL DEFAULT 'telegram' CHECK (channel IN ('telegram', 'api'));

ALTER TABLE dialogs ADD COLUMN user_id TEXT REFERENCES users (id);
-- JSON that the program keeps with its session. NULL for dialogs that began in a chat.
ALTER TABLE dialogs ADD COLUMN metadata TEXT;
-- When somebody last looked at the session; by it a session expires.
ALTER TABLE dialogs ADD COLUMN seen_at BIGINT;
-- Its owner has deleted it, or it has expired: it is gone for everybody, and its rows go once nobody works on them.
ALTER TABLE dialogs ADD COLUMN removed_at BIGINT;

CREATE INDEX dialogs_user ON dialogs (user_id, updated_at) WHERE user_id IS NOT NULL;
CREATE INDEX dialogs_seen ON dialogs (seen_at) WHERE channel = 'api' AND seen_at IS NOT NULL;
CREATE INDEX dialogs_removed ON dialogs (removed_at) WHERE removed_at IS NOT NULL;

-- What the asker calls the request that made the turn, so that a repeated one finds it, and a digest of the rest of it.
ALTER TABLE turns ADD COLUMN request_key TEXT;
ALTER TABLE turns ADD COLUMN request_hash TEXT;

CREATE UNIQUE INDEX turns_request ON turns (dialog_id, request_key) WHERE request_key IS NOT NULL;

-- The desk looks through what was asked of everybody, newest first.

CREATE INDEX turns_asked ON turns (asked_at, id);
CREATE INDEX dialogs_updated ON dialogs (updated_at, id);

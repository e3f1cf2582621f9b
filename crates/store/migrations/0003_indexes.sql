-- What is looked for while a chat waits, and what is swept.

CREATE INDEX dialogs_chat ON dialogs (bot_id, chat_id, updated_at);
CREATE INDEX turns_source ON turns (dialog_id, source_message_id) WHERE source_message_id IS NOT NULL;
CREATE INDEX turns_open ON turns (state) WHERE state IN ('queued', 'running');
CREATE INDEX outbox_done ON outbox (updated_at) WHERE state IN ('shown', 'dropped');

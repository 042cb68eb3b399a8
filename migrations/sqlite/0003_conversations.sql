-- Conversations: chats that are deleted by a mark, lists of them that cost the same whoever made the rest, event logs that forget, and running
-- replies that are counted.

-- A deleted chat is nobody's: it has no creator any more, and is in no list. Its rows go in the background.
ALTER TABLE chats ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX chats_deleted ON chats (deleted) WHERE deleted = 1;

-- Whose list a chat is in: everybody's (all zeros), that of its creator alone, or none.
ALTER TABLE chats ADD COLUMN seen_by BLOB
    AS (CASE WHEN deleted = 1 THEN NULL WHEN visibility = 0 THEN x'00000000000000000000000000000000' ELSE created_by END) VIRTUAL;
CREATE INDEX chats_by_creator ON chats (workspace_id, archived, created_by, active_at, id);
DROP INDEX chats_by_activity;
CREATE INDEX chats_by_activity ON chats (workspace_id, archived, seen_by, active_at, id);

-- When the first event that is kept happened: old logs are found by it. The greatest number there is where none is kept, or the log is closed.
ALTER TABLE event_heads ADD COLUMN oldest_at INTEGER NOT NULL DEFAULT 9223372036854775807;
UPDATE event_heads SET oldest_at = COALESCE(
    (SELECT e.happened_at FROM events e WHERE e.workspace_id = event_heads.workspace_id ORDER BY e.number LIMIT 1),
    9223372036854775807) WHERE closed = 0;
CREATE INDEX event_heads_by_age ON event_heads (oldest_at);

CREATE INDEX running_replies_of_user ON running_replies (asked_by);

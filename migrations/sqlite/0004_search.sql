-- Search: the words of titles and final messages.

-- Up to 1,024 chats of one workspace, whose words lie together.
CREATE TABLE search_shards (
    shard           INTEGER NOT NULL PRIMARY KEY,
    workspace_id    BLOB    NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    chats           INTEGER NOT NULL
) STRICT;

CREATE INDEX search_shards_of_workspace ON search_shards (workspace_id, shard);

-- The place of a chat in the index. A chat without words has none yet.
CREATE TABLE search_chats (
    chat_id         BLOB    NOT NULL PRIMARY KEY REFERENCES chats (id) ON DELETE CASCADE,
    shard           INTEGER NOT NULL,
    slot            INTEGER NOT NULL,
    UNIQUE (shard, slot)
) STRICT, WITHOUT ROWID;

-- Chats of which the title, and the messages up to this number, are still to be put into the index: those that there were before it.
CREATE TABLE search_backlog (
    chat_id         BLOB    NOT NULL PRIMARY KEY REFERENCES chats (id) ON DELETE CASCADE,
    seq             INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO search_backlog (chat_id, seq) SELECT id, message_count FROM chats;

-- A row a text, without the text. Words come ready, each behind its workspace's id; blanks are all there is to split at.
-- The row's number is the chat's place and the message's number, so that the texts of a chat follow each other in the list of each word.
CREATE VIRTUAL TABLE search_texts USING fts5 (
    words, content = '', contentless_delete = 1, detail = 'none', tokenize = 'ascii'
);

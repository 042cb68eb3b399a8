-- Search: the words of titles and final messages.

-- Up to 1,024 chats of one workspace, whose words lie together.
CREATE TABLE search_shards (
    shard                BIGINT          NOT NULL AUTO_INCREMENT PRIMARY KEY,
    workspace_id         BINARY(16)      NOT NULL,
    chats                BIGINT          NOT NULL,
    INDEX search_shards_of_workspace (workspace_id, shard),
    FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The place of a chat in the index. A chat without words has none yet.
CREATE TABLE search_chats (
    chat_id              BINARY(16)      NOT NULL PRIMARY KEY,
    shard                BIGINT          NOT NULL,
    slot                 BIGINT          NOT NULL,
    UNIQUE (shard, slot),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Chats of which the title, and the messages up to this number, are still to be put into the index: those that there were before it.
CREATE TABLE search_backlog (
    chat_id              BINARY(16)      NOT NULL PRIMARY KEY,
    seq                  BIGINT          NOT NULL,
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT IGNORE INTO search_backlog (chat_id, seq) SELECT id, message_count FROM chats;

-- A row for each word and each 64 texts of a chat that follow each other: a bit a text. Clustered, so that a message writes into the pages of its
-- shard alone, and a word is found by one seek a shard.
CREATE TABLE search_postings (
    shard                BIGINT          NOT NULL,
    term                 VARBINARY(64)   NOT NULL,
    slot                 SMALLINT        NOT NULL,
    block                INTEGER         NOT NULL,
    texts                BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (shard, term, slot, block)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

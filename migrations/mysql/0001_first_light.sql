-- The first schema: everything the product keeps.
-- Ids are sixteen bytes, times are microseconds since 1970 in UTC, flags and kinds are small integers.

CREATE TABLE installation (
    id                   SMALLINT        NOT NULL PRIMARY KEY CHECK (id = 1),
    set_up_at            BIGINT          NOT NULL,
    encryption_key       TEXT            NOT NULL,
    signing_keys         TEXT            NOT NULL,
    version              BIGINT          NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE instances (
    id                   BINARY(16)      NOT NULL PRIMARY KEY,
    beat                 BIGINT          NOT NULL,
    version              BIGINT          NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE users (
    id                   BINARY(16)      NOT NULL PRIMARY KEY,
    email                VARBINARY(254)  NOT NULL UNIQUE,
    name                 VARCHAR(255)    NOT NULL,
    role                 SMALLINT        NOT NULL,
    is_active            SMALLINT        NOT NULL,
    must_change_password SMALLINT        NOT NULL,
    password             TEXT            NOT NULL,
    credentials_epoch    BIGINT          NOT NULL,
    created_at           BIGINT          NOT NULL,
    updated_at           BIGINT          NOT NULL,
    version              BIGINT          NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE sessions (
    id                   BINARY(16)      NOT NULL PRIMARY KEY,
    user_id              BINARY(16)      NOT NULL,
    epoch                BIGINT          NOT NULL,
    generation           BIGINT          NOT NULL,
    token                BINARY(32)      NOT NULL,
    previous_token       BINARY(32),
    rotated_at           BIGINT          NOT NULL,
    expires_at           BIGINT          NOT NULL,
    ended                SMALLINT        NOT NULL,
    address              TEXT            NOT NULL,
    user_agent           TEXT            NOT NULL,
    created_at           BIGINT          NOT NULL,
    last_used_at         BIGINT          NOT NULL,
    version              BIGINT          NOT NULL,
    INDEX sessions_of_user (user_id),
    FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE workspaces (
    id                   BINARY(16)      NOT NULL PRIMARY KEY,
    name                 VARCHAR(255)    NOT NULL,
    description          TEXT,
    default_model        TEXT,
    system_prompt        MEDIUMTEXT,
    require_two_factor   SMALLINT        NOT NULL,
    created_at           BIGINT          NOT NULL,
    updated_at           BIGINT          NOT NULL,
    version              BIGINT          NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE memberships (
    workspace_id         BINARY(16)      NOT NULL,
    user_id              BINARY(16)      NOT NULL,
    role                 SMALLINT        NOT NULL,
    joined_at            BIGINT          NOT NULL,
    version              BIGINT          NOT NULL,
    PRIMARY KEY (workspace_id, user_id),
    INDEX memberships_of_user (user_id, workspace_id),
    FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE,
    FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Numbers that many move at once. They go with their owner by hand: an owner may be of several tables.
CREATE TABLE counters (
    kind                 SMALLINT        NOT NULL,
    owner_id             BINARY(16)      NOT NULL,
    value                BIGINT          NOT NULL,
    PRIMARY KEY (kind, owner_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- A chat whose creator's account is gone keeps the id and shows nobody: it is joined, not referenced.
-- active_at is last_message_at, or created_at before the first message: what the list goes by.
CREATE TABLE chats (
    id                   BINARY(16)      NOT NULL PRIMARY KEY,
    workspace_id         BINARY(16)      NOT NULL,
    title                TEXT,
    visibility           SMALLINT        NOT NULL,
    model                TEXT,
    system_prompt        MEDIUMTEXT,
    archived             SMALLINT        NOT NULL,
    created_by           BINARY(16),
    message_count        BIGINT          NOT NULL,
    last_message_at      BIGINT,
    active_at            BIGINT          NOT NULL,
    created_at           BIGINT          NOT NULL,
    updated_at           BIGINT          NOT NULL,
    version              BIGINT          NOT NULL,
    INDEX chats_by_activity (workspace_id, archived, active_at, id),
    FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Clustered by chat and number, so that a page is one range of the table itself. Authors are joined, as a chat's creator is.
CREATE TABLE messages (
    chat_id              BINARY(16)      NOT NULL,
    seq                  BIGINT          NOT NULL,
    id                   BINARY(16)      NOT NULL UNIQUE,
    workspace_id         BINARY(16)      NOT NULL,
    parent_id            BINARY(16),
    speaker              SMALLINT        NOT NULL,
    author_id            BINARY(16),
    content              MEDIUMTEXT      NOT NULL,
    reasoning            MEDIUMTEXT,
    status               SMALLINT        NOT NULL,
    model                TEXT,
    provider             TEXT,
    prompt_tokens        BIGINT,
    completion_tokens    BIGINT,
    total_tokens         BIGINT,
    finish_reason        TEXT,
    error_code           TEXT,
    error_detail         TEXT,
    created_at           BIGINT          NOT NULL,
    updated_at           BIGINT          NOT NULL,
    version              BIGINT          NOT NULL,
    PRIMARY KEY (chat_id, seq),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The process is not referenced: a reply of a process that is no longer listed is one to be ended.
CREATE TABLE running_replies (
    message_id           BINARY(16)      NOT NULL PRIMARY KEY,
    workspace_id         BINARY(16)      NOT NULL,
    chat_id              BINARY(16)      NOT NULL,
    seq                  BIGINT          NOT NULL,
    asked_by             BINARY(16)      NOT NULL,
    instance_id          BINARY(16)      NOT NULL,
    stop_requested       SMALLINT        NOT NULL,
    version              BIGINT          NOT NULL,
    INDEX running_replies_of_workspace (workspace_id),
    INDEX running_replies_of_instance (instance_id),
    FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The head of a workspace's event log. A table of its own: whoever writes events takes this row first, and nobody else takes it.
CREATE TABLE event_heads (
    workspace_id         BINARY(16)      NOT NULL PRIMARY KEY,
    newest               BIGINT          NOT NULL,
    forgotten            BIGINT          NOT NULL,
    FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE events (
    workspace_id         BINARY(16)      NOT NULL,
    number               BIGINT          NOT NULL,
    kind                 SMALLINT        NOT NULL,
    chat_id              BINARY(16)      NOT NULL,
    message_id           BINARY(16),
    happened_at          BIGINT          NOT NULL,
    PRIMARY KEY (workspace_id, number),
    FOREIGN KEY (workspace_id) REFERENCES event_heads (workspace_id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The first schema: everything the product keeps.
-- Ids are sixteen bytes, times are microseconds since 1970 in UTC, flags and kinds are small integers.

CREATE TABLE installation (
    id              INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    set_up_at       INTEGER NOT NULL,
    encryption_key  TEXT    NOT NULL,
    signing_keys    TEXT    NOT NULL,
    version         INTEGER NOT NULL
) STRICT;

CREATE TABLE instances (
    id              BLOB    NOT NULL PRIMARY KEY,
    beat            INTEGER NOT NULL,
    version         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    id                   BLOB    NOT NULL PRIMARY KEY,
    email                TEXT    NOT NULL UNIQUE,
    name                 TEXT    NOT NULL,
    role                 INTEGER NOT NULL,
    is_active            INTEGER NOT NULL,
    must_change_password INTEGER NOT NULL,
    password             TEXT    NOT NULL,
    credentials_epoch    INTEGER NOT NULL,
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL,
    version              INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id              BLOB    NOT NULL PRIMARY KEY,
    user_id         BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    epoch           INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    token           BLOB    NOT NULL,
    previous_token  BLOB,
    rotated_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    ended           INTEGER NOT NULL,
    address         TEXT    NOT NULL,
    user_agent      TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    last_used_at    INTEGER NOT NULL,
    version         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_of_user ON sessions (user_id);

CREATE TABLE workspaces (
    id                  BLOB    NOT NULL PRIMARY KEY,
    name                TEXT    NOT NULL,
    description         TEXT,
    default_model       TEXT,
    system_prompt       TEXT,
    require_two_factor  INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    version             INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE memberships (
    workspace_id    BLOB    NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    user_id         BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role            INTEGER NOT NULL,
    joined_at       INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX memberships_of_user ON memberships (user_id, workspace_id);

-- Numbers that many move at once. They go with their owner by hand: an owner may be of several tables.
CREATE TABLE counters (
    kind            INTEGER NOT NULL,
    owner_id        BLOB    NOT NULL,
    value           INTEGER NOT NULL,
    PRIMARY KEY (kind, owner_id)
) STRICT, WITHOUT ROWID;

-- A chat whose creator's account is gone keeps the id and shows nobody: it is joined, not referenced.
-- active_at is last_message_at, or created_at before the first message: what the list goes by.
CREATE TABLE chats (
    id              BLOB    NOT NULL PRIMARY KEY,
    workspace_id    BLOB    NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    title           TEXT,
    visibility      INTEGER NOT NULL,
    model           TEXT,
    system_prompt   TEXT,
    archived        INTEGER NOT NULL,
    created_by      BLOB,
    message_count   INTEGER NOT NULL,
    last_message_at INTEGER,
    active_at       INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    version         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX chats_by_activity ON chats (workspace_id, archived, active_at, id);

-- Clustered by chat and number, so that a page is one range of the table itself. Authors are joined, as a chat's creator is.
CREATE TABLE messages (
    chat_id             BLOB    NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    seq                 INTEGER NOT NULL,
    id                  BLOB    NOT NULL UNIQUE,
    workspace_id        BLOB    NOT NULL,
    parent_id           BLOB,
    speaker             INTEGER NOT NULL,
    author_id           BLOB,
    content             TEXT    NOT NULL,
    reasoning           TEXT,
    status              INTEGER NOT NULL,
    model               TEXT,
    provider            TEXT,
    prompt_tokens       INTEGER,
    completion_tokens   INTEGER,
    total_tokens        INTEGER,
    finish_reason       TEXT,
    error_code          TEXT,
    error_detail        TEXT,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    version             INTEGER NOT NULL,
    PRIMARY KEY (chat_id, seq)
) STRICT, WITHOUT ROWID;

-- The process is not referenced: a reply of a process that is no longer listed is one to be ended.
CREATE TABLE running_replies (
    message_id      BLOB    NOT NULL PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    workspace_id    BLOB    NOT NULL,
    chat_id         BLOB    NOT NULL,
    seq             INTEGER NOT NULL,
    asked_by        BLOB    NOT NULL,
    instance_id     BLOB    NOT NULL,
    stop_requested  INTEGER NOT NULL,
    version         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX running_replies_of_workspace ON running_replies (workspace_id);
CREATE INDEX running_replies_of_instance ON running_replies (instance_id);

-- The head of a workspace's event log. A table of its own: whoever writes events takes this row first, and nobody else takes it.
CREATE TABLE event_heads (
    workspace_id    BLOB    NOT NULL PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    newest          INTEGER NOT NULL,
    forgotten       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    workspace_id    BLOB    NOT NULL REFERENCES event_heads (workspace_id) ON DELETE CASCADE,
    number          INTEGER NOT NULL,
    kind            INTEGER NOT NULL,
    chat_id         BLOB    NOT NULL,
    message_id      BLOB,
    happened_at     INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, number)
) STRICT, WITHOUT ROWID;

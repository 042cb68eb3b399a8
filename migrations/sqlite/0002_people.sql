-- People: invitations, keyed requests, accounts that can be searched, events of members, and workspaces that are deleted.
-- Counters of kind 1 were the workspaces that a user made and are from now on the ones that a user is a member of. Nothing changes for it:
-- nobody could join a workspace but by making it, so the two are one number.

-- Void with the membership of whoever made it.
CREATE TABLE invitations (
    id              BLOB    NOT NULL PRIMARY KEY,
    workspace_id    BLOB    NOT NULL,
    email           TEXT    NOT NULL,
    role            INTEGER NOT NULL,
    invited_by      BLOB    NOT NULL,
    token           BLOB    NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    UNIQUE (workspace_id, email),
    FOREIGN KEY (workspace_id, invited_by) REFERENCES memberships (workspace_id, user_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX invitations_into_workspace ON invitations (workspace_id, id);
CREATE INDEX invitations_of_email ON invitations (email, id);
CREATE INDEX invitations_by_member ON invitations (workspace_id, invited_by);
CREATE INDEX invitations_by_end ON invitations (expires_at);

CREATE TABLE keyed_requests (
    user_id         BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key_hash        BLOB    NOT NULL,
    fingerprint     BLOB    NOT NULL,
    made_id         BLOB    NOT NULL,
    made_reply      BLOB,
    created_at      INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    PRIMARY KEY (user_id, key_hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX keyed_requests_by_time ON keyed_requests (created_at);

-- The email and the name as they are searched, a line each. Here only nearly so: the next change of a row makes it exact.
ALTER TABLE users ADD COLUMN folded TEXT;
UPDATE users SET folded = email || char(10) || lower(name);
CREATE INDEX users_by_role ON users (role, is_active);

CREATE INDEX memberships_by_role ON memberships (workspace_id, role);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- A deleted workspace has no members and a closed log. Its rows go in the background.
ALTER TABLE workspaces ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX workspaces_deleted ON workspaces (deleted);
ALTER TABLE event_heads ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;

-- Events of members have a user as their subject, and no chat.
CREATE TABLE events_of_people (
    workspace_id    BLOB    NOT NULL REFERENCES event_heads (workspace_id) ON DELETE CASCADE,
    number          INTEGER NOT NULL,
    kind            INTEGER NOT NULL,
    chat_id         BLOB,
    message_id      BLOB,
    happened_at     INTEGER NOT NULL,
    user_id         BLOB,
    PRIMARY KEY (workspace_id, number)
) STRICT, WITHOUT ROWID;

INSERT INTO events_of_people (workspace_id, number, kind, chat_id, message_id, happened_at)
    SELECT workspace_id, number, kind, chat_id, message_id, happened_at FROM events;
DROP TABLE events;
ALTER TABLE events_of_people RENAME TO events;

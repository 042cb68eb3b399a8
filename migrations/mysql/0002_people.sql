-- People: invitations, keyed requests, accounts that can be searched, events of members, and workspaces that are deleted.
-- Counters of kind 1 were the workspaces that a user made and are from now on the ones that a user is a member of. Nothing changes for it:
-- nobody could join a workspace but by making it, so the two are one number.

-- Void with the membership of whoever made it.
CREATE TABLE invitations (
    id                   BINARY(16)      NOT NULL PRIMARY KEY,
    workspace_id         BINARY(16)      NOT NULL,
    email                VARBINARY(254)  NOT NULL,
    role                 SMALLINT        NOT NULL,
    invited_by           BINARY(16)      NOT NULL,
    token                BINARY(32)      NOT NULL,
    created_at           BIGINT          NOT NULL,
    expires_at           BIGINT          NOT NULL,
    version              BIGINT          NOT NULL,
    UNIQUE (workspace_id, email),
    INDEX invitations_into_workspace (workspace_id, id),
    INDEX invitations_of_email (email, id),
    INDEX invitations_by_member (workspace_id, invited_by),
    INDEX invitations_by_end (expires_at),
    FOREIGN KEY (workspace_id, invited_by) REFERENCES memberships (workspace_id, user_id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE keyed_requests (
    user_id              BINARY(16)      NOT NULL,
    key_hash             BINARY(32)      NOT NULL,
    fingerprint          BINARY(32)      NOT NULL,
    made_id              BINARY(16)      NOT NULL,
    made_reply           BINARY(16),
    created_at           BIGINT          NOT NULL,
    version              BIGINT          NOT NULL,
    PRIMARY KEY (user_id, key_hash),
    INDEX keyed_requests_by_time (created_at),
    FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The email and the name as they are searched, a line each. Here only nearly so: the next change of a row makes it exact.
ALTER TABLE users ADD COLUMN folded TEXT;
UPDATE users SET folded = CONCAT(CONVERT(email USING utf8mb4), CHAR(10 USING utf8mb4), LOWER(name)) WHERE folded IS NULL;
CREATE INDEX users_by_role ON users (role, is_active);

CREATE INDEX memberships_by_role ON memberships (workspace_id, role);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- A deleted workspace has no members and a closed log. Its rows go in the background.
ALTER TABLE workspaces ADD COLUMN deleted SMALLINT NOT NULL DEFAULT 0;
CREATE INDEX workspaces_deleted ON workspaces (deleted);
ALTER TABLE event_heads ADD COLUMN closed SMALLINT NOT NULL DEFAULT 0;

-- Events of members have a user as their subject, and no chat.
ALTER TABLE events MODIFY COLUMN chat_id BINARY(16) NULL;
ALTER TABLE events ADD COLUMN user_id BINARY(16);

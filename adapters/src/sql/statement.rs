//! Every statement that writes one record. What they touch is counted by the caller.

use private_chat_core::change::{Record, Ref, Version};
use private_chat_core::id::MessageId;
use private_chat_core::model::chat::{Message, Seq};
use private_chat_core::model::text::folded;
use private_chat_core::model::user::User;
use sqlx::Error;

use super::code::Code as _;
use super::seam::{Arg, Connection, args};

/// Writes a new row. A reply that begins takes its number from `seq` where it has none of its own.
pub(super) async fn insert(
    connection: &mut Connection<'_>,
    record: &Record,
    seq: impl Fn(MessageId) -> Option<Seq>,
) -> Result<u64, Error> {
    let first = Version::FIRST;
    match record {
        Record::Installation(it) => {
            let sql = "INSERT INTO installation (id, set_up_at, encryption_key, signing_keys, version) VALUES (1, ?, ?, ?, ?)";
            connection.execute(sql, args![it.set_up_at, &it.encryption_key, &it.signing_keys, first]).await
        }
        Record::User(it) => {
            let searched = searched(it);
            let sql = "INSERT INTO users (id, email, name, folded, role, is_active, must_change_password, password, \
                       credentials_epoch, created_at, updated_at, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let args = args![
                &it.id,
                it.email.as_str(),
                &it.name,
                &searched,
                it.role.code(),
                it.is_active,
                it.must_change_password,
                it.password.as_str(),
                it.credentials_epoch,
                it.created_at,
                it.updated_at,
                first,
            ];
            connection.execute(sql, args).await
        }
        Record::Session(it) => {
            let sql = "INSERT INTO sessions (id, user_id, epoch, generation, token, previous_token, rotated_at, expires_at, ended, \
                       address, user_agent, created_at, last_used_at, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let args = args![
                &it.id,
                &it.user,
                it.epoch,
                it.generation,
                &it.token.0,
                it.previous.as_ref().map(|hash| &hash.0),
                it.rotated_at,
                it.expires_at,
                it.ended,
                &it.device.address,
                &it.device.user_agent,
                it.created_at,
                it.last_used_at,
                first,
            ];
            connection.execute(sql, args).await
        }
        Record::Workspace(it) => {
            let sql = "INSERT INTO workspaces (id, name, description, default_model, system_prompt, require_two_factor, created_at, \
                       updated_at, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let args = args![
                &it.id,
                &it.name,
                &it.description,
                &it.default_model,
                &it.system_prompt,
                it.require_two_factor,
                it.created_at,
                it.updated_at,
                first,
            ];
            connection.execute(sql, args).await
        }
        Record::Membership(it) => {
            let sql =
                "INSERT INTO memberships (workspace_id, user_id, role, joined_at, version) VALUES (?, ?, ?, ?, ?)";
            connection.execute(sql, args![&it.workspace, &it.user, it.role.code(), it.joined_at, first]).await
        }
        Record::Invitation(it) => {
            let sql = "INSERT INTO invitations (id, workspace_id, email, role, invited_by, token, created_at, expires_at, version) \
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let args = args![
                &it.id,
                &it.workspace,
                it.email.as_str(),
                it.role.code(),
                &it.invited_by.id,
                &it.token.0,
                it.created_at,
                it.expires_at,
                first,
            ];
            connection.execute(sql, args).await
        }
        Record::Chat(it) => {
            let sql = "INSERT INTO chats (id, workspace_id, title, visibility, model, system_prompt, archived, created_by, \
                       message_count, last_message_at, active_at, created_at, updated_at, version) \
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let args = args![
                &it.id,
                &it.workspace,
                &it.title,
                it.visibility.code(),
                &it.model,
                &it.system_prompt,
                it.archived,
                it.created_by.as_ref().map(|creator| &creator.id),
                it.message_count,
                it.last_message_at,
                it.active_at(),
                it.created_at,
                it.updated_at,
                first,
            ];
            connection.execute(sql, args).await
        }
        Record::Message(it) => insert_message(connection, it, it.seq, it.parent).await,
        Record::RunningReply(it) => {
            let sql = "INSERT INTO running_replies (message_id, workspace_id, chat_id, seq, asked_by, instance_id, stop_requested, \
                       version) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            let number = if it.seq == 0 { seq(it.message).unwrap_or(0) } else { it.seq };
            let args = args![
                &it.message,
                &it.workspace,
                &it.chat,
                number,
                &it.asked_by,
                &it.instance,
                it.stop_requested,
                first
            ];
            connection.execute(sql, args).await
        }
        Record::Instance(it) => {
            let sql = "INSERT INTO instances (id, beat, version) VALUES (?, ?, ?)";
            connection.execute(sql, args![&it.id, it.beat, first]).await
        }
        Record::KeyedRequest(it) => {
            let sql = "INSERT INTO keyed_requests (user_id, key_hash, fingerprint, made_id, made_reply, created_at, version) \
                       VALUES (?, ?, ?, ?, ?, ?, ?)";
            let args = args![
                &it.user,
                &it.key.0,
                &it.fingerprint.0,
                &it.made.id,
                it.made.reply.as_ref(),
                it.created_at,
                first
            ];
            connection.execute(sql, args).await
        }
    }
}

/// What a user is searched by: the email and the name, folded, a line each.
fn searched(user: &User) -> String {
    format!("{}\n{}", folded(user.email.as_str()), folded(&user.name))
}

/// Writes a new message at its place in the chat.
pub(super) async fn insert_message(
    connection: &mut Connection<'_>,
    it: &Message,
    seq: Seq,
    parent: Option<MessageId>,
) -> Result<u64, Error> {
    let sql = "INSERT INTO messages (chat_id, seq, id, workspace_id, parent_id, speaker, author_id, content, reasoning, status, model, \
               provider, prompt_tokens, completion_tokens, total_tokens, finish_reason, error_code, error_detail, created_at, \
               updated_at, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let args = args![
        &it.chat,
        seq,
        &it.id,
        &it.workspace,
        parent.as_ref(),
        it.speaker.code(),
        it.author.as_ref().map(|author| &author.id),
        &it.content,
        &it.reasoning,
        it.status.code(),
        &it.model,
        &it.provider,
        it.usage.map(|usage| usage.prompt_tokens),
        it.usage.map(|usage| usage.completion_tokens),
        it.usage.map(|usage| usage.total_tokens),
        &it.finish_reason,
        it.error.as_ref().map(|error| error.code.name()),
        it.error.as_ref().map(|error| &error.detail),
        it.created_at,
        it.updated_at,
        Version::FIRST,
    ];
    connection.execute(sql, args).await
}

/// Makes the row of the record's key and version the record, with the next version. What `Append` moves, and what a row belongs to, stays.
pub(super) async fn update(connection: &mut Connection<'_>, record: &Record) -> Result<u64, Error> {
    match record {
        Record::Installation(it) => {
            let sql = "UPDATE installation SET set_up_at = ?, encryption_key = ?, signing_keys = ?, version = version + 1 \
                       WHERE id = 1 AND version = ?";
            connection.execute(sql, args![it.set_up_at, &it.encryption_key, &it.signing_keys, it.version]).await
        }
        Record::User(it) => {
            let searched = searched(it);
            let sql = "UPDATE users SET email = ?, name = ?, folded = ?, role = ?, is_active = ?, must_change_password = ?, \
                       password = ?, credentials_epoch = ?, created_at = ?, updated_at = ?, version = version + 1 \
                       WHERE id = ? AND version = ?";
            let args = args![
                it.email.as_str(),
                &it.name,
                &searched,
                it.role.code(),
                it.is_active,
                it.must_change_password,
                it.password.as_str(),
                it.credentials_epoch,
                it.created_at,
                it.updated_at,
                &it.id,
                it.version,
            ];
            connection.execute(sql, args).await
        }
        Record::Session(it) => {
            let sql = "UPDATE sessions SET epoch = ?, generation = ?, token = ?, previous_token = ?, rotated_at = ?, expires_at = ?, \
                       ended = ?, address = ?, user_agent = ?, created_at = ?, last_used_at = ?, version = version + 1 \
                       WHERE id = ? AND version = ?";
            let args = args![
                it.epoch,
                it.generation,
                &it.token.0,
                it.previous.as_ref().map(|hash| &hash.0),
                it.rotated_at,
                it.expires_at,
                it.ended,
                &it.device.address,
                &it.device.user_agent,
                it.created_at,
                it.last_used_at,
                &it.id,
                it.version,
            ];
            connection.execute(sql, args).await
        }
        Record::Workspace(it) => {
            let sql = "UPDATE workspaces SET name = ?, description = ?, default_model = ?, system_prompt = ?, require_two_factor = ?, \
                       created_at = ?, updated_at = ?, version = version + 1 WHERE id = ? AND deleted = 0 AND version = ?";
            let args = args![
                &it.name,
                &it.description,
                &it.default_model,
                &it.system_prompt,
                it.require_two_factor,
                it.created_at,
                it.updated_at,
                &it.id,
                it.version,
            ];
            connection.execute(sql, args).await
        }
        Record::Membership(it) => {
            let sql = "UPDATE memberships SET role = ?, joined_at = ?, version = version + 1 \
                       WHERE workspace_id = ? AND user_id = ? AND version = ?";
            connection.execute(sql, args![it.role.code(), it.joined_at, &it.workspace, &it.user, it.version]).await
        }
        Record::Invitation(it) => {
            let sql = "UPDATE invitations SET email = ?, role = ?, invited_by = ?, token = ?, created_at = ?, expires_at = ?, \
                       version = version + 1 WHERE id = ? AND version = ?";
            let args = args![
                it.email.as_str(),
                it.role.code(),
                &it.invited_by.id,
                &it.token.0,
                it.created_at,
                it.expires_at,
                &it.id,
                it.version,
            ];
            connection.execute(sql, args).await
        }
        Record::Chat(it) => {
            let sql = "UPDATE chats SET title = ?, visibility = ?, model = ?, system_prompt = ?, archived = ?, created_by = ?, \
                       active_at = COALESCE(last_message_at, ?), created_at = ?, updated_at = ?, version = version + 1 \
                       WHERE id = ? AND deleted = 0 AND version = ?";
            let args = args![
                &it.title,
                it.visibility.code(),
                &it.model,
                &it.system_prompt,
                it.archived,
                it.created_by.as_ref().map(|creator| &creator.id),
                it.created_at,
                it.created_at,
                it.updated_at,
                &it.id,
                it.version,
            ];
            connection.execute(sql, args).await
        }
        Record::Message(it) => update_message(connection, it).await,
        Record::RunningReply(it) => {
            let sql = "UPDATE running_replies SET asked_by = ?, instance_id = ?, stop_requested = ?, version = version + 1 \
                       WHERE message_id = ? AND version = ?";
            connection.execute(sql, args![&it.asked_by, &it.instance, it.stop_requested, &it.message, it.version]).await
        }
        Record::Instance(it) => {
            let sql = "UPDATE instances SET beat = ?, version = version + 1 WHERE id = ? AND version = ?";
            connection.execute(sql, args![it.beat, &it.id, it.version]).await
        }
        Record::KeyedRequest(it) => {
            let sql = "UPDATE keyed_requests SET fingerprint = ?, made_id = ?, made_reply = ?, created_at = ?, \
                       version = version + 1 WHERE user_id = ? AND key_hash = ? AND version = ?";
            let args = args![
                &it.fingerprint.0,
                &it.made.id,
                it.made.reply.as_ref(),
                it.created_at,
                &it.user,
                &it.key.0,
                it.version,
            ];
            connection.execute(sql, args).await
        }
    }
}

async fn update_message(connection: &mut Connection<'_>, it: &Message) -> Result<u64, Error> {
    let sql = "UPDATE messages SET parent_id = ?, speaker = ?, author_id = ?, content = ?, reasoning = ?, status = ?, model = ?, \
               provider = ?, prompt_tokens = ?, completion_tokens = ?, total_tokens = ?, finish_reason = ?, error_code = ?, \
               error_detail = ?, created_at = ?, updated_at = ?, version = version + 1 \
               WHERE chat_id = ? AND seq = ? AND id = ? \
               AND EXISTS (SELECT 1 FROM chats c WHERE c.id = messages.chat_id AND c.deleted = 0) AND version = ?";
    let args = args![
        it.parent.as_ref(),
        it.speaker.code(),
        it.author.as_ref().map(|author| &author.id),
        &it.content,
        &it.reasoning,
        it.status.code(),
        &it.model,
        &it.provider,
        it.usage.map(|usage| usage.prompt_tokens),
        it.usage.map(|usage| usage.completion_tokens),
        it.usage.map(|usage| usage.total_tokens),
        &it.finish_reason,
        it.error.as_ref().map(|error| error.code.name()),
        it.error.as_ref().map(|error| &error.detail),
        it.created_at,
        it.updated_at,
        &it.chat,
        it.seq,
        &it.id,
        it.version,
    ];
    connection.execute(sql, args).await
}

/// The two statements that are the same for all tables: expect, and delete.
macro_rules! guarded {
    ($table:literal, $key:literal) => {
        (
            concat!("UPDATE ", $table, " SET version = version WHERE ", $key, " AND version = ?"),
            concat!("DELETE FROM ", $table, " WHERE ", $key, " AND version = ?"),
        )
    };
}

const fn guarded(key: &Ref) -> (&'static str, &'static str) {
    match key {
        Ref::Installation => guarded!("installation", "id = 1"),
        Ref::User(_) => guarded!("users", "id = ?"),
        Ref::Session(_) => guarded!("sessions", "id = ?"),
        // Its rows are many: it is marked, and purged later.
        Ref::Workspace(_) => (
            guarded!("workspaces", "id = ? AND deleted = 0").0,
            "UPDATE workspaces SET deleted = 1, version = version + 1 WHERE id = ? AND deleted = 0 AND version = ?",
        ),
        Ref::Membership(..) => guarded!("memberships", "workspace_id = ? AND user_id = ?"),
        Ref::Invitation(_) => guarded!("invitations", "id = ?"),
        // Its messages are many: as a workspace.
        Ref::Chat(_) => (
            guarded!("chats", "id = ? AND deleted = 0").0,
            "UPDATE chats SET deleted = 1, created_by = NULL, version = version + 1 WHERE id = ? AND deleted = 0 AND version = ?",
        ),
        Ref::Message(..) => guarded!(
            "messages",
            "chat_id = ? AND id = ? AND EXISTS (SELECT 1 FROM chats c WHERE c.id = messages.chat_id AND c.deleted = 0)"
        ),
        Ref::RunningReply(_) => guarded!("running_replies", "message_id = ?"),
        Ref::Instance(_) => guarded!("instances", "id = ?"),
        Ref::KeyedRequest(..) => guarded!("keyed_requests", "user_id = ? AND key_hash = ?"),
    }
}

fn guard(key: &Ref, version: Version) -> Vec<Arg<'_>> {
    let mut args = match key {
        Ref::Installation => vec![],
        Ref::User(id) => vec![id.into()],
        Ref::Session(id) => vec![id.into()],
        Ref::Workspace(id) => vec![id.into()],
        Ref::Membership(workspace, user) => vec![workspace.into(), user.into()],
        Ref::Invitation(id) => vec![id.into()],
        Ref::Chat(id) => vec![id.into()],
        Ref::Message(chat, id) => vec![chat.into(), id.into()],
        Ref::RunningReply(id) => vec![id.into()],
        Ref::Instance(id) => vec![id.into()],
        Ref::KeyedRequest(user, key) => vec![user.into(), Arg::from(&key.0)],
    };
    args.push(version.into());
    args
}

/// Finds and locks the row of this key and version, and writes nothing: an update that changes nothing counts what it matched, on MySQL because
/// sqlx asks for that.
pub(super) async fn expect(connection: &mut Connection<'_>, key: &Ref, version: Version) -> Result<u64, Error> {
    connection.execute(guarded(key).0, &guard(key, version)).await
}

/// Deletes the row of this key and version; a workspace and a chat are only marked.
pub(super) async fn delete(connection: &mut Connection<'_>, key: &Ref, version: Version) -> Result<u64, Error> {
    connection.execute(guarded(key).1, &guard(key, version)).await
}

//! From rows to records. Each list of columns stands beside the function that reads it, in the same order.
//!
//! Names of authors and counts of members are looked up a row, not joined: MySQL may take a left join for a hash join while the joined table is
//! small, and then reads, and sorts, a whole chat for one page of it.

use private_chat_core::change::{Event, EventKind, Instance, LoggedEvent, Version};
use private_chat_core::error::Failure;
use private_chat_core::id::{ChatId, WorkspaceId};
use private_chat_core::model::chat::{
    Audience, Chat, Message, ReplyError, ReplyFault, RunningReply, Usage, Visibility,
};
use private_chat_core::model::idempotency::{Fingerprint, KeyHash, KeyedRequest, Made};
use private_chat_core::model::installation::Installation;
use private_chat_core::model::invitation::{Invitation, Invited};
use private_chat_core::model::password::PasswordHash;
use private_chat_core::model::session::{Device, Session, TokenHash};
use private_chat_core::model::user::{Author, Email, User};
use private_chat_core::model::workspace::{Joined, Membership, Participant, Workspace};
use private_chat_core::page::ActivityKey;
use private_chat_core::port::Result;
use private_chat_core::port::store::{Arrival, LogBounds};

use super::code::EventCode;
use super::seam::Columns;

/// A number alone.
pub(super) fn number(row: &mut Columns<'_>) -> Result<i64> {
    row.int()
}

macro_rules! installation_columns {
    () => {
        "set_up_at, encryption_key, signing_keys, version"
    };
}

pub(super) fn installation(row: &mut Columns<'_>) -> Result<Installation> {
    Ok(Installation {
        set_up_at: row.time()?,
        encryption_key: row.text()?,
        signing_keys: row.text()?,
        version: row.version()?,
    })
}

macro_rules! user_columns {
    () => {
        "u.id, u.email, u.name, u.role, u.is_active, u.must_change_password, u.password, u.credentials_epoch, \
         u.created_at, u.updated_at, u.version"
    };
}

pub(super) fn user(row: &mut Columns<'_>) -> Result<User> {
    Ok(User {
        id: row.id()?,
        email: Email::stored(row.text()?),
        name: row.text()?,
        role: row.kind()?,
        is_active: row.flag()?,
        must_change_password: row.flag()?,
        password: PasswordHash::new(row.text()?),
        credentials_epoch: row.count()?,
        created_at: row.time()?,
        updated_at: row.time()?,
        version: row.version()?,
    })
}

macro_rules! session_columns {
    () => {
        "s.id, s.user_id, s.epoch, s.generation, s.token, s.previous_token, s.rotated_at, s.expires_at, s.ended, s.address, \
         s.user_agent, s.created_at, s.last_used_at, s.version"
    };
}

/// A session alone.
pub(super) fn session(row: &mut Columns<'_>) -> Result<Session> {
    Ok(Session {
        id: row.id()?,
        user: row.id()?,
        epoch: row.count()?,
        generation: row.count()?,
        token: TokenHash(row.array()?),
        previous: row.opt_array()?.map(TokenHash),
        rotated_at: row.time()?,
        expires_at: row.time()?,
        ended: row.flag()?,
        device: Device { address: row.text()?, user_agent: row.text()? },
        created_at: row.time()?,
        last_used_at: row.time()?,
        version: row.version()?,
    })
}

/// A session and its user.
pub(super) fn session_of_user(row: &mut Columns<'_>) -> Result<(Session, User)> {
    Ok((session(row)?, user(row)?))
}

macro_rules! membership_columns {
    () => {
        "m.workspace_id, m.user_id, m.role, m.joined_at, m.version"
    };
}

pub(super) fn membership(row: &mut Columns<'_>) -> Result<Membership> {
    Ok(Membership {
        workspace: row.id()?,
        user: row.id()?,
        role: row.kind()?,
        joined_at: row.time()?,
        version: row.version()?,
    })
}

// Takes the kind of counter that counts members as its one argument.
macro_rules! joined_columns {
    () => {
        concat!(
            "w.id, w.name, w.description, w.default_model, w.system_prompt, w.require_two_factor, w.created_at, w.updated_at, \
             w.version, ",
            membership_columns!(),
            ", COALESCE((SELECT n.value FROM counters n WHERE n.kind = ? AND n.owner_id = m.workspace_id), 0)"
        )
    };
}

pub(super) fn joined(row: &mut Columns<'_>) -> Result<Joined> {
    Ok(Joined {
        workspace: Workspace {
            id: row.id()?,
            name: row.text()?,
            description: row.opt_text()?,
            default_model: row.opt_text()?,
            system_prompt: row.opt_text()?,
            require_two_factor: row.flag()?,
            created_at: row.time()?,
            updated_at: row.time()?,
            version: row.version()?,
        },
        membership: membership(row)?,
        member_count: row.count()?,
    })
}

/// A session of a user, and the workspace as they see it, where they see it.
pub(super) fn arrival(row: &mut Columns<'_>) -> Result<Arrival> {
    let (session, user) = session_of_user(row)?;
    let joined = if row.is_null()? { None } else { Some(joined(row)?) };
    Ok(Arrival { session, user, joined, chat: None })
}

/// An arrival, and the chat that was asked for, where it is of the workspace.
pub(super) fn arrival_at_chat(row: &mut Columns<'_>) -> Result<Arrival> {
    let arrival = arrival(row)?;
    // Where there is no workspace, there is no chat either, and the columns before it were left unread.
    let chat = if arrival.joined.is_none() || row.is_null()? { None } else { Some(chat(row)?) };
    Ok(Arrival { chat, ..arrival })
}

macro_rules! participant_columns {
    () => {
        concat!(
            membership_columns!(),
            ", (SELECT u.name FROM users u WHERE u.id = m.user_id), (SELECT u.email FROM users u WHERE u.id = m.user_id)"
        )
    };
}

pub(super) fn participant(row: &mut Columns<'_>) -> Result<Participant> {
    Ok(Participant { membership: membership(row)?, name: row.text()?, email: Email::stored(row.text()?) })
}

macro_rules! invited_columns {
    () => {
        "i.id, i.workspace_id, i.email, i.role, i.invited_by, (SELECT a.name FROM users a WHERE a.id = i.invited_by), i.token, \
         i.created_at, i.expires_at, i.version, (SELECT w.name FROM workspaces w WHERE w.id = i.workspace_id)"
    };
}

pub(super) fn invited(row: &mut Columns<'_>) -> Result<Invited> {
    Ok(Invited {
        invitation: Invitation {
            id: row.id()?,
            workspace: row.id()?,
            email: Email::stored(row.text()?),
            role: row.kind()?,
            invited_by: Author { id: row.id()?, name: row.text()? },
            token: TokenHash(row.array()?),
            created_at: row.time()?,
            expires_at: row.time()?,
            version: row.version()?,
        },
        workspace_name: row.text()?,
    })
}

macro_rules! keyed_request_columns {
    () => {
        "k.user_id, k.key_hash, k.fingerprint, k.made_id, k.made_reply, k.created_at, k.version"
    };
}

pub(super) fn keyed_request(row: &mut Columns<'_>) -> Result<KeyedRequest> {
    Ok(KeyedRequest {
        user: row.id()?,
        key: KeyHash(row.array()?),
        fingerprint: Fingerprint(row.array()?),
        made: Made { id: row.id()?, reply: row.opt_id()? },
        created_at: row.time()?,
        version: row.version()?,
    })
}

/// Somebody who may be gone: the id that was kept, and the name that is found for it.
fn author(row: &mut Columns<'_>) -> Result<Option<Author>> {
    let (id, name) = (row.opt_id()?, row.opt_text()?);
    Ok(id.zip(name).map(|(id, name)| Author { id, name }))
}

macro_rules! chat_columns {
    () => {
        "c.id, c.workspace_id, c.title, c.visibility, c.model, c.system_prompt, c.archived, c.created_by, \
         (SELECT a.name FROM users a WHERE a.id = c.created_by), c.message_count, c.last_message_at, c.created_at, c.updated_at, c.version"
    };
}

pub(super) fn activity(row: &mut Columns<'_>) -> Result<ActivityKey> {
    Ok(ActivityKey { at: row.time()?, id: row.id()? })
}

pub(super) fn chat(row: &mut Columns<'_>) -> Result<Chat> {
    Ok(Chat {
        id: row.id()?,
        workspace: row.id()?,
        title: row.opt_text()?,
        visibility: row.kind()?,
        model: row.opt_text()?,
        system_prompt: row.opt_text()?,
        archived: row.flag()?,
        created_by: author(row)?,
        message_count: row.count()?,
        last_message_at: row.opt_time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
        version: row.version()?,
    })
}

macro_rules! audience_columns {
    () => {
        "c.workspace_id, c.id, c.version, c.visibility, (SELECT a.id FROM users a WHERE a.id = c.created_by)"
    };
}

/// A chat's workspace, and who may see the chat in which version.
pub(super) fn audience(row: &mut Columns<'_>) -> Result<(WorkspaceId, (ChatId, Version, Audience))> {
    let (workspace, chat, version) = (row.id()?, row.id()?, row.version()?);
    let (visibility, creator) = (row.kind()?, row.opt_id()?);
    let audience = match visibility {
        Visibility::Workspace => Audience::Everybody,
        Visibility::Private => Audience::Only(creator),
    };
    Ok((workspace, (chat, version, audience)))
}

macro_rules! message_columns {
    () => {
        "m.id, m.workspace_id, m.chat_id, m.seq, m.parent_id, m.speaker, m.author_id, \
         (SELECT a.name FROM users a WHERE a.id = m.author_id), m.content, m.reasoning, m.status, m.model, \
         m.provider, m.prompt_tokens, m.completion_tokens, m.total_tokens, m.finish_reason, m.error_code, m.error_detail, \
         m.created_at, m.updated_at, m.version"
    };
}

pub(super) fn message(row: &mut Columns<'_>) -> Result<Message> {
    Ok(Message {
        id: row.id()?,
        workspace: row.id()?,
        chat: row.id()?,
        seq: row.count()?,
        parent: row.opt_id()?,
        speaker: row.kind()?,
        author: author(row)?,
        content: row.text()?,
        reasoning: row.opt_text()?,
        status: row.kind()?,
        model: row.opt_text()?,
        provider: row.opt_text()?,
        usage: usage(row)?,
        finish_reason: row.opt_text()?,
        error: reply_error(row)?,
        created_at: row.time()?,
        updated_at: row.time()?,
        version: row.version()?,
    })
}

fn usage(row: &mut Columns<'_>) -> Result<Option<Usage>> {
    let (prompt, completion, total) = (row.opt_count()?, row.opt_count()?, row.opt_count()?);
    Ok(prompt.zip(completion).zip(total).map(|((prompt_tokens, completion_tokens), total_tokens)| Usage {
        prompt_tokens,
        completion_tokens,
        total_tokens,
    }))
}

fn reply_error(row: &mut Columns<'_>) -> Result<Option<ReplyError>> {
    let (code, detail) = (row.opt_text()?, row.opt_text()?);
    let Some((code, detail)) = code.zip(detail) else { return Ok(None) };
    let code = ReplyFault::from_name(&code).ok_or_else(|| Failure::corrupt(format!("no reply ends with `{code}`")))?;
    Ok(Some(ReplyError { code, detail }))
}

macro_rules! running_columns {
    () => {
        "r.message_id, r.workspace_id, r.chat_id, r.seq, r.asked_by, r.instance_id, r.stop_requested, r.version"
    };
}

pub(super) fn running(row: &mut Columns<'_>) -> Result<RunningReply> {
    Ok(RunningReply {
        message: row.id()?,
        workspace: row.id()?,
        chat: row.id()?,
        seq: row.count()?,
        asked_by: row.id()?,
        instance: row.id()?,
        stop_requested: row.flag()?,
        version: row.version()?,
    })
}

/// A running reply and its message.
pub(super) fn running_message(row: &mut Columns<'_>) -> Result<(RunningReply, Message)> {
    Ok((running(row)?, message(row)?))
}

macro_rules! event_columns {
    () => {
        "e.workspace_id, e.number, e.kind, e.chat_id, e.message_id, e.user_id, e.happened_at"
    };
}

pub(super) fn event(row: &mut Columns<'_>) -> Result<LoggedEvent> {
    let (workspace, number, code) = (row.id()?, row.count()?, row.kind()?);
    let (chat, message, user) = (row.opt_id()?, row.opt_id()?, row.opt_id()?);
    let chat = || subject(chat);
    let kind = match code {
        EventCode::MessageCreated => EventKind::MessageCreated(chat()?, subject(message)?),
        EventCode::MessageEnded => EventKind::MessageEnded(chat()?, subject(message)?),
        EventCode::ChatCreated => EventKind::ChatCreated(chat()?),
        EventCode::ChatUpdated => EventKind::ChatUpdated(chat()?),
        EventCode::ChatHidden => EventKind::ChatHidden(chat()?),
        EventCode::ChatShown => EventKind::ChatShown(chat()?),
        EventCode::ChatDeleted => EventKind::ChatDeleted(chat()?, user),
        EventCode::MemberJoined => EventKind::MemberJoined(subject(user)?),
        EventCode::MemberUpdated => EventKind::MemberUpdated(subject(user)?),
        EventCode::MemberLeft => EventKind::MemberLeft(subject(user)?),
    };
    Ok(LoggedEvent { number, event: Event { workspace, kind, at: row.time()? } })
}

fn subject<I>(id: Option<I>) -> Result<I> {
    id.ok_or_else(|| Failure::corrupt("an event does not name its subject"))
}

pub(super) fn log_bounds(row: &mut Columns<'_>) -> Result<LogBounds> {
    Ok(LogBounds { newest: row.count()?, forgotten: row.count()? })
}

pub(super) fn instance(row: &mut Columns<'_>) -> Result<Instance> {
    Ok(Instance { id: row.id()?, beat: row.count()?, version: row.version()? })
}

pub(super) use {
    audience_columns, chat_columns, event_columns, installation_columns, invited_columns, joined_columns,
    keyed_request_columns, membership_columns, message_columns, participant_columns, running_columns, session_columns,
    user_columns,
};

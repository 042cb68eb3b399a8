//! Small things to test with: each one valid, and different from every other.
//!
//! What a test cares about is written out with struct update syntax: `User { name: "Ann".into(), ..a_user() }`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use private_chat_core::change::{Changes, Counter, Event, EventKind, Follows, Instance, Version};
use private_chat_core::id::time_sorted;
use private_chat_core::model::chat::{Chat, Message, MessageStatus, RunningReply, Speaker, Visibility};
use private_chat_core::model::idempotency::{Fingerprint, KeyHash, KeyedRequest, Made};
use private_chat_core::model::installation::Installation;
use private_chat_core::model::invitation::{self, Invitation};
use private_chat_core::model::password::PasswordHash;
use private_chat_core::model::session::{Device, Session, TokenHash};
use private_chat_core::model::user::{Email, GlobalRole, User};
use private_chat_core::model::workspace::{Membership, Role, Workspace};
use private_chat_core::port::store::Store;
use private_chat_core::time::Timestamp;
use uuid::Uuid;

/// A number that nobody else gets.
#[must_use]
pub fn unique() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// A point in time, later than every one given before, and not on a whole millisecond.
#[must_use]
pub fn now() -> Timestamp {
    const START: Timestamp = Timestamp::from_micros(1_769_851_800_000_007);
    START + Duration::from_millis(unique())
}

/// An id that sorts after every one given before.
pub fn new_id<I: From<Uuid>>() -> I {
    let now = now();
    let mut random = [0xa5; 10];
    random[2..].copy_from_slice(&now.as_micros().to_be_bytes());
    I::from(time_sorted(now, &random))
}

/// A person who may sign in.
#[must_use]
pub fn a_user() -> User {
    let at = now();
    let number = unique();
    User {
        id: new_id(),
        email: Email::stored(format!("user{number}@example.com")),
        name: format!("User {number}"),
        role: GlobalRole::User,
        is_active: true,
        must_change_password: false,
        password: PasswordHash::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"),
        credentials_epoch: 0,
        created_at: at,
        updated_at: at,
        version: Version::FIRST,
    }
}

/// A device of this user.
#[must_use]
pub fn a_session(user: &User) -> Session {
    let at = now();
    let mut token = [7; 32];
    token[..8].copy_from_slice(&unique().to_be_bytes());
    Session {
        id: new_id(),
        user: user.id,
        epoch: user.credentials_epoch,
        generation: 0,
        token: TokenHash(token),
        previous: None,
        rotated_at: at,
        expires_at: at + Duration::from_secs(30 * 86_400),
        ended: false,
        device: Device { address: "192.0.2.7".into(), user_agent: "tests/1".into() },
        created_at: at,
        last_used_at: at,
        version: Version::FIRST,
    }
}

/// The installation, as the setup makes it.
#[must_use]
pub fn an_installation() -> Installation {
    Installation {
        set_up_at: now(),
        encryption_key: "0011223344556677".into(),
        signing_keys: "key-1,key-2".into(),
        version: Version::FIRST,
    }
}

/// A workspace that nobody belongs to yet.
#[must_use]
pub fn a_workspace() -> Workspace {
    let at = now();
    Workspace {
        id: new_id(),
        name: format!("Workspace {}", unique()),
        description: None,
        default_model: None,
        system_prompt: None,
        require_two_factor: false,
        created_at: at,
        updated_at: at,
        version: Version::FIRST,
    }
}

/// That this user belongs to this workspace.
#[must_use]
pub fn a_membership(workspace: &Workspace, user: &User, role: Role) -> Membership {
    Membership { workspace: workspace.id, user: user.id, role, joined_at: now(), version: Version::FIRST }
}

/// What joining a workspace writes: the membership, and the counts of both sides.
pub fn joining(workspace: &Workspace, user: &User, role: Role) -> Changes {
    Changes::new().insert(a_membership(workspace, user, role)).add(Counter::Members(workspace.id), 1, None).add(
        Counter::Memberships(user.id),
        1,
        None,
    )
}

/// That this member invites somebody nobody knows.
#[must_use]
pub fn an_invitation(workspace: &Workspace, by: &User) -> Invitation {
    let at = now();
    let number = unique();
    let mut token = [9; 32];
    token[..8].copy_from_slice(&number.to_be_bytes());
    Invitation {
        id: new_id(),
        workspace: workspace.id,
        email: Email::stored(format!("guest{number}@example.com")),
        role: Role::Member,
        invited_by: by.into(),
        token: TokenHash(token),
        created_at: at,
        expires_at: at + invitation::LIFETIME,
        version: Version::FIRST,
    }
}

/// That a request of this user was done, under a key of its own.
#[must_use]
pub fn a_keyed_request(user: &User) -> KeyedRequest {
    let (mut key, mut fingerprint) = ([1; 32], [2; 32]);
    key[..8].copy_from_slice(&unique().to_be_bytes());
    fingerprint[..8].copy_from_slice(&unique().to_be_bytes());
    KeyedRequest {
        user: user.id,
        key: KeyHash(key),
        fingerprint: Fingerprint(fingerprint),
        made: Made { id: new_id(), reply: None },
        created_at: now(),
        version: Version::FIRST,
    }
}

/// An empty chat by this user that the whole workspace sees.
#[must_use]
pub fn a_chat(workspace: &Workspace, creator: &User) -> Chat {
    let at = now();
    Chat {
        id: new_id(),
        workspace: workspace.id,
        title: None,
        visibility: Visibility::Workspace,
        model: None,
        system_prompt: None,
        archived: false,
        created_by: Some(creator.into()),
        message_count: 0,
        last_message_at: None,
        created_at: at,
        updated_at: at,
        version: Version::FIRST,
    }
}

/// A message of this user, to be appended.
#[must_use]
pub fn a_message(chat: &Chat, author: &User) -> Message {
    let at = now();
    Message {
        id: new_id(),
        workspace: chat.workspace,
        chat: chat.id,
        seq: 0,
        parent: None,
        speaker: Speaker::User,
        author: Some(author.into()),
        content: format!("Message {}", unique()),
        reasoning: None,
        status: MessageStatus::Complete,
        model: None,
        provider: None,
        usage: None,
        finish_reason: None,
        error: None,
        created_at: at,
        updated_at: at,
        version: Version::FIRST,
    }
}

/// A reply that has just begun, to be appended.
#[must_use]
pub fn a_reply(chat: &Chat) -> Message {
    let at = now();
    Message {
        id: new_id(),
        workspace: chat.workspace,
        chat: chat.id,
        seq: 0,
        parent: None,
        speaker: Speaker::Assistant,
        author: None,
        content: String::new(),
        reasoning: None,
        status: MessageStatus::Streaming,
        model: Some("echo/echo".into()),
        provider: Some("echo".into()),
        usage: None,
        finish_reason: None,
        error: None,
        created_at: at,
        updated_at: at,
        version: Version::FIRST,
    }
}

/// A process that has just started.
#[must_use]
pub fn an_instance() -> Instance {
    Instance { id: new_id(), beat: 0, version: Version::FIRST }
}

/// That this process makes this reply for this user; to be inserted in the unit that appends the reply.
#[must_use]
pub fn a_running_reply(reply: &Message, asked_by: &User, instance: &Instance) -> RunningReply {
    RunningReply {
        message: reply.id,
        workspace: reply.workspace,
        chat: reply.chat,
        seq: 0,
        asked_by: asked_by.id,
        instance: instance.id,
        stop_requested: false,
        version: Version::FIRST,
    }
}

/// That this message was stored.
#[must_use]
pub fn created(message: &Message) -> Event {
    Event {
        workspace: message.workspace,
        kind: EventKind::MessageCreated(message.chat, message.id),
        at: message.created_at,
    }
}

/// The least that most stories need: somebody who owns a workspace with a chat in it.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The owner.
    pub user: User,
    /// Their workspace.
    pub workspace: Workspace,
    /// As what they belong to it.
    pub membership: Membership,
    /// Their chat.
    pub chat: Chat,
}

impl Scene {
    /// Stores a new one.
    pub async fn set(store: &Arc<dyn Store>) -> Self {
        let user = a_user();
        let workspace = a_workspace();
        let membership = a_membership(&workspace, &user, Role::Owner);
        let chat = a_chat(&workspace, &user);
        let changes = Changes::new()
            .insert(user.clone())
            .insert(workspace.clone())
            .insert(membership.clone())
            .add(Counter::Members(workspace.id), 1, None)
            .add(Counter::Memberships(user.id), 1, None)
            .insert(chat.clone());
        store.commit(changes).await.expect("a scene of new rows conflicts with nothing");
        Self { user, workspace, membership, chat }
    }
}

/// Messages as a test writes them down: one that names its parent follows it, any other follows the chat's last one.
pub trait Say {
    /// Adds the message.
    fn say(self, message: Message) -> Self;
}

impl Say for Changes {
    fn say(self, message: Message) -> Self {
        let follows = if message.parent.is_some() { Follows::Parent } else { Follows::Last };
        self.append(message, follows)
    }
}

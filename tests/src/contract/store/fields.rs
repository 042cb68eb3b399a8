//! That a row is what was last written, field by field: no column is forgotten, and none takes the place of another of its kind.

use private_chat_core::change::{Appended, Changes, Follows, Instance, Record};
use private_chat_core::model::chat::{
    Chat, Message, MessageStatus, ReplyError, ReplyFault, RunningReply, Speaker, Usage, Visibility,
};
use private_chat_core::model::idempotency::{Fingerprint, KeyedRequest, Made};
use private_chat_core::model::installation::Installation;
use private_chat_core::model::invitation::Invitation;
use private_chat_core::model::password::PasswordHash;
use private_chat_core::model::session::{Device, Session, TokenHash};
use private_chat_core::model::user::{Author, GlobalRole, User};
use private_chat_core::model::workspace::{Membership, Role, Workspace};

use super::{Db, attempt, one_of_each, row, with_version};
use crate::fixture::{
    Scene, a_chat, a_keyed_request, a_membership, a_reply, a_running_reply, a_session, a_user, a_workspace,
    an_installation, an_instance, an_invitation, joining, new_id, now, unique,
};

fn text() -> String {
    format!("Text {}", unique())
}

fn hash() -> [u8; 32] {
    let mut hash = [0xa5; 32];
    hash[..8].copy_from_slice(&unique().to_be_bytes());
    hash
}

/// The same row with another value in every field that may change. A field that is new does not compile until it is here.
fn otherwise(record: Record, people: &[User; 2]) -> Record {
    let other = |id| people.iter().find(|user| user.id != id).unwrap();
    let somebody_else = |author: Option<Author>| Author::from(author.map_or(&people[0], |author| other(author.id)));
    match record {
        Record::Installation(Installation { version, .. }) => {
            Installation { set_up_at: now(), encryption_key: text(), signing_keys: text(), version }.into()
        }
        Record::User(User { id, role, is_active, version, .. }) => User {
            id,
            email: a_user().email,
            name: text(),
            role: if role == GlobalRole::User { GlobalRole::Admin } else { GlobalRole::User },
            is_active: !is_active,
            // The other of the two flags is set.
            must_change_password: is_active,
            password: PasswordHash::new(text()),
            credentials_epoch: unique(),
            created_at: now(),
            updated_at: now(),
            version,
        }
        .into(),
        Record::Session(Session { id, user, ended, version, .. }) => Session {
            id,
            user,
            epoch: unique(),
            generation: u32::try_from(unique()).unwrap(),
            token: TokenHash(hash()),
            previous: Some(TokenHash(hash())),
            rotated_at: now(),
            expires_at: now(),
            ended: !ended,
            device: Device { address: text(), user_agent: text() },
            created_at: now(),
            last_used_at: now(),
            version,
        }
        .into(),
        Record::Workspace(Workspace { id, require_two_factor, version, .. }) => Workspace {
            id,
            name: text(),
            description: Some(text()),
            default_model: Some(text()),
            system_prompt: Some(text()),
            require_two_factor: !require_two_factor,
            created_at: now(),
            updated_at: now(),
            version,
        }
        .into(),
        Record::Membership(Membership { workspace, user, role, version, .. }) => Membership {
            workspace,
            user,
            role: if role == Role::Owner { Role::Guest } else { Role::Owner },
            joined_at: now(),
            version,
        }
        .into(),
        Record::Invitation(Invitation { id, workspace, role, invited_by, version, .. }) => Invitation {
            id,
            workspace,
            email: a_user().email,
            role: if role == Role::Member { Role::Owner } else { Role::Member },
            invited_by: other(invited_by.id).into(),
            token: TokenHash(hash()),
            created_at: now(),
            expires_at: now(),
            version,
        }
        .into(),
        Record::KeyedRequest(KeyedRequest { user, key, version, .. }) => KeyedRequest {
            user,
            key,
            fingerprint: Fingerprint(hash()),
            made: Made { id: new_id(), reply: Some(new_id()) },
            created_at: now(),
            version,
        }
        .into(),
        Record::Chat(Chat {
            id,
            workspace,
            visibility,
            archived,
            created_by,
            message_count,
            last_message_at,
            version,
            ..
        }) => Chat {
            id,
            workspace,
            title: Some(text()),
            visibility: match visibility {
                Visibility::Workspace => Visibility::Private,
                Visibility::Private => Visibility::Workspace,
            },
            model: Some(text()),
            system_prompt: Some(text()),
            archived: !archived,
            created_by: Some(somebody_else(created_by)),
            message_count,
            last_message_at,
            created_at: now(),
            updated_at: now(),
            version,
        }
        .into(),
        Record::Message(Message { id, workspace, chat, seq, parent, speaker, author, status, version, .. }) => {
            Message {
                id,
                workspace,
                chat,
                seq,
                parent,
                speaker: if speaker == Speaker::User { Speaker::System } else { Speaker::User },
                author: Some(somebody_else(author)),
                content: text(),
                reasoning: Some(text()),
                status: if status == MessageStatus::Failed { MessageStatus::Stopped } else { MessageStatus::Failed },
                model: Some(text()),
                provider: Some(text()),
                usage: Some(Usage { prompt_tokens: unique(), completion_tokens: unique(), total_tokens: unique() }),
                finish_reason: Some(text()),
                error: Some(ReplyError {
                    code: if status == MessageStatus::Failed { ReplyFault::Timeout } else { ReplyFault::TooLong },
                    detail: text(),
                }),
                created_at: now(),
                updated_at: now(),
                version,
            }
            .into()
        }
        Record::RunningReply(RunningReply {
            message,
            workspace,
            chat,
            seq,
            asked_by,
            instance: _,
            stop_requested,
            version,
        }) => RunningReply {
            message,
            workspace,
            chat,
            seq,
            asked_by: other(asked_by).id,
            instance: new_id(),
            stop_requested: !stop_requested,
            version,
        }
        .into(),
        Record::Instance(Instance { id, beat: _, version }) => Instance { id, beat: unique(), version }.into(),
    }
}

/// The same row, without what may be none.
fn bare(record: Record) -> Record {
    match record {
        Record::Session(it) => Session { previous: None, ..it }.into(),
        Record::Workspace(it) => Workspace { description: None, default_model: None, system_prompt: None, ..it }.into(),
        Record::KeyedRequest(it) => KeyedRequest { made: Made { reply: None, ..it.made }, ..it }.into(),
        Record::Chat(it) => Chat { title: None, model: None, system_prompt: None, created_by: None, ..it }.into(),
        Record::Message(it) => Message {
            author: None,
            reasoning: None,
            model: None,
            provider: None,
            usage: None,
            finish_reason: None,
            error: None,
            ..it
        }
        .into(),
        all => all,
    }
}

pub(super) async fn keeps_every_field_of_a_row_as_it_was_last_written(store: Db) {
    let (scene, records) = one_of_each(&store).await;
    let Scene { user, workspace, chat, .. } = &scene;
    let (colleague, newcomer) = (a_user(), a_user());
    attempt(&store, Changes::new().insert(colleague.clone()).insert(newcomer.clone())).await.unwrap();
    attempt(&store, joining(workspace, &colleague, Role::Owner)).await.unwrap();
    let mut people = [user.clone(), colleague];
    let stands = async |record: &Record| assert_eq!(row(&store, &scene, record.key()).await.as_ref(), Some(record));

    for record in records {
        let mut stored = record;
        for full in [true, true, false, true] {
            let next = if full { otherwise(stored, &people) } else { bare(stored) };
            attempt(&store, Changes::new().update(next.clone())).await.unwrap();
            stored = with_version(&next, next.version().next());
            stands(&stored).await;
        }
        match stored {
            Record::User(user) => people[0] = user,
            // There is one, which makes room for another.
            Record::Installation(it) => attempt(&store, Changes::new().delete(it)).await.map(drop).unwrap(),
            _ => {}
        }
    }

    let reply = a_reply(chat);
    let new: [Record; 9] = [
        an_installation().into(),
        a_user().into(),
        a_session(user).into(),
        a_membership(workspace, &newcomer, Role::Member).into(),
        an_invitation(workspace, user).into(),
        a_keyed_request(user).into(),
        a_chat(workspace, user).into(),
        a_workspace().into(),
        an_instance().into(),
    ];
    for record in new {
        let full = otherwise(record, &people);
        let changes = Changes::new().insert(full.clone());
        let changes = match &full {
            // For somebody who sees it.
            Record::Workspace(made) => changes.insert(a_membership(made, user, Role::Guest)),
            _ => changes,
        };
        attempt(&store, changes).await.unwrap();
        stands(&full).await;
    }
    let Record::Message(message) = otherwise(reply.clone().into(), &people) else { unreachable!() };
    let running = otherwise(a_running_reply(&reply, user, &an_instance()).into(), &people);
    let begin = Changes::new().append(message.clone(), Follows::Last).insert(running.clone());
    let Appended { seq, parent } = attempt(&store, begin).await.unwrap().appended[0];
    stands(&Message { seq, parent, ..message }.into()).await;
    let Record::RunningReply(running) = running else { unreachable!() };
    stands(&RunningReply { seq, ..running }.into()).await;
}

use super::sending::End;
use super::*;
use crate::model::chat::{MessageStatus, Speaker};
use crate::model::user::User;
use crate::port::store::{Arrival, MockChatRepository, MockSessionRepository, MockWorkspaceRepository};
use crate::usecase::cast::Commit::Refused;
use crate::usecase::cast::{NOW, ben, in_turn, joined, member, membership, now, ports, session, work, workspace};

fn chat() -> Chat {
    Chat {
        id: uuid::Uuid::from_u128(50).into(),
        workspace: workspace().id,
        title: None,
        visibility: Visibility::Workspace,
        model: None,
        system_prompt: None,
        archived: false,
        created_by: None,
        message_count: 2,
        last_message_at: Some(NOW),
        created_at: NOW,
        updated_at: NOW,
        version: Version(3),
    }
}

fn message(status: MessageStatus) -> Message {
    Message {
        id: uuid::Uuid::from_u128(51).into(),
        workspace: workspace().id,
        chat: chat().id,
        seq: 2,
        parent: None,
        speaker: Speaker::Assistant,
        author: None,
        content: "Hel".into(),
        reasoning: None,
        status,
        model: None,
        provider: None,
        usage: None,
        finish_reason: None,
        error: None,
        created_at: NOW,
        updated_at: NOW,
        version: Version::FIRST,
    }
}

/// Ben's answer, when the end comes to be known in this way, and by then this is who he is.
fn answered(
    end: End,
    (user, role): (User, Option<Role>),
    stored: Option<MessageStatus>,
) -> Result<MessageStatus, Error> {
    let (session, joined) = (session(&user), role.map(|role| joined(&user, role)));
    let arrival = Arrival { session, user, joined, chat: Some(chat()) };
    let mut sessions = MockSessionRepository::new();
    sessions.expect_arrival().returning(move |_, _, _| Ok(Some(arrival.clone())));
    let mut chats = MockChatRepository::new();
    chats.expect_message().returning(move |_, _| Ok(stored.map(message)));
    let ports = Ports { sessions: Arc::new(sessions), chats: Arc::new(chats), ..ports() };
    let asked = message(MessageStatus::Complete);
    let at = InChat { member: member(&ben(), Role::Member), chat: chat() };
    let live = Arc::new(Live::new(ports.clone()));
    let end = EndOfReply { at, reply: asked.id, message: asked, end, ports, live };
    now(end.wait()).map(|(_, reply)| reply.status)
}

fn known(status: MessageStatus) -> End {
    let (tell, end) = futures_channel::oneshot::channel();
    tell.send(message(status)).unwrap();
    End::Known(end)
}

// R27: an answer that is waited for is as good as an open stream, and ends with the right to it.
#[test]
fn who_was_removed_or_signed_out_while_they_waited_is_told_nothing() {
    let complete = || known(MessageStatus::Complete);
    let answer = answered(complete(), (ben(), Some(Role::Guest)), None);
    assert!(matches!(answer, Ok(MessageStatus::Complete)), "who reads may read it: {answer:?}");
    let answer = answered(complete(), (ben(), None), None);
    assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}");
    let answer = answered(complete(), (User { is_active: false, ..ben() }, Some(Role::Member)), None);
    assert!(matches!(answer, Err(Error::Unauthenticated(_))), "{answer:?}");
}

// R73: a reply that still runs is no end of it, whatever became of whoever followed it.
#[test]
fn a_reply_that_still_runs_is_never_told_as_its_end() {
    let lost = || End::Known(futures_channel::oneshot::channel().1);
    let answer = |stored| answered(lost(), (ben(), Some(Role::Member)), stored);
    assert!(matches!(answer(Some(MessageStatus::Streaming)), Err(Error::Unavailable { .. })));
    assert!(matches!(answer(Some(MessageStatus::Interrupted)), Ok(MessageStatus::Interrupted)));
    assert!(matches!(answer(None), Err(Error::NotFound(Kind::Chat))));
}

// R26
#[test]
fn who_is_no_owner_any_more_renames_no_chat_of_others() {
    for (then, mine) in [(Some(Role::Member), false), (Some(Role::Guest), true), (None, true)] {
        let (work, ledger) = work([Refused(Conflict::Stale, 0)]);
        let mut workspaces = MockWorkspaceRepository::new();
        let mut looks = in_turn([Some(Role::Owner), then]);
        workspaces.expect_membership().returning(move |_, _| Ok(looks().map(|role| membership(&ben(), role))));
        let created_by = mine.then(|| Author::from(&ben()));
        let there = Chat { created_by, ..chat() };
        let mut chats = MockChatRepository::new();
        let stored = there.clone();
        chats.expect_chat().returning(move |_, _| Ok(Some(stored.clone())));
        let ports = Ports { workspaces: Arc::new(workspaces), chats: Arc::new(chats), work, ..ports() };
        let cases = crate::usecase::UseCases::new(&ports, crate::usecase::cast::settings());
        let at = InChat { member: member(&ben(), Role::Owner), chat: there };
        let answer =
            now(cases.chats.change(&at, ChatChange { title: Patch::Set("Mine".into()), ..ChatChange::default() }));
        match then {
            Some(_) => assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}"),
            None => assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}"),
        }
        assert_eq!(ledger.all().len(), 1);
    }
}

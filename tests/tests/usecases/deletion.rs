//! The end of a workspace, with all that goes on in it.

use std::time::Duration;

use futures_util::future::{join, join_all};
use private_chat_adapters::memory::Script;
use private_chat_core::error::{Error, Forbidden, Kind, Obstacle};
use private_chat_core::model::chat::Visibility;
use private_chat_core::model::workspace::Role;
use private_chat_core::page::{Limit, PageRequest};
use private_chat_core::policy::Right;
use private_chat_core::port::store::{ChatFilter, ChatRepository as _, ReplyRepository as _, WorkspaceRepository as _};
use private_chat_core::usecase::invitations::Which;
use tokio::task::JoinSet;

use super::house::{Home, Person, Process, SECOND, TIMERS, a_message, an_admin, eventually};
use super::screen::Viewer;
use super::troubled::Side;

fn talk() -> Script {
    Script::new().content("Hel").pause().content("lo.").finish("stop")
}

async fn a_home() -> Home {
    Home::of(Script::new().content("Hello.").finish("stop")).await
}

fn is_gone<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::NotFound(Kind::Workspace | Kind::Chat)))
}

/// Nothing of the workspace is left within anybody's reach.
async fn is_nowhere(home: &Home, people: &[&Person]) {
    let store = &home.house.store;
    for person in people {
        let page = PageRequest { after: None, limit: Limit::MOST };
        let joined = store.workspaces_of(person.user.id, page).await.unwrap().items;
        assert!(joined.iter().all(|joined| joined.workspace.id != home.workspace));
        assert!(is_gone(&home.a.member(person, home.workspace, Right::SeeWorkspace).await));
        assert!(is_gone(&home.a.watch(person, home.workspace, Some(0)).await));
        let filter =
            ChatFilter { workspace: home.workspace, viewer: person.user.id, archived: false, mine: false, query: None };
        assert_eq!(store.chats(filter, PageRequest::default()).await.unwrap().items, []);
    }
    assert_eq!(store.chat(home.workspace, home.chat.id).await.unwrap(), None);
    assert_eq!(store.running_in(home.workspace).await.unwrap(), []);
    assert_eq!(store.log_bounds(home.workspace).await.unwrap().newest, 0);
    assert_eq!(store.participants(home.workspace, PageRequest::default()).await.unwrap().items, []);
}

/// Tidies until nothing is left to be removed, while time passes.
async fn tidy(home: &Home, process: &Process) -> u64 {
    let mut tidying = JoinSet::new();
    let housekeeping = process.cases.housekeeping.clone();
    tidying.spawn(async move { housekeeping.tidy().await.unwrap() });
    for _ in 0..100 {
        if let Some(removed) = tidying.try_join_next() {
            return removed.unwrap();
        }
        home.pass(Duration::from_millis(20)).await;
    }
    panic!("there is always more to be tidied");
}

// R27, R49, F49
#[tokio::test]
async fn a_workspace_that_is_deleted_while_it_is_lived_in_is_gone_for_everybody() {
    for pace in [vec![0], vec![1], vec![2, 1], vec![1, 3, 2], vec![4, 1]] {
        let home = Home::of(talk()).await;
        let b = home.house.process(talk()).await;
        let root = an_admin(&home.a, &home.house).await;
        let (ben, cleo) = (home.person("Ben", Role::Member).await, home.person("Cleo", Role::Guest).await);
        let elsewhere = home.a.new_workspace(&ben).await;
        let quiet = b.new_chat(&ben, elsewhere, Visibility::Workspace).await;
        let mut streams = vec![
            home.a.view(&home.ann, home.workspace).await,
            b.view(&cleo, home.workspace).await,
            Viewer::of(b.watch_chat(&ben, &home.chat, None).await.unwrap()),
        ];
        let mut untouched = b.view(&ben, elsewhere).await;
        // One reply runs in each process, and another one waits for its turn.
        let mut ends = Vec::new();
        for (process, person) in [(&home.a, &home.ann), (&b, &ben), (&home.a, &ben)] {
            let chat = process.new_chat(person, home.workspace, Visibility::Workspace).await;
            for _ in 0..2 {
                let sent = process.send_watched(person, &chat, "Hi").await;
                streams.push(Viewer::of_reply(sent.watch.unwrap()));
                ends.push(sent.end);
            }
        }
        home.a.parrot.waiting(2).await;
        b.parrot.waiting(1).await;
        home.pass(SECOND).await;
        for stream in &mut streams {
            assert!(!stream.ended());
        }

        let at = async |process: &Process| {
            (process.enter(&ben, &home.chat, Right::Send).await.unwrap(), process.cases.chats.clone())
        };
        let (one, two) = (at(&home.a).await, at(&b).await);
        home.a.store.set_pace(pace.clone());
        b.store.set_pace(pace.iter().rev().copied().collect());
        let sending = join_all((0..8).map(|n| {
            let (at, chats) = if n % 2 == 0 { &one } else { &two };
            async move { chats.send(at, a_message("And I"), false, None).await.map(|sent| sent.end) }
        }));
        let (sent, deleted) = join(sending, b.delete_workspace(&home.ann, home.workspace)).await;
        deleted.unwrap();
        for answer in sent {
            match answer {
                Ok(end) => ends.push(end),
                Err(error) => assert!(is_gone(&Err::<(), _>(error))),
            }
        }
        is_nowhere(&home, &[&home.ann, &ben, &cleo, &root]).await;

        home.pass(4 * SECOND).await;
        for stream in &mut streams {
            assert!(stream.ended(), "{:?}", stream.seen());
        }
        assert!(!untouched.ended());
        // What ran in it has ended, here and there, and the provider was let go.
        for process in [&home.a, &b] {
            assert_eq!(process.cases.replies.running(), 0);
            assert_eq!(process.parrot.ended(), 0);
        }
        for end in ends {
            assert!(is_gone(&end.wait().await));
        }
        home.a.parrot.release();
        b.parrot.release();
        home.pass(2 * SECOND).await;
        is_nowhere(&home, &[&home.ann, &ben, &cleo]).await;
        tidy(&home, &home.a).await;
        assert_eq!(tidy(&home, &b).await, 0);

        // Elsewhere life goes on, and everybody is counted right: also their accounts can go.
        let sent = b.send(&ben, &quiet, "Hi").await.unwrap();
        b.parrot.release();
        assert_eq!(sent.end.wait().await.unwrap().1.content, "Hello.");
        home.pass(SECOND).await;
        assert!(untouched.leave().await.seen.iter().any(|seen| seen == "ended complete"));
        for (person, heir) in [(&home.ann, None), (&cleo, None), (&ben, Some(root.user.id))] {
            home.a.delete_user(&root, person.user.id, heir).await.unwrap();
        }
        home.pass(3 * SECOND).await;
        assert_eq!(home.a.cases.live.watchers() + b.cases.live.watchers(), 0);
        assert_eq!(home.house.clock.sleepers(), 2 * TIMERS, "no tail and no reply sleeps on");
    }
}

// F49: whatever step a reply is at.
#[tokio::test]
async fn a_reply_ends_with_its_workspace_at_whatever_step() {
    for name in ["begin", "messages", "end", "checkpoint"] {
        for side in [Side::Before, Side::After] {
            // At a checkpoint it has not come to its end.
            let second = if name == "checkpoint" { talk() } else { Script::new().content("Hello.").finish("stop") };
            let home = Home::playing([Script::new().content("Yes.").finish("stop"), second]).await;
            let b = home.house.process(Script::new()).await;
            home.a.ask(&home.ann, &home.chat, "First").await;
            let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
            let chats = home.a.cases.chats.clone();
            let gate = home.a.store.hold(name, side);
            let mut sending = JoinSet::new();
            sending.spawn(
                async move { chats.send(&at, a_message("Hi"), false, None).await?.end.wait().await.map(|_| ()) },
            );
            gate.reached_within(&home.house).await;
            b.delete_workspace(&home.ann, home.workspace).await.unwrap();
            gate.open();
            home.pass(4 * SECOND).await;
            let answer = sending.join_next().await.unwrap().unwrap();
            assert!(is_gone(&answer), "{name} {side:?}: {answer:?}");
            eventually("the reply is over", || home.a.cases.replies.running() == 0).await;
            is_nowhere(&home, &[&home.ann]).await;
            home.pass(2 * SECOND).await;
            assert_eq!(home.house.clock.sleepers(), 2 * TIMERS, "{name} {side:?}");
        }
    }
}

// R40
#[tokio::test]
async fn deleting_is_for_owners_and_happens_once() {
    let home = a_home().await;
    let sid = home.a.sign_in(&home.house.account("Sid").await).await;
    for role in [Role::Guest, Role::Member] {
        let person = home.person("Gil", role).await;
        let answer = home.a.delete_workspace(&person, home.workspace).await;
        assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
    }
    assert!(is_gone(&home.a.delete_workspace(&sid, home.workspace).await));
    let ben = home.person("Ben", Role::Owner).await;
    let stale = home.a.member(&ben, home.workspace, Right::DeleteWorkspace).await.unwrap();
    home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Member).await.unwrap();
    let answer = home.a.cases.workspaces.delete(&stale).await;
    assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
    home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Owner).await.unwrap();
    let again = home.a.member(&home.ann, home.workspace, Right::DeleteWorkspace).await.unwrap();
    let workspaces = &home.a.cases.workspaces;
    home.a.store.set_pace(vec![2, 3]);
    let answers = join(workspaces.delete(&stale), workspaces.delete(&again)).await;
    let answers = [answers.0, answers.1];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.is_ok() || is_gone(answer)), "{answers:?}");
    is_nowhere(&home, &[&home.ann, &ben, &sid]).await;
}

// Who joins, leaves or is deleted while it goes is in nothing and is counted right.
#[tokio::test]
async fn people_who_come_and_go_while_a_workspace_is_deleted_are_counted_right() {
    for round in 0..40 {
        let home = a_home().await;
        let b = home.house.process(Script::new()).await;
        let root = an_admin(&home.a, &home.house).await;
        let (leaver, demoted) = (home.person("Lea", Role::Member).await, home.person("Dan", Role::Owner).await);
        let deleted = home.person("Del", Role::Member).await;
        let comer = home.a.sign_in(&home.house.account("Ben").await).await;
        let (invited, _) =
            home.a.invite(&home.ann, home.workspace, comer.user.email.as_str(), Role::Member).await.unwrap();
        let which = Which::Id(invited.invitation.id);
        home.a.store.set_pace(vec![round % 4, 1 + round % 7]);
        b.store.set_pace(vec![1 + round % 5, round % 3]);
        let (gone, ((accepted, left), (role, account))) = join(
            home.a.delete_workspace(&home.ann, home.workspace),
            join(
                join(b.accept(&comer, &which), b.remove(&leaver, home.workspace, leaver.user.id)),
                join(
                    b.give_role(&home.ann, home.workspace, demoted.user.id, Role::Guest),
                    b.delete_user(&root, deleted.user.id, None),
                ),
            ),
        )
        .await;
        gone.unwrap();
        let late = |error: &Error| {
            matches!(
                error,
                Error::NotFound(Kind::Workspace | Kind::Invitation | Kind::Member)
                    // What is just going has no other owner when that is looked for.
                    | Error::Conflict(Obstacle::Concurrent | Obstacle::LastOwner)
            )
        };
        for answer in [accepted.map(|_| ()), left, role.map(|_| ()), account] {
            assert!(answer.as_ref().map_err(late).err().unwrap_or(true), "{round}: {answer:?}");
        }
        is_nowhere(&home, &[&home.ann, &leaver, &demoted, &comer]).await;
        for person in [&home.ann, &leaver, &demoted, &comer, &deleted] {
            let answer = home.a.delete_user(&root, person.user.id, None).await;
            let done = answer.is_ok() || matches!(answer, Err(Error::NotFound(Kind::User)));
            assert!(done, "{round}: {}: {answer:?}", person.user.name);
        }
    }
}

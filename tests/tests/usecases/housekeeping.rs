//! What is over goes, and nothing else does.

use std::time::Duration;

use futures_util::future::join;
use private_chat_adapters::memory::Script;
use private_chat_core::model::invitation;
use private_chat_core::model::workspace::Role;
use private_chat_core::port::store::{
    LogBounds, ReplyRepository as _, SessionRepository as _, UserRepository as _, WorkspaceRepository as _,
};
use private_chat_core::usecase::workspaces::NewWorkspace;

use super::house::{Home, Process};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How many rows one process, or another one at the same time, removes.
async fn tidy(home: &Home, processes: [&Process; 2]) -> u64 {
    let tidying = processes.map(|process| process.cases.housekeeping.tidy());
    let [one, two] = tidying;
    let passing = async {
        for _ in 0..10 {
            home.pass(Duration::from_millis(20)).await;
        }
    };
    let ((one, two), ()) = join(join(one, two), passing).await;
    one.unwrap() + two.unwrap()
}

#[tokio::test]
async fn what_is_over_is_removed_a_day_later_and_what_stands_stays() {
    let home = Home::of(Script::new().content("Hello.").finish("stop")).await;
    let b = home.house.process(Script::new()).await;
    let both = [&home.a, &b];
    let ended = home.a.actor(&home.a.sign_in(&home.ann.user).await).await;
    home.a.cases.auth.logout(&ended).await.unwrap();
    let (invited, _) = home.a.invite(&home.ann, home.workspace, "ben@example.com", Role::Guest).await.unwrap();
    let actor = home.a.actor(&home.ann).await;
    let request = home.a.cases.idempotency.repeatable("key", [b"POST", b"/workspaces", b"{}"]).unwrap();
    let new = NewWorkspace { name: "Lab".into(), description: None };
    home.a.cases.workspaces.create(&actor, new, Some(request)).await.unwrap();
    home.a.ask(&home.ann, &home.chat, "Hi").await;
    let store = &home.house.store;
    let noted = async || store.keyed_request(home.ann.user.id, request.key).await.unwrap().is_some();
    let invitation = async || store.invitation(invited.invitation.id).await.unwrap().is_some();
    let session = async || store.session(ended.session()).await.unwrap().is_some();

    assert_eq!(tidy(&home, both).await, 0);
    home.house.clock.advance(DAY - HOUR);
    assert_eq!(tidy(&home, both).await, 0);
    assert!(noted().await);
    home.house.clock.advance(HOUR);
    assert_eq!(tidy(&home, both).await, 1, "a key is known for a day");
    assert!(!noted().await && invitation().await);

    home.house.clock.advance(invitation::LIFETIME - HOUR);
    assert_eq!(home.house.store.log_bounds(home.workspace).await.unwrap(), LogBounds { newest: 4, forgotten: 0 });
    assert_eq!(tidy(&home, both).await, 4, "events are kept for a week; an invitation that ended, for one more day");
    assert_eq!(home.house.store.log_bounds(home.workspace).await.unwrap(), LogBounds { newest: 4, forgotten: 4 });
    home.house.clock.advance(2 * HOUR);
    assert_eq!(tidy(&home, both).await, 1);
    assert!(!invitation().await && session().await);

    home.house.clock.advance(22 * DAY);
    assert_eq!(tidy(&home, both).await, 0, "sessions live for thirty days");
    home.house.clock.advance(2 * DAY);
    assert_eq!(tidy(&home, both).await, 2, "the one that was ended, and the one that ran out");
    assert!(!session().await);
    assert_eq!(tidy(&home, both).await, 0);
    // What people have is not touched.
    let ann = home.a.sign_in(&home.ann.user).await;
    assert_eq!(home.house.messages(home.chat.id).await.len(), 2);
    assert_eq!(home.a.members(&ann, home.workspace).await.len(), 1);
    assert_eq!(tidy(&home, both).await, 0);
}

#[tokio::test]
async fn a_database_that_is_away_leaves_the_rest_to_the_next_time() {
    let home = Home::of(Script::new()).await;
    home.house.clock.advance(40 * DAY);
    home.a.store.set_away(true);
    assert!(home.a.cases.housekeeping.tidy().await.is_err());
    home.a.store.set_away(false);
    assert_eq!(tidy(&home, [&home.a, &home.a]).await, 2, "the session, and the event of the chat");
}

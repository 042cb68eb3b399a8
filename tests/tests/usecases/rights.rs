//! Whoever loses a right loses the open streams, too.

use private_chat_adapters::memory::Script;
use private_chat_core::change::Changes;
use private_chat_core::model::user::{GlobalRole, User};
use private_chat_core::model::workspace::{Membership, Role};
use private_chat_core::port::store::{
    SessionRepository as _, UnitOfWork as _, UserRepository as _, WorkspaceRepository as _,
};

use super::house::{Home, Person, SECOND, settle};
use super::screen::Viewer;
use super::troubled::Side;

fn talk() -> Script {
    Script::new().content("Hel").pause().content("lo.").finish("stop")
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    Logout,
    Removal,
    Promotion,
    Deactivation,
    NewCredentials,
}

const LOSSES: [Loss; 5] = [Loss::Logout, Loss::Removal, Loss::Promotion, Loss::Deactivation, Loss::NewCredentials];

async fn lose(home: &Home, person: &Person, loss: Loss) {
    let user = home.house.store.user(person.user.id).await.unwrap().unwrap();
    let update = |user: User| home.house.store.commit(Changes::new().update(user));
    match loss {
        Loss::Logout => home.a.cases.auth.logout(&home.a.actor(person).await).await.unwrap(),
        Loss::Removal => home.house.remove(home.workspace, &user).await,
        Loss::Promotion => drop(update(User { role: GlobalRole::Admin, ..user }).await.unwrap()),
        Loss::Deactivation => drop(update(User { is_active: false, ..user }).await.unwrap()),
        Loss::NewCredentials => {
            let credentials_epoch = user.credentials_epoch + 1;
            drop(update(User { credentials_epoch, ..user }).await.unwrap());
        }
    }
}

// R27
#[tokio::test]
async fn an_open_stream_ends_within_five_seconds_on_every_instance() {
    for loss in LOSSES {
        let home = Home::of(talk()).await;
        let b = home.house.process(talk()).await;
        let ben = home.person("Ben", Role::Member).await;
        let mut streams = vec![
            Viewer::of(home.a.watch(&ben, home.workspace, None).await.unwrap()),
            Viewer::of(b.watch_chat(&ben, &home.chat, Some(0)).await.unwrap()),
        ];
        let others = Viewer::of(b.watch(&home.ann, home.workspace, None).await.unwrap());
        let sent = home.a.send_watched(&ben, &home.chat, "Hi").await;
        streams.push(Viewer::of_reply(sent.watch.unwrap()));
        home.a.parrot.waiting(1).await;
        home.pass(SECOND).await;
        for stream in &mut streams {
            assert!(!stream.ended());
        }
        lose(&home, &ben, loss).await;
        home.pass(4 * SECOND).await;
        for stream in &mut streams {
            assert!(stream.ended(), "{loss:?}: {:?}", stream.seen());
        }
        // What they asked for goes on, for the others.
        home.a.parrot.release();
        home.pass(SECOND).await;
        assert_eq!(home.last().await.content, "Hello.");
        assert!(sent.end.wait().await.is_err(), "{loss:?}: an answer that is waited for is no back door");
        assert_eq!(others.screen().reply().content, "Hello.");
        for stream in &streams {
            assert!(!stream.seen().iter().any(|seen| seen.starts_with("ended")), "{loss:?}");
        }
    }
}

// R27: what waits for a slow one is not handed out any more.
#[tokio::test]
async fn who_lost_the_right_is_not_told_what_still_waits() {
    let home = Home::of(Script::new().content("Yes.").finish("stop")).await;
    let ben = home.person("Ben", Role::Member).await;
    for _ in 0..60 {
        home.a.ask(&home.ann, &home.chat, "Before").await;
    }
    let mut slow = home.a.watch(&ben, home.workspace, None).await.unwrap();
    let mut replaying = home.a.watch(&ben, home.workspace, Some(0)).await.unwrap();
    assert!(slow.next().await.is_some() && replaying.next().await.is_some());
    home.a.ask(&home.ann, &home.chat, "After").await;
    home.house.remove(home.workspace, &ben.user).await;
    home.pass(3 * SECOND).await;
    assert!(slow.next().await.is_none());
    assert!(replaying.next().await.is_none());
}

// A role in the workspace that still may read ends nothing.
#[tokio::test]
async fn who_may_still_read_stays() {
    let home = Home::of(talk()).await;
    let ben = home.person("Ben", Role::Member).await;
    let mut stream = Viewer::of(home.a.watch(&ben, home.workspace, None).await.unwrap());
    let membership = home.house.store.membership(home.workspace, ben.user.id).await.unwrap().unwrap();
    let guest = Membership { role: Role::Guest, ..membership };
    home.house.store.commit(Changes::new().update(guest)).await.unwrap();
    home.pass(20 * SECOND).await;
    assert!(!stream.ended());
}

// R24: a session that ends by itself takes its streams along.
#[tokio::test]
async fn a_stream_does_not_outlive_its_session() {
    let home = Home::of(talk()).await;
    let ben = home.person("Ben", Role::Member).await;
    let mut stream = Viewer::of(home.a.watch(&ben, home.workspace, None).await.unwrap());
    home.house.clock.advance(30 * 24 * 3600 * SECOND);
    home.pass(4 * SECOND).await;
    assert!(stream.ended());
}

// Nobody is turned out because the database is away, and nobody stays because a beat takes long.
#[tokio::test]
async fn a_database_that_is_away_turns_nobody_out_and_a_slow_beat_keeps_nobody() {
    let home = Home::of(talk()).await;
    let ben = home.person("Ben", Role::Member).await;
    let cleo = home.person("Cleo", Role::Member).await;
    let mut one = Viewer::of(home.a.watch(&ben, home.workspace, None).await.unwrap());
    let mut two = Viewer::of(home.a.watch(&cleo, home.workspace, None).await.unwrap());
    home.a.store.set_away(true);
    home.pass(30 * SECOND).await;
    assert!(!one.ended() && !two.ended());
    home.a.store.set_away(false);
    let beat = home.a.store.hold("checkpoint", Side::Before);
    home.house.remove(home.workspace, &ben.user).await;
    home.pass(5 * SECOND).await;
    beat.reached().await;
    assert!(one.ended());
    assert!(!two.ended());
    beat.open();
    settle().await;
    let session = home.a.actor(&ben).await.session();
    assert!(home.house.store.session(session).await.unwrap().is_some());
}

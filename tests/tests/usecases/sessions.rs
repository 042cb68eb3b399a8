//! The devices that somebody is signed in on.

use std::time::Duration;

use futures_util::future::join;
use private_chat_adapters::memory::Script;
use private_chat_core::error::{Error, Forbidden, Kind, Unauthenticated};
use private_chat_core::id::{SessionId, UserId};
use private_chat_core::model::session::{Device, Session};
use private_chat_core::model::workspace::Role;
use private_chat_core::page::{Limit, PageRequest};
use private_chat_core::port::store::SessionRepository as _;
use private_chat_tests::fixture;

use super::house::{Home, PASSWORD, Person, Process, SECOND, an_admin, settle};
use super::troubled::Side;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

async fn a_home() -> Home {
    Home::of(Script::new().content("Hello.").finish("stop")).await
}

async fn on(process: &Process, person: &Person, device: &str) -> Person {
    let device = Device { address: "192.0.2.7".into(), user_agent: device.into() };
    process.cases.auth.login(person.user.email.as_str(), PASSWORD.into(), device).await.unwrap().into()
}

async fn listed(process: &Process, person: &Person) -> Vec<Session> {
    let page = PageRequest { after: None, limit: Limit::MOST };
    process.cases.auth.sessions(&process.actor(person).await, page).await.unwrap().items
}

fn devices(sessions: &[Session]) -> Vec<&str> {
    sessions.iter().map(|session| session.device.user_agent.as_str()).collect()
}

fn is_dead<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Unauthenticated(Unauthenticated::Token)))
}

async fn last_used(home: &Home, session: SessionId) -> Duration {
    let (session, _) = home.house.store.session(session).await.unwrap().unwrap();
    session.last_used_at.since(session.created_at)
}

// R24, R28
#[tokio::test]
async fn one_sees_ones_own_devices_that_are_signed_in_newest_first() {
    let home = a_home().await;
    let b = home.house.process(Script::new()).await;
    let ben = home.person("Ben", Role::Member).await;
    let stranger = on(&home.a, &home.ann, "elsewhere").await;
    let mut people = Vec::new();
    for device in ["phone", "tablet", "laptop"] {
        home.house.clock.advance(SECOND);
        people.push(on(&home.a, &ben, device).await);
    }
    let sessions = listed(&b, &people[0]).await;
    assert_eq!(devices(&sessions), ["laptop", "tablet", "phone", ""]);
    assert!(sessions.iter().take(3).all(|session| session.device.address == "192.0.2.7"));
    let current = b.actor(&people[0]).await.session();
    assert_eq!(sessions[2].id, current);
    let page = PageRequest { after: Some(sessions[1].id), limit: Limit::new(1).unwrap() };
    let page = b.cases.auth.sessions(&b.actor(&ben).await, page).await.unwrap();
    assert_eq!((page.items, page.next), (vec![sessions[2].clone()], Some(current)));

    // What was ended or has run out is not among them.
    home.a.cases.auth.logout(&home.a.actor(&people[1]).await).await.unwrap();
    assert_eq!(devices(&listed(&home.a, &people[0]).await), ["laptop", "phone", ""]);
    home.house.clock.advance(20 * DAY);
    let renewed = home.a.cases.auth.refresh(&people[0].refresh).await.unwrap();
    people[0].access = renewed.access.expose().to_owned();
    home.house.clock.advance(15 * DAY);
    let renewed = home.a.cases.auth.refresh(renewed.refresh.expose()).await.unwrap();
    people[0].access = renewed.access.expose().to_owned();
    assert_eq!(devices(&listed(&home.a, &people[0]).await), ["phone"]);
    assert_eq!(stranger.user.id, home.ann.user.id);
}

// R25, R27, R28
#[tokio::test]
async fn a_device_is_signed_out_from_another_one_and_its_streams_with_it() {
    let home = a_home().await;
    let b = home.house.process(Script::new().content("Hello.").finish("stop")).await;
    let ben = home.person("Ben", Role::Member).await;
    let phone = on(&b, &ben, "phone").await;
    let (own, other) = (home.a.actor(&ben).await, b.actor(&phone).await.session());
    let foreign = home.a.actor(&home.ann).await.session();
    let mut stays = b.view(&ben, home.workspace).await;
    let mut streams = [b.view(&phone, home.workspace).await, home.a.view(&phone, home.workspace).await];
    // R42: somebody else's is none.
    let end = |session| home.a.cases.auth.end_session(&own, session);
    let (strange, none) = (end(foreign).await.unwrap_err(), end(fixture::new_id()).await.unwrap_err());
    assert!(matches!(strange, Error::NotFound(Kind::Session)), "{strange:?}");
    assert_eq!(format!("{strange:?} {strange}"), format!("{none:?} {none}"));
    home.a.actor(&home.ann).await;

    end(other).await.unwrap();
    assert!(is_dead(&b.cases.auth.authenticate(&phone.access).await));
    let refreshed = b.cases.auth.refresh(&phone.refresh).await;
    assert!(matches!(refreshed, Err(Error::Unauthenticated(Unauthenticated::RefreshToken))), "{refreshed:?}");
    assert!(matches!(end(other).await, Err(Error::NotFound(Kind::Session))));
    home.pass(4 * SECOND).await;
    for stream in &mut streams {
        assert!(stream.ended());
    }
    assert!(!stays.ended());
    // The present one is no other case, and a logout that comes again has come.
    end(own.session()).await.unwrap();
    home.a.cases.auth.logout(&own).await.unwrap();
    assert!(is_dead(&b.cases.auth.authenticate(&ben.access).await));
    home.pass(4 * SECOND).await;
    assert!(stays.ended());
}

// R25, R27, R28
#[tokio::test]
async fn an_administrator_signs_somebody_out_everywhere() {
    let home = a_home().await;
    let b = home.house.process(Script::new().content("Hello.").finish("stop")).await;
    let root = an_admin(&home.a, &home.house).await;
    let ben = home.person("Ben", Role::Member).await;
    let phone = on(&b, &ben, "phone").await;
    let mut streams = [home.a.view(&ben, home.workspace).await, b.view(&phone, home.workspace).await];
    let users = &home.a.cases.users;
    let (ann, admin) = (home.a.actor(&home.ann).await, home.a.actor(&root).await);
    let refused = users.end_sessions(&ann, ben.user.id).await;
    assert!(matches!(refused, Err(Error::Forbidden(Forbidden::Role))), "{refused:?}");
    let nobody: UserId = fixture::new_id();
    let refused = users.end_sessions(&admin, nobody).await;
    assert!(matches!(refused, Err(Error::NotFound(Kind::User))), "{refused:?}");
    users.end_sessions(&admin, ben.user.id).await.unwrap();
    for person in [&ben, &phone] {
        for process in [&home.a, &b] {
            assert!(is_dead(&process.cases.auth.authenticate(&person.access).await));
            assert!(process.cases.auth.refresh(&person.refresh).await.is_err());
        }
    }
    home.pass(4 * SECOND).await;
    for stream in &mut streams {
        assert!(stream.ended());
    }
    // They may sign in again, and have one device then.
    let again = on(&b, &ben, "tablet").await;
    assert_eq!(devices(&listed(&home.a, &again).await), ["tablet"]);
    // One's own are no other case.
    users.end_sessions(&admin, root.user.id).await.unwrap();
    assert!(is_dead(&home.a.cases.auth.authenticate(&root.access).await));
}

// R24
#[tokio::test]
async fn the_last_use_is_noted_to_the_minute() {
    let home = a_home().await;
    let b = home.house.process(Script::new()).await;
    let ben = home.person("Ben", Role::Member).await;
    let session = home.a.actor(&ben).await.session();
    for _ in 0..50 {
        home.house.clock.advance(SECOND);
        home.a.actor(&ben).await;
        b.actor(&ben).await;
    }
    settle().await;
    assert_eq!(last_used(&home, session).await, Duration::ZERO);
    home.house.clock.advance(10 * SECOND);
    let commits = b.store.calls("commit");
    b.actor(&ben).await;
    settle().await;
    b.actor(&ben).await;
    settle().await;
    assert_eq!(last_used(&home, session).await, MINUTE);
    assert_eq!(b.store.calls("commit"), commits + 1);
    home.house.clock.advance(59 * SECOND);
    home.a.actor(&ben).await;
    settle().await;
    assert_eq!(last_used(&home, session).await, MINUTE, "whichever process has noted it");
    // A refresh is a use.
    home.a.cases.auth.refresh(&ben.refresh).await.unwrap();
    assert_eq!(last_used(&home, session).await, MINUTE + 59 * SECOND);
    assert_eq!(
        listed(&home.a, &ben).await[0].last_used_at,
        home.house.store.session(session).await.unwrap().unwrap().0.last_used_at
    );
}

// It is a note, and stands in nobody's way.
#[tokio::test]
async fn a_use_that_can_not_be_noted_hinders_nobody_and_revives_nothing() {
    let home = a_home().await;
    let b = home.house.process(Script::new()).await;
    let ben = home.person("Ben", Role::Member).await;
    let session = home.a.actor(&ben).await.session();
    home.house.clock.advance(MINUTE);
    b.store.lose_answer("commit");
    b.actor(&ben).await;
    settle().await;
    assert_eq!(last_used(&home, session).await, MINUTE);
    // A note that is late meets a refresh: that comes through, on either side.
    home.house.clock.advance(MINUTE);
    let gate = b.store.hold("commit", Side::Before);
    b.actor(&ben).await;
    gate.reached().await;
    let renewed = home.a.cases.auth.refresh(&ben.refresh).await.unwrap();
    gate.open();
    settle().await;
    home.a.cases.auth.refresh(renewed.refresh.expose()).await.unwrap();
    // And a logout.
    home.house.clock.advance(MINUTE);
    let gate = b.store.hold("commit", Side::Before);
    b.actor(&ben).await;
    gate.reached().await;
    home.a.cases.auth.logout(&home.a.actor(&ben).await).await.unwrap();
    gate.open();
    settle().await;
    assert!(is_dead(&home.a.cases.auth.authenticate(&ben.access).await));
}

// A session that is opened while all are ended is of before or of after.
#[tokio::test]
async fn a_sign_in_that_meets_a_sign_out_everywhere_is_whole() {
    for pace in [vec![1], vec![3, 1], vec![1, 1, 4]] {
        let home = a_home().await;
        let b = home.house.process(Script::new()).await;
        let root = an_admin(&home.a, &home.house).await;
        let ben = home.person("Ben", Role::Member).await;
        home.a.store.set_pace(pace.clone());
        b.store.set_pace(pace.iter().rev().copied().collect());
        let admin = home.a.actor(&root).await;
        let (phone, ended) = join(on(&b, &ben, "phone"), home.a.cases.users.end_sessions(&admin, ben.user.id)).await;
        ended.unwrap();
        assert!(is_dead(&b.cases.auth.authenticate(&ben.access).await));
        let access = b.cases.auth.authenticate(&phone.access).await;
        let refresh = b.cases.auth.refresh(&phone.refresh).await;
        assert_eq!(access.is_ok(), refresh.is_ok(), "{access:?}");
    }
}

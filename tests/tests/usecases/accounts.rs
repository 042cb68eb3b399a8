//! Accounts, sessions and their tokens.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use private_chat_adapters::memory::{InstantHasher, Script, ScriptedInference};
use private_chat_core::change::Changes;
use private_chat_core::error::{Error, Forbidden, Obstacle, Unauthenticated};
use private_chat_core::model::password::Password;
use private_chat_core::model::secret::Secret;
use private_chat_core::model::session::{Device, Lifetimes};
use private_chat_core::model::user::{Email, GlobalRole, User};
use private_chat_core::port::store::{UnitOfWork as _, UserRepository as _};
use private_chat_core::usecase::Settings;
use private_chat_core::usecase::auth::Setup;
use private_chat_core::usecase::users::NewUser;
use tokio::task::JoinSet;

use super::house::{House, PASSWORD, Person, Process, SECOND, an_admin, settings};

fn setup(email: &str) -> Setup {
    Setup { email: email.into(), name: "Ann".into(), password: PASSWORD.into(), setup_token: None }
}

fn silent() -> Arc<ScriptedInference> {
    Arc::new(ScriptedInference::new(Script::new()))
}

async fn a_process(house: &House) -> Process {
    house.process(Script::new().content("Hello.").finish("stop")).await
}

fn is_unauthenticated<T: std::fmt::Debug>(answer: &Result<T, Error>, why: Unauthenticated) -> bool {
    matches!(answer, Err(Error::Unauthenticated(told)) if *told == why)
}

// R1, F46
#[tokio::test]
async fn of_fifty_who_set_up_at_once_over_two_instances_one_does() {
    let house = House::new();
    let (a, b) = (a_process(&house).await, a_process(&house).await);
    // Everybody has looked before anybody writes.
    a.store.set_pace(vec![3]);
    b.store.set_pace(vec![4, 2]);
    let tries = (0..50).map(|n| {
        let process = if n % 2 == 0 { &a } else { &b };
        async move { process.cases.auth.setup(setup(&format!("ann{n}@example.com")), Device::default()).await }
    });
    let answers = join_all(tries).await;
    let winners: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(winners[0].user.role, GlobalRole::Admin);
    for answer in &answers {
        assert!(matches!(answer, Ok(_) | Err(Error::Conflict(Obstacle::SetupCompleted))), "{answer:?}");
    }
    let mut users = 0;
    for n in 0..50 {
        let email = Email::parse("email", &format!("ann{n}@example.com")).unwrap();
        users += usize::from(house.store.user_by_email(&email).await.unwrap().is_some());
    }
    assert_eq!(users, 1);
    let later = b.cases.auth.setup(setup("late@example.com"), Device::default()).await;
    assert!(matches!(later, Err(Error::Conflict(Obstacle::SetupCompleted))), "{later:?}");
}

// R1
#[tokio::test]
async fn a_stranger_without_the_setup_token_sets_nothing_up() {
    let house = House::new();
    let guarded = Settings { setup_token: Some(Secret::new("opensesame")), ..settings() };
    let a = house.start(silent(), guarded).await;
    for token in [None, Some(""), Some("opensesam"), Some("opensesame ")] {
        let try_it = Setup { setup_token: token.map(str::to_owned), ..setup("ann@example.com") };
        let answer = a.cases.auth.setup(try_it, Device::default()).await;
        assert!(is_unauthenticated(&answer, Unauthenticated::SetupToken), "{answer:?}");
    }
    let right = Setup { setup_token: Some("opensesame".into()), ..setup("ann@example.com") };
    a.cases.auth.setup(right, Device::default()).await.unwrap();
}

// R7, R13
#[tokio::test]
async fn nobody_learns_which_part_of_a_login_was_wrong() {
    let house = House::new();
    let a = a_process(&house).await;
    let user = house.account("Ben").await;
    let gone = User { is_active: false, ..house.account("Gus").await };
    house.store.commit(Changes::new().update(gone.clone())).await.unwrap();
    let login = |email: String, password: &str| {
        let password = password.to_owned();
        let auth = &a.cases.auth;
        async move { auth.login(&email, password, Device::default()).await }
    };
    let long = "x".repeat(2000);
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        (user.email.as_str(), "correct horse batterz"),
        (user.email.as_str(), ""),
        (user.email.as_str(), long.as_str()),
        (gone.email.as_str(), PASSWORD),
        (gone.email.as_str(), "wrong"),
        ("no address at all", PASSWORD),
        ("", ""),
    ] {
        let answer = login(email.to_owned(), password).await;
        assert!(is_unauthenticated(&answer, Unauthenticated::Credentials), "{email:?}: {answer:?}");
    }
    assert_eq!(login(format!(" {} ", user.email.as_str().to_uppercase()), PASSWORD).await.unwrap().user.id, user.id);
}

// R3
#[tokio::test]
async fn a_weak_hash_is_made_again_at_the_next_login() {
    let house = House::new();
    let a = a_process(&house).await;
    let user = house.account("Ben").await;
    let weak = InstantHasher::new().weak(&Password::presented(PASSWORD.into()).unwrap());
    house.store.commit(Changes::new().update(User { password: weak.clone(), ..user.clone() })).await.unwrap();
    let ben = a.sign_in(&user).await;
    let strong = house.store.user(user.id).await.unwrap().unwrap().password;
    assert_ne!(strong, weak);
    a.actor(&ben).await;
    a.sign_in(&user).await;
    assert_eq!(house.store.user(user.id).await.unwrap().unwrap().password, strong, "a strong one stays");
}

// R20
#[tokio::test]
async fn a_spent_refresh_token_that_comes_again_ends_the_session_on_all_instances() {
    let house = House::new();
    let (a, b) = (a_process(&house).await, a_process(&house).await);
    let ben = a.sign_in(&house.account("Ben").await).await;
    let second = a.cases.auth.refresh(&ben.refresh).await.unwrap();
    let third = b.cases.auth.refresh(second.refresh.expose()).await.unwrap();
    let other = a.sign_in(&ben.user).await;
    let again = b.cases.auth.refresh(&ben.refresh).await;
    assert!(is_unauthenticated(&again, Unauthenticated::RefreshTokenReused), "{again:?}");
    for token in [third.refresh.expose(), second.refresh.expose(), &ben.refresh] {
        let answer = a.cases.auth.refresh(token).await;
        assert!(is_unauthenticated(&answer, Unauthenticated::RefreshToken), "{answer:?}");
    }
    for access in [third.access.expose(), second.access.expose(), &ben.access] {
        let answer = a.cases.auth.authenticate(access).await;
        assert!(is_unauthenticated(&answer, Unauthenticated::Token), "{answer:?}");
    }
    a.actor(&other).await;
}

// R21
#[tokio::test]
async fn a_lost_answer_is_forgiven_for_ten_seconds() {
    let house = House::new();
    let a = a_process(&house).await;
    let ben = a.sign_in(&house.account("Ben").await).await;
    // The rotation comes through, and the client never hears of it.
    a.store.lose_answer("commit");
    assert!(matches!(a.cases.auth.refresh(&ben.refresh).await, Err(Error::Unavailable { .. })));
    house.clock.advance(10 * SECOND);
    let again = a.cases.auth.refresh(&ben.refresh).await.unwrap();
    house.clock.advance(SECOND);
    let next = a.cases.auth.refresh(again.refresh.expose()).await.unwrap();
    a.cases.auth.authenticate(next.access.expose()).await.unwrap();

    let late = a.sign_in(&ben.user).await;
    a.cases.auth.refresh(&late.refresh).await.unwrap();
    house.clock.advance(10 * SECOND + Duration::from_micros(1));
    let answer = a.cases.auth.refresh(&late.refresh).await;
    assert!(is_unauthenticated(&answer, Unauthenticated::RefreshTokenReused), "{answer:?}");
}

// R22, F45
#[tokio::test]
async fn of_twenty_refreshes_at_once_at_most_one_token_works_afterwards() {
    for pace in [vec![0], vec![2], vec![1, 5, 2, 7, 3]] {
        let house = House::new();
        let (a, b) = (a_process(&house).await, a_process(&house).await);
        let ben = a.sign_in(&house.account("Ben").await).await;
        a.store.set_pace(pace.clone());
        b.store.set_pace(pace.iter().rev().copied().collect());
        let tries = (0..20).map(|n| if n % 2 == 0 { &a } else { &b }).map(|p| p.cases.auth.refresh(&ben.refresh));
        let answers = join_all(tries).await;
        let mut tokens = Vec::new();
        for answer in answers {
            match answer {
                Ok(pair) => tokens.push(pair.refresh.expose().to_owned()),
                Err(Error::Unauthenticated(_) | Error::Conflict(Obstacle::Concurrent)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(!tokens.is_empty(), "somebody gets through");
        // Of the last one first: whoever presents a dead one ends the session.
        let mut working = 0;
        for token in tokens.iter().rev() {
            working += usize::from(b.cases.auth.refresh(token).await.is_ok());
        }
        assert!(working <= 1, "{working} branches live");
    }
}

// R24
#[tokio::test]
async fn a_session_ends_by_its_age_however_often_it_is_refreshed() {
    const DAY: Duration = Duration::from_secs(86_400);
    let house = House::new();
    let lifetimes = Lifetimes { refresh: 3 * DAY, session: 5 * DAY, ..Lifetimes::default() };
    let a = house.start(silent(), Settings { lifetimes, ..settings() }).await;
    let ben = a.sign_in(&house.account("Ben").await).await;
    house.clock.advance(2 * DAY);
    let second = a.cases.auth.refresh(&ben.refresh).await.unwrap();
    assert_eq!(second.refresh_expires_in, 3 * DAY);
    house.clock.advance(2 * DAY);
    let third = a.cases.auth.refresh(second.refresh.expose()).await.unwrap();
    assert_eq!(third.refresh_expires_in, DAY, "no longer than the session");
    house.clock.advance(DAY - Duration::from_secs(60));
    let fourth = a.cases.auth.refresh(third.refresh.expose()).await.unwrap();
    assert_eq!(fourth.expires_in, Duration::from_secs(60), "nor does the access token outlive it");
    house.clock.advance(Duration::from_secs(60));
    let over = a.cases.auth.refresh(fourth.refresh.expose()).await;
    assert!(is_unauthenticated(&over, Unauthenticated::RefreshToken), "{over:?}");
    let idle = a.sign_in(&ben.user).await;
    house.clock.advance(3 * DAY);
    let over = a.cases.auth.refresh(&idle.refresh).await;
    assert!(is_unauthenticated(&over, Unauthenticated::RefreshToken), "{over:?}");
}

// R25
#[tokio::test]
async fn a_logout_is_felt_at_the_next_request_on_another_instance() {
    let house = House::new();
    let (a, b) = (a_process(&house).await, a_process(&house).await);
    let ben = a.sign_in(&house.account("Ben").await).await;
    let other = a.sign_in(&ben.user).await;
    b.actor(&ben).await;
    a.cases.auth.logout(&a.actor(&ben).await).await.unwrap();
    let answer = b.cases.auth.authenticate(&ben.access).await;
    assert!(is_unauthenticated(&answer, Unauthenticated::Token), "{answer:?}");
    assert!(is_unauthenticated(&b.cases.auth.refresh(&ben.refresh).await, Unauthenticated::RefreshToken));
    b.actor(&other).await;
}

// R12, R25
#[tokio::test]
async fn a_deactivated_account_is_out_at_once() {
    let house = House::new();
    let a = a_process(&house).await;
    let ben = a.sign_in(&house.account("Ben").await).await;
    let gone = User { is_active: false, ..ben.user.clone() };
    house.store.commit(Changes::new().update(gone)).await.unwrap();
    assert!(is_unauthenticated(&a.cases.auth.authenticate(&ben.access).await, Unauthenticated::Token));
    assert!(is_unauthenticated(&a.cases.auth.refresh(&ben.refresh).await, Unauthenticated::RefreshToken));
}

// R6, R12, R25
#[tokio::test]
async fn a_first_password_opens_nothing_but_its_own_change() {
    let house = House::new();
    let (a, b) = (a_process(&house).await, a_process(&house).await);
    let root = an_admin(&a, &house).await;
    let new = NewUser {
        email: "Ben@Example.com".into(),
        name: "Ben".into(),
        password: PASSWORD.into(),
        role: GlobalRole::User,
        must_change_password: true,
    };
    let user = a.cases.users.create(&a.actor(&root).await, new, None).await.unwrap();
    let (ben, phone) = (a.sign_in(&user).await, a.sign_in(&user).await);
    let barred = b.cases.auth.authenticate(&ben.access).await;
    assert!(matches!(barred, Err(Error::Forbidden(Forbidden::PasswordChangeRequired))), "{barred:?}");

    let actor = b.cases.auth.authenticate_for_password_change(&ben.access).await.unwrap();
    let change = |current: &str, new: &str| {
        let (auth, actor) = (&b.cases.auth, &actor);
        let (current, new) = (current.to_owned(), new.to_owned());
        async move { auth.change_password(actor, current, new).await }
    };
    let wrong = change("something else", "a quite new password").await;
    assert!(is_unauthenticated(&wrong, Unauthenticated::Credentials), "{wrong:?}");
    assert!(matches!(change(PASSWORD, PASSWORD).await, Err(Error::Invalid(_))));
    assert!(matches!(change(PASSWORD, "12345678").await, Err(Error::Invalid(_))));
    change(PASSWORD, "a quite new password").await.unwrap();

    a.actor(&ben).await;
    assert!(is_unauthenticated(&a.cases.auth.authenticate(&phone.access).await, Unauthenticated::Token));
    assert!(is_unauthenticated(&a.cases.auth.refresh(&phone.refresh).await, Unauthenticated::RefreshToken));
    a.cases.auth.refresh(&ben.refresh).await.unwrap();
    let old = a.cases.auth.login("ben@example.com", PASSWORD.into(), Device::default()).await;
    assert!(is_unauthenticated(&old, Unauthenticated::Credentials), "{old:?}");
    a.cases.auth.login("ben@example.com", "a quite new password".into(), Device::default()).await.unwrap();
}

// R6
#[tokio::test]
async fn of_two_password_changes_at_once_one_wins() {
    let house = House::new();
    let a = a_process(&house).await;
    let user = house.account("Ben").await;
    let (ben, phone) = (a.sign_in(&user).await, a.sign_in(&user).await);
    let (one, two) = (a.actor(&ben).await, a.actor(&phone).await);
    a.store.set_pace(vec![2]);
    let auth = &a.cases.auth;
    let answers = join_all([
        auth.change_password(&one, PASSWORD.into(), "a quite new password".into()),
        auth.change_password(&two, PASSWORD.into(), "another new password".into()),
    ])
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    let actors = [auth.authenticate(&ben.access).await, auth.authenticate(&phone.access).await];
    assert_eq!(actors.iter().filter(|actor| actor.is_ok()).count(), 1, "{actors:?}");
}

#[tokio::test]
async fn accounts_are_made_by_administrators_and_each_address_once() {
    let house = House::new();
    let a = a_process(&house).await;
    let root = a.actor(&an_admin(&a, &house).await).await;
    let ben = a.actor(&a.sign_in(&house.account("Ben").await).await).await;
    let new = |email: &str| NewUser {
        email: email.into(),
        name: "Cleo".into(),
        password: PASSWORD.into(),
        role: GlobalRole::User,
        must_change_password: false,
    };
    let users = &a.cases.users;
    assert!(matches!(users.create(&ben, new("c@example.com"), None).await, Err(Error::Forbidden(Forbidden::Role))));
    a.store.set_pace(vec![2]);
    let racing = join_all((0..10).map(|_| users.create(&root, new("c@example.com"), None))).await;
    assert_eq!(racing.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in racing {
        assert!(matches!(answer, Ok(_) | Err(Error::Conflict(Obstacle::EmailTaken))), "{answer:?}");
    }
    // R11
    let same = users.create(&root, new(" C@EXAMPLE.COM "), None).await;
    assert!(matches!(same, Err(Error::Conflict(Obstacle::EmailTaken))), "{same:?}");
    match users.create(&root, NewUser { name: " ".into(), password: "short".into(), ..new("x") }, None).await {
        Err(Error::Invalid(violations)) => {
            let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
            assert_eq!(fields, ["email", "name", "password"]);
        }
        other => panic!("{other:?}"),
    }
}

/// A refresh whose request is dropped at any point leaves a session that can go on.
// R21
#[tokio::test]
async fn a_refresh_that_is_dropped_anywhere_leaves_a_way_on() {
    for steps in 0..12 {
        let house = House::new();
        let a = a_process(&house).await;
        let ben: Person = a.sign_in(&house.account("Ben").await).await;
        a.store.set_pace(vec![2]);
        let (auth, token) = (a.cases.auth.clone(), ben.refresh.clone());
        let mut request = JoinSet::new();
        request.spawn(async move { auth.refresh(&token).await.map(|_| ()) });
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        request.shutdown().await;
        a.cases.auth.refresh(&ben.refresh).await.unwrap();
    }
}

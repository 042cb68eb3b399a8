//! Accounts, as administrators manage them and as their owners change their own.

use futures_util::future::{join, join_all};
use private_chat_adapters::memory::Script;
use private_chat_core::error::{Error, Forbidden, Kind, Obstacle, Unauthenticated};
use private_chat_core::id::UserId;
use private_chat_core::model::chat::{MessageStatus, Visibility};
use private_chat_core::model::session::Device;
use private_chat_core::model::user::{Email, GlobalRole, User};
use private_chat_core::model::workspace::Role;
use private_chat_core::page::{Limit, PageRequest};
use private_chat_core::policy::Right;
use private_chat_core::port::store::{
    SessionRepository as _, UserFilter, UserRepository as _, WorkspaceRepository as _,
};
use private_chat_core::usecase::users::{NewUser, UserChange};
use private_chat_tests::fixture;

use super::house::{Home, PASSWORD, Person, Process, SECOND, an_admin, an_admin_named};
use super::screen::Viewer;
use super::troubled::Side;

const OTHER_PASSWORD: &str = "a quite new password";

async fn a_home() -> Home {
    Home::of(Script::new().content("Hello.").finish("stop")).await
}

fn role(role: GlobalRole) -> UserChange {
    UserChange { role: Some(role), ..UserChange::default() }
}

fn active(is_active: bool) -> UserChange {
    UserChange { is_active: Some(is_active), ..UserChange::default() }
}

fn named(name: &str) -> UserChange {
    UserChange { name: Some(name.into()), ..UserChange::default() }
}

fn email(email: &str) -> UserChange {
    UserChange { email: Some(email.into()), ..UserChange::default() }
}

fn password(password: &str) -> UserChange {
    UserChange { password: Some(password.into()), ..UserChange::default() }
}

fn a_new_user(email: &str) -> NewUser {
    NewUser {
        email: email.into(),
        name: "Cleo".into(),
        password: PASSWORD.into(),
        role: GlobalRole::User,
        must_change_password: false,
    }
}

fn is_forbidden<T>(answer: &Result<T, Error>, why: Forbidden) -> bool {
    matches!(answer, Err(Error::Forbidden(told)) if *told == why)
}

fn is_unauthenticated<T>(answer: &Result<T, Error>, why: Unauthenticated) -> bool {
    matches!(answer, Err(Error::Unauthenticated(told)) if *told == why)
}

fn is_last_admin<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Conflict(Obstacle::LastAdmin)))
}

async fn login(process: &Process, email: &str, password: &str) -> Result<Person, Error> {
    Ok(process.cases.auth.login(email, password.to_owned(), Device::default()).await?.into())
}

async fn stored(home: &Home, id: UserId) -> Option<User> {
    home.house.store.user(id).await.unwrap()
}

#[tokio::test]
async fn an_account_is_made_found_changed_put_away_brought_back_and_deleted() {
    let home = a_home().await;
    let b = home.house.process(Script::new()).await;
    let root = an_admin(&home.a, &home.house).await;
    let actor = home.a.actor(&root).await;
    let made = home.a.cases.users.create(&actor, a_new_user("Cleo@Example.com"), None).await.unwrap();
    let find = async |filter: UserFilter| {
        let page = PageRequest { after: None, limit: Limit::MOST };
        let found = b.cases.users.list(&b.actor(&root).await, filter, page).await.unwrap();
        found.items.into_iter().map(|user| user.name).collect::<Vec<_>>()
    };
    let query = |query: &str| UserFilter { query: Some(query.into()), ..UserFilter::default() };
    for text in ["cleo", " CLEO@example ", "leo@"] {
        assert_eq!(find(query(text)).await, ["Cleo"], "{text:?}");
    }
    assert_eq!(find(query("c%o")).await, [""; 0]);
    assert_eq!(find(query("cleo\u{0}")).await, [""; 0]);
    assert_eq!(find(UserFilter { role: Some(GlobalRole::Admin), ..UserFilter::default() }).await, ["Root"]);
    let changed = home.a.change_user(&root, made.id, named("Cleo Q.")).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.email.as_str()), ("Cleo Q.", "cleo@example.com"));
    assert_eq!(stored(&home, made.id).await, Some(changed));

    let cleo = home.a.sign_in(&made).await;
    home.a.change_user(&root, made.id, active(false)).await.unwrap();
    assert_eq!(find(UserFilter { is_active: Some(false), ..UserFilter::default() }).await, ["Cleo Q."]);
    assert!(is_unauthenticated(&login(&b, "cleo@example.com", PASSWORD).await, Unauthenticated::Credentials));
    home.a.change_user(&root, made.id, active(true)).await.unwrap();
    // What was ended when they were put away stays ended.
    assert!(is_unauthenticated(&b.cases.auth.authenticate(&cleo.access).await, Unauthenticated::Token));
    assert!(is_unauthenticated(&b.cases.auth.refresh(&cleo.refresh).await, Unauthenticated::RefreshToken));
    let again = login(&b, "cleo@example.com", PASSWORD).await.unwrap();

    home.a.delete_user(&root, made.id, None).await.unwrap();
    assert_eq!(stored(&home, made.id).await, None);
    assert!(is_unauthenticated(&b.cases.auth.authenticate(&again.access).await, Unauthenticated::Token));
    assert!(is_unauthenticated(&login(&b, "cleo@example.com", PASSWORD).await, Unauthenticated::Credentials));
    assert_eq!(find(query("cleo")).await, [""; 0]);
    let gone = home.a.delete_user(&root, made.id, None).await;
    assert!(matches!(gone, Err(Error::NotFound(Kind::User))), "{gone:?}");
    // The address is free again, and whoever has it next is somebody else.
    let next = home.a.cases.users.create(&actor, a_new_user("cleo@example.com"), None).await.unwrap();
    assert_ne!(next.id, made.id);
}

/// Something that an administrator does to an account.
struct Deed {
    what: &'static str,
    change: fn() -> UserChange,
    ends_sessions: bool,
}

const DEEDS: [Deed; 7] = [
    Deed { what: "another role", change: || role(GlobalRole::Admin), ends_sessions: true },
    Deed { what: "a deactivation", change: || active(false), ends_sessions: true },
    Deed { what: "a password reset", change: || password(OTHER_PASSWORD), ends_sessions: true },
    Deed { what: "the same role", change: || role(GlobalRole::User), ends_sessions: false },
    Deed { what: "an activation of the active", change: || active(true), ends_sessions: false },
    Deed { what: "another name", change: || named("Benjamin"), ends_sessions: false },
    Deed { what: "another address", change: || email("benjamin@example.com"), ends_sessions: false },
];

// R25, R27, R28
#[tokio::test]
async fn some_changes_end_the_sessions_of_an_account_everywhere_and_others_none() {
    for Deed { what, change, ends_sessions } in DEEDS {
        let home = a_home().await;
        let b = home.house.process(Script::new().content("Hello.").finish("stop")).await;
        let root = an_admin(&home.a, &home.house).await;
        let ben = home.person("Ben", Role::Member).await;
        let phone = b.sign_in(&ben.user).await;
        let mut streams = [home.a.view(&ben, home.workspace).await, b.view(&phone, home.workspace).await];
        let mut others = b.view(&home.ann, home.workspace).await;
        home.a.change_user(&root, ben.user.id, change()).await.unwrap();
        for person in [&ben, &phone] {
            for process in [&home.a, &b] {
                assert_eq!(process.cases.auth.authenticate(&person.access).await.is_err(), ends_sessions, "{what}");
            }
            assert_eq!(b.cases.auth.refresh(&person.refresh).await.is_err(), ends_sessions, "{what}");
        }
        home.pass(4 * SECOND).await;
        for stream in &mut streams {
            assert_eq!(stream.ended(), ends_sessions, "{what}");
        }
        assert!(!others.ended());
        home.a.actor(&root).await;
    }
}

// R6, R12, R25
#[tokio::test]
async fn a_reset_password_lets_in_for_nothing_but_its_change() {
    let home = a_home().await;
    let b = home.house.process(Script::new()).await;
    let root = an_admin(&home.a, &home.house).await;
    let ben = home.person("Ben", Role::Member).await;
    let address = ben.user.email.as_str();
    let weak = home.a.change_user(&root, ben.user.id, password("short")).await;
    assert!(matches!(&weak, Err(Error::Invalid(violations)) if violations[0].field == "password"), "{weak:?}");
    home.a.actor(&ben).await;
    let reset = home.a.change_user(&root, ben.user.id, password(OTHER_PASSWORD)).await.unwrap();
    assert!(reset.must_change_password);
    assert!(is_unauthenticated(&login(&b, address, PASSWORD).await, Unauthenticated::Credentials));
    let ben = login(&b, address, OTHER_PASSWORD).await.unwrap();
    assert!(ben.user.must_change_password);
    let barred = home.a.watch(&ben, home.workspace, None).await.map(|_| ());
    assert!(is_forbidden(&barred, Forbidden::PasswordChangeRequired), "{barred:?}");
    let actor = b.cases.auth.authenticate_for_password_change(&ben.access).await.unwrap();
    b.cases.auth.change_password(&actor, OTHER_PASSWORD.into(), "the very newest password".into()).await.unwrap();
    home.a.ask(&ben, &home.chat, "Hi").await;
    assert!(!stored(&home, ben.user.id).await.unwrap().must_change_password);
}

// R46
#[tokio::test]
async fn nobody_changes_their_own_role_state_or_password_that_way() {
    let home = a_home().await;
    let root = an_admin(&home.a, &home.house).await;
    for change in [role(GlobalRole::Admin), role(GlobalRole::User), active(true), active(false), password(PASSWORD)] {
        let answer = home.a.change_user(&home.ann, home.ann.user.id, change).await;
        assert!(is_forbidden(&answer, Forbidden::OwnAccount), "{answer:?}");
    }
    // That nobody would be left comes before the account being one's own.
    for change in [role(GlobalRole::User), active(false)] {
        let answer = home.a.change_user(&root, root.user.id, change).await;
        assert!(is_last_admin(&answer), "{answer:?}");
    }
    for change in [role(GlobalRole::Admin), active(true), password(PASSWORD)] {
        let answer = home.a.change_user(&root, root.user.id, change).await;
        assert!(is_forbidden(&answer, Forbidden::OwnAccount), "{answer:?}");
    }
    assert!(is_last_admin(&home.a.delete_user(&root, root.user.id, None).await));
    an_admin_named("Rita", &home.a, &home.house).await;
    for change in [role(GlobalRole::User), active(false)] {
        let answer = home.a.change_user(&root, root.user.id, change).await;
        assert!(is_forbidden(&answer, Forbidden::OwnAccount), "{answer:?}");
    }
    home.a.delete_user(&root, root.user.id, None).await.unwrap();
    assert_eq!(stored(&home, root.user.id).await, None);
}

// R42, R46
#[tokio::test]
async fn the_accounts_of_others_are_for_administrators() {
    let home = a_home().await;
    let root = an_admin(&home.a, &home.house).await;
    let nobody: UserId = fixture::new_id();
    let errors = [root.user.id, nobody].map(|user| home.a.change_user(&home.ann, user, named("X")));
    let errors: Vec<_> = join_all(errors).await.into_iter().map(Result::unwrap_err).collect();
    assert!(matches!(errors[0], Error::NotFound(Kind::User)), "{errors:?}");
    assert_eq!(format!("{:?} {}", errors[0], errors[0]), format!("{:?} {}", errors[1], errors[1]));
    let ann = home.a.actor(&home.ann).await;
    let users = &home.a.cases.users;
    for answer in [
        users.delete(&ann, root.user.id, None).await,
        users.delete(&ann, home.ann.user.id, None).await,
        users.end_sessions(&ann, root.user.id).await,
        users.list(&ann, UserFilter::default(), PageRequest::default()).await.map(|_| ()),
        users.create(&ann, a_new_user("c@example.com"), None).await.map(|_| ()),
    ] {
        assert!(is_forbidden(&answer, Forbidden::Role), "{answer:?}");
    }
    assert_eq!(home.a.change_user(&home.ann, home.ann.user.id, named("Anna")).await.unwrap().name, "Anna");
}

// Who was let in as an administrator and is none any more does nothing with what they hold.
#[tokio::test]
async fn an_administrator_who_is_none_any_more_changes_nobody() {
    let home = a_home().await;
    let root = an_admin(&home.a, &home.house).await;
    let rita = an_admin_named("Rita", &home.a, &home.house).await;
    let stale = home.a.actor(&rita).await;
    let users = &home.a.cases.users;
    let account = users.open(stale.clone(), home.ann.user.id).await.unwrap();
    home.a.change_user(&root, rita.user.id, role(GlobalRole::User)).await.unwrap();
    for answer in [
        users.delete(&stale, home.ann.user.id, Some(rita.user.id)).await,
        users.end_sessions(&stale, root.user.id).await,
        users.change(&account, password(OTHER_PASSWORD)).await.map(|_| ()),
        users.create(&stale, a_new_user("c@example.com"), None).await.map(|_| ()),
    ] {
        assert!(is_unauthenticated(&answer, Unauthenticated::Token), "{answer:?}");
    }
    home.a.actor(&home.ann).await;

    // Also between the look and the commit.
    let sara = an_admin_named("Sara", &home.a, &home.house).await;
    let b = home.house.process(Script::new()).await;
    let gate = b.store.hold("commit", Side::Before);
    let demoting = async {
        gate.reached().await;
        home.a.change_user(&root, sara.user.id, role(GlobalRole::User)).await.unwrap();
        gate.open();
    };
    let (answer, ()) = join(b.change_user(&sara, home.ann.user.id, password(OTHER_PASSWORD)), demoting).await;
    assert!(is_unauthenticated(&answer, Unauthenticated::Token), "{answer:?}");
    home.a.actor(&home.ann).await;
}

// R14
#[tokio::test]
async fn ones_own_address_takes_ones_password() {
    let home = a_home().await;
    let root = an_admin(&home.a, &home.house).await;
    let ben = home.person("Ben", Role::Member).await;
    let phone = home.a.sign_in(&ben.user).await;
    let move_to = async |address: &str, current: Option<&str>| {
        let change = UserChange { current_password: current.map(str::to_owned), ..email(address) };
        home.a.change_user(&ben, ben.user.id, change).await
    };
    match move_to("b@example.com", None).await {
        Err(Error::Invalid(violations)) => assert_eq!(violations[0].field, "current_password"),
        other => panic!("{other:?}"),
    }
    for wrong in ["", "wrong", "correct horse batterz"] {
        let answer = move_to("b@example.com", Some(wrong)).await;
        assert!(is_unauthenticated(&answer, Unauthenticated::Credentials), "{answer:?}");
    }
    let taken = move_to(&home.ann.user.email.as_str().to_uppercase(), Some(PASSWORD)).await;
    assert!(matches!(taken, Err(Error::Conflict(Obstacle::EmailTaken))), "{taken:?}");
    // The address that is theirs already is no change.
    assert_eq!(move_to(ben.user.email.as_str(), None).await.unwrap().email, ben.user.email);
    assert_eq!(move_to(" B@Example.com", Some(PASSWORD)).await.unwrap().email.as_str(), "b@example.com");
    home.a.actor(&phone).await;
    let old = login(&home.a, ben.user.email.as_str(), PASSWORD).await;
    assert!(is_unauthenticated(&old, Unauthenticated::Credentials));
    login(&home.a, "b@example.com", PASSWORD).await.unwrap();
    // An administrator needs no password of theirs.
    home.a.change_user(&root, ben.user.id, email("ben@example.org")).await.unwrap();
    login(&home.a, "ben@example.org", PASSWORD).await.unwrap();
}

// R11: each address once, also when two move to it at the same time.
#[tokio::test]
async fn of_many_who_move_to_one_address_one_does() {
    let home = a_home().await;
    let root = an_admin(&home.a, &home.house).await;
    let mut people = Vec::new();
    for _ in 0..6 {
        people.push(home.house.account("Ben").await);
    }
    home.a.store.set_pace(vec![2]);
    let moving = people.iter().map(|user| home.a.change_user(&root, user.id, email("ben@example.org")));
    let answers = join_all(moving).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    for answer in answers {
        assert!(matches!(answer, Ok(_) | Err(Error::Conflict(Obstacle::EmailTaken))), "{answer:?}");
    }
}

/// One of the ways in which the installation loses an administrator.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Demoted,
    PutAway,
    Deleted,
    /// By themselves.
    Gone,
}

// R48
#[tokio::test]
async fn of_two_administrators_who_go_at_once_one_stays() {
    use Loss::{Deleted, Demoted, Gone, PutAway};
    let losses = [Demoted, PutAway, Deleted, Gone];
    let pairs = losses.into_iter().flat_map(|one| losses.map(|two| (one, two)));
    for (round, (one, two)) in pairs.cycle().take(112).enumerate() {
        let home = a_home().await;
        let b = home.house.process(Script::new()).await;
        let rita = an_admin_named("Rita", &home.a, &home.house).await;
        let sara = an_admin_named("Sara", &home.a, &home.house).await;
        home.house.set_up().await;
        let lose = async |process: &Process, loss, who: &Person, by: &Person| match loss {
            Demoted => process.change_user(by, who.user.id, role(GlobalRole::User)).await.map(|_| ()),
            PutAway => process.change_user(by, who.user.id, active(false)).await.map(|_| ()),
            Deleted => process.delete_user(by, who.user.id, None).await,
            Gone => process.delete_user(who, who.user.id, None).await,
        };
        home.a.store.set_pace(vec![round % 3, 1 + round / 16]);
        b.store.set_pace(vec![1 + round / 16, round % 5]);
        let answers = join(lose(&home.a, one, &rita, &sara), lose(&b, two, &sara, &rita)).await;
        let answers = [answers.0, answers.1];
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{round}: {one:?}, {two:?}: {answers:?}");
        for answer in &answers {
            let known = matches!(
                answer,
                Ok(())
                    | Err(Error::Conflict(Obstacle::LastAdmin)
                        | Error::Unauthenticated(Unauthenticated::Token)
                        | Error::Forbidden(Forbidden::Role))
            );
            assert!(known, "{round}: {one:?}, {two:?}: {answers:?}");
        }
        let left = if answers[0].is_ok() { &sara } else { &rita };
        assert!(home.a.actor(left).await.user().is_active_admin());
    }
}

// R49
#[tokio::test]
async fn what_somebody_wrote_outlives_their_account() {
    let home = Home::of(Script::new().content("Hel").pause().content("lo.").finish("stop")).await;
    let root = an_admin(&home.a, &home.house).await;
    let ben = home.person("Ben", Role::Member).await;
    let feed = home.a.view(&home.ann, home.workspace).await;
    let chat = home.a.new_chat(&ben, home.workspace, Visibility::Workspace).await;
    let secret = home.a.new_chat(&ben, home.workspace, Visibility::Private).await;
    let sent = home.a.send_watched(&ben, &chat, "Hi all").await;
    home.a.parrot.waiting(1).await;
    let mut asked = Viewer::of_reply(sent.watch.unwrap());
    home.a.delete_user(&root, ben.user.id, None).await.unwrap();
    home.pass(4 * SECOND).await;
    assert!(asked.ended());
    home.a.parrot.release();
    home.pass(SECOND).await;
    let waited = sent.end.wait().await;
    assert!(is_unauthenticated(&waited, Unauthenticated::Token), "{waited:?}");

    let at = home.a.enter(&home.ann, &chat, Right::ReadChats).await.unwrap();
    let opened = home.a.cases.chats.read(at).await.unwrap();
    assert_eq!(opened.chat.created_by, None);
    let said: Vec<_> = opened.messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(said, ["Hi all", "Hello."]);
    assert_eq!(opened.messages[0].author, None);
    assert_eq!(opened.messages[1].status, MessageStatus::Complete, "what they asked for goes on for the others");
    // D2: nobody's private chat is nobody's to see.
    let private = home.a.enter(&home.ann, &secret, Right::ReadChats).await.map(|_| ());
    assert!(matches!(private, Err(Error::NotFound(Kind::Chat))), "{private:?}");
    let member = home.a.member(&home.ann, home.workspace, Right::ReadChats).await.unwrap();
    let listed = home.a.cases.chats.history(&member, Default::default(), PageRequest::default()).await.unwrap();
    assert_eq!(listed.items.len(), 2);
    assert_eq!(feed.seen().iter().filter(|seen| *seen == "left").count(), 1);
    home.a.members(&home.ann, home.workspace).await;
    // The conversation goes on, also in a process that has never known them.
    let b = home.house.process(Script::new().content("Yes.").finish("stop")).await;
    assert_eq!(b.ask(&home.ann, &chat, "Who was that?").await.content, "Yes.");
}

// A private chat of somebody who left waits for them.
#[tokio::test]
async fn a_private_chat_waits_for_its_creator_and_is_shown_to_nobody_meanwhile() {
    let home = a_home().await;
    let ben = home.person("Ben", Role::Member).await;
    let secret = home.a.new_chat(&ben, home.workspace, Visibility::Private).await;
    home.a.ask(&ben, &secret, "Psst").await;
    home.a.remove(&home.ann, home.workspace, ben.user.id).await.unwrap();
    for (person, kind) in [(&ben, Kind::Workspace), (&home.ann, Kind::Chat)] {
        let answer = home.a.enter(person, &secret, Right::ReadChats).await.map(|_| ());
        assert!(matches!(answer, Err(Error::NotFound(told)) if told == kind), "{answer:?}");
    }
    home.house.join(home.workspace, &ben.user, Role::Guest).await;
    home.a.enter(&ben, &secret, Right::ReadChats).await.unwrap();
}

// Sole owners, and heirs.
#[tokio::test]
async fn the_workspaces_of_a_deleted_user_go_to_their_heir() {
    let home = a_home().await;
    let b = home.house.process(Script::new()).await;
    let root = an_admin(&home.a, &home.house).await;
    let ben = home.person("Ben", Role::Member).await;
    let shared = home.a.new_workspace(&home.ann).await;
    let cleo = home.a.sign_in(&home.house.account("Cleo").await).await;
    home.house.join(shared, &cleo.user, Role::Owner).await;
    home.house.join(shared, &ben.user, Role::Guest).await;
    let alone = home.a.new_workspace(&home.ann).await;
    let ann = home.ann.user.id;

    match home.a.delete_user(&root, ann, None).await {
        Err(Error::Conflict(Obstacle::SoleOwner(names))) => assert_eq!(names, ["Research", "Research"]),
        other => panic!("{other:?}"),
    }
    let gone = home.house.account("Gus").await;
    home.a.change_user(&root, gone.id, active(false)).await.unwrap();
    for unfit in [ann, gone.id, fixture::new_id()] {
        match home.a.delete_user(&root, ann, Some(unfit)).await {
            Err(Error::Invalid(violations)) => assert_eq!(violations[0].field, "transfer_to"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stored(&home, ann).await.map(|user| user.id), Some(ann));

    let near = home.a.view(&ben, home.workspace).await;
    let far = b.view(&cleo, shared).await;
    home.a.delete_user(&root, ann, Some(ben.user.id)).await.unwrap();
    home.pass(SECOND).await;
    assert_eq!(near.seen(), ["open", "role", "left"]);
    assert_eq!(near.screen().members[&ben.user.id].membership.role, Role::Owner);
    assert_eq!(far.seen(), ["open", "left"], "another one owns it: no heir is needed");
    assert_eq!(home.a.members(&ben, home.workspace).await, [(ben.user.id, Role::Owner)]);
    assert_eq!(home.a.members(&ben, alone).await, [(ben.user.id, Role::Owner)]);
    assert!(home.a.members(&cleo, shared).await.contains(&(ben.user.id, Role::Guest)));
    // And so on, to the last of them.
    home.a.delete_user(&root, ben.user.id, Some(root.user.id)).await.unwrap();
    home.a.delete_user(&root, cleo.user.id, Some(root.user.id)).await.unwrap();
    for workspace in [home.workspace, shared, alone] {
        assert_eq!(home.a.members(&root, workspace).await, [(root.user.id, Role::Owner)]);
    }
}

// Whatever they join, make or inherit meanwhile, nothing is left without an owner, and the counts are right.
#[tokio::test]
async fn a_user_who_is_deleted_while_they_make_a_workspace_leaves_none_behind() {
    for pace in [vec![1], vec![2, 1], vec![1, 4], vec![3, 3, 1]] {
        let home = a_home().await;
        let b = home.house.process(Script::new()).await;
        let root = an_admin(&home.a, &home.house).await;
        let ben = home.a.sign_in(&home.house.account("Ben").await).await;
        let actor = b.actor(&ben).await;
        home.a.store.set_pace(pace.clone());
        b.store.set_pace(pace.iter().rev().copied().collect());
        let new = private_chat_core::usecase::workspaces::NewWorkspace { name: "His".into(), description: None };
        let (made, deleted) =
            join(b.cases.workspaces.create(&actor, new, None), home.a.delete_user(&root, ben.user.id, None)).await;
        let is_there = stored(&home, ben.user.id).await.is_some();
        match (&made, &deleted) {
            (Ok(joined), Err(Error::Conflict(Obstacle::SoleOwner(_)))) => {
                assert!(is_there);
                assert_eq!(home.a.members(&ben, joined.workspace.id).await.len(), 1);
                home.a.delete_user(&root, ben.user.id, Some(root.user.id)).await.unwrap();
                assert_eq!(home.a.members(&root, joined.workspace.id).await.len(), 1);
            }
            (Err(error), Ok(())) => {
                assert!(!is_there);
                assert!(!matches!(error, Error::Internal(_) | Error::Unavailable { .. }), "{error:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

// The same, in the one moment that matters: their workspaces were read, and are not written yet.
#[tokio::test]
async fn what_somebody_joins_while_they_are_deleted_is_seen() {
    let home = a_home().await;
    let b = home.house.process(Script::new()).await;
    let root = an_admin(&home.a, &home.house).await;
    let ben = home.person("Ben", Role::Member).await;
    let gate = home.a.store.hold("commit", Side::Before);
    let making = async {
        gate.reached().await;
        let made = b.new_workspace(&ben).await;
        gate.open();
        made
    };
    let (deleted, made) = join(home.a.delete_user(&root, ben.user.id, None), making).await;
    assert!(matches!(deleted, Err(Error::Conflict(Obstacle::SoleOwner(_)))), "{deleted:?}");
    assert_eq!(b.members(&ben, made).await, [(ben.user.id, Role::Owner)]);

    // Or goes to their heir.
    let gate = home.a.store.hold("commit", Side::Before);
    let making = async {
        gate.reached().await;
        let made = b.new_workspace(&ben).await;
        gate.open();
        made
    };
    let heir = Some(root.user.id);
    let (deleted, second) = join(home.a.delete_user(&root, ben.user.id, heir), making).await;
    deleted.unwrap();
    for workspace in [made, second] {
        assert_eq!(b.members(&root, workspace).await, [(root.user.id, Role::Owner)]);
    }
}

#[tokio::test]
async fn of_an_account_that_is_gone_nothing_is_found() {
    let home = a_home().await;
    let root = an_admin(&home.a, &home.house).await;
    let ben = home.person("Ben", Role::Member).await;
    let session = home.a.actor(&ben).await.session();
    home.a.delete_user(&root, ben.user.id, None).await.unwrap();
    let store = &home.house.store;
    assert_eq!(store.session(session).await.unwrap(), None);
    assert_eq!(store.membership(home.workspace, ben.user.id).await.unwrap(), None);
    assert_eq!(store.participant(home.workspace, ben.user.id).await.unwrap(), None);
    let email = Email::parse("email", ben.user.email.as_str()).unwrap();
    assert_eq!(store.user_by_email(&email).await.unwrap(), None);
    assert_eq!(store.workspaces_of(ben.user.id, PageRequest::default()).await.unwrap().items, []);
    let invited = home.a.invite(&home.ann, home.workspace, ben.user.email.as_str(), Role::Guest).await;
    invited.unwrap();
}

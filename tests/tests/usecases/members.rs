//! Members, their roles, and what the others are told of them.

use futures_util::future::{join, join_all};
use private_chat_adapters::memory::Script;
use private_chat_core::error::{Error, Forbidden, Kind, Obstacle};
use private_chat_core::id::UserId;
use private_chat_core::model::workspace::Role;
use private_chat_core::policy::Right;
use private_chat_core::port::store::WorkspaceRepository as _;
use private_chat_core::usecase::invitations::Which;
use private_chat_tests::fixture;

use super::house::{Home, Process, SECOND, an_admin, settle};
use super::screen::{Screen, Viewer};

async fn a_home() -> Home {
    Home::of(Script::new().content("Hello.").finish("stop")).await
}

async fn another_process(home: &Home) -> Process {
    home.house.process(Script::new().content("Hello.").finish("stop")).await
}

fn is_last_owner<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Conflict(Obstacle::LastOwner)))
}

#[tokio::test]
async fn who_comes_rises_and_goes_is_told_on_the_workspaces_feed_in_order() {
    let home = a_home().await;
    let b = another_process(&home).await;
    let (ben, cleo) = (home.house.account("Ben").await, home.house.account("Cleo").await);
    let (ben, cleo) = (home.a.sign_in(&ben).await, b.sign_in(&cleo).await);
    let feeds = [home.a.view(&home.ann, home.workspace).await, b.view(&home.ann, home.workspace).await];
    let chats = [
        Viewer::of(home.a.watch_chat(&home.ann, &home.chat, None).await.unwrap()),
        Viewer::of(b.watch_chat(&home.ann, &home.chat, None).await.unwrap()),
    ];
    // Half of it here and half of it there.
    for (process, person) in [(&home.a, &ben), (&b, &cleo)] {
        let (invited, _) =
            process.invite(&home.ann, home.workspace, person.user.email.as_str(), Role::Guest).await.unwrap();
        process.accept(person, &Which::Id(invited.invitation.id)).await.unwrap();
        home.pass(SECOND).await;
    }
    let mut own = b.view(&ben, home.workspace).await;
    b.give_role(&home.ann, home.workspace, ben.user.id, Role::Owner).await.unwrap();
    home.pass(SECOND).await;
    for feed in &feeds {
        assert_eq!(feed.screen().members[&ben.user.id].membership.role, Role::Owner);
        assert_eq!(feed.screen().members[&cleo.user.id].name, "Cleo");
    }
    home.a.remove(&home.ann, home.workspace, ben.user.id).await.unwrap();
    b.remove(&cleo, home.workspace, cleo.user.id).await.unwrap();
    home.pass(4 * SECOND).await;
    for feed in &feeds {
        assert_eq!(feed.seen(), ["open", "joined", "joined", "role", "left", "left"]);
        assert_eq!(feed.screen().cursor, Some(6), "a chat, and these five");
        assert!(feed.screen().members.is_empty());
    }
    for chat in &chats {
        assert_eq!(chat.seen(), ["open"]);
    }
    assert!(own.ended());
    assert_eq!(own.seen()[..2], ["open", "role"]);
}

// The state of now is replayed, and what is gone is skipped: yet the cursor goes over it.
#[tokio::test]
async fn members_are_replayed_after_a_gap_on_either_process() {
    let home = a_home().await;
    let b = another_process(&home).await;
    let ben = home.house.account("Ben").await;
    let cleo = home.house.account("Cleo").await;
    let mut watch = home.a.watch(&home.ann, home.workspace, Some(0)).await.unwrap();
    let mut screen = Screen::default();
    while screen.chats.is_empty() {
        screen.apply(&watch.next().await.unwrap());
    }
    drop(watch);
    let before = screen.cursor;
    for user in [&ben, &cleo] {
        let person = home.a.sign_in(user).await;
        let (invited, _) = home.a.invite(&home.ann, home.workspace, user.email.as_str(), Role::Guest).await.unwrap();
        home.a.accept(&person, &Which::Id(invited.invitation.id)).await.unwrap();
    }
    home.a.give_role(&home.ann, home.workspace, ben.id, Role::Member).await.unwrap();
    home.a.remove(&home.ann, home.workspace, cleo.id).await.unwrap();
    for process in [&home.a, &b] {
        let watch = process.watch(&home.ann, home.workspace, before).await.unwrap();
        let viewer = Viewer::going_on(screen.clone(), watch);
        home.pass(SECOND).await;
        assert_eq!(viewer.seen()[screen.seen.len()..], ["joined", "role", "left"], "no word of whom it never saw come");
        assert_eq!(viewer.screen().members.keys().collect::<Vec<_>>(), [&ben.id]);
        assert_eq!(viewer.screen().members[&ben.id].membership.role, Role::Member);
        assert_eq!(viewer.screen().cursor, Some(5));
    }
}

// A role that one has already is no news.
#[tokio::test]
async fn the_same_role_again_is_no_event() {
    let home = a_home().await;
    let ben = home.person("Ben", Role::Member).await;
    let feed = home.a.view(&home.ann, home.workspace).await;
    let first = home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Guest).await.unwrap();
    let again = home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Guest).await.unwrap();
    assert_eq!(again, first);
    home.pass(SECOND).await;
    assert_eq!(feed.seen(), ["open", "role"]);
}

// R40, R46
#[tokio::test]
async fn roles_and_removals_are_for_owners_and_leaving_is_for_everybody() {
    let home = a_home().await;
    let ben = home.person("Ben", Role::Member).await;
    let gil = home.person("Gil", Role::Guest).await;
    let sid = home.a.sign_in(&home.house.account("Sid").await).await;
    for person in [&ben, &gil] {
        for user in [home.ann.user.id, ben.user.id, gil.user.id] {
            let answer = home.a.give_role(person, home.workspace, user, Role::Owner).await;
            assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
            if user != person.user.id {
                let answer = home.a.remove(person, home.workspace, user).await;
                assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
            }
        }
    }
    for user in [home.ann.user.id, sid.user.id] {
        let answer = home.a.remove(&sid, home.workspace, user).await;
        assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}");
    }
    // R42: a user who is no member and one who is nobody are the same.
    let nobody: UserId = fixture::new_id();
    let [one, two] = [sid.user.id, nobody].map(|user| home.a.give_role(&home.ann, home.workspace, user, Role::Guest));
    let (one, two) = (one.await.unwrap_err(), two.await.unwrap_err());
    assert!(matches!(one, Error::NotFound(Kind::Member)), "{one:?}");
    assert_eq!(format!("{one:?} {one}"), format!("{two:?} {two}"));
    let [one, two] = [sid.user.id, nobody].map(|user| home.a.remove(&home.ann, home.workspace, user));
    let (one, two) = (one.await.unwrap_err(), two.await.unwrap_err());
    assert!(matches!(one, Error::NotFound(Kind::Member)), "{one:?}");
    assert_eq!(format!("{one:?} {one}"), format!("{two:?} {two}"));
    for person in [&ben, &gil] {
        home.a.remove(person, home.workspace, person.user.id).await.unwrap();
    }
    assert_eq!(home.a.members(&home.ann, home.workspace).await, [(home.ann.user.id, Role::Owner)]);
}

// R26: who lost the right between the look and the commit changes nobody.
#[tokio::test]
async fn an_owner_who_is_none_any_more_changes_nobody() {
    let home = a_home().await;
    let (ben, cleo) = (home.person("Ben", Role::Owner).await, home.person("Cleo", Role::Member).await);
    let stale = home.a.member(&ben, home.workspace, Right::RemoveMembers).await.unwrap();
    let members = &home.a.cases.members;
    home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Member).await.unwrap();
    for answer in [
        members.change_role(&stale, cleo.user.id, Role::Owner).await.map(|_| ()),
        members.change_role(&stale, ben.user.id, Role::Owner).await.map(|_| ()),
        members.remove(&stale, cleo.user.id).await,
    ] {
        assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
    }
    home.a.remove(&home.ann, home.workspace, ben.user.id).await.unwrap();
    for answer in [
        members.change_role(&stale, cleo.user.id, Role::Owner).await.map(|_| ()),
        members.remove(&stale, cleo.user.id).await,
    ] {
        assert!(matches!(answer, Err(Error::NotFound(Kind::Workspace))), "{answer:?}");
    }
    let listed = home.a.members(&home.ann, home.workspace).await;
    assert_eq!(listed.last(), Some(&(cleo.user.id, Role::Member)));
}

// R48
#[tokio::test]
async fn the_last_owner_stays_one() {
    let home = a_home().await;
    let ben = home.person("Ben", Role::Member).await;
    let ann = home.ann.user.id;
    assert!(is_last_owner(&home.a.remove(&home.ann, home.workspace, ann).await));
    for role in [Role::Guest, Role::Member] {
        assert!(is_last_owner(&home.a.give_role(&home.ann, home.workspace, ann, role).await));
    }
    home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Owner).await.unwrap();
    home.a.give_role(&ben, home.workspace, ann, Role::Guest).await.unwrap();
    assert!(is_last_owner(&home.a.remove(&ben, home.workspace, ben.user.id).await));
    home.a.remove(&ben, home.workspace, ann).await.unwrap();
    assert_eq!(home.a.members(&ben, home.workspace).await, [(ben.user.id, Role::Owner)]);
}

/// One of the ways in which a workspace loses an owner.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Leaves,
    IsRemoved,
    IsDemoted,
    IsDeleted,
}

// R48, F48
#[tokio::test]
async fn of_two_owners_who_go_at_once_one_stays() {
    use Loss::{IsDeleted, IsDemoted, IsRemoved, Leaves};
    let losses = [Leaves, IsRemoved, IsDemoted, IsDeleted];
    let pairs = losses.into_iter().flat_map(|one| losses.map(|two| (one, two)));
    for (round, (one, two)) in pairs.cycle().take(112).enumerate() {
        let home = a_home().await;
        let b = another_process(&home).await;
        let root = an_admin(&home.a, &home.house).await;
        let ben = home.person("Ben", Role::Owner).await;
        let lose = async |process: &Process, loss, who: UserId, other| match loss {
            Leaves => process.remove(if who == ben.user.id { &ben } else { &home.ann }, home.workspace, who).await,
            IsRemoved => process.remove(other, home.workspace, who).await,
            IsDemoted => process.give_role(other, home.workspace, who, Role::Member).await.map(|_| ()),
            IsDeleted => process.delete_user(&root, who, None).await,
        };
        // Every other round both have looked before either writes.
        home.a.store.set_pace(vec![round % 3, 1 + round / 16]);
        b.store.set_pace(vec![1 + round / 16, round % 5]);
        let answers = join(lose(&home.a, one, home.ann.user.id, &ben), lose(&b, two, ben.user.id, &home.ann)).await;
        let answers = [answers.0, answers.1];
        let done = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(done, 1, "{round}: {one:?} and {two:?}: {answers:?}");
        for answer in &answers {
            let known = matches!(
                answer,
                Ok(())
                    | Err(Error::Conflict(Obstacle::LastOwner | Obstacle::SoleOwner(_))
                        | Error::Forbidden(Forbidden::Role)
                        | Error::NotFound(Kind::Workspace)
                        | Error::Unauthenticated(_))
            );
            assert!(known, "{round}: {one:?} and {two:?}: {answers:?}");
        }
        let left = if answers[0].is_ok() { &ben } else { &home.ann };
        let owners = home.a.members(left, home.workspace).await;
        assert_eq!(owners.iter().filter(|(_, role)| *role == Role::Owner).count(), 1, "{round}: {owners:?}");
        assert!(owners.contains(&(left.user.id, Role::Owner)));
    }
}

// Not the workspace, but the two who are concerned: nobody else is held up.
#[tokio::test]
async fn members_who_leave_at_once_all_do() {
    let home = a_home().await;
    let mut people = Vec::new();
    for n in 0..10 {
        people.push(home.person("Ben", if n % 2 == 0 { Role::Guest } else { Role::Member }).await);
    }
    home.a.store.set_pace(vec![2, 3]);
    let leaving = people.iter().map(|person| home.a.remove(person, home.workspace, person.user.id));
    for answer in join_all(leaving).await {
        answer.unwrap();
    }
    assert_eq!(home.a.members(&home.ann, home.workspace).await, [(home.ann.user.id, Role::Owner)]);
    settle().await;
    assert!(home.house.store.membership(home.workspace, people[0].user.id).await.unwrap().is_none());
}

//! How people come into a workspace, and what of it stands when they go.

use std::time::Duration;

use futures_util::future::{join, join_all};
use private_chat_adapters::memory::Script;
use private_chat_core::error::{Error, Forbidden, Kind, Obstacle, Unauthenticated};
use private_chat_core::id::InvitationId;
use private_chat_core::model::invitation::{InvitationToken, Invited, LIFETIME};
use private_chat_core::model::session::Device;
use private_chat_core::model::user::{Email, GlobalRole};
use private_chat_core::model::workspace::Role;
use private_chat_core::page::PageRequest;
use private_chat_core::policy::Right;
use private_chat_core::port::store::{UserRepository as _, WorkspaceRepository as _};
use private_chat_core::usecase::auth::SignedIn;
use private_chat_core::usecase::invitations::{Registration, Which};
use private_chat_core::usecase::users::UserChange;
use private_chat_tests::fixture;

use super::house::{Home, PASSWORD, Person, Process, SECOND, an_admin, settle};
use super::screen::Viewer;
use super::troubled::Side;

const MICROSECOND: Duration = Duration::from_micros(1);

async fn a_home() -> Home {
    Home::of(Script::new().content("Hello.").finish("stop")).await
}

fn by_token(token: &InvitationToken) -> Which {
    Which::Token(token.expose().to_owned())
}

fn is_no_invitation<T: std::fmt::Debug>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::NotFound(Kind::Invitation)))
}

fn is_no_workspace<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::NotFound(Kind::Workspace)))
}

/// A person with an account who belongs nowhere.
async fn somebody(home: &Home, name: &str) -> Person {
    home.a.sign_in(&home.house.account(name).await).await
}

async fn invite(home: &Home, email: &str, role: Role) -> (Invited, InvitationToken) {
    home.a.invite(&home.ann, home.workspace, email, role).await.unwrap()
}

/// Those addressed to somebody, as they see them.
async fn addressed_to(process: &Process, person: &Person) -> Vec<Invited> {
    let actor = process.actor(person).await;
    process.cases.invitations.addressed_to(&actor, PageRequest::default()).await.unwrap().items
}

/// Those into the workspace, as its owner sees them.
async fn into(home: &Home) -> Vec<Invited> {
    let member = home.a.member(&home.ann, home.workspace, Right::Invite).await.unwrap();
    home.a.cases.invitations.list(&member, PageRequest::default()).await.unwrap().items
}

async fn register(process: &Process, token: &str, name: &str) -> Result<SignedIn, Error> {
    let new = Registration { token: token.into(), name: name.into(), password: PASSWORD.into() };
    process.cases.invitations.register(new, Device::default()).await
}

async fn has_account(home: &Home, email: &str) -> bool {
    let email = Email::parse("email", email).unwrap();
    home.house.store.user_by_email(&email).await.unwrap().is_some()
}

// R26, R27, R47, R50
#[tokio::test]
async fn somebody_comes_works_goes_and_comes_back_and_nothing_of_before_revives() {
    let home = a_home().await;
    let b = home.house.process(Script::new().content("Hello.").finish("stop")).await;
    let ben = somebody(&home, "Ben").await;
    let ids = [home.ann.user.id, ben.user.id];

    let (invited, first) = invite(&home, ben.user.email.as_str(), Role::Member).await;
    assert!(is_no_workspace(&home.a.watch(&ben, home.workspace, None).await), "an invitation alone gives nothing");
    let found = addressed_to(&b, &ben).await;
    assert_eq!(found, std::slice::from_ref(&invited));
    assert_eq!((found[0].workspace_name.as_str(), found[0].invitation.invited_by.id), ("Research", ids[0]));
    let joined = b.accept(&ben, &Which::Id(found[0].invitation.id)).await.unwrap();
    assert_eq!((joined.membership.role, joined.member_count), (Role::Member, 2));
    assert_eq!(addressed_to(&home.a, &ben).await, []);
    assert_eq!(home.a.members(&home.ann, home.workspace).await, [(ids[0], Role::Owner), (ids[1], Role::Member)]);

    let mut stream = b.view(&ben, home.workspace).await;
    assert_eq!(home.a.ask(&ben, &home.chat, "Hi").await.content, "Hello.");
    let written = home.house.messages(home.chat.id).await.len();
    home.a.give_role(&home.ann, home.workspace, ids[1], Role::Guest).await.unwrap();
    let mute = home.a.send(&ben, &home.chat, "Still here").await.map(|_| ());
    assert!(matches!(mute, Err(Error::Forbidden(Forbidden::Role))), "{mute:?}");
    home.pass(4 * SECOND).await;
    assert!(!stream.ended(), "a guest goes on reading");
    assert_eq!(stream.seen()[..3], ["open", "created user", "created assistant"]);

    b.remove(&ben, home.workspace, ids[1]).await.unwrap();
    assert!(is_no_workspace(&home.a.send(&ben, &home.chat, "Gone").await));
    home.pass(4 * SECOND).await;
    assert!(stream.ended());
    let before = stream.seen();

    // They come back, as an owner this time, and invite others.
    let (_, second) = invite(&home, ben.user.email.as_str(), Role::Owner).await;
    assert!(is_no_invitation(&home.a.accept(&ben, &by_token(&first)).await), "it was spent");
    home.a.accept(&ben, &by_token(&second)).await.unwrap();
    let (_, of_ben) = home.a.invite(&ben, home.workspace, "cleo@example.com", Role::Guest).await.unwrap();
    let asked = b.send_watched(&ben, &home.chat, "Back").await;
    asked.end.wait().await.unwrap();
    home.a.remove(&home.ann, home.workspace, ids[1]).await.unwrap();
    let mut asked = Viewer::of_reply(asked.watch.unwrap());
    let mut other = Viewer::of(b.watch(&home.ann, home.workspace, None).await.unwrap());
    home.pass(4 * SECOND).await;
    assert!(asked.ended());

    // And once more: under a new invitation, and with nothing else of what they had.
    let (_, third) = invite(&home, ben.user.email.as_str(), Role::Member).await;
    b.accept(&ben, &by_token(&third)).await.unwrap();
    home.pass(4 * SECOND).await;
    assert!(stream.ended());
    assert_eq!(stream.seen(), before, "what was over stays over");
    assert!(!other.ended());
    for token in [&first, &second, &third] {
        assert!(is_no_invitation(&home.a.accept(&ben, &by_token(token)).await));
    }
    let cleo = register(&b, of_ben.expose(), "Cleo").await;
    assert!(matches!(cleo, Err(Error::Unauthenticated(Unauthenticated::InvitationToken))), "{cleo:?}");
    assert_eq!(home.a.members(&ben, home.workspace).await, [(ids[0], Role::Owner), (ids[1], Role::Member)]);
    b.ask(&ben, &home.chat, "Here again").await;
    assert_eq!(home.house.messages(home.chat.id).await.len(), written + 4);
}

// R47
#[tokio::test]
async fn a_newcomer_makes_an_account_and_joins_in_one_step() {
    let home = a_home().await;
    let b = home.house.process(Script::new().content("Hello.").finish("stop")).await;
    let mut feed = home.a.view(&home.ann, home.workspace).await;
    let (_, token) = invite(&home, " Cleo@Example.COM ", Role::Guest).await;
    match register(&b, token.expose(), " ").await {
        Err(Error::Invalid(violations)) => assert_eq!(violations[0].field, "name"),
        other => panic!("{other:?}"),
    }
    let cleo: Person = register(&b, token.expose(), "Cleo").await.unwrap().into();
    assert_eq!((cleo.user.email.as_str(), cleo.user.role), ("cleo@example.com", GlobalRole::User));
    assert!(!cleo.user.must_change_password);
    assert!(home.a.members(&cleo, home.workspace).await.contains(&(cleo.user.id, Role::Guest)));
    let again = home.a.cases.auth.login("cleo@example.com", PASSWORD.into(), Device::default()).await;
    assert_eq!(again.unwrap().user.id, cleo.user.id);
    home.pass(SECOND).await;
    assert_eq!(feed.seen(), ["open", "joined"]);
    assert!(!feed.ended());
    assert_eq!(feed.screen().members[&cleo.user.id].name, "Cleo");

    let spent = register(&home.a, token.expose(), "Cleo").await;
    assert!(matches!(spent, Err(Error::Unauthenticated(Unauthenticated::InvitationToken))), "{spent:?}");
    // Who has an account signs in and accepts; the invitation is still there for that.
    let ben = somebody(&home, "Ben").await;
    let (_, token) = invite(&home, ben.user.email.as_str(), Role::Member).await;
    let taken = register(&home.a, token.expose(), "Ben").await;
    assert!(matches!(taken, Err(Error::Conflict(Obstacle::EmailTaken))), "{taken:?}");
    home.a.accept(&ben, &by_token(&token)).await.unwrap();
    for garbage in ["", "pci_", "pci_AAAA", &token.expose()[1..], &cleo.refresh, &cleo.access] {
        let answer = register(&home.a, garbage, "Dee").await;
        assert!(matches!(answer, Err(Error::Unauthenticated(Unauthenticated::InvitationToken))), "{answer:?}");
    }
}

// R47: single use, also when raced on two instances.
#[tokio::test]
async fn of_many_who_use_one_invitation_at_once_one_does() {
    for pace in [vec![1], vec![2, 5], vec![4, 1, 3]] {
        let home = a_home().await;
        let b = home.house.process(Script::new().content("Hello.").finish("stop")).await;
        let root = an_admin(&home.a, &home.house).await;
        let ben = somebody(&home, "Ben").await;
        let (_, for_ben) = invite(&home, ben.user.email.as_str(), Role::Member).await;
        let (_, for_cleo) = invite(&home, "cleo@example.com", Role::Member).await;
        home.a.store.set_pace(pace.clone());
        b.store.set_pace(pace.iter().rev().copied().collect());
        let at = |n: usize| if n.is_multiple_of(2) { &home.a } else { &b };
        let which = by_token(&for_ben);
        let accepting = join_all((0..20).map(|n| at(n).accept(&ben, &which)));
        let registering = join_all((0..20).map(|n| register(at(n), for_cleo.expose(), "Cleo")));
        let (accepted, registered) = join(accepting, registering).await;
        assert_eq!(accepted.iter().filter(|answer| answer.is_ok()).count(), 1);
        for answer in accepted {
            let known = matches!(
                answer,
                Ok(_) | Err(Error::NotFound(Kind::Invitation) | Error::Conflict(Obstacle::AlreadyMember))
            );
            assert!(known, "{answer:?}");
        }
        let mut newcomers = registered.iter().filter_map(|answer| answer.as_ref().ok());
        let cleo = newcomers.next().unwrap().user.id;
        assert!(newcomers.next().is_none());
        for answer in &registered {
            let known = matches!(
                answer,
                Ok(_)
                    | Err(Error::Unauthenticated(Unauthenticated::InvitationToken)
                        | Error::Conflict(Obstacle::EmailTaken))
            );
            assert!(known, "{answer:?}");
        }
        assert_eq!(home.a.members(&home.ann, home.workspace).await.len(), 3);
        // Counted once on the user's side, too: else the account could not go.
        for user in [ben.user.id, cleo] {
            home.a.delete_user(&root, user, None).await.unwrap();
        }
    }
}

#[tokio::test]
async fn who_is_invited_again_has_the_later_invitation_alone() {
    let home = a_home().await;
    let ben = somebody(&home, "Ben").await;
    let (_, earlier) = invite(&home, ben.user.email.as_str(), Role::Owner).await;
    let (later, token) = invite(&home, &ben.user.email.as_str().to_uppercase(), Role::Guest).await;
    assert_eq!(into(&home).await, std::slice::from_ref(&later));
    assert_eq!(addressed_to(&home.a, &ben).await, [later]);
    assert!(is_no_invitation(&home.a.accept(&ben, &by_token(&earlier)).await));
    assert_eq!(home.a.accept(&ben, &by_token(&token)).await.unwrap().membership.role, Role::Guest);
    let member = home.a.invite(&home.ann, home.workspace, ben.user.email.as_str(), Role::Owner).await;
    assert!(matches!(member, Err(Error::Conflict(Obstacle::AlreadyMember))), "{member:?}");

    // Also when two do it at once: one invitation stands in the end.
    home.a.store.set_pace(vec![2, 3]);
    let owner = home.a.member(&home.ann, home.workspace, Right::Invite).await.unwrap();
    let inviting = |_| home.a.cases.invitations.invite(&owner, "cleo@example.com", Role::Member, None);
    let answers = join_all((0..4).map(inviting)).await;
    let tokens: Vec<_> = answers.iter().filter_map(|answer| Some(answer.as_ref().ok()?.1.clone())).collect();
    for answer in &answers {
        assert!(matches!(answer, Ok(_) | Err(Error::Conflict(Obstacle::Concurrent))), "{answer:?}");
    }
    let standing = into(&home).await;
    assert_eq!(standing.len(), 1);
    let mut working = 0;
    for token in &tokens {
        working += usize::from(register(&home.a, token.expose(), "Cleo").await.is_ok());
    }
    assert_eq!(working, 1);
}

// Whenever they accept: who is a member is not invited.
#[tokio::test]
async fn who_accepts_while_they_are_invited_again_is_a_member_and_no_more() {
    for name in ["invitation_to", "user_by_email", "commit"] {
        for side in [Side::Before, Side::After] {
            let home = a_home().await;
            let b = home.house.process(Script::new()).await;
            let ben = somebody(&home, "Ben").await;
            let (_, token) = invite(&home, ben.user.email.as_str(), Role::Guest).await;
            let gate = home.a.store.hold(name, side);
            let accepting = async {
                gate.reached().await;
                let accepted = b.accept(&ben, &by_token(&token)).await;
                gate.open();
                accepted
            };
            let inviting = home.a.invite(&home.ann, home.workspace, ben.user.email.as_str(), Role::Owner);
            let (again, accepted) = join(inviting, accepting).await;
            if (name, side) == ("commit", Side::After) {
                assert!(again.is_ok() && is_no_invitation(&accepted), "{again:?} {accepted:?}");
                continue;
            }
            assert_eq!(accepted.unwrap().membership.role, Role::Guest, "{name} {side:?}");
            let member = matches!(again, Err(Error::Conflict(Obstacle::AlreadyMember)));
            assert!(member, "{name} {side:?}: {again:?}");
            assert_eq!(into(&home).await, []);
        }
    }
}

// R47
#[tokio::test]
async fn whoever_is_removed_takes_the_invitations_of_theirs_and_to_them_along() {
    let home = a_home().await;
    let root = an_admin(&home.a, &home.house).await;
    let (ben, dee) = (home.person("Ben", Role::Owner).await, home.person("Dee", Role::Owner).await);
    let cleo = somebody(&home, "Cleo").await;
    let (_, of_ben) = home.a.invite(&ben, home.workspace, cleo.user.email.as_str(), Role::Member).await.unwrap();
    let (_, of_dee) = home.a.invite(&dee, home.workspace, "eve@example.com", Role::Member).await.unwrap();
    let (_, of_ann) = invite(&home, "fay@example.com", Role::Member).await;
    assert_eq!(into(&home).await.len(), 3);
    home.a.remove(&home.ann, home.workspace, ben.user.id).await.unwrap();
    assert!(is_no_invitation(&home.a.accept(&cleo, &by_token(&of_ben)).await));
    home.a.delete_user(&root, dee.user.id, None).await.unwrap();
    let void = register(&home.a, of_dee.expose(), "Eve").await;
    assert!(matches!(void, Err(Error::Unauthenticated(Unauthenticated::InvitationToken))), "{void:?}");
    assert!(!has_account(&home, "eve@example.com").await);
    assert_eq!(into(&home).await.len(), 1);
    // Leaving is no other thing, and one's own are the others' no business.
    let gus = home.person("Gus", Role::Owner).await;
    home.a.invite(&gus, home.workspace, cleo.user.email.as_str(), Role::Member).await.unwrap();
    home.a.remove(&gus, home.workspace, gus.user.id).await.unwrap();
    assert_eq!(addressed_to(&home.a, &cleo).await, []);
    register(&home.a, of_ann.expose(), "Fay").await.unwrap();
}

// R46: nobody grants what they lost.
#[tokio::test]
async fn the_invitations_of_an_owner_who_is_none_any_more_let_nobody_in() {
    let home = a_home().await;
    let (ben, cleo) = (home.person("Ben", Role::Owner).await, somebody(&home, "Cleo").await);
    let (_, token) = home.a.invite(&ben, home.workspace, cleo.user.email.as_str(), Role::Owner).await.unwrap();
    let (_, for_dee) = home.a.invite(&ben, home.workspace, "dee@example.com", Role::Guest).await.unwrap();
    home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Member).await.unwrap();
    assert!(is_no_invitation(&home.a.accept(&cleo, &by_token(&token)).await));
    let void = register(&home.a, for_dee.expose(), "Dee").await;
    assert!(matches!(void, Err(Error::Unauthenticated(Unauthenticated::InvitationToken))), "{void:?}");
    assert!(!has_account(&home, "dee@example.com").await);
    // Also where they are demoted between the look and the commit.
    home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Owner).await.unwrap();
    let b = home.house.process(Script::new()).await;
    let gate = b.store.hold("commit", Side::Before);
    let which = by_token(&token);
    let demoting = async {
        gate.reached().await;
        home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Guest).await.unwrap();
        gate.open();
    };
    let (answer, ()) = join(b.accept(&cleo, &which), demoting).await;
    assert!(is_no_invitation(&answer), "{answer:?}");
}

// R47: somebody who moves to an invited address while they are a member has it voided when they go.
#[tokio::test]
async fn an_invitation_to_a_members_address_goes_with_them() {
    let home = a_home().await;
    let root = an_admin(&home.a, &home.house).await;
    let ben = home.person("Ben", Role::Member).await;
    let (_, token) = invite(&home, "ben@elsewhere.example", Role::Owner).await;
    let moved = UserChange { email: Some("ben@elsewhere.example".into()), ..UserChange::default() };
    home.a.change_user(&root, ben.user.id, moved).await.unwrap();
    let member = home.a.accept(&ben, &by_token(&token)).await;
    assert!(matches!(member, Err(Error::Conflict(Obstacle::AlreadyMember))), "{member:?}");
    home.a.remove(&home.ann, home.workspace, ben.user.id).await.unwrap();
    assert!(is_no_invitation(&home.a.accept(&ben, &by_token(&token)).await), "no way back by an old invitation");
}

#[tokio::test]
async fn an_invitation_that_is_declined_or_taken_back_is_spent() {
    let home = a_home().await;
    let ben = somebody(&home, "Ben").await;
    let elsewhere = home.a.new_workspace(&home.ann).await;
    let (declined, token) = invite(&home, ben.user.email.as_str(), Role::Member).await;
    home.a.decline(&ben, &by_token(&token)).await.unwrap();
    for which in [by_token(&token), Which::Id(declined.invitation.id)] {
        assert!(is_no_invitation(&home.a.accept(&ben, &which).await));
        assert!(is_no_invitation(&home.a.decline(&ben, &which).await));
    }
    assert_eq!(into(&home).await, []);

    let (revoked, token) = invite(&home, ben.user.email.as_str(), Role::Member).await;
    let revoke = |workspace| {
        let (home, id) = (&home, revoked.invitation.id);
        async move {
            let member = home.a.member(&home.ann, workspace, Right::Invite).await.unwrap();
            home.a.cases.invitations.revoke(&member, id).await
        }
    };
    // R41
    assert!(is_no_invitation(&revoke(elsewhere).await), "it is none of that workspace");
    revoke(home.workspace).await.unwrap();
    assert!(is_no_invitation(&revoke(home.workspace).await));
    assert!(is_no_invitation(&home.a.accept(&ben, &by_token(&token)).await));
}

// Taken back, declined and accepted at once: one of them happens.
#[tokio::test]
async fn an_invitation_comes_to_one_end() {
    for pace in [vec![1], vec![1, 3], vec![5, 1, 2], vec![2, 2, 7]] {
        let home = a_home().await;
        let b = home.house.process(Script::new()).await;
        let ben = somebody(&home, "Ben").await;
        let (invited, token) = invite(&home, ben.user.email.as_str(), Role::Member).await;
        let owner = home.a.member(&home.ann, home.workspace, Right::Invite).await.unwrap();
        home.a.store.set_pace(pace.clone());
        b.store.set_pace(pace.iter().rev().copied().collect());
        let which = by_token(&token);
        let revoking = home.a.cases.invitations.revoke(&owner, invited.invitation.id);
        let (accepted, (declined, revoked)) =
            join(b.accept(&ben, &which), join(home.a.decline(&ben, &which), revoking)).await;
        let done = [accepted.is_ok(), declined.is_ok(), revoked.is_ok()];
        assert_eq!(done.iter().filter(|done| **done).count(), 1, "{done:?}");
        let others = [accepted.map(|_| ()), declined, revoked];
        assert!(others.iter().all(|answer| answer.is_ok() || is_no_invitation(answer)), "{others:?}");
        let belongs = home.house.store.membership(home.workspace, ben.user.id).await.unwrap().is_some();
        assert_eq!(belongs, done[0]);
    }
}

// R42, R47
#[tokio::test]
async fn for_anybody_else_an_invitation_does_not_exist() {
    let home = a_home().await;
    let root = an_admin(&home.a, &home.house).await;
    let (ben, sid) = (somebody(&home, "Ben").await, somebody(&home, "Sid").await);
    let guest = home.person("Gil", Role::Guest).await;
    let (invited, token) = invite(&home, ben.user.email.as_str(), Role::Member).await;
    let nothing: InvitationId = fixture::new_id();
    for person in [&sid, &guest, &root, &home.ann] {
        let none = home.a.accept(person, &Which::Id(nothing)).await.unwrap_err();
        for which in [by_token(&token), Which::Id(invited.invitation.id), Which::Token("pci_AAAA".into())] {
            for error in
                [home.a.accept(person, &which).await.unwrap_err(), home.a.decline(person, &which).await.unwrap_err()]
            {
                assert_eq!(format!("{error:?} {error}"), format!("{none:?} {none}"));
            }
        }
        assert_eq!(addressed_to(&home.a, person).await, []);
    }
    home.a.accept(&ben, &by_token(&token)).await.unwrap();
}

// R46
#[tokio::test]
async fn inviting_is_for_owners() {
    let home = a_home().await;
    let sid = somebody(&home, "Sid").await;
    for role in [Role::Guest, Role::Member] {
        let person = home.person("Gil", role).await;
        let answer = home.a.invite(&person, home.workspace, "x@example.com", Role::Guest).await;
        assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
    }
    assert!(is_no_workspace(&home.a.invite(&sid, home.workspace, "x@example.com", Role::Guest).await));
    let bad = home.a.invite(&home.ann, home.workspace, "no address", Role::Guest).await;
    assert!(matches!(bad, Err(Error::Invalid(_))), "{bad:?}");

    // The right is held until the commit, not only when they came in.
    let ben = home.person("Ben", Role::Owner).await;
    let stale = home.a.member(&ben, home.workspace, Right::Invite).await.unwrap();
    let (invited, _) = invite(&home, "y@example.com", Role::Guest).await;
    let invitations = &home.a.cases.invitations;
    home.a.give_role(&home.ann, home.workspace, ben.user.id, Role::Member).await.unwrap();
    let answer = invitations.invite(&stale, "x@example.com", Role::Owner, None).await;
    assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
    let answer = invitations.revoke(&stale, invited.invitation.id).await;
    assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
    home.a.remove(&home.ann, home.workspace, ben.user.id).await.unwrap();
    assert!(is_no_workspace(&invitations.invite(&stale, "x@example.com", Role::Owner, None).await));
    assert!(is_no_workspace(&invitations.revoke(&stale, invited.invitation.id).await));
    assert_eq!(into(&home).await, [invited]);
}

// The address is theirs who has it now, whatever it was when they came in.
#[tokio::test]
async fn an_invitation_follows_the_address_and_not_the_person() {
    let home = a_home().await;
    let root = an_admin(&home.a, &home.house).await;
    let (ben, cleo) = (somebody(&home, "Ben").await, somebody(&home, "Cleo").await);
    let address = ben.user.email.as_str().to_owned();
    let (invited, token) = invite(&home, &address, Role::Member).await;
    let stale = home.a.actor(&ben).await;
    let moved = |email: &str| UserChange { email: Some(email.to_owned()), ..UserChange::default() };
    home.a.change_user(&root, ben.user.id, moved("ben@elsewhere.example")).await.unwrap();
    for which in [by_token(&token), Which::Id(invited.invitation.id)] {
        assert!(is_no_invitation(&home.a.cases.invitations.accept(&stale, &which).await));
        assert!(is_no_invitation(&home.a.accept(&ben, &which).await));
    }
    assert_eq!(addressed_to(&home.a, &ben).await, []);
    home.a.change_user(&root, cleo.user.id, moved(&address)).await.unwrap();
    assert_eq!(addressed_to(&home.a, &cleo).await, [invited]);
    home.a.accept(&cleo, &by_token(&token)).await.unwrap();
    assert!(home.house.store.membership(home.workspace, ben.user.id).await.unwrap().is_none());
}

// Moved or signed out between the look and the commit.
#[tokio::test]
async fn who_is_deactivated_while_they_accept_does_not_join() {
    let home = a_home().await;
    let b = home.house.process(Script::new()).await;
    let root = an_admin(&home.a, &home.house).await;
    for change in [
        UserChange { is_active: Some(false), ..UserChange::default() },
        UserChange { email: Some("moved@example.com".into()), ..UserChange::default() },
    ] {
        let ben = somebody(&home, "Ben").await;
        let (_, token) = invite(&home, ben.user.email.as_str(), Role::Member).await;
        let gate = b.store.hold("commit", Side::Before);
        let which = by_token(&token);
        let changing = async {
            gate.reached().await;
            home.a.change_user(&root, ben.user.id, change).await.unwrap();
            gate.open();
        };
        let (answer, ()) = join(b.accept(&ben, &which), changing).await;
        assert!(is_no_invitation(&answer), "{answer:?}");
        assert!(home.house.store.membership(home.workspace, ben.user.id).await.unwrap().is_none());
    }
}

// R47
#[tokio::test]
async fn an_invitation_ends_after_seven_days() {
    let home = a_home().await;
    let user = home.house.account("Ben").await;
    let (_, token) = invite(&home, user.email.as_str(), Role::Member).await;
    let (_, for_cleo) = invite(&home, "cleo@example.com", Role::Member).await;
    home.house.clock.advance(LIFETIME - MICROSECOND);
    let (ann, ben) = (home.a.sign_in(&home.ann.user).await, home.a.sign_in(&user).await);
    assert_eq!(addressed_to(&home.a, &ben).await.len(), 1);
    home.house.clock.advance(MICROSECOND);
    assert_eq!(addressed_to(&home.a, &ben).await, []);
    let owner = home.a.member(&ann, home.workspace, Right::Invite).await.unwrap();
    let listed = home.a.cases.invitations.list(&owner, PageRequest::default()).await.unwrap();
    assert_eq!(listed.items, []);
    assert!(is_no_invitation(&home.a.accept(&ben, &by_token(&token)).await));
    assert!(is_no_invitation(&home.a.decline(&ben, &by_token(&token)).await));
    let late = register(&home.a, for_cleo.expose(), "Cleo").await;
    assert!(matches!(late, Err(Error::Unauthenticated(Unauthenticated::InvitationToken))), "{late:?}");
    assert!(!has_account(&home, "cleo@example.com").await);
    // The one that is over stands in nobody's way.
    let (_, token) = home.a.invite(&ann, home.workspace, user.email.as_str(), Role::Guest).await.unwrap();
    home.house.clock.advance(LIFETIME - MICROSECOND);
    let ben = home.a.sign_in(&user).await;
    home.a.accept(&ben, &by_token(&token)).await.unwrap();
    settle().await;
}

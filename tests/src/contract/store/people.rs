//! Promises of the repositories about people: accounts, sessions, members, invitations.

use std::collections::BTreeSet;
use std::time::Duration;

use private_chat_core::change::{Changes, Counter, Version};
use private_chat_core::id::{InvitationId, UserId};
use private_chat_core::model::idempotency::{Fingerprint, KeyHash, KeyedRequest, Made};
use private_chat_core::model::invitation::{Invitation, Invited};
use private_chat_core::model::session::Session;
use private_chat_core::model::text::folded;
use private_chat_core::model::user::{Author, Email, GlobalRole, User};
use private_chat_core::model::workspace::{Membership, Participant, Role, Workspace};
use private_chat_core::page::{Page, PageRequest};
use private_chat_core::port::Result;
use private_chat_core::port::store::UserFilter;

use super::read::LOOKALIKES;
use super::{Db, attempt, page};
use crate::fixture::{Scene, a_keyed_request, a_session, a_user, a_workspace, an_invitation, joining, new_id, now};

const MICROSECOND: Duration = Duration::from_micros(1);

/// Reads a list to its end in pages of this size; something else happens between one page and the next.
async fn walk<T, K: Copy, R, M>(limit: u64, read: impl Fn(PageRequest<K>) -> R, meanwhile: impl Fn() -> M) -> Vec<T>
where
    R: Future<Output = Result<Page<T, K>>>,
    M: Future<Output = ()>,
{
    let mut walked = Vec::new();
    let mut after = None;
    for _ in 0..200 {
        let got = read(page(after, limit)).await.unwrap();
        let promised = after.is_some();
        assert!(!promised || !got.items.is_empty(), "a page that was promised has something in it");
        let full = got.items.len() as u64 == limit;
        assert!(full || got.next.is_none() && (got.items.len() as u64) < limit, "all pages but the last are full");
        walked.extend(got.items);
        after = got.next;
        if after.is_none() {
            return walked;
        }
        meanwhile().await;
    }
    panic!("pages that lead nowhere");
}

async fn nothing() {}

fn everybody(users: &[User]) -> Changes {
    users.iter().fold(Changes::new(), |changes, user| changes.insert(user.clone()))
}

pub(super) async fn lists_users_newest_first_without_repeats(store: Db) {
    assert_eq!(store.users(UserFilter::default(), page(None, 5)).await.unwrap(), Page { items: vec![], next: None });
    let start = now();
    let mut users: Vec<User> = (0..24)
        .map(|n| User {
            role: if n % 3 == 0 { GlobalRole::Admin } else { GlobalRole::User },
            is_active: n % 4 != 1,
            // By their ids alone: neither this nor the order in which they are stored tells who is newer.
            created_at: start + Duration::from_secs(3 * (24 - n)),
            ..a_user()
        })
        .collect();
    users.swap(0, 20);
    users.swap(3, 11);
    attempt(&store, everybody(&users)).await.unwrap();
    users.sort_by_key(|user| std::cmp::Reverse(user.id));

    let filters = [None, Some(GlobalRole::User), Some(GlobalRole::Admin)]
        .into_iter()
        .flat_map(|role| [None, Some(true), Some(false)].map(|is_active| UserFilter { query: None, role, is_active }));
    for filter in filters {
        let expected: Vec<User> = users
            .iter()
            .filter(|user| filter.role.is_none_or(|role| user.role == role))
            .filter(|user| filter.is_active.is_none_or(|active| user.is_active == active))
            .cloned()
            .collect();
        assert!(expected.len() >= 2, "{filter:?} finds nobody");
        for limit in [1, 2, 3, 24, 100] {
            let walked = walk(limit, |page| store.users(filter.clone(), page), nothing).await;
            assert_eq!(walked, expected, "{filter:?} in pages of {limit}");
        }
    }

    // Others come and go meanwhile, also those of whom a page told.
    let listed = walk(
        5,
        |page| store.users(UserFilter::default(), page),
        || async {
            let newcomer = a_user();
            attempt(&store, Changes::new().insert(newcomer.clone())).await.unwrap();
        },
    )
    .await;
    assert_eq!(listed, users, "what is newer than the first page comes in no later one");
    let first = store.users(UserFilter::default(), page(None, 6)).await.unwrap();
    let last = first.items.last().unwrap().clone();
    assert_eq!(first.next, Some(last.id));
    attempt(&store, Changes::new().delete(last)).await.unwrap();
    let second = store.users(UserFilter::default(), page(first.next, 100)).await.unwrap();
    let known = first.items.iter().filter(|user| users.contains(user)).count();
    assert_eq!(second.items, users[known..], "a page begins where the one before ended, though that one is gone");
}

pub(super) async fn finds_users_by_a_part_of_their_email_or_folded_name_taken_literally(store: Db) {
    // The last name and the last address are the longest there are, once they are folded.
    let longest = "\u{fdfa}".repeat(100);
    let longest_local = "\u{fdfa}".repeat(80);
    let people = [
        ("José Álvarez", "jose.a@example.com"),
        ("Somebody", "josé@example.org"),
        ("jose_b", "j.b@example.com"),
        ("100% Bob", "bob@example.com"),
        ("100 Bob ", "bob2@example.com"),
        (r"back\slash", "back@example.com"),
        ("quote's \"x\" `y` -- ;", "o'hara@example.com"),
        ("Straße", "street@example.com"),
        ("STRASSE", "street2@example.com"),
        ("ﬁle [a-z]* ?", "file@example.com"),
        ("İstanbul", "city@example.com"),
        ("山田太郎 👩‍👩‍👧‍👦", "yamada@example.com"),
        ("under_score", "per%cent@example.com"),
        (longest.as_str(), "long@example.com"),
        ("Longest", &format!("{longest_local}@example.com")),
    ];
    let mut users =
        people.map(|(name, email)| User { name: name.into(), email: Email::stored(email.into()), ..a_user() });
    attempt(&store, everybody(&users)).await.unwrap();
    users.reverse();
    let found = async |query: &str| {
        let filter = UserFilter { query: Some(query.into()), ..UserFilter::default() };
        walk(4, |page| store.users(filter.clone(), page), nothing).await
    };
    let has =
        |user: &User, query: &str| folded(user.email.as_str()).contains(query) || folded(&user.name).contains(query);

    // What is looked for, and how many have it.
    let folded_longest = folded(&longest);
    let queries = [
        ("jose", 3),
        ("alvarez", 1),
        ("%", 2),
        ("100%", 1),
        ("100 bob", 1),
        ("_", 2),
        ("e_b", 1),
        ("j_se", 0),
        ("r_s", 1),
        ("e%o", 0),
        ("\\", 1),
        ("\\s", 1),
        ("\\%", 0),
        ("'", 1),
        ("''", 0),
        ("\"x\"", 1),
        ("`y` -- ;", 1),
        ("[a-z]", 1),
        ("*", 1),
        ("?", 1),
        ("bob ", 1),
        (" bob", 2),
        ("strasse", 1),
        ("straße", 1),
        ("file", 1),
        ("istanbul", 1),
        ("山田", 1),
        ("👩\u{200d}👧", 1),
        ("@example.org", 1),
        ("com", 14),
        // The address and the name are two things, whichever comes first.
        ("comjose", 0),
        ("com\njose", 0),
        ("\n", 0),
        ("com jose", 0),
        ("alvarezjose", 0),
        ("bobbob", 0),
        ("nobody at all", 0),
        (folded_longest.as_str(), 1),
        ("", 15),
    ];
    for (query, count) in queries {
        let expected: Vec<_> = users.iter().filter(|user| has(user, query)).cloned().collect();
        assert_eq!(expected.len(), count, "the case itself is wrong about {query:?}");
        assert_eq!(found(query).await, expected, "{query:?}");
    }

    // Together with what else is asked for.
    let filter = UserFilter { query: Some("jose".into()), role: Some(GlobalRole::Admin), is_active: Some(true) };
    assert_eq!(store.users(filter.clone(), page(None, 5)).await.unwrap().items, []);
    let filter = UserFilter { role: Some(GlobalRole::User), ..filter };
    assert_eq!(store.users(filter.clone(), page(None, 5)).await.unwrap().items.len(), 3);
    let filter = UserFilter { is_active: Some(false), ..filter };
    assert_eq!(store.users(filter, page(None, 5)).await.unwrap().items, []);

    // A change of name and address is found at once, and what they were before no more.
    let [old] = &found("alvarez").await[..] else { panic!("one Álvarez") };
    let email = Email::stored("mueller@example.com".into());
    let renamed = User { name: "Zoë Müller".into(), email, ..old.clone() };
    attempt(&store, Changes::new().update(renamed.clone())).await.unwrap();
    let renamed = User { version: Version(2), ..renamed };
    for query in ["zoe", "mueller", "muller"] {
        assert_eq!(found(query).await, std::slice::from_ref(&renamed), "{query:?}");
    }
    assert_eq!(found("alvarez").await, []);
    assert_eq!(found("jose.a").await, []);
}

pub(super) async fn tells_whether_there_is_another_active_administrator(store: Db) {
    let besides = async |user: UserId| store.another_admin(user).await.unwrap();
    assert!(!besides(new_id()).await);
    let admin = User { role: GlobalRole::Admin, ..a_user() };
    let second = User { is_active: false, ..admin.clone() };
    let second = User { id: new_id(), email: a_user().email, ..second };
    let person = a_user();
    attempt(&store, everybody(&[admin.clone(), second.clone(), person.clone()])).await.unwrap();
    assert!(!besides(admin.id).await, "the second one may not sign in, and the third one is none");
    assert!(besides(second.id).await);
    assert!(besides(person.id).await);

    let second = User { is_active: true, ..second };
    attempt(&store, Changes::new().update(second.clone())).await.unwrap();
    let second = User { version: Version(2), ..second };
    assert!(besides(admin.id).await);
    attempt(&store, Changes::new().update(User { role: GlobalRole::User, ..second.clone() })).await.unwrap();
    assert!(!besides(admin.id).await);
    attempt(&store, Changes::new().update(User { version: Version(3), ..second })).await.unwrap();
    assert!(besides(admin.id).await);
    attempt(&store, Changes::new().delete(admin.clone())).await.unwrap();
    assert!(besides(admin.id).await, "the second one is left");
    assert!(besides(person.id).await);
}

pub(super) async fn finds_a_keyed_request_of_its_own_user_only(store: Db) {
    let users = [a_user(), a_user(), a_user()];
    attempt(&store, everybody(&users)).await.unwrap();
    let first = KeyedRequest {
        key: KeyHash([0; 32]),
        fingerprint: Fingerprint([0xff; 32]),
        made: Made { id: new_id(), reply: Some(new_id()) },
        ..a_keyed_request(&users[0])
    };
    // The same key is another one's own, and one that differs in its last bit is another key.
    let same = KeyedRequest { key: first.key, ..a_keyed_request(&users[1]) };
    let mut close = [0; 32];
    close[31] = 1;
    let close = KeyedRequest { key: KeyHash(close), ..a_keyed_request(&users[0]) };
    let all = [&first, &same, &close];
    attempt(&store, all.iter().fold(Changes::new(), |changes, one| changes.insert((*one).clone()))).await.unwrap();
    for request in all {
        assert_eq!(store.keyed_request(request.user, request.key).await.unwrap().as_ref(), Some(request));
    }
    assert_eq!(store.keyed_request(users[2].id, first.key).await.unwrap(), None);
    assert_eq!(store.keyed_request(users[1].id, close.key).await.unwrap(), None);
    assert_eq!(store.keyed_request(users[0].id, KeyHash([9; 32])).await.unwrap(), None);
    assert_eq!(store.keyed_request(new_id(), first.key).await.unwrap(), None);
}

pub(super) async fn lists_the_sessions_of_a_user_that_stand_newest_first(store: Db) {
    let user = User { credentials_epoch: 3, ..a_user() };
    let other = User { credentials_epoch: 3, ..a_user() };
    let mut changes = everybody(&[user.clone(), other.clone()]);
    let start = now();
    let at = start + Duration::from_secs(3_600);
    let mut standing = Vec::new();
    for n in 0..14 {
        let session = Session {
            // Whoever was here last is no newer for it.
            last_used_at: start + Duration::from_secs(60 * (14 - n)),
            created_at: start + Duration::from_secs(60 * (14 - n)),
            expires_at: at + MICROSECOND,
            ..a_session(&user)
        };
        let next = || Session { id: new_id(), ..session.clone() };
        changes = changes
            .insert(session.clone())
            .insert(Session { ended: true, ..next() })
            .insert(Session { epoch: 2, ..next() })
            .insert(Session { epoch: 4, ..next() })
            .insert(Session { expires_at: at, ..next() })
            .insert(Session { user: other.id, ..next() });
        standing.insert(0, session);
    }
    attempt(&store, changes).await.unwrap();
    let list = |page| store.sessions_of(user.id, 3, at, page);
    for limit in [1, 3, 7, 14, 100] {
        assert_eq!(walk(limit, list, nothing).await, standing, "in pages of {limit}");
    }
    let walked = walk(4, list, || async {
        let newcomer = Session { expires_at: at + MICROSECOND, ..a_session(&user) };
        attempt(&store, Changes::new().insert(newcomer)).await.unwrap();
    })
    .await;
    assert_eq!(walked, standing, "what is newer than the first page comes in no later one");
    assert_eq!(store.sessions_of(user.id, 3, at, page(None, 100)).await.unwrap().items.len(), 14 + 3);

    assert_eq!(store.sessions_of(other.id, 3, at, page(None, 100)).await.unwrap().items.len(), 14);
    assert_eq!(store.sessions_of(user.id, 2, at, page(None, 100)).await.unwrap().items.len(), 14);
    assert_eq!(store.sessions_of(user.id, 5, at, page(None, 100)).await.unwrap().items, []);
    assert_eq!(store.sessions_of(user.id, 3, at + MICROSECOND, page(None, 100)).await.unwrap().items, []);
    assert_eq!(store.sessions_of(new_id(), 3, at, page(None, 100)).await.unwrap().items, []);
    let ended = Session { ended: true, ..standing[0].clone() };
    attempt(&store, Changes::new().update(ended.clone())).await.unwrap();
    let listed = store.sessions_of(user.id, 3, at, page(None, 100)).await.unwrap().items;
    assert!(listed.iter().all(|session| session.id != ended.id), "it has ended");
}

pub(super) async fn lists_the_members_of_a_workspace_by_their_ids_without_repeats(store: Db) {
    async fn join(store: &Db, workspace: &Workspace, user: &User, role: Role) -> Participant {
        attempt(store, joining(workspace, user, role)).await.unwrap();
        let membership = store.membership(workspace.id, user.id).await.unwrap().unwrap();
        Participant { membership, name: user.name.clone(), email: user.email.clone() }
    }
    let scene = Scene::set(&store).await;
    let elsewhere = Scene::set(&store).await;
    let users: Vec<User> = (0..13).map(|_| a_user()).collect();
    attempt(&store, everybody(&users)).await.unwrap();
    let owner = scene.membership.clone();
    let mut members =
        vec![Participant { membership: owner, name: scene.user.name.clone(), email: scene.user.email.clone() }];
    // Not in the order of their accounts, and some of them elsewhere as well.
    for n in 0..13 {
        let user = &users[n * 5 % 13];
        members.push(join(&store, &scene.workspace, user, [Role::Guest, Role::Member, Role::Owner][n % 3]).await);
        if n % 2 == 0 {
            join(&store, &elsewhere.workspace, user, Role::Guest).await;
        }
    }
    members.sort_by_key(|member| member.membership.user);

    let list = |page| store.participants(scene.workspace.id, page);
    for limit in [1, 2, 5, 14, 100] {
        assert_eq!(walk(limit, list, nothing).await, members, "in pages of {limit}");
    }
    for member in &members {
        let user = member.membership.user;
        assert_eq!(store.participant(scene.workspace.id, user).await.unwrap().as_ref(), Some(member));
    }
    for (workspace, user) in [
        (scene.workspace.id, elsewhere.user.id),
        (elsewhere.workspace.id, scene.user.id),
        (scene.workspace.id, new_id()),
        (new_id(), scene.user.id),
    ] {
        assert_eq!(store.participant(workspace, user).await.unwrap(), None);
    }
    assert_eq!(store.participants(new_id(), page(None, 5)).await.unwrap().items, []);

    // Those who join meanwhile come once: at the end, where their accounts are newer than the page, and not at all where they are older.
    let early = a_user();
    attempt(&store, Changes::new().insert(early.clone())).await.unwrap();
    let late: Vec<User> = (0..3).map(|_| a_user()).collect();
    attempt(&store, everybody(&late)).await.unwrap();
    let first = store.participants(scene.workspace.id, page(None, 14)).await.unwrap();
    assert_eq!((first.items.len(), first.next), (14, None));
    let first = store.participants(scene.workspace.id, page(None, 6)).await.unwrap();
    for user in &late {
        members.push(join(&store, &scene.workspace, user, Role::Guest).await);
    }
    let second = store.participants(scene.workspace.id, page(first.next, 100)).await.unwrap();
    assert_eq!([first.items, second.items].concat(), members);
    join(&store, &scene.workspace, &early, Role::Guest).await;
    let behind = store.participants(scene.workspace.id, page(Some(early.id), 100)).await.unwrap();
    assert_eq!(behind.items, members[14..]);

    // Under their present names and roles; who left is listed no more.
    let Participant { membership, .. } = members[4].clone();
    let user = store.user(membership.user).await.unwrap().unwrap();
    let renamed = User { name: "Somebody Else".into(), email: a_user().email, ..user };
    let demoted = Membership { role: Role::Guest, ..membership };
    attempt(&store, Changes::new().update(renamed.clone()).update(demoted.clone())).await.unwrap();
    let demoted = Membership { version: Version(2), ..demoted };
    let shown = Participant { membership: demoted.clone(), name: renamed.name, email: renamed.email };
    assert_eq!(store.participant(scene.workspace.id, renamed.id).await.unwrap(), Some(shown.clone()));
    assert_eq!(store.participants(scene.workspace.id, page(None, 5)).await.unwrap().items[4], shown);
    let leaving = Changes::new().delete(demoted).add(Counter::Members(scene.workspace.id), -1, None).add(
        Counter::Memberships(renamed.id),
        -1,
        None,
    );
    attempt(&store, leaving).await.unwrap();
    assert_eq!(store.participant(scene.workspace.id, renamed.id).await.unwrap(), None);
    let left = store.participants(scene.workspace.id, page(None, 100)).await.unwrap().items;
    assert_eq!(left.len(), 17);
    assert!(left.iter().all(|member| member.membership.user != renamed.id));
}

pub(super) async fn tells_whether_a_workspace_has_another_owner(store: Db) {
    let Scene { user, workspace, membership, .. } = Scene::set(&store).await;
    let elsewhere = Scene::set(&store).await;
    let besides = async |user: UserId| store.another_owner(workspace.id, user).await.unwrap();
    let colleague = a_user();
    attempt(&store, Changes::new().insert(colleague.clone())).await.unwrap();
    for other in [&user, &colleague] {
        attempt(&store, joining(&elsewhere.workspace, other, Role::Owner)).await.unwrap();
    }
    assert!(!besides(user.id).await, "who owns another workspace does not own this one");
    assert!(besides(colleague.id).await);
    attempt(&store, joining(&workspace, &colleague, Role::Member)).await.unwrap();
    assert!(!besides(user.id).await, "a member is no owner");

    let theirs = store.membership(workspace.id, colleague.id).await.unwrap().unwrap();
    attempt(&store, Changes::new().update(Membership { role: Role::Owner, ..theirs })).await.unwrap();
    assert!(besides(user.id).await);
    assert!(besides(colleague.id).await);
    attempt(&store, Changes::new().delete(membership)).await.unwrap();
    assert!(!besides(colleague.id).await);
    assert!(besides(user.id).await, "they own it no more, and the colleague does");
    assert!(!store.another_owner(new_id(), user.id).await.unwrap());
}

pub(super) async fn finds_an_invitation_by_id_and_by_workspace_and_email(store: Db) {
    let Scene { user, workspace, .. } = Scene::set(&store).await;
    let elsewhere = Scene::set(&store).await;
    let invitations = LOOKALIKES.map(|address| Invitation {
        email: Email::stored(address.into()),
        role: Role::Owner,
        ..an_invitation(&workspace, &user)
    });
    let invited = |invitation: &Invitation, workspace: &Workspace| Invited {
        invitation: invitation.clone(),
        workspace_name: workspace.name.clone(),
    };
    for invitation in &invitations {
        let before = store.invitation_to(workspace.id, &invitation.email).await.unwrap();
        assert_eq!(before, None, "{:?} before its own invitation", invitation.email);
        attempt(&store, Changes::new().insert(invitation.clone())).await.unwrap();
    }
    for invitation in &invitations {
        let expected = Some(invited(invitation, &workspace));
        assert_eq!(store.invitation(invitation.id).await.unwrap(), expected);
        assert_eq!(store.invitation_to(workspace.id, &invitation.email).await.unwrap(), expected);
        assert_eq!(store.invitation_to(elsewhere.workspace.id, &invitation.email).await.unwrap(), None);
        assert_eq!(store.invitation_to(new_id(), &invitation.email).await.unwrap(), None);
    }
    assert_eq!(store.invitation(new_id()).await.unwrap(), None);
    assert_eq!(store.invitation_to(workspace.id, &a_user().email).await.unwrap(), None);

    // One address may be invited into many workspaces; an invitation that has expired is still found.
    let other = Invitation {
        email: invitations[0].email.clone(),
        role: Role::Guest,
        expires_at: elsewhere.workspace.created_at,
        ..an_invitation(&elsewhere.workspace, &elsewhere.user)
    };
    attempt(&store, Changes::new().insert(other.clone())).await.unwrap();
    let expected = Some(invited(&other, &elsewhere.workspace));
    assert_eq!(store.invitation(other.id).await.unwrap(), expected);
    assert_eq!(store.invitation_to(elsewhere.workspace.id, &other.email).await.unwrap(), expected);
    let first = Some(invited(&invitations[0], &workspace));
    assert_eq!(store.invitation_to(workspace.id, &other.email).await.unwrap(), first);

    // Under the present names of the workspace and of who invites.
    let renamed = User { name: "Ann Other".into(), ..user };
    let workspace = Workspace { name: "Elsewhere".into(), ..workspace };
    let changed = Invitation { role: Role::Guest, ..invitations[1].clone() };
    let changes = Changes::new().update(renamed.clone()).update(workspace.clone()).update(changed.clone());
    attempt(&store, changes).await.unwrap();
    let changed = Invitation { invited_by: Author::from(&renamed), version: Version(2), ..changed };
    let expected = Some(invited(&changed, &workspace));
    assert_eq!(store.invitation(changed.id).await.unwrap(), expected);
    assert_eq!(store.invitation_to(workspace.id, &changed.email).await.unwrap(), expected);
    let listed = store.invitations_into(workspace.id, now(), page(None, 100)).await.unwrap().items;
    assert_eq!(listed.iter().find(|listed| listed.invitation.id == changed.id), expected.as_ref());

    attempt(&store, Changes::new().delete(changed.clone())).await.unwrap();
    assert_eq!(store.invitation(changed.id).await.unwrap(), None);
    assert_eq!(store.invitation_to(workspace.id, &changed.email).await.unwrap(), None);
}

pub(super) async fn lists_the_invitations_of_a_workspace_and_of_an_email_that_stand_newest_first(store: Db) {
    let ids = |listed: &[Invited]| listed.iter().map(|listed| listed.invitation.id).collect::<Vec<InvitationId>>();
    let scene = Scene::set(&store).await;
    let created_at = now();
    let at = created_at + Duration::from_secs(3_600);
    let email = a_user().email;
    let (mut into, mut of) = (Vec::new(), Vec::new());
    let mut changes = Changes::new();
    for _ in 0..11 {
        // Into one workspace many addresses; and one address into many workspaces.
        let other = Scene::set(&store).await;
        let stands = |invitation| Invitation { created_at, expires_at: at + MICROSECOND, ..invitation };
        let over = |invitation| Invitation { created_at, expires_at: at, ..invitation };
        let one = stands(an_invitation(&scene.workspace, &scene.user));
        let theirs = Invitation { email: email.clone(), ..stands(an_invitation(&other.workspace, &other.user)) };
        changes = changes
            .insert(one.clone())
            .insert(theirs.clone())
            .insert(over(an_invitation(&scene.workspace, &scene.user)))
            .insert(stands(an_invitation(&other.workspace, &other.user)));
        into.insert(0, Invited { invitation: one, workspace_name: scene.workspace.name.clone() });
        of.insert(0, Invited { invitation: theirs, workspace_name: other.workspace.name.clone() });
    }
    let elsewhere = Scene::set(&store).await;
    let over =
        Invitation { email: email.clone(), expires_at: at, ..an_invitation(&elsewhere.workspace, &elsewhere.user) };
    attempt(&store, changes.insert(over)).await.unwrap();

    for limit in [1, 2, 4, 11, 100] {
        let walked = walk(limit, |page| store.invitations_into(scene.workspace.id, at, page), nothing).await;
        assert_eq!(walked, into, "in pages of {limit}");
        let walked = walk(limit, |page| store.invitations_of(&email, at, page), nothing).await;
        assert_eq!(walked, of, "in pages of {limit}");
    }
    let later = at + MICROSECOND;
    assert_eq!(store.invitations_into(scene.workspace.id, later, page(None, 5)).await.unwrap().items, []);
    assert_eq!(store.invitations_of(&email, later, page(None, 5)).await.unwrap().items, []);
    assert_eq!(store.invitations_into(new_id(), at, page(None, 5)).await.unwrap().items, []);
    assert_eq!(store.invitations_of(&a_user().email, at, page(None, 5)).await.unwrap().items, []);

    let walked = walk(
        3,
        |page| store.invitations_into(scene.workspace.id, at, page),
        || async {
            attempt(&store, Changes::new().insert(an_invitation(&scene.workspace, &scene.user))).await.unwrap();
        },
    )
    .await;
    assert_eq!(walked, into, "what is newer than the first page comes in no later one");
    let walked = walk(
        3,
        |page| store.invitations_of(&email, at, page),
        || async {
            let workspace = a_workspace();
            attempt(&store, Changes::new().insert(workspace.clone())).await.unwrap();
            attempt(&store, joining(&workspace, &scene.user, Role::Owner)).await.unwrap();
            let newcomer = Invitation { email: email.clone(), ..an_invitation(&workspace, &scene.user) };
            attempt(&store, Changes::new().insert(newcomer)).await.unwrap();
        },
    )
    .await;
    assert_eq!(walked, of);

    // Addresses are compared byte by byte here as well.
    let alike = LOOKALIKES.map(|address| Invitation {
        email: Email::stored(address.into()),
        ..an_invitation(&elsewhere.workspace, &elsewhere.user)
    });
    let insert = alike.iter().fold(Changes::new(), |changes, invitation| changes.insert(invitation.clone()));
    attempt(&store, insert).await.unwrap();
    for invitation in &alike {
        let listed = store.invitations_of(&invitation.email, at, page(None, 100)).await.unwrap().items;
        assert_eq!(ids(&listed), [invitation.id], "{:?}", invitation.email);
    }
    let all: BTreeSet<InvitationId> =
        ids(&store.invitations_into(elsewhere.workspace.id, at, page(None, 100)).await.unwrap().items)
            .into_iter()
            .collect();
    assert_eq!(all, alike.iter().map(|invitation| invitation.id).collect());
}

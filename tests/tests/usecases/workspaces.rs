//! Who may be in a workspace, and as what.

use futures_util::future::join_all;
use private_chat_adapters::memory::Script;
use private_chat_core::change::Changes;
use private_chat_core::error::{Error, Forbidden, Kind, Obstacle};
use private_chat_core::id::WorkspaceId;
use private_chat_core::model::chat::Visibility;
use private_chat_core::model::workspace::{Membership, Role};
use private_chat_core::page::PageRequest;
use private_chat_core::policy::Right;
use private_chat_core::port::store::{ChatRepository as _, UnitOfWork as _, WorkspaceRepository as _};
use private_chat_core::usecase::workspaces::WorkspaceChange;
use private_chat_core::usecase::{Patch, chats::NewChat};
use private_chat_tests::fixture;

use super::house::{Home, a_message, an_admin};

const RIGHTS: [Right; 7] = [
    Right::SeeWorkspace,
    Right::EditWorkspace,
    Right::ReadChats,
    Right::CreateChat,
    Right::Send,
    Right::EditChat,
    Right::StopReply,
];

async fn a_home() -> Home {
    Home::of(Script::new().content("Hello.").finish("stop")).await
}

// R41, R42, D1
#[tokio::test]
async fn a_stranger_and_an_administrator_get_the_same_as_for_nothing() {
    let home = a_home().await;
    let stranger = home.a.sign_in(&home.house.account("Sid").await).await;
    home.a.new_workspace(&stranger).await;
    let root = an_admin(&home.a, &home.house).await;
    let nowhere: WorkspaceId = fixture::new_id();
    for person in [&stranger, &root] {
        for right in RIGHTS {
            let real = home.a.member(person, home.workspace, right).await.unwrap_err();
            let none = home.a.member(person, nowhere, right).await.unwrap_err();
            assert!(matches!(real, Error::NotFound(Kind::Workspace)), "{right:?}: {real:?}");
            assert_eq!(format!("{real:?} {real}"), format!("{none:?} {none}"));
        }
        let listed = home.a.cases.workspaces.list(&home.a.actor(person).await, PageRequest::default()).await.unwrap();
        assert!(listed.items.iter().all(|joined| joined.workspace.id != home.workspace));
    }
}

// R41: a chat is looked up together with the workspace.
#[tokio::test]
async fn a_chat_of_another_workspace_is_not_found() {
    let home = a_home().await;
    let elsewhere = home.a.new_workspace(&home.ann).await;
    let answer = home.a.enter_at(&home.ann, (elsewhere, home.chat.id), Right::ReadChats).await;
    assert!(matches!(answer, Err(Error::NotFound(Kind::Chat))), "{answer:?}");
}

// R26, R40
#[tokio::test]
async fn each_role_has_its_rights_and_no_more() {
    let home = a_home().await;
    let allowed = |role| match role {
        Role::Guest => &[Right::SeeWorkspace, Right::ReadChats][..],
        Role::Member => {
            &[Right::SeeWorkspace, Right::ReadChats, Right::CreateChat, Right::Send, Right::EditChat, Right::StopReply]
        }
        Role::Owner => &RIGHTS,
    };
    let ben = home.person("Ben", Role::Guest).await;
    for role in [Role::Guest, Role::Member, Role::Owner, Role::Guest] {
        let membership = home.house.store.membership(home.workspace, ben.user.id).await.unwrap().unwrap();
        home.house.store.commit(Changes::new().update(Membership { role, ..membership })).await.unwrap();
        for right in RIGHTS {
            let answer = home.a.member(&ben, home.workspace, right).await;
            if allowed(role).contains(&right) {
                assert_eq!(answer.unwrap().role(), role);
            } else {
                assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{role:?} {right:?}: {answer:?}");
            }
        }
    }
}

// R26, F48: the right is held until the commit, not only when the member came in.
#[tokio::test]
async fn who_is_removed_or_demoted_while_they_send_stores_nothing() {
    let home = a_home().await;
    let ben = home.person("Ben", Role::Member).await;
    let at = home.a.enter(&ben, &home.chat, Right::Send).await.unwrap();
    let membership = home.house.store.membership(home.workspace, ben.user.id).await.unwrap().unwrap();
    let guest = Membership { role: Role::Guest, ..membership };
    home.house.store.commit(Changes::new().update(guest)).await.unwrap();
    let demoted = home.a.cases.chats.send(&at, a_message("Hi"), true, None).await.map(|_| ());
    assert!(matches!(demoted, Err(Error::Forbidden(Forbidden::Role))), "{demoted:?}");
    let new = NewChat { title: None, visibility: Visibility::Workspace, model: None, system_prompt: None };
    let demoted = home.a.cases.chats.create(at.member(), new, None).await;
    assert!(matches!(demoted, Err(Error::Forbidden(Forbidden::Role))), "{demoted:?}");
    home.house.remove(home.workspace, &ben.user).await;
    let removed = home.a.cases.chats.send(&at, a_message("Hi"), true, None).await.map(|_| ());
    assert!(matches!(removed, Err(Error::NotFound(Kind::Workspace))), "{removed:?}");
    assert_eq!(home.house.messages(home.chat.id).await, []);
    home.is_quiet().await;
}

// A membership that changed without losing the right stops nobody.
#[tokio::test]
async fn who_is_promoted_while_they_send_is_not_held_up() {
    let home = a_home().await;
    let ben = home.person("Ben", Role::Member).await;
    let at = home.a.enter(&ben, &home.chat, Right::Send).await.unwrap();
    let membership = home.house.store.membership(home.workspace, ben.user.id).await.unwrap().unwrap();
    let owner = Membership { role: Role::Owner, ..membership };
    home.house.store.commit(Changes::new().update(owner)).await.unwrap();
    home.a.cases.chats.send(&at, a_message("Hi"), false, None).await.unwrap().end.wait().await.unwrap();
    assert_eq!(home.house.messages(home.chat.id).await.len(), 2);
}

#[tokio::test]
async fn settings_that_are_changed_at_once_all_take_effect() {
    let home = a_home().await;
    let member = home.a.member(&home.ann, home.workspace, Right::EditWorkspace).await.unwrap();
    home.a.store.set_pace(vec![2]);
    let change = |change: WorkspaceChange| home.a.cases.workspaces.change(&member, change);
    let answers = join_all([
        change(WorkspaceChange { name: Some("Lab".into()), ..WorkspaceChange::default() }),
        change(WorkspaceChange { description: Patch::Set("What for".into()), ..WorkspaceChange::default() }),
        change(WorkspaceChange { system_prompt: Patch::Set("Be brief.".into()), ..WorkspaceChange::default() }),
        change(WorkspaceChange { default_model: Patch::Set("scripted/parrot".into()), ..WorkspaceChange::default() }),
    ])
    .await;
    for answer in &answers {
        assert!(answer.is_ok(), "{answer:?}");
    }
    let now = home.house.store.joined(home.workspace, home.ann.user.id).await.unwrap().unwrap().workspace;
    assert_eq!(now.name, "Lab");
    assert_eq!(now.description.as_deref(), Some("What for"));
    assert_eq!(now.system_prompt.as_deref(), Some("Be brief."));
    assert_eq!(now.default_model.as_deref(), Some("scripted/parrot"));
}

// No update is lost without a word: as many versions as there were successes.
#[tokio::test]
async fn names_that_are_given_at_once_follow_one_another() {
    let home = a_home().await;
    let at = home.a.enter(&home.ann, &home.chat, Right::EditChat).await.unwrap();
    let member = home.a.member(&home.ann, home.workspace, Right::EditWorkspace).await.unwrap();
    home.a.store.set_pace(vec![2, 3]);
    let renames = (0..12).map(|n| home.a.cases.chats.change(&at, crate::house::titled(format!("Name {n}"))));
    let renamed = join_all(renames).await;
    let changes = (0..12).map(|n| {
        let change = WorkspaceChange { name: Some(format!("Name {n}")), ..WorkspaceChange::default() };
        home.a.cases.workspaces.change(&member, change)
    });
    let changed = join_all(changes).await;
    let chat = home.house.store.chat(home.workspace, home.chat.id).await.unwrap().unwrap();
    let workspace = home.house.store.joined(home.workspace, home.ann.user.id).await.unwrap().unwrap().workspace;
    let mut versions: Vec<u64> = renamed.iter().flatten().map(|chat| chat.version.0).collect();
    versions.sort_unstable();
    assert!(versions.len() >= 4, "{renamed:?}");
    assert_eq!(versions, (2..2 + versions.len() as u64).collect::<Vec<_>>());
    assert_eq!(chat.version.0, 1 + versions.len() as u64);
    let last = renamed.iter().flatten().max_by_key(|chat| chat.version).unwrap();
    assert_eq!(chat.title, last.title);
    assert_eq!(workspace.version.0, 1 + changed.iter().flatten().count() as u64);
    for error in renamed.into_iter().filter_map(Result::err).chain(changed.into_iter().filter_map(Result::err)) {
        assert!(matches!(error, Error::Conflict(Obstacle::Concurrent)), "{error:?}");
    }
}

#[tokio::test]
async fn a_chat_is_renamed_by_its_creator_or_an_owner() {
    let home = a_home().await;
    let (ben, cleo) = (home.person("Ben", Role::Member).await, home.person("Cleo", Role::Member).await);
    let chat = home.a.new_chat(&ben, home.workspace, Visibility::Workspace).await;
    for (person, may) in [(&cleo, false), (&ben, true), (&home.ann, true)] {
        let at = home.a.enter(person, &chat, Right::EditChat).await.unwrap();
        let answer = home.a.cases.chats.change(&at, crate::house::titled(format!("By {}", person.user.name))).await;
        assert_eq!(answer.is_ok(), may, "{answer:?}");
    }
    let stored = home.house.store.chat(home.workspace, chat.id).await.unwrap().unwrap();
    assert_eq!(stored.title.as_deref(), Some("By Ann"));
}

// D2
#[tokio::test]
async fn a_private_chat_is_its_creators_alone_even_before_owners() {
    let home = a_home().await;
    let ben = home.person("Ben", Role::Member).await;
    let secret = home.a.new_chat(&ben, home.workspace, Visibility::Private).await;
    home.a.enter(&ben, &secret, Right::Send).await.unwrap();
    let answer = home.a.enter(&home.ann, &secret, Right::ReadChats).await.map(|_| ());
    assert!(matches!(answer, Err(Error::NotFound(Kind::Chat))), "{answer:?}");
    // R43
    for (person, chats) in [(&ben, 2), (&home.ann, 1)] {
        let member = home.a.member(person, home.workspace, Right::ReadChats).await.unwrap();
        let listed = home.a.cases.chats.history(&member, Default::default(), PageRequest::default()).await.unwrap();
        assert_eq!(listed.items.len(), chats);
    }
}

//! Taking rights away on one process, while the other has streams open for whoever loses them.

use std::sync::Arc;

use futures_util::future::join_all;
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Api, End, PASSWORD, Seen};
use crate::people::{Person, join, member};
use crate::program::Home;
use crate::upstream::{Upstream, endless};
use crate::{REVOKED, mysql_trial, trial};

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("whoever_loses_access_on_one_process_has_none_on_the_other", || access_is_lost(None)),
        mysql_trial(servers, "whoever_loses_access_on_one_process_has_none_on_the_other", |database| {
            access_is_lost(Some(database))
        }),
        trial("another_role_in_a_workspace_counts_at_once_everywhere", || roles(None)),
        mysql_trial(servers, "another_role_in_a_workspace_counts_at_once_everywhere", |database| roles(Some(database))),
    ]
}

/// In which way somebody loses access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    SignedOut,
    SessionEnded,
    PasswordChanged,
    PasswordReset,
    AllSessionsEnded,
    Deactivated,
    MadeAdmin,
    Deleted,
    Removed,
    Left,
}

use Way::{
    AllSessionsEnded, Deactivated, Deleted, Left, MadeAdmin, PasswordChanged, PasswordReset, Removed, SessionEnded,
    SignedOut,
};

impl Way {
    const ALL: [Self; 10] = [
        SignedOut,
        SessionEnded,
        PasswordChanged,
        PasswordReset,
        AllSessionsEnded,
        Deactivated,
        MadeAdmin,
        Deleted,
        Removed,
        Left,
    ];

    /// Whether they stay signed in, and only the workspace is closed to them.
    const fn of_the_workspace(self) -> bool {
        matches!(self, Removed | Left)
    }

    /// Takes it away.
    async fn go(self, admin: &Api, victim: &Person, workspace: &str) {
        let account = format!("/users/{}", victim.id);
        let own = &victim.api;
        let answer = match self {
            SignedOut => own.post("/auth/logout", &json!({})).await,
            SessionEnded => {
                let other = own.log_in_as(&victim.email, PASSWORD).await.unwrap();
                let sessions = other.get("/auth/sessions").await.expect(200)["items"].as_array().unwrap().clone();
                assert_eq!(sessions.len(), 2, "{sessions:?}");
                let first = sessions.iter().find(|session| session["current"] == false).unwrap();
                other.delete(&format!("/auth/sessions/{}", first["id"].as_str().unwrap())).await
            }
            PasswordChanged => {
                let other = own.log_in_as(&victim.email, PASSWORD).await.unwrap();
                let change = json!({"current_password": PASSWORD, "new_password": "an umbrella for 2 moths"});
                let answer = other.post("/auth/password", &change).await;
                other.get("/auth/me").await.expect(200);
                answer
            }
            PasswordReset => admin.put(&account, &json!({"password": "an umbrella for 2 moths"})).await,
            AllSessionsEnded => admin.delete(&format!("{account}/sessions")).await,
            Deactivated => admin.put(&account, &json!({"is_active": false})).await,
            MadeAdmin => admin.put(&account, &json!({"role": "ADMIN"})).await,
            Deleted => admin.delete(&account).await,
            Removed => admin.delete(&member(workspace, victim)).await,
            Left => own.delete(&member(workspace, victim)).await,
        };
        assert!([200, 204].contains(&answer.status), "{self:?}: {answer:?}");
    }
}

// R25, R26, R27, R28, R49, F34
async fn access_is_lost(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let ann = &a.api().set_up().await;
    let workspace = &ann.make_workspace().await;
    let everybody = ann.moved_to(&b).follow(workspace, None).await;
    join_all(Way::ALL.map(async |way| {
        let victim = Person::new(ann, &format!("{way:?}"), "USER").await;
        join(ann, workspace, &victim, "MEMBER").await;
        let chat = victim.api.make_chat(workspace).await;
        let at_b = victim.at(&b);
        let said = at_b.say(&chat, &endless(50)).await;
        let streams = [said, at_b.follow(workspace, None).await, at_b.follow(&chat, None).await];
        let reply = streams[0].reply().await;
        for stream in &streams {
            stream.until_words(&reply, 2).await;
        }
        at_b.get("/auth/me").await.expect(200);

        way.go(ann, &victim, workspace).await;
        let gone = Instant::now();
        if way.of_the_workspace() {
            at_b.get("/auth/me").await.expect(200);
            for path in [workspace.as_str(), &chat, &format!("{workspace}/members"), &format!("{chat}/messages")] {
                at_b.get(path).await.is_problem(404, "not_found");
            }
            at_b.exchange(&chat, "count 1 0").await.is_problem(404, "not_found");
        } else {
            at_b.get("/auth/me").await.is_problem(401, "unauthenticated");
            at_b.get(workspace).await.is_problem(401, "unauthenticated");
            let refresh = json!({"refresh_token": victim.refresh});
            b.api().post("/auth/refresh", &refresh).await.is_problem(401, "invalid_refresh_token");
        }
        for stream in &streams {
            let (seen, end) = stream.ended(REVOKED.saturating_sub(gone.elapsed())).await;
            assert_eq!(end, End::Clean, "{way:?}: {:?}", seen.last());
        }
        if matches!(way, Deleted | Deactivated) {
            assert!(b.api().log_in_as(&victim.email, PASSWORD).await.is_none(), "{way:?}");
        }
        if way == MadeAdmin {
            // The role is the database's, whatever an older token says.
            let promoted = Person::log_in(&b.api(), &victim.email).await;
            promoted.at(&a).get("/users/").await.expect(200);
        }
        // What they wrote stays, for those who stay.
        let messages = ann.messages(&chat).await;
        let name = format!("{way:?}");
        let author = if way == Deleted { json!(null) } else { json!({"id": victim.id, "name": name}) };
        assert_eq!((&messages[0]["content"], &messages[0]["author"]), (&json!(endless(50)), &author));
    }))
    .await;
    // Whoever stays is told of those who left, and goes on.
    everybody
        .until("all are told who left", |seen| seen.iter().filter(|seen| seen.event == "member.left").count() == 3)
        .await;
    assert_eq!(everybody.end(), None);
    assert!(ann.get(workspace).await.expect(200)["member_count"] == 8);
}

// R26, R27
async fn roles(database: Option<Arc<Database>>) {
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream);
    let (a, b) = (home.start().await, home.start().await);
    let ann = &a.api().set_up().await;
    let workspace = &ann.make_workspace().await;
    let bob = Person::new(ann, "Bob", "USER").await;
    join(ann, workspace, &bob, "MEMBER").await;
    let at_b = bob.at(&b);
    let chat = at_b.make_chat(workspace).await;
    let feed = at_b.follow(workspace, None).await;
    let invite = json!({"email": "cyd@example.com", "role": "GUEST"});
    let role = async |role: &str| {
        let changed = ann.put(&member(workspace, &bob), &json!({"role": role})).await.expect(200);
        assert_eq!(changed["role"], role);
        changed
    };
    // An event tells what is so when it is delivered.
    let told = async |changed: Value| {
        let of_it = |seen: &Seen| seen.event == "member.updated" && seen.data["member"] == changed;
        feed.until("the role is told", |seen| seen.last().is_some_and(of_it)).await;
    };

    at_b.exchange(&chat, "count 1 0").await.expect(201);
    let changed = role("GUEST").await;
    at_b.exchange(&chat, "count 1 0").await.is_problem(403, "forbidden");
    at_b.post(&format!("{workspace}/chat"), &json!({})).await.is_problem(403, "forbidden");
    at_b.get(&chat).await.expect(200);
    at_b.post(&format!("{workspace}/invite"), &invite).await.is_problem(403, "forbidden");
    told(changed).await;
    let changed = role("OWNER").await;
    at_b.post(&format!("{workspace}/invite"), &invite).await.expect(201);
    told(changed).await;
    let changed = role("MEMBER").await;
    at_b.post(&format!("{workspace}/invite"), &invite).await.is_problem(403, "forbidden");
    told(changed).await;
    at_b.exchange(&chat, "count 1 0").await.expect(201);

    assert_eq!(feed.end(), None, "they still see it all");
}

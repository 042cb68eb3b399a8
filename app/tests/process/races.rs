//! People who act against each other at the same moment, each on a process of their own. Whatever comes of it, somebody is left who may act.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream::iter;
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::client::{ANN, Answer, Api, PASSWORD};
use crate::people::{self, Person, member, members};
use crate::program::{Home, Program};
use crate::upstream::Upstream;

/// How often two owners, or two administrators, act against each other.
const ROUNDS: usize = 100;
/// How many of these rounds are played at once.
const TABLES: usize = 4;

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    on_both!(
        servers,
        of_many_who_set_up_one_becomes_the_administrator,
        a_refresh_token_used_many_times_at_once_has_one_heir,
        two_owners_who_act_at_once_leave_an_owner,
        two_administrators_who_act_at_once_leave_an_administrator,
        an_invitation_taken_many_times_at_once_is_taken_once,
        a_member_who_is_removed_says_nothing_afterwards,
    )
}

async fn two(database: Option<&Database>) -> (Home, Program, Program) {
    let home = Home::with_keys().on(database);
    let (a, b) = (home.start().await, home.start().await);
    (home, a, b)
}

/// Lets both go at the same moment.
async fn both<T, U>(one: impl Future<Output = T>, other: impl Future<Output = U>) -> (T, U) {
    let line = Barrier::new(2);
    let from_the_line = (
        async {
            line.wait().await;
            one.await
        },
        async {
            line.wait().await;
            other.await
        },
    );
    join(from_the_line.0, from_the_line.1).await
}

/// Makes the first administrator.
async fn set_up(program: &Program) -> Person {
    program.api().set_up().await;
    Person::log_in(&program.api(), ANN).await
}

fn succeeded(answer: &Answer) -> bool {
    assert!(answer.status < 500, "{answer:?}");
    answer.status < 300
}

// R1, F34, F46
async fn of_many_who_set_up_one_becomes_the_administrator(database: Option<Arc<Database>>) {
    let (_home, a, b) = two(database.as_deref()).await;
    let apis = [a.api(), b.api()];
    let answers = join_all((0..50).map(async |number| {
        let eager = json!({"email": format!("eager{number}@example.com"), "name": "Eager", "password": PASSWORD});
        apis[number % 2].post("/auth/setup", &eager).await
    }))
    .await;
    let (first, late): (Vec<_>, Vec<_>) = answers.into_iter().partition(succeeded);
    assert_eq!(first.len(), 1, "{first:?}");
    for answer in late {
        answer.is_problem(409, "setup_completed");
    }
    let first = Person::from(&apis[1], &first.into_iter().next().unwrap().expect(201));
    let users = first.api.get("/users/").await.expect(200);
    assert_eq!((users["items"].as_array().unwrap().len(), &users["items"][0]["id"]), (1, &json!(first.id)));
}

// R22, F34, F45
async fn a_refresh_token_used_many_times_at_once_has_one_heir(database: Option<Arc<Database>>) {
    let (_home, a, b) = two(database.as_deref()).await;
    set_up(&a).await;
    let apis = [a.api(), b.api()];
    iter(0..10)
        .for_each_concurrent(TABLES, async |_| {
            let spent = Person::log_in(&apis[0], ANN).await.refresh;
            let body = json!({"refresh_token": spent});
            let answers = join_all((0..20).map(|time| apis[time % 2].post("/auth/refresh", &body))).await;
            let heirs: Vec<Value> =
                answers.into_iter().filter(succeeded).map(|answer| answer.body["refresh_token"].clone()).collect();
            assert!(!heirs.is_empty(), "a client that asks too often is not signed out by it");
            // At most one of those that were handed out lives, and however they are used no second line comes of it.
            let mut living = Vec::new();
            for heir in &heirs {
                let answer = apis[1].post("/auth/refresh", &json!({"refresh_token": heir})).await;
                if succeeded(&answer) {
                    living.push(answer.body["refresh_token"].clone());
                } else {
                    assert_eq!(answer.status, 401, "{answer:?}");
                }
            }
            assert!(living.len() <= 1, "{} of {} live", living.len(), heirs.len());
        })
        .await;
}

/// What two owners do at once. In some, one of the two must fail; in the others both may do what they want.
#[derive(Clone, Copy, Debug)]
enum Quarrel {
    RemoveEachOther,
    DemoteEachOther,
    BothLeave,
    BothStepDown,
    OneLeavesOneStepsDown,
    OneLeavesAndIsDemoted,
    OneRemovesAndTheOtherLeaves,
    OneLeavesAndTheOthersAccountIsDeleted,
}

use Quarrel::{
    BothLeave, BothStepDown, DemoteEachOther, OneLeavesAndIsDemoted, OneLeavesAndTheOthersAccountIsDeleted,
    OneLeavesOneStepsDown, OneRemovesAndTheOtherLeaves, RemoveEachOther,
};

impl Quarrel {
    const ALL: [Self; 8] = [
        RemoveEachOther,
        DemoteEachOther,
        BothLeave,
        BothStepDown,
        OneLeavesOneStepsDown,
        OneLeavesAndIsDemoted,
        OneRemovesAndTheOtherLeaves,
        OneLeavesAndTheOthersAccountIsDeleted,
    ];

    /// How many of the two come through.
    const fn winners(self) -> RangeInclusive<usize> {
        match self {
            // Whoever is demoted may still leave.
            OneLeavesAndIsDemoted => 1..=2,
            _ => 1..=1,
        }
    }
}

// R48, F34, F48
async fn two_owners_who_act_at_once_leave_an_owner(database: Option<Arc<Database>>) {
    let (_home, a, b) = two(database.as_deref()).await;
    let ann = &set_up(&a).await;
    let (bob, cyd) = (&Person::new(&ann.api, "Bob", "USER").await, &Person::new(&ann.api, "Cyd", "USER").await);
    iter(0..ROUNDS)
        .for_each_concurrent(TABLES, async |round| {
            let quarrel = Quarrel::ALL[round % Quarrel::ALL.len()];
            let workspace = &bob.api.make_workspace().await;
            let mut cyd = cyd.clone();
            if matches!(quarrel, OneLeavesAndTheOthersAccountIsDeleted) {
                // Somebody whose account may go, who needs a password of their own only once.
                let email = format!("dee{round}@example.com");
                let token = people::invite(&bob.api, workspace, &email, "OWNER").await;
                let register = json!({"token": token, "name": "Dee", "password": PASSWORD});
                cyd = Person::from(&a.api(), &a.api().post("/auth/register", &register).await.expect(201));
            } else {
                people::join(&bob.api, workspace, &cyd, "OWNER").await;
            }
            // A witness, to whom nothing happens.
            people::join(&bob.api, workspace, ann, "GUEST").await;

            let (of_bob, of_cyd) = (member(workspace, bob), member(workspace, &cyd));
            let (at_bob, at_cyd) = (bob.at(&a), cyd.at(&b));
            let demoted = json!({"role": "MEMBER"});
            let quarrels = async {
                match quarrel {
                    RemoveEachOther => both(at_bob.delete(&of_cyd), at_cyd.delete(&of_bob)).await,
                    DemoteEachOther => both(at_bob.put(&of_cyd, &demoted), at_cyd.put(&of_bob, &demoted)).await,
                    BothLeave => both(at_bob.delete(&of_bob), at_cyd.delete(&of_cyd)).await,
                    BothStepDown => both(at_bob.put(&of_bob, &demoted), at_cyd.put(&of_cyd, &demoted)).await,
                    OneLeavesOneStepsDown => both(at_bob.delete(&of_bob), at_cyd.put(&of_cyd, &demoted)).await,
                    OneLeavesAndIsDemoted => both(at_bob.delete(&of_bob), at_cyd.put(&of_bob, &demoted)).await,
                    OneRemovesAndTheOtherLeaves => both(at_bob.delete(&of_cyd), at_cyd.delete(&of_cyd)).await,
                    OneLeavesAndTheOthersAccountIsDeleted => {
                        both(at_bob.delete(&of_bob), ann.at(&b).delete(&format!("/users/{}", cyd.id))).await
                    }
                }
            };
            let (one, other) = quarrels.await;
            let winners = usize::from(succeeded(&one)) + usize::from(succeeded(&other));
            assert!(quarrel.winners().contains(&winners), "{quarrel:?}: {one:?} {other:?}");
            let left = members(&ann.api, workspace).await.expect("the witness is still in");
            let owners = left.iter().filter(|(_, role)| role == "OWNER").count();
            assert_eq!(owners, 1, "{quarrel:?}: {left:?} after {one:?} {other:?}");
            for loser in [one, other].iter().filter(|answer| answer.status >= 300) {
                let known = [(404, "not_found"), (403, "forbidden"), (409, "last_owner"), (409, "sole_owner")];
                let said = (loser.status, loser.body["code"].as_str().unwrap());
                assert!(known.contains(&said), "{quarrel:?}: {loser:?}");
            }
        })
        .await;
}

/// What one administrator does to another, or to themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Demote,
    Deactivate,
    Delete,
    Quit,
}

impl Blow {
    const PAIRS: [[Self; 2]; 6] = [
        [Self::Demote, Self::Demote],
        [Self::Deactivate, Self::Deactivate],
        [Self::Deactivate, Self::Demote],
        [Self::Delete, Self::Delete],
        [Self::Delete, Self::Demote],
        [Self::Quit, Self::Quit],
    ];

    async fn strike(self, at: &Api, own: &Person, other: &Person) -> Answer {
        let (own, other) = (format!("/users/{}", own.id), format!("/users/{}", other.id));
        match self {
            Self::Demote => at.put(&other, &json!({"role": "USER"})).await,
            Self::Deactivate => at.put(&other, &json!({"is_active": false})).await,
            Self::Delete => at.delete(&other).await,
            Self::Quit => at.delete(&own).await,
        }
    }
}

// R48, F34, F48
async fn two_administrators_who_act_at_once_leave_an_administrator(database: Option<Arc<Database>>) {
    let (_home, a, b) = two(database.as_deref()).await;
    let mut one = set_up(&a).await;
    let mut other = Person::new(&one.api, "Admin0", "ADMIN").await;
    for round in 0..ROUNDS {
        let blows = Blow::PAIRS[round % Blow::PAIRS.len()];
        let (at_one, at_other) = (one.at(&a), other.at(&b));
        let (of_one, of_other) =
            both(blows[0].strike(&at_one, &one, &other), blows[1].strike(&at_other, &other, &one)).await;
        assert_eq!(
            usize::from(succeeded(&of_one)) + usize::from(succeeded(&of_other)),
            1,
            "{blows:?}: {of_one:?} {of_other:?}"
        );
        let (won, lost, blow, loser) = match succeeded(&of_one) {
            true => (&one, &other, blows[0], &of_other),
            false => (&other, &one, blows[1], &of_one),
        };
        let known = [(401, "unauthenticated"), (403, "forbidden"), (404, "not_found"), (409, "last_admin")];
        assert!(known.contains(&(loser.status, loser.body["code"].as_str().unwrap())), "{blows:?}: {loser:?}");
        let (left, victim) = if blow == Blow::Quit { (lost, won) } else { (won, lost) };
        let admins = left.api.get("/users/?role=ADMIN&is_active=true").await.expect(200);
        let ids: Vec<_> = admins["items"].as_array().unwrap().iter().map(|admin| &admin["id"]).collect();
        assert_eq!(ids, [&json!(left.id)], "{blows:?}");

        // Once more, with the same two where both are still there.
        let account = format!("/users/{}", victim.id);
        let again = match blow {
            Blow::Delete | Blow::Quit => Person::new(&left.api, &format!("Admin{}", round + 1), "ADMIN").await,
            Blow::Demote => {
                left.api.put(&account, &json!({"role": "ADMIN"})).await.expect(200);
                Person::log_in(&left.api, &victim.email).await
            }
            Blow::Deactivate => {
                left.api.put(&account, &json!({"is_active": true})).await.expect(200);
                Person::log_in(&left.api, &victim.email).await
            }
        };
        (one, other) = (left.clone(), again);
    }
}

// R47, F34, F48
async fn an_invitation_taken_many_times_at_once_is_taken_once(database: Option<Arc<Database>>) {
    let (_home, a, b) = two(database.as_deref()).await;
    let ann = &set_up(&a).await;
    let bob = &Person::new(&ann.api, "Bob", "USER").await;
    let apis = [bob.at(&a), bob.at(&b)];
    let lost = |answer: &Answer| {
        let known =
            [(404, "not_found"), (409, "already_member"), (401, "invalid_invitation_token"), (409, "email_taken")];
        assert!(known.contains(&(answer.status, answer.body["code"].as_str().unwrap())), "{answer:?}");
    };
    iter(0..24)
        .for_each_concurrent(TABLES, async |round| {
            let workspace = &ann.api.make_workspace().await;
            let invite = json!({"email": bob.email, "role": "MEMBER"});
            let invited = ann.api.post(&format!("{workspace}/invite"), &invite).await.expect(201);
            let by_token = json!({"token": invited["token"]});
            let by_id = json!({"invitation_id": invited["id"]});
            let answers = match round % 3 {
                0 => {
                    let which = [&by_token, &by_id];
                    let accept = |time: usize| apis[time % 2].post("/invitations/accept", which[time / 2 % 2]);
                    join_all((0..20).map(accept)).await
                }
                1 => {
                    let accept = apis[0].post("/invitations/accept", &by_token);
                    let (one, other) = both(accept, apis[1].post("/invitations/decline", &by_id)).await;
                    vec![one, other]
                }
                _ => {
                    let accept = apis[1].post("/invitations/accept", &by_id);
                    let path = format!("{workspace}/invitations/{}", invited["id"].as_str().unwrap());
                    let (one, other) = both(accept, ann.api.delete(&path)).await;
                    vec![one, other]
                }
            };
            let joined = succeeded(&answers[0]) || round % 3 == 0;
            let (won, late): (Vec<_>, Vec<_>) = answers.into_iter().partition(succeeded);
            assert_eq!(won.len(), 1, "{won:?}");
            late.iter().for_each(lost);
            let there = members(&ann.api, workspace).await.unwrap();
            assert_eq!(there.len(), if joined { 2 } else { 1 }, "{there:?}");
            let count = ann.api.get(workspace).await.expect(200)["member_count"].clone();
            assert_eq!(count, there.len());
        })
        .await;
    // A newcomer who makes an account by it.
    let workspace = &ann.api.make_workspace().await;
    let token = people::invite(&ann.api, workspace, "cyd@example.com", "MEMBER").await;
    let register = json!({"token": token, "name": "Cyd", "password": PASSWORD});
    let strangers = [a.api(), b.api()];
    let answers = join_all((0..20).map(|time| strangers[time % 2].post("/auth/register", &register))).await;
    let (won, late): (Vec<_>, Vec<_>) = answers.into_iter().partition(succeeded);
    assert_eq!(won.len(), 1, "{won:?}");
    late.iter().for_each(lost);
    assert_eq!(members(&ann.api, workspace).await.unwrap().len(), 2);
    assert_eq!(ann.api.get("/users/?q=cyd").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

// R48, F34, F48
async fn a_member_who_is_removed_says_nothing_afterwards(database: Option<Arc<Database>>) {
    const SENDERS: usize = 4;
    const MOST: usize = 12;
    let upstream = Upstream::start().await;
    let home = Home::with_keys().on(database.as_deref()).asking(&upstream).without_caps();
    let (a, b) = (home.start().await, home.start().await);
    let ann = &set_up(&a).await;
    let bob = &Person::new(&ann.api, "Bob", "USER").await;
    let apis = &[bob.at(&a), bob.at(&b)];
    iter(0..20)
        .for_each_concurrent(2, async |round| {
            let workspace = &ann.api.make_workspace().await;
            people::join(&ann.api, workspace, bob, "MEMBER").await;
            let chat = &ann.api.make_chat(workspace).await;
            let feed = ann.at(&b).follow(workspace, None).await;
            let acknowledged = &AtomicUsize::new(0);
            let removed = &AtomicUsize::new(0);
            let senders = join_all((0..SENDERS).map(async |sender| {
                let mut said = Vec::new();
                for number in 0..MOST {
                    let text = format!("{sender}.{number} count 1 0");
                    let after = removed.load(Ordering::SeqCst) > 0;
                    match apis[(sender + number) % 2].try_say(chat, &text).await {
                        Ok(_) => {
                            assert!(!after, "{text} was taken after the removal");
                            acknowledged.fetch_add(1, Ordering::SeqCst);
                            said.push(text);
                        }
                        Err(status) => {
                            assert_eq!(status, Some(404), "{text}");
                            return said;
                        }
                    }
                }
                said
            }));
            let removal = async {
                crate::until(Duration::from_secs(60), "some were said", async || {
                    acknowledged.load(Ordering::SeqCst) > round % SENDERS
                })
                .await;
                let answer = ann.api.delete(&member(workspace, bob)).await;
                removed.fetch_add(1, Ordering::SeqCst);
                assert_eq!(answer.status, 204, "{answer:?}");
            };
            let (said, ()) = join(senders, removal).await;
            let said: BTreeSet<String> = said.into_iter().flatten().collect();
            let stored = ann.api.get(&format!("{chat}/messages?limit=100&order=asc")).await.expect(200);
            let by_bob = |message: &&Value| message["author"]["id"] == bob.id;
            let stored: BTreeSet<String> = stored["items"]
                .as_array()
                .unwrap()
                .iter()
                .filter(by_bob)
                .map(|message| message["content"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(stored, said, "what was taken is there, and nothing else");
            // In the order of the log, too.
            feed.until("they left", |seen| seen.iter().any(|seen| seen.event == "member.left")).await;
            ann.api.make_chat(workspace).await;
            feed.until("what came later", |seen| {
                seen.iter().skip_while(|seen| seen.event != "member.left").any(|seen| seen.event == "chat.created")
            })
            .await;
            let seen = feed.seen();
            let mut late = seen.iter().skip_while(|seen| seen.event != "member.left");
            assert!(
                !late.any(|seen| seen.event == "message.created" && seen.data["message"]["author"]["id"] == bob.id)
            );
            let told = seen.iter().filter(|seen| seen.event == "message.created" && by_bob(&&seen.data["message"]));
            assert_eq!(told.count(), said.len());
        })
        .await;
}

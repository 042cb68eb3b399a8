//! Who belongs to a workspace.

use private_chat_core::model::workspace::Role;
use private_chat_tests::client::{App, Caller, Event, Events, PASSWORD, text};
use private_chat_tests::document::is_time;
use private_chat_tests::team::Team;
use serde_json::{Value, json};

crate::on_every_store!(
    members_are_listed_in_the_order_of_their_accounts,
    owners_give_and_take_roles,
    people_leave_and_are_removed,
    the_last_owner_stays_one,
    whoever_comes_back_gets_nothing_back,
    a_stream_ends_also_for_one_who_is_back_already,
    a_workspace_that_is_deleted_is_gone_at_once,
);

/// The path of a member.
fn member(workspace: &str, user: &Caller) -> String {
    format!("/workspaces/{workspace}/members/{}", user.id)
}

fn role(role: &str) -> Value {
    json!({"role": role})
}

async fn members(caller: &Caller, workspace: &str) -> Vec<Value> {
    let page = caller.get(&format!("/workspaces/{workspace}/members")).await.ok(200);
    page["items"].as_array().unwrap().clone()
}

async fn members_are_listed_in_the_order_of_their_accounts(app: App) {
    let admin = app.setup().await;
    let owner = app.user(&admin, "Owner").await;
    let home = owner.workspace().await;
    let mut people = vec![owner.id.clone()];
    for n in 0..5 {
        let user = app.user(&admin, &format!("Person {n}")).await;
        app.join(&home, &user, [Role::Member, Role::Guest][n % 2]).await;
        people.push(user.id);
    }
    people.sort();
    let ids = |items: &[Value]| items.iter().map(|item| text(&item["user"]["id"])).collect::<Vec<_>>();
    for limit in [1, 2, 5, 6, 100] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = owner.get(&format!("/workspaces/{home}/members/?limit={limit}{cursor}")).await.ok(200);
            seen.extend(ids(page["items"].as_array().unwrap()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, people);
    }
    let all = members(&owner, &home).await;
    let own = all.iter().find(|item| item["user"]["id"] == owner.id.as_str()).unwrap();
    let fields = json!({
        "user": {"id": owner.id, "name": "Owner", "email": "owner@example.com"}, "role": "OWNER", "joined_at": own["joined_at"],
    });
    assert_eq!(*own, fields);
    assert!(is_time(&text(&own["joined_at"])));
    let read = owner.get(&format!("/workspaces/{home}")).await.ok(200);
    assert_eq!(read["member_count"], people.len());
}

// R26, R46
async fn owners_give_and_take_roles(app: App) {
    let team = Team::on(app).await;
    let (owner, guest) = (&team.owner, &team.guest);
    let path = member(&team.workspace, guest);
    guest.post(&team.at("/chat")).json(json!({})).await.problem(403, "forbidden");
    let changed = owner.put(&path).json(role("MEMBER")).await.ok(200);
    let listed = members(owner, &team.workspace).await;
    assert!(listed.contains(&changed), "{changed} is none of {listed:?}");
    assert_eq!((&changed["role"], &changed["user"]["id"]), (&json!("MEMBER"), &json!(guest.id)));
    // It holds at once, for the same token.
    guest.post(&team.at("/chat")).json(json!({})).await.ok(201);
    assert_eq!(owner.put(&path).json(role("MEMBER")).await.ok(200), changed);
    owner.put(&format!("{path}/")).json(role("OWNER")).await.ok(200);
    guest.put(&member(&team.workspace, &team.member)).json(role("GUEST")).await.ok(200);
    team.member.post(&team.at("/chat")).json(json!({})).await.problem(403, "forbidden");
    guest.put(&member(&team.workspace, owner)).json(role("GUEST")).await.ok(200);
    owner.put(&path).json(role("GUEST")).await.problem(403, "forbidden");
    // A role of a workspace is none of the installation.
    assert_eq!(guest.get("/auth/me").await.ok(200)["role"], "USER");
    for wrong in [json!("ADMIN"), json!("USER"), json!("owner"), json!(""), json!(null), json!(["OWNER"]), json!(1)] {
        let answer = guest.put(&path).json(json!({"role": wrong})).await;
        assert_eq!(answer.wrong_fields(), ["role"], "{wrong}");
    }
    guest.put(&member(&team.workspace, &team.outsider)).json(role("MEMBER")).await.problem(404, "not_found");
    team.outsider.get(&team.at("")).await.problem(404, "not_found");
}

// R48, R49
async fn people_leave_and_are_removed(app: App) {
    let team = Team::on(app).await;
    let count = async || team.owner.get(&team.at("")).await.ok(200)["member_count"].clone();
    assert_eq!(count().await, 4);
    team.guest.delete(&member(&team.workspace, &team.member)).await.problem(403, "forbidden");
    team.guest.delete(&member(&team.workspace, &team.outsider)).await.problem(403, "forbidden");
    assert_eq!(team.guest.delete(&member(&team.workspace, &team.guest)).await.ok(204), Value::Null);
    team.owner.delete(&member(&team.workspace, &team.member)).await.ok(204);
    team.owner.delete(&member(&team.workspace, &team.member)).await.problem(404, "not_found");
    team.owner.delete(&member(&team.workspace, &team.outsider)).await.problem(404, "not_found");
    assert_eq!((count().await, members(&team.owner, &team.workspace).await.len()), (json!(2), 2));
    for gone in [&team.guest, &team.member] {
        for path in [team.at(""), team.at("/members"), team.at("/chats/history"), team.chat.clone()] {
            gone.get(&path).await.problem(404, "not_found");
        }
        gone.delete(&member(&team.workspace, gone)).await.problem(404, "not_found");
        assert_eq!(gone.get("/workspaces").await.ok(200)["items"], json!([]));
        gone.get("/auth/me").await.ok(200);
    }
    // What they wrote stays theirs.
    let chat = team.somebody.chat(&team.workspace).await;
    team.somebody.say(&chat, "Bye.").await;
    team.somebody.delete(&member(&team.workspace, &team.somebody)).await.ok(204);
    let read = team.owner.get(&chat).await.ok(200);
    assert_eq!(
        (&read["created_by"]["name"], &read["messages"][0]["author"]["id"]),
        (&json!("Somebody"), &json!(team.somebody.id))
    );
}

// R48
async fn the_last_owner_stays_one(app: App) {
    let team = Team::on(app).await;
    let own = member(&team.workspace, &team.owner);
    for lesser in ["MEMBER", "GUEST"] {
        team.owner.put(&own).json(role(lesser)).await.problem(409, "last_owner");
    }
    team.owner.delete(&own).await.problem(409, "last_owner");
    assert_eq!(team.owner.put(&own).json(role("OWNER")).await.ok(200)["role"], "OWNER");
    team.owner.put(&member(&team.workspace, &team.guest)).json(role("OWNER")).await.ok(200);
    team.owner.put(&own).json(role("GUEST")).await.ok(200);
    team.guest.delete(&member(&team.workspace, &team.guest)).await.problem(409, "last_owner");
    team.owner.delete(&member(&team.workspace, &team.guest)).await.problem(403, "forbidden");
    team.owner.delete(&own).await.ok(204);
}

/// Reads a stream until an event of this name comes; gives those that came.
async fn up_to(stream: &mut Events, name: &str) -> Vec<Event> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &Event| last.name != name) {
        seen.push(stream.next().await.unwrap());
    }
    seen
}

#[tokio::test]
async fn the_feed_of_a_workspace_tells_of_members_and_that_of_a_chat_does_not() {
    let team = Team::new().await;
    let mut feed = team.guest.get(&team.at("/events")).events().await;
    let start = feed.next().await.unwrap().id.unwrap();
    let mut chat = team.guest.get(&format!("{}/events", team.chat)).events().await;
    chat.next().await.unwrap();
    let invitation = team.owner.invite(&team.workspace, &team.outsider.email, "GUEST").await;
    team.outsider.post("/invitations/accept").json(json!({"token": invitation["token"]})).await.ok(200);
    let outsider = member(&team.workspace, &team.outsider);
    let joined = members(&team.owner, &team.workspace).await;
    let joined = joined.into_iter().find(|member| member["user"]["id"] == team.outsider.id.as_str()).unwrap();
    let updated = team.owner.put(&outsider).json(role("MEMBER")).await.ok(200);
    // Nothing has changed: nothing is told.
    team.owner.put(&outsider).json(role("MEMBER")).await.ok(200);
    team.owner.delete(&outsider).await.ok(204);
    team.owner.patch(&team.chat).json(json!({"title": "The end"})).await.ok(200);

    let told: Vec<_> = up_to(&mut feed, "chat.updated").await.into_iter().map(|event| event.data).collect();
    let expected = [
        json!({"type": "member.joined", "member": joined}),
        json!({"type": "member.updated", "member": updated}),
        json!({"type": "member.left", "user_id": team.outsider.id}),
    ];
    assert_eq!(told[..told.len() - 1], expected);
    let of_chat = up_to(&mut chat, "chat.updated").await;
    assert!(of_chat.iter().all(|event| !event.name.starts_with("member.")), "{of_chat:?}");
    // Whoever was away is told how it is by now: of one who is gone, that they went.
    let mut missed = team.guest.get(&team.at(&format!("/events?after={start}"))).events().await;
    let missed = up_to(&mut missed, "chat.updated").await;
    let missed: Vec<_> = missed.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(missed, ["member.left", "chat.updated"]);
}

// R27, R47, R50
async fn whoever_comes_back_gets_nothing_back(app: App) {
    let team = Team::on(app).await;
    let (owner, somebody, home) = (&team.owner, &team.somebody, &team.workspace);
    // They hold an invitation, hand out others, and follow what happens.
    team.app.leave(home, somebody).await;
    let held = owner.invite(home, &somebody.email, "OWNER").await;
    team.app.join(home, somebody, Role::Owner).await;
    let handed_out = somebody.invite(home, &team.outsider.email, "OWNER").await;
    let newcomers = somebody.invite(home, "newest@example.com", "GUEST").await;
    let mut streams = Vec::new();
    for path in [team.at("/events"), format!("{}/events", team.chat)] {
        let mut stream = somebody.get(&path).events().await;
        stream.next().await.unwrap();
        streams.push(stream);
    }
    owner.delete(&member(home, somebody)).await.ok(204);
    for stream in streams {
        stream.rest().await;
    }
    let void = async || {
        for (invited, invitation) in [(somebody, &held), (&team.outsider, &handed_out)] {
            for which in [json!({"token": invitation["token"]}), json!({"invitation_id": invitation["id"]})] {
                invited.post("/invitations/accept").json(which).await.problem(404, "not_found");
            }
            assert_eq!(invited.get("/invitations").await.ok(200)["items"], json!([]));
        }
        let register = json!({"token": newcomers["token"], "name": "Newest", "password": PASSWORD});
        team.app.anybody().post("/auth/register").json(register).await.problem(401, "invalid_invitation_token");
    };
    void().await;
    let again = owner.invite(home, &somebody.email, "GUEST").await;
    somebody.post("/invitations/accept").json(json!({"token": again["token"]})).await.ok(200);
    void().await;
    // They are what they were invited as, and no more.
    assert_eq!(somebody.get(&team.at("")).await.ok(200)["role"], "GUEST");
    somebody.post(&team.at("/chat")).json(json!({})).await.problem(403, "forbidden");
    // What the owner handed out, who stayed, still stands.
    let standing = owner.get(&team.at("/invitations")).await.ok(200);
    assert_eq!((&standing["items"][0]["id"], &standing["items"][1]), (&json!(team.invitation), &Value::Null));
}

// R50
async fn a_stream_ends_also_for_one_who_is_back_already(app: App) {
    let team = Team::on(app).await;
    let mut streams = Vec::new();
    for path in [team.at("/events"), format!("{}/events", team.chat)] {
        let mut stream = team.guest.get(&path).events().await;
        stream.next().await.unwrap();
        streams.push(stream);
    }
    let mut stays = team.member.get(&team.at("/events")).events().await;
    stays.next().await.unwrap();
    // Another role is no reason.
    team.owner.put(&member(&team.workspace, &team.member)).json(role("GUEST")).await.ok(200);
    team.owner.delete(&member(&team.workspace, &team.guest)).await.ok(204);
    team.app.join(&team.workspace, &team.guest, Role::Guest).await;
    for stream in streams {
        stream.rest().await;
    }
    let mut anew = team.guest.get(&team.at("/events")).events().await;
    anew.next().await.unwrap();
    team.owner.patch(&team.chat).json(json!({"title": "New"})).await.ok(200);
    for stream in [&mut stays, &mut anew] {
        stream.until("chat.updated").await;
    }
}

// R49
async fn a_workspace_that_is_deleted_is_gone_at_once(app: App) {
    let team = Team::on(app).await;
    let mut feed = team.guest.get(&team.at("/events")).events().await;
    feed.next().await.unwrap();
    let invitation = team.owner.invite(&team.workspace, &team.outsider.email, "GUEST").await;
    team.member.delete(&team.at("")).await.problem(403, "forbidden");
    team.owner.delete(&format!("{}/", team.at(""))).await.ok(204);
    feed.rest().await;
    for caller in [&team.owner, &team.member, &team.guest, &team.admin] {
        for path in [team.at(""), team.at("/members"), team.at("/chats/history"), team.chat.clone()] {
            caller.get(&path).await.problem(404, "not_found");
        }
        assert_eq!(caller.get("/workspaces").await.ok(200)["items"], json!([]));
    }
    team.owner.delete(&team.at("")).await.problem(404, "not_found");
    team.owner.put(&team.at("")).json(json!({"name": "Back"})).await.problem(404, "not_found");
    assert_eq!(team.outsider.get("/invitations").await.ok(200)["items"], json!([]));
    let accept = team.outsider.post("/invitations/accept").json(json!({"token": invitation["token"]}));
    accept.await.problem(404, "not_found");
    let register = json!({"token": team.token, "name": "New", "password": PASSWORD});
    team.app.anybody().post("/auth/register").json(register).await.problem(401, "invalid_invitation_token");
    // Nobody owns it any more, so that its owner may go.
    team.admin.delete(&format!("/users/{}", team.owner.id)).await.ok(204);
}

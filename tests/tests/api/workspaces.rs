//! Workspaces, and the pages of lists.

use private_chat_tests::client::{App, Caller, text};
use private_chat_tests::document::{is_id, is_time};
use private_chat_tests::team::Team;
use serde_json::{Value, json};

crate::on_every_store!(whoever_makes_a_workspace_owns_it, pages_have_every_item_once, text_comes_back_byte_by_byte);

async fn whoever_makes_a_workspace_owns_it(app: App) {
    let admin = app.setup().await;
    let ann = app.user(&admin, "Ann").await;
    let made = ann.post("/workspaces/").json(json!({"name": "Research", "description": "What we find"})).await.ok(201);
    let fields = json!({
        "id": made["id"], "name": "Research", "description": "What we find", "default_model": null, "system_prompt": null,
        "require_two_factor": false, "role": "OWNER", "member_count": 1,
        "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    assert_eq!(made, fields);
    assert!(is_id(&text(&made["id"])) && is_time(&text(&made["created_at"])));
    let path = format!("/workspaces/{}", text(&made["id"]));
    assert_eq!(ann.get(&path).await.ok(200), made);
    assert_eq!(ann.get(&format!("{path}/")).await.ok(200), made);
    assert_eq!(ann.get("/workspaces").await.ok(200), json!({"items": [made], "next_cursor": null}));
    assert_eq!(admin.get("/workspaces").await.ok(200), json!({"items": [], "next_cursor": null}));

    // What is left out of a change stays, what is null goes.
    let change = json!({"name": "Lab", "default_model": "scripted/parrot", "system_prompt": "Be brief."});
    let changed = ann.put(&path).json(change).await.ok(200);
    assert_eq!((&changed["name"], &changed["description"]), (&json!("Lab"), &json!("What we find")));
    assert!(text(&changed["updated_at"]) > text(&made["updated_at"]));
    assert_eq!(changed["created_at"], made["created_at"]);
    let cleared = json!({"description": null, "default_model": null, "system_prompt": null});
    let cleared = ann.put(&format!("{path}/")).json(cleared).await.ok(200);
    let cleared = |field: &str| cleared[field].clone();
    assert_eq!(
        [cleared("description"), cleared("default_model"), cleared("system_prompt")],
        [Value::Null, Value::Null, Value::Null]
    );
    assert_eq!(cleared("name"), "Lab");
    let same = ann.put(&path).json(json!({})).await.ok(200);
    assert_eq!(same["name"], "Lab");
}

// R44, R65, R86
#[tokio::test]
async fn a_workspace_is_checked_field_by_field() {
    let team = Team::new().await;
    let (owner, path) = (&team.owner, team.at(""));
    let made = async |body: Value| owner.post("/workspaces").json(body).await.wrong_fields();
    assert_eq!(made(json!({})).await, ["name"]);
    assert_eq!(made(json!({"name": "", "description": 7})).await, ["description"]);
    assert_eq!(made(json!({"name": " ", "description": "x".repeat(2001)})).await, ["name", "description"]);
    assert_eq!(made(json!({"name": "x".repeat(101)})).await, ["name"]);
    for read_only in ["id", "role", "owner_id", "member_count", "created_at", "require_two_factor", "version"] {
        assert_eq!(made(json!({"name": "A", read_only: 1})).await, [read_only]);
    }
    let changed = async |body: Value| owner.put(&path).json(body).await.wrong_fields();
    assert_eq!(changed(json!({"name": null})).await, ["name"]);
    for model in ["none", "scripted/none", "parrot", "scripted/", "a b", "", "../x", &"x".repeat(200)] {
        assert_eq!(changed(json!({"default_model": model})).await, ["default_model"], "{model}");
    }
    assert_eq!(changed(json!({"system_prompt": "x".repeat((32 << 10) + 1)})).await, ["system_prompt"]);
    for read_only in ["id", "role", "member_count", "updated_at", "workspace_id"] {
        assert_eq!(changed(json!({read_only: 1})).await, [read_only]);
    }
    assert_eq!(team.owner.get(&path).await.ok(200)["name"], "Research");
}

/// The ids of a whole list, page by page.
pub(crate) async fn walk(caller: &Caller, list: &str, limit: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let joint = if list.contains('?') { '&' } else { '?' };
        let page = caller.get(&format!("{list}{joint}limit={limit}{cursor}")).await.ok(200);
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| text(&item["id"])));
        match page["next_cursor"].as_str() {
            Some(next) => {
                assert_eq!(items.len(), limit, "only the last page is short");
                cursor = format!("&cursor={next}");
            }
            None => return seen,
        }
    }
}

// R105, R108
async fn pages_have_every_item_once(app: App) {
    let admin = app.setup().await;
    let ann = app.user(&admin, "Ann").await;
    let mut workspaces = Vec::new();
    for _ in 0..5 {
        workspaces.push(ann.workspace().await);
    }
    // Newest first; within a millisecond chance decides.
    workspaces.sort_by(|a, b| b.cmp(a));
    let home = workspaces[0].clone();
    let mut chats = Vec::new();
    for _ in 0..5 {
        chats.insert(0, ann.chat(&home).await);
    }
    // The chat that was last active comes first.
    let chat = chats.remove(3);
    let mut messages = Vec::new();
    for n in 0..3 {
        let (message, reply) = ann.say(&chat, &format!("{n}")).await;
        messages.extend([text(&message["id"]), text(&reply["id"])]);
    }
    chats.insert(0, chat.clone());
    let chats: Vec<_> = chats.iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect();
    let newest_first: Vec<_> = messages.iter().rev().cloned().collect();
    for limit in [1, 2, 3, 5, 6, 100] {
        assert_eq!(walk(&ann, "/workspaces", limit).await, workspaces);
        assert_eq!(walk(&ann, &format!("/workspaces/{home}/chats/history"), limit).await, chats);
        assert_eq!(walk(&ann, &format!("{chat}/messages"), limit).await, newest_first);
        assert_eq!(walk(&ann, &format!("{chat}/messages/?order=desc"), limit).await, newest_first);
        assert_eq!(walk(&ann, &format!("{chat}/messages?order=asc"), limit).await, messages);
    }
    // Nothing is skipped or comes twice while others insert.
    let first = ann.get(&format!("{chat}/messages?limit=2")).await.ok(200);
    ann.say(&chat, "more").await;
    let rest = format!("{chat}/messages?limit=100&cursor={}", text(&first["next_cursor"]));
    let rest = ann.get(&rest).await.ok(200);
    let ids = |page: &Value| page["items"].as_array().unwrap().iter().map(|item| text(&item["id"])).collect::<Vec<_>>();
    assert_eq!([ids(&first), ids(&rest)].concat(), newest_first);
}

// R65, R66
#[tokio::test]
async fn a_page_is_asked_for_within_bounds() {
    let team = Team::new().await;
    for list in ["/workspaces".to_owned(), team.at("/chats/history"), format!("{}/messages", team.chat)] {
        for bad in ["0", "101", "-1", "1.5", "x", "", "1e2", "18446744073709551616", "%201"] {
            let answer = team.owner.get(&format!("{list}?limit={bad}")).await;
            assert_eq!(answer.wrong_fields(), ["limit"], "{bad}");
        }
        for bad in ["x", "%00", "AAAA", "%F0%9F%98%80", &"A".repeat(4_000), "' OR 1=1", "../..", ""] {
            let answer = team.owner.get(&format!("{list}?cursor={bad}")).await;
            assert_eq!(answer.wrong_fields(), ["cursor"], "{list} {bad}");
        }
        for (twice, field) in [("limit=1&limit=2", "limit"), ("cursor=a&cursor=b", "cursor")] {
            assert_eq!(team.owner.get(&format!("{list}?{twice}")).await.wrong_fields(), [field]);
        }
        team.owner.get(&format!("{list}?limit=1&unknown=x&role=ADMIN&")).await.ok(200);
        team.owner.get(&format!("{list}/?limit=100")).await.ok(200);
    }
    // A cursor of one list is none of another.
    let page = team.owner.get(&team.at("/chats/history?limit=1")).await.ok(200);
    assert_eq!(page["next_cursor"], Value::Null);
    team.owner.chat(&team.workspace).await;
    let cursor = text(&team.owner.get(&team.at("/chats/history?limit=1")).await.ok(200)["next_cursor"]);
    assert_eq!(team.owner.get(&format!("/workspaces?cursor={cursor}")).await.wrong_fields(), ["cursor"]);
    let messages = format!("{}/messages", team.chat);
    assert_eq!(team.owner.get(&format!("{messages}?cursor={cursor}")).await.wrong_fields(), ["cursor"]);
    assert_eq!(team.owner.get(&format!("{messages}?order=up")).await.wrong_fields(), ["order"]);
    assert_eq!(team.owner.get(&team.at("/chats/history?archived=1")).await.wrong_fields(), ["archived"]);
}

// R67, R70
async fn text_comes_back_byte_by_byte(app: App) {
    let admin = app.setup().await;
    let ann = app.user(&admin, "Ann").await;
    let home = ann.workspace().await;
    let chat = ann.chat(&home).await;
    for odd in [
        "😀👩‍👩‍👧‍👦 \u{10ffff}",
        "\u{202e}right to left\u{202c} שלום",
        "zero\u{200b}width\u{feff}\u{2060}",
        "e\u{301} is not é",
        " spaces  around ",
        "'; DROP TABLE users; --",
        "\" OR \"\"=\" % _ \\ ` /* */",
        "<script>alert(1)</script> {{7*7}} ${7*7}",
        "\\u0000 %00 \\",
    ] {
        let made = ann.post("/workspaces").json(json!({"name": odd, "description": odd})).await.ok(201);
        let path = format!("/workspaces/{}", text(&made["id"]));
        let read = ann.get(&path).await.ok(200);
        assert_eq!((&read["name"], &read["description"]), (&json!(odd), &json!(odd)));
        let lines = format!("{odd}\r\n\t{odd}\n");
        let (message, _) = ann.say(&chat, &lines).await;
        assert_eq!(message["content"], lines.as_str());
        let read = ann.get(&format!("{chat}/messages?limit=2")).await.ok(200);
        assert_eq!(read["items"][1]["content"], lines.as_str());
        let renamed = ann.patch(&chat).json(json!({"title": odd})).await.ok(200);
        assert_eq!(renamed["title"], odd);
    }
    assert_eq!(ann.get("/workspaces").await.ok(200)["items"].as_array().unwrap().len(), 10);
}

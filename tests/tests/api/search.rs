//! Chats that are searched for.

use private_chat_tests::client::{App, Caller, text};
use private_chat_tests::team::Team;
use serde_json::json;
use url::form_urlencoded::byte_serialize;

use crate::events::at_home;

crate::on_every_store!(
    chats_are_found_by_their_titles_and_messages,
    every_query_is_answered,
    what_may_not_be_seen_is_not_found,
    pages_of_what_is_found_go_to_the_end,
);

/// What somebody types that no language of queries was made for.
const ODD: &[&str] = &[
    "",
    " ",
    "\t\n",
    "*",
    "**",
    "a*",
    "*a",
    "\"",
    "\"\"",
    "\"unbalanced",
    "'",
    "''",
    "'; DROP TABLE chats; --",
    "' OR '1'='1",
    "%",
    "%%%",
    "_",
    "\\",
    "\\\\",
    "\\'",
    "+",
    "-",
    "- -",
    "+word -word",
    "~word",
    "word~2",
    "(",
    ")",
    "()",
    "(()",
    "<>",
    "@",
    "@5",
    "a@b.c",
    "AND",
    "OR",
    "NOT",
    "NEAR(a b)",
    "a AND",
    "title:x",
    "{a b}",
    "[a]",
    "^a",
    "a^2",
    "a:b",
    "NULL",
    "\u{1}",
    "a\u{7f}b",
    "\u{feff}",
    "\u{202e}",
    "e\u{301}\u{301}\u{301}",
    "😀",
    "👩‍👩‍👧‍👦",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
];

fn query(words: &str) -> String {
    byte_serialize(words.as_bytes()).collect()
}

/// The titles of the chats that are found.
async fn found(caller: &Caller, history: &str, words: &str) -> Vec<String> {
    let page = caller.get(&format!("{history}?limit=100&q={}", query(words))).await.ok(200);
    let mut titles: Vec<_> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|chat| chat["title"].as_str().unwrap_or_default().to_owned())
        .collect();
    titles.sort();
    titles
}

async fn titled(caller: &Caller, workspace: &str, title: &str) -> String {
    let made = caller.post(&format!("/workspaces/{workspace}/chat")).json(json!({"title": title})).await.ok(201);
    format!("/workspaces/{workspace}/chat/{}", text(&made["id"]))
}

async fn chats_are_found_by_their_titles_and_messages(app: App) {
    let (ann, home, untitled) = at_home(&app).await;
    let history = format!("/workspaces/{home}/chats/history");
    let bread = titled(&ann, &home, "Baking bread at José's").await;
    let tokyo = titled(&ann, &home, "東京の天気").await;
    ann.say(&bread, "How much Hefe for 500 g of flour? Straße").await;
    ann.say(&tokyo, "明日は雨ですか").await;
    let bread_alone = ["Baking bread at José's"];
    for words in ["bread", "BREAD baking", "jose", "hefe", "flour 500", "strasse", "STRASSE, flour!"] {
        assert_eq!(found(&ann, &history, words).await, bread_alone, "{words}");
    }
    for words in ["東京", "天気", "雨"] {
        assert_eq!(found(&ann, &history, words).await, ["東京の天気"], "{words}");
    }
    // Words are whole, and all are in the title or in one message.
    for words in ["bre", "readings", "bread flour", "bread 雨", "nothing"] {
        assert!(found(&ann, &history, words).await.is_empty(), "{words}");
    }
    // What a reply says is found, too: every one of them said this.
    assert_eq!(found(&ann, &history, "hello world").await, ["Baking bread at José's", "東京の天気"]);
    // What is no question at all asks for nothing, and all are shown.
    for blank in ["", " ", "\t \n"] {
        assert_eq!(found(&ann, &history, blank).await.len(), 3, "{blank:?}");
    }
    // A chat is found by the title that it has now.
    ann.patch(&bread).json(json!({"title": "Cake"})).await.ok(200);
    assert!(found(&ann, &history, "bread").await.is_empty());
    assert_eq!(found(&ann, &history, "cake").await, ["Cake"]);
    ann.patch(&bread).json(json!({"title": null})).await.ok(200);
    assert!(found(&ann, &history, "cake").await.is_empty());
    assert_eq!(found(&ann, &history, "hefe").await, [""]);
    // Those that were put away are found among those.
    ann.patch(&tokyo).json(json!({"archived": true})).await.ok(200);
    assert!(found(&ann, &history, "東京").await.is_empty());
    let away = ann.get(&format!("{history}?archived=true&q={}", query("東京"))).await.ok(200);
    assert_eq!(away["items"].as_array().unwrap().len(), 1);
    // And what is gone is not found.
    ann.delete(&bread).await.ok(204);
    assert!(found(&ann, &history, "hefe").await.is_empty());
    ann.delete(&untitled).await.ok(204);
}

// R72
async fn every_query_is_answered(app: App) {
    let (ann, home, chat) = at_home(&app).await;
    let history = format!("/workspaces/{home}/chats/history");
    ann.say(&chat, "Nothing odd in here").await;
    let long = [
        "x".repeat(4_000),
        "wort ".repeat(800),
        "東京都庁".repeat(300),
        "a\u{301}".repeat(900),
        "\"*+-()~<>@".repeat(300),
    ];
    for words in ODD.iter().copied().chain(long.iter().map(String::as_str)) {
        let page = ann.get(&format!("{history}?q={}", query(words))).await.ok(200);
        let found = page["items"].as_array().unwrap().len();
        assert_eq!(found, usize::from(words.trim().is_empty()), "{words:?}");
        // What is looked for odd is found where it was said, or nothing of it is a word.
        assert_eq!(page["next_cursor"], serde_json::Value::Null, "{words:?}");
    }
    // What is no text at all is no query, and is said to be none.
    for raw in ["%", "%zz", "%ff%fe", "%00", "%c3", "+", "a&q=b", "?q=c", "%F0%9F%98"] {
        let answer = ann.get(&format!("{history}?q={raw}")).await;
        assert!(matches!(answer.status, 200 | 422), "{raw}: {}", answer.text());
    }
}

// D2, R41, R43
async fn what_may_not_be_seen_is_not_found(app: App) {
    let team = Team::on(app).await;
    let history = team.at("/chats/history");
    let private = json!({"title": "Treasure", "visibility": "private"});
    let private = team.member.post(&team.at("/chat")).json(private).await.ok(201);
    let private = team.at(&format!("/chat/{}", text(&private["id"])));
    team.member.say(&private, "The island").await;
    let elsewhere = team.outsider.workspace().await;
    titled(&team.outsider, &elsewhere, "Treasure of others").await;
    for words in ["treasure", "island"] {
        assert_eq!(found(&team.member, &history, words).await, ["Treasure"]);
        for other in [&team.owner, &team.guest, &team.somebody] {
            assert!(found(other, &history, words).await.is_empty(), "{words}");
        }
    }
    team.outsider.get(&format!("{history}?q=treasure")).await.problem(404, "not_found");
    team.member.patch(&private).json(json!({"visibility": "workspace"})).await.ok(200);
    assert_eq!(found(&team.guest, &history, "island").await, ["Treasure"]);
    let mine = team.guest.get(&format!("{history}?mine=true&q=island")).await.ok(200);
    assert_eq!(mine["items"], json!([]));
}

async fn pages_of_what_is_found_go_to_the_end(app: App) {
    let (ann, home, _) = at_home(&app).await;
    let history = format!("/workspaces/{home}/chats/history");
    let mut expected = Vec::new();
    for n in 0..23 {
        let word = if n % 3 == 0 { "needle" } else { "hay" };
        let path = titled(&ann, &home, &format!("{word} {n}")).await;
        if n % 3 == 0 {
            expected.insert(0, path.rsplit('/').next().unwrap().to_owned());
        }
    }
    for limit in [1, 2, 3, 50] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        // A page may be short, and yet not the last.
        loop {
            let page = ann.get(&format!("{history}?q=NEEDLE&limit={limit}{cursor}")).await.ok(200);
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit);
            seen.extend(items.iter().map(|chat| text(&chat["id"])));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, expected, "{limit}");
    }
}

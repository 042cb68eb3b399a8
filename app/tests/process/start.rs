//! The first start, the second, and two at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::iter;
use libtest_mimic::Trial;
use private_chat_tests::servers::{Database, Servers};
use serde_json::json;
use tokio::time::sleep;

use crate::program::{Home, bytes};
use crate::{mysql_trial, trial};

const KEYS: [&str; 3] = ["encryption.key", "private.pem", "public.pem"];

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("the_first_start_makes_everything_and_the_second_keeps_it", first_and_second),
        trial("a_private_key_that_others_may_read_is_refused", too_open_a_key),
        trial("a_process_with_other_keys_is_refused", || other_keys(None)),
        mysql_trial(servers, "a_process_with_other_keys_is_refused", |database| other_keys(Some(database))),
        trial("a_process_whose_keys_turn_out_to_be_others_ends", keys_turn_out_to_be_others),
        trial("two_that_start_at_once_agree", || async {
            iter(0..20).for_each_concurrent(4, |_| two_at_once(Home::new())).await;
        }),
        mysql_trial(servers, "two_that_start_at_once_agree", |database| two_at_once(Home::new().on(Some(&database)))),
        trial("a_first_start_that_was_killed_is_mended_by_the_next", || async {
            iter(0..16).for_each_concurrent(2, |step| killed_first_start(Home::with_keys(), step * 15)).await;
        }),
        mysql_trial(servers, "a_first_start_that_was_killed_is_mended_by_the_next", |database| async move {
            // Each start goes on where the one before was killed.
            let home = Home::with_keys().on(Some(&database));
            for step in 0..8 {
                let program = home.launch();
                sleep(Duration::from_millis(100 + step * 25)).await;
                program.kill().await;
            }
            killed_first_start(home, 0).await;
        }),
    ]
}

// R91, R110
async fn first_and_second() {
    let home = Home::new();
    let program = home.start().await;
    assert_eq!(home.names("keys"), KEYS);
    assert_eq!(home.mode("keys/encryption.key"), 0o600);
    assert_eq!(home.mode("keys/private.pem"), 0o600);
    assert_eq!((home.mode("keys"), home.mode("data")), (0o700, 0o700));
    assert!(home.path("data/private-chat.db").is_file());
    assert_eq!(program.api().get("/health/").await.expect(200), json!({"status": "ok"}));
    assert_eq!(program.api().get("/health/ready").await.expect(200), json!({"status": "ok"}));
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    let keys = KEYS.map(|name| bytes(&home.path(&format!("keys/{name}"))));
    program.stop().await;

    let program = home.start().await;
    assert_eq!(KEYS.map(|name| bytes(&home.path(&format!("keys/{name}")))), keys);
    ann.moved_to(&program).get(&workspace).await.expect(200);
    program.api().post("/auth/setup", &json!({})).await.is_problem(422, "invalid");
}

// R91
async fn too_open_a_key() {
    for key in ["keys/private.pem", "keys/encryption.key"] {
        let home = Home::with_keys();
        home.set_mode(key, 0o640);
        let ran = home.run(&["serve"]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.complaint.contains(&format!("chmod 600 {key}")), "{ran:?}");
        assert!(!home.path("data").exists());
    }
}

async fn other_keys(database: Option<Arc<Database>>) {
    let home = Home::with_keys().on(database.as_deref());
    let program = home.start().await;
    program.api().set_up().await;
    for (kept, named) in [("private.pem", "security.encryption_key_file"), ("encryption.key", "JWT_PRIVATE_KEY_PATH")] {
        let other =
            Home::new().on(database.as_deref()).set("PRIVATE_CHAT_DATA_DIR", home.path("data").to_str().unwrap());
        // It makes keys of its own, and then one of them is the right one.
        other.run(&["config", "check"]).await;
        let text = String::from_utf8(bytes(&home.path(&format!("keys/{kept}")))).unwrap();
        other.write(&format!("keys/{kept}"), 0o600, &text);
        std::fs::remove_file(other.path("keys/public.pem")).unwrap();
        let ran = other.run(&["serve"]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.complaint.contains(named) && ran.complaint.contains("copy"), "{ran:?}");
        assert_eq!(ran.complaint.lines().count(), 1, "{ran:?}");
    }
    program.api().get("/health/ready").await.expect(200);
}

/// Both are there before anybody says whose installation it is.
async fn keys_turn_out_to_be_others() {
    let home = Home::with_keys();
    let other = Home::new().set("PRIVATE_CHAT_DATA_DIR", home.path("data").to_str().unwrap());
    let (a, mut b) = (home.start().await, other.start().await);
    let ann = a.api().set_up().await;
    assert_eq!(b.ended(Duration::from_secs(30)).await.code(), Some(1));
    let log = b.log();
    assert!(log.iter().any(|line| line.contains("security.encryption_key_file")), "{log:?}");
    ann.get("/auth/me").await.expect(200);
}

// F10, R91, R111
async fn two_at_once(home: Home) {
    let (a, b) = join(home.start(), home.start()).await;
    assert_eq!(home.names("keys"), KEYS);
    let ann_of_a = a.api().set_up().await;
    let ann_of_b = b.api().log_in().await;
    for (ann, program) in [(&ann_of_a, &b), (&ann_of_b, &a)] {
        ann.moved_to(program).get("/auth/me").await.expect(200);
        program.api().get("/health/ready").await.expect(200);
    }
    let migrated = [&a, &b].map(|program| program.entries("the database was migrated").len());
    assert!(migrated.contains(&0) && migrated != [0, 0], "just one of them migrates: {migrated:?}");
}

// F11, R111
async fn killed_first_start(home: Home, after: u64) {
    let program = home.launch();
    sleep(Duration::from_millis(after)).await;
    program.kill().await;
    let program = home.start().await;
    program.api().get("/health/ready").await.expect(200);
    let ann = program.api().set_up().await;
    let workspace = ann.make_workspace().await;
    ann.make_chat(&workspace).await;
}

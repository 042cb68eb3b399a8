//! The command line of accounts: making administrators, and letting people in again.

use std::sync::Arc;

use futures_util::future::join_all;
use libtest_mimic::{Completion, Trial};
use private_chat_tests::servers::{Database, Servers};
use serde_json::json;
use tokio::net::TcpListener;

use crate::client::{ANN, Api, End, PASSWORD};
use crate::program::{Home, Ran};
use crate::terminal::Terminal;
use crate::{REVOKED, in_time, mysql_trial, runtime, trial};

const CREATE_ANN: [&str; 7] = ["admin", "create", "--email", ANN, "--name", "Ann", "--password-stdin"];
/// Passwords that may be one.
const FORGOTTEN: &str = "tepid kettle of 7 gnats";
const RESET: &str = "gentle otters  sing off key";

pub(crate) fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    vec![
        trial("an_operator_makes_administrators_before_and_after_the_setup", || administrators(None)),
        mysql_trial(servers, "an_operator_makes_administrators_before_and_after_the_setup", |database| {
            administrators(Some(database))
        }),
        trial("a_password_that_an_operator_resets_ends_all_sessions", || reset(None)),
        mysql_trial(servers, "a_password_that_an_operator_resets_ends_all_sessions", |database| reset(Some(database))),
        trial("an_operator_with_other_keys_is_refused", || other_keys(None)),
        mysql_trial(servers, "an_operator_with_other_keys_is_refused", |database| other_keys(Some(database))),
        trial("operators_and_a_setup_at_once_make_one_installation", || at_once(None)),
        mysql_trial(servers, "operators_and_a_setup_at_once_make_one_installation", |database| at_once(Some(database))),
        trial("an_operator_is_told_what_is_not_acceptable", not_acceptable),
        trial("an_operator_is_told_that_the_database_is_away", away),
        Trial::ignorable_test("a_password_is_typed_twice_and_never_shown", || {
            let mut there = true;
            in_time(&runtime()?, async { there = typed().await.is_some() })?;
            Ok(if there { Completion::Completed } else { Completion::ignored_with("no setsid") })
        }),
    ]
}

/// Runs a command of an operator who pipes this password into it. It must not be seen again.
async fn run(home: &Home, arguments: &[&str], password: &str) -> Ran {
    let ran = home.run_telling(arguments, &format!("{password}\n")).await;
    let shown = password.len() > 3 && (ran.told.contains(password) || ran.complaint.contains(password));
    assert!(!shown, "{ran:?}");
    ran
}

/// The id in the one line of a command that was carried out.
#[track_caller]
fn done(ran: &Ran, email: &str) -> String {
    assert_eq!((ran.code, ran.complaint.as_str()), (Some(0), ""), "{ran:?}");
    let (id, rest) = ran.told.split_once(' ').unwrap();
    assert_eq!((id.len(), rest), (36, format!("{email}\n").as_str()));
    id.to_owned()
}

/// Makes sure that nothing was done, and gives the one line that says why.
#[track_caller]
fn refused(ran: &Ran, code: i32) -> &str {
    assert_eq!((ran.code, ran.told.as_str()), (Some(code), ""), "{ran:?}");
    assert_eq!(ran.complaint.lines().count(), 1, "{ran:?}");
    ran.complaint.trim_end()
}

// R1, R2
async fn administrators(database: Option<Arc<Database>>) {
    let home = Home::with_keys().on(database.as_deref());
    // On an empty database.
    let unknown = run(&home, &["admin", "reset-password", "--email", ANN, "--password-stdin"], PASSWORD).await;
    assert_eq!(refused(&unknown, 4), "private-chat: there is no account with this email");
    let ann = done(&run(&home, &CREATE_ANN, PASSWORD).await, ANN);
    let taken = ["admin", "create", "--email", " ANN@Example.COM", "--name", "Ann", "--password-stdin"];
    let taken = run(&home, &taken, RESET).await;
    assert_eq!(refused(&taken, 3), "private-chat: an account with this email exists already");

    let program = home.start().await;
    let setup = json!({"email": "eve@example.com", "name": "Eve", "password": PASSWORD});
    program.api().post("/auth/setup", &setup).await.is_problem(409, "setup_completed");
    assert!(program.api().log_in_as(ANN, RESET).await.is_none(), "whose email it is stays as they were");
    let at_ann = program.api().log_in().await;
    let me = at_ann.me().await;
    assert_eq!((&me["id"], &me["role"], &me["must_change_password"]), (&json!(ann), &json!("ADMIN"), &json!(false)));

    // Beside a running server; the line may end as elsewhere.
    let create = ["admin", "create", "--email", "bob@example.com", "--name", "Bob", "--password-stdin"];
    let bob = done(&home.run_telling(&create, &format!("{RESET}\r\nand more\n")).await, "bob@example.com");
    let at_bob = program.api().log_in_as("bob@example.com", RESET).await.unwrap();
    assert_eq!(at_bob.me().await["id"], bob);
    let users = at_bob.get("/users/").await.expect(200);
    let ids: Vec<_> = users["items"].as_array().unwrap().iter().map(|user| &user["id"]).collect();
    assert_eq!(ids, [&json!(bob), &json!(ann)]);
    let log = program.log().join("\n");
    assert!(!log.contains(PASSWORD) && !log.contains(RESET));
}

// R4, R25, R27
async fn reset(database: Option<Arc<Database>>) {
    let home = Home::with_keys().on(database.as_deref());
    done(&run(&home, &CREATE_ANN, FORGOTTEN).await, ANN);
    let program = home.start().await;
    let signed_in = json!({"email": ANN, "password": FORGOTTEN});
    let tokens = program.api().post("/auth/login", &signed_in).await.expect(200)["tokens"].clone();
    let before = program.api().with_token(tokens["access_token"].as_str().unwrap());
    let feed = before.follow(&before.make_workspace().await, None).await;

    let reset = ["admin", "reset-password", "--email", "Ann@example.com", "--password-stdin"];
    done(&run(&home, &reset, RESET).await, ANN);
    before.get("/auth/me").await.is_problem(401, "unauthenticated");
    let refresh = json!({"refresh_token": tokens["refresh_token"]});
    program.api().post("/auth/refresh", &refresh).await.is_problem(401, "invalid_refresh_token");
    assert_eq!(feed.ended(REVOKED).await.1, End::Clean);
    assert!(program.api().log_in_as(ANN, FORGOTTEN).await.is_none());
    let after = program.api().log_in_as(ANN, RESET).await.unwrap();
    assert_eq!(after.me().await["must_change_password"], false);

    // A password that does for a while.
    done(&run(&home, &[&reset[..], &["--must-change"]].concat(), FORGOTTEN).await, ANN);
    let bound = program.api().log_in_as(ANN, FORGOTTEN).await.unwrap();
    assert_eq!(bound.me().await["must_change_password"], true);
    bound.get("/workspaces").await.is_problem(403, "password_change_required");
    let change = json!({"current_password": FORGOTTEN, "new_password": PASSWORD});
    assert_eq!(bound.post("/auth/password", &change).await.status, 204);
    bound.get("/workspaces").await.expect(200);
    let log = program.log().join("\n");
    assert!(![FORGOTTEN, RESET, PASSWORD].iter().any(|password| log.contains(password)));
}

async fn other_keys(database: Option<Arc<Database>>) {
    let home = Home::with_keys().on(database.as_deref());
    done(&run(&home, &CREATE_ANN, PASSWORD).await, ANN);
    for (kept, named) in [("private.pem", "security.encryption_key_file"), ("encryption.key", "JWT_PRIVATE_KEY_PATH")] {
        let other =
            Home::new().on(database.as_deref()).set("PRIVATE_CHAT_DATA_DIR", home.path("data").to_str().unwrap());
        std::fs::create_dir(other.path("keys")).unwrap();
        std::fs::copy(home.path(&format!("keys/{kept}")), other.path(&format!("keys/{kept}"))).unwrap();
        for command in [
            &["admin", "create", "--email", "eve@example.com", "--name", "Eve", "--password-stdin"][..],
            &["admin", "reset-password", "--email", ANN, "--password-stdin"],
        ] {
            let ran = run(&other, command, RESET).await;
            let why = refused(&ran, 1);
            assert!(why.contains(named) && why.contains("copy"), "{ran:?}");
        }
    }
    let program = home.start().await;
    let ann = program.api().log_in().await;
    assert_eq!(ann.get("/users/").await.expect(200)["items"].as_array().unwrap().len(), 1, "nothing was written");
}

// R1, F46
async fn at_once(database: Option<Arc<Database>>) {
    let home = Home::with_keys().on(database.as_deref());
    let program = home.start().await;
    let emails: Vec<String> = (0..4).map(|number| format!("admin{number}@example.com")).collect();
    let operators = join_all(emails.iter().map(async |email| {
        let ran = run(&home, &["admin", "create", "--email", email, "--name", "A", "--password-stdin"], PASSWORD).await;
        done(&ran, email)
    }));
    let stranger = async {
        let ann = json!({"email": ANN, "name": "Ann", "password": PASSWORD});
        let answer = program.api().post("/auth/setup", &ann).await;
        assert!([201, 409].contains(&answer.status), "{answer:?}");
        usize::from(answer.status == 201)
    };
    // One of the operators and the stranger ask for the same email.
    let twice = async {
        let both = join_all((0..2).map(|_| run(&home, &CREATE_BEN, PASSWORD))).await;
        let mut codes: Vec<_> = both.iter().map(|ran| ran.code).collect();
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(3)], "{both:?}");
    };
    let (made, set_up, ()) = futures_util::future::join3(operators, stranger, twice).await;
    let any = program.api().log_in_as(&emails[0], PASSWORD).await.unwrap();
    let users = any.get("/users/?role=ADMIN").await.expect(200);
    assert_eq!(users["items"].as_array().unwrap().len(), made.len() + set_up + 1);
    let late = json!({"email": "eve@example.com", "name": "Eve", "password": PASSWORD});
    program.api().post("/auth/setup", &late).await.is_problem(409, "setup_completed");
}

const CREATE_BEN: [&str; 7] = ["admin", "create", "--email", "ben@example.com", "--name", "Ben", "--password-stdin"];

// R4, R5
async fn not_acceptable() {
    let home = Home::with_keys();
    let reset = ["admin", "reset-password", "--email", ANN, "--password-stdin"];
    // Before anything is begun.
    for (ran, named) in [
        (run(&home, &["admin"], PASSWORD).await, "Usage: private-chat admin"),
        (run(&home, &["admin", "create", "--email", ANN], PASSWORD).await, "--name"),
        (run(&home, &["admin", "create", "--email", ANN, "--name", "Ann", "--password", "x"], "").await, "--password"),
        (run(&home, &CREATE_ANN[..6], PASSWORD).await, "use --password-stdin"),
        (run(&home, &reset[..4], PASSWORD).await, "use --password-stdin"),
        (home.run(&CREATE_ANN).await, "the standard input is empty"),
        (run(&home, &CREATE_ANN, "").await, "the standard input is empty"),
        (home.run_telling(&reset, &format!("\n{PASSWORD}\n")).await, "the standard input is empty"),
    ] {
        assert_eq!((ran.code, ran.told.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.complaint.contains(named), "{ran:?}");
        assert!(!home.path("data").exists(), "{ran:?}");
    }
    // By the rules of accounts: all that is wrong, with its name.
    let wrong = ["admin", "create", "--email", "ann", "--name", " ", "--password-stdin"];
    let ran = run(&home, &wrong, "short").await;
    let why = refused(&ran, 2);
    assert!(["--email must", "--name must", "the password must"].iter().all(|named| why.contains(named)), "{why}");
    for weak in ["password123", "private-chats", "ann-example", &"long ".repeat(1000)] {
        let why = run(&home, &["admin", "create", "--email", ANN, "--name", "Example", "--password-stdin"], weak).await;
        assert!(refused(&why, 2).starts_with("private-chat: the password "), "{why:?}");
    }
    done(&run(&home, &CREATE_ANN, PASSWORD).await, ANN);
    assert!(refused(&run(&home, &reset, "password123").await, 2).contains("the password is one of the most common"));
    let wrong = Home::with_keys().set("PRIVATE_CHAT_SERVER__PROT", "8000");
    assert!(refused(&run(&wrong, &CREATE_ANN, PASSWORD).await, 2).contains("PRIVATE_CHAT_SERVER__PROT"));

    for command in [&["admin"][..], &["admin", "create"], &["admin", "reset-password"]] {
        let ran = home.run(&[command, &["--help"]].concat()).await;
        assert_eq!((ran.code, ran.complaint.as_str()), (Some(0), ""), "{ran:?}");
        for code in 0..=4 {
            assert!(ran.told.contains(&format!("\n  {code}  ")), "{ran:?}");
        }
    }
}

async fn away() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let home = Home::with_keys().set("MYSQL_HOST", "127.0.0.1").set("MYSQL_PORT", &closed.port().to_string());
    let ran = run(&home, &CREATE_ANN, PASSWORD).await;
    assert!(refused(&ran, 1).contains("database") && ran.complaint.contains("refused"), "{ran:?}");
}

async fn typed() -> Option<()> {
    let home = Home::with_keys();
    let mut terminal = Terminal::run(&home, &CREATE_ANN[..6])?;
    terminal.answer("Password: ", &format!("{PASSWORD}\n")).await;
    terminal.answer("Once more: ", &format!("{PASSWORD}\n")).await;
    let (ran, shown) = terminal.ended().await;
    done(&ran, ANN);
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), ["Password:", "Once", "more:"]);

    let reset = ["admin", "reset-password", "--email", ANN];
    let mut terminal = Terminal::run(&home, &reset)?;
    terminal.answer("Password: ", &format!("{RESET}\n")).await;
    terminal.answer("Once more: ", &format!("{FORGOTTEN}\n")).await;
    let (ran, shown) = terminal.ended().await;
    assert_eq!(refused(&ran, 2), "private-chat: the password was not typed the same twice");
    assert!(!shown.contains(RESET) && !shown.contains(FORGOTTEN), "{shown}");

    // Whoever changes their mind gets their terminal back.
    let mut terminal = Terminal::run(&home, &reset)?;
    terminal.answer("Password: ", "gentle\u{3}").await;
    let (ran, _) = terminal.ended().await;
    assert_eq!(refused(&ran, 1), "private-chat: interrupted");
    let mut terminal = Terminal::run(&home, &reset)?;
    terminal.answer("Password: ", "\n").await;
    assert_eq!(refused(&terminal.ended().await.0, 2), "private-chat: the password is empty");

    let program = home.start().await;
    let ann: Api = program.api().log_in().await;
    assert_eq!(ann.me().await["role"], "ADMIN");
    Some(())
}

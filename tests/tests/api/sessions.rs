//! The devices on which somebody is signed in.

use std::sync::Arc;
use std::time::Duration;

use private_chat_adapters::memory::TestClock;
use private_chat_core::port::Ports;
use private_chat_tests::client::{App, Caller, PASSWORD, patiently, ports, text};
use private_chat_tests::document::{is_id, is_time};
use serde_json::{Value, json};

use crate::sqlite::File;
use crate::workspaces::walk;

crate::on_every_store!(people_see_and_end_their_own_sessions, a_new_password_leaves_the_one_it_was_set_with);

async fn signed_in_with(app: &App, device: &str) -> Caller {
    let credentials = json!({"email": "ann@example.com", "password": PASSWORD});
    app.signed_in(&app.anybody().post("/auth/login").header("user-agent", device).json(credentials).await.ok(200))
}

async fn sessions(caller: &Caller) -> Vec<Value> {
    caller.get("/auth/sessions").await.ok(200)["items"].as_array().unwrap().clone()
}

async fn is_signed_in(caller: &Caller) -> bool {
    match caller.get("/auth/me").await.status {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

// R28
async fn people_see_and_end_their_own_sessions(app: App) {
    let admin = app.setup().await;
    app.account(&admin, "Ann", false).await;
    let nameless = app.sign_in("ann@example.com").await;
    let phone = signed_in_with(&app, "Phone/1 (😀; \"x\")").await;
    let laptop = signed_in_with(&app, "Laptop/2").await;
    let listed = sessions(&phone).await;
    let shown = |session: &Value, of: &Caller, agent: Value, current: bool| {
        let fields = json!({
            "id": of.session(), "created_at": session["created_at"], "last_used_at": session["last_used_at"],
            "address": "127.0.0.1", "user_agent": agent, "current": current,
        });
        assert_eq!(*session, fields);
        assert!(is_id(&text(&session["id"])) && is_time(&text(&session["last_used_at"])));
    };
    let place = |of: &Caller| listed.iter().find(|session| session["id"] == of.session().as_str()).unwrap();
    assert_eq!(listed.len(), 3);
    shown(place(&nameless), &nameless, Value::Null, false);
    shown(place(&phone), &phone, json!("Phone/1 (😀; \"x\")"), true);
    shown(place(&laptop), &laptop, json!("Laptop/2"), false);
    let ids: Vec<_> = listed.iter().map(|session| text(&session["id"])).collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
    for limit in [1, 2, 3, 100] {
        assert_eq!(walk(&phone, "/auth/sessions", limit).await, ids);
    }
    assert_eq!(sessions(&admin).await.len(), 1);

    let path = format!("/auth/sessions/{}", laptop.session());
    admin.delete(&path).await.problem(404, "not_found");
    assert!(is_signed_in(&laptop).await);
    assert_eq!(phone.delete(&path).await.ok(204), Value::Null);
    assert!(!is_signed_in(&laptop).await);
    let refresh = json!({"refresh_token": laptop.refresh});
    app.anybody().post("/auth/refresh").json(refresh).await.problem(401, "invalid_refresh_token");
    phone.delete(&path).await.problem(404, "not_found");
    assert_eq!(sessions(&phone).await.len(), 2);
    // One's own is signing out.
    phone.delete(&format!("/auth/sessions/{}/", phone.session())).await.ok(204);
    assert!(!is_signed_in(&phone).await && is_signed_in(&nameless).await);
    assert_eq!(sessions(&nameless).await.len(), 1);
    nameless.post("/auth/logout").await.ok(204);
}

// R25
async fn a_new_password_leaves_the_one_it_was_set_with(app: App) {
    let admin = app.setup().await;
    app.account(&admin, "Ann", false).await;
    let [here, there] = [signed_in_with(&app, "Here").await, signed_in_with(&app, "There").await];
    let change = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    here.post("/auth/password").json(change).await.ok(204);
    assert!(!is_signed_in(&there).await);
    let left = sessions(&here).await;
    assert_eq!((left.len(), &left[0]["user_agent"], &left[0]["current"]), (1, &json!("Here"), &json!(true)));
    here.delete(&format!("/auth/sessions/{}", there.session())).await.problem(404, "not_found");
}

// R24
#[tokio::test]
async fn what_has_expired_is_not_listed() {
    let clock = Arc::new(TestClock::new());
    let app = App::on(Ports { clock: clock.clone(), ..ports() }).await;
    let admin = app.setup().await;
    clock.advance(Duration::from_secs(30 * 86_400 - 60));
    let later = app.sign_in(&admin.email).await;
    assert_eq!(sessions(&later).await.len(), 2);
    clock.advance(Duration::from_secs(60));
    let listed = sessions(&later).await;
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(later.session())));
    later.delete(&format!("/auth/sessions/{}", admin.session())).await.problem(404, "not_found");
}

// R25, R27, R28: on two processes.
#[tokio::test]
async fn a_session_that_is_ended_here_is_ended_there() {
    let file = File::new();
    let [here, there] = [file.app().await, file.app().await];
    let admin = here.setup().await;
    here.account(&admin, "Ann", false).await;
    let [kept, ended, reset] = [(); 3].map(|()| here.sign_in("ann@example.com"));
    let (kept, ended, reset) = (kept.await, ended.await, reset.await);
    let home = kept.workspace().await;
    let afar = |caller: &Caller| there.bearing(caller.access.as_deref().unwrap());
    let feed = format!("/workspaces/{home}/events");
    let mut streams = Vec::new();
    for caller in [&kept, &ended, &reset] {
        let mut stream = afar(caller).get(&feed).events().await;
        stream.next().await.unwrap();
        streams.push(stream);
    }
    let gone = async |caller: &Caller| {
        while is_signed_in(&afar(caller)).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    kept.delete(&format!("/auth/sessions/{}", ended.session())).await.ok(204);
    patiently(gone(&ended)).await;
    streams.remove(1).rest().await;
    assert!(is_signed_in(&afar(&kept)).await && is_signed_in(&afar(&reset)).await);
    admin.delete(&format!("/users/{}/sessions", kept.id)).await.ok(204);
    for (caller, stream) in [&kept, &reset].into_iter().zip(streams) {
        patiently(gone(caller)).await;
        stream.rest().await;
    }
}

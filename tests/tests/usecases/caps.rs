//! How many replies may run at once (R84).

use std::pin::pin;
use std::task::Poll;

use futures_util::future::join_all;
use private_chat_adapters::memory::Script;
use private_chat_core::error::{Error, Whose};
use private_chat_core::model::chat::{Chat, MessageStatus, ReplyCaps, ReplyFault, Visibility};
use private_chat_core::model::workspace::Role;
use private_chat_core::policy::Right;
use private_chat_core::port::inference::InferenceFailure;
use private_chat_core::usecase::Settings;
use private_chat_core::usecase::chats::Sent;

use super::house::{Home, Person, Process, SECOND, a_message, settings, settle};

fn slow() -> Script {
    Script::new().content("Hel").pause().content("lo.").finish("stop")
}

fn capped(caps: ReplyCaps) -> Settings {
    Settings { caps, ..settings() }
}

fn of_user(most: u64) -> Settings {
    capped(ReplyCaps { of_user: Some(most), ..ReplyCaps::default() })
}

/// Whether a send was refused, and by which cap.
fn refusal(answer: Result<Sent, Error>) -> Option<(Whose, u64)> {
    match answer {
        Ok(_) => None,
        Err(Error::TooManyReplies { whose, most }) => Some((whose, most)),
        Err(other) => panic!("{other:?}"),
    }
}

async fn send(process: &Process, person: &Person, chat: &Chat) -> Option<(Whose, u64)> {
    refusal(process.send(person, chat, "Hi").await)
}

#[tokio::test]
async fn so_many_replies_of_a_user_run_and_those_that_wait_count() {
    let home = Home::set([slow()], of_user(2)).await;
    let ben = home.person("Ben", Role::Member).await;
    assert_eq!(send(&home.a, &home.ann, &home.chat).await, None);
    assert_eq!(send(&home.a, &home.ann, &home.chat).await, None, "it waits for the first");
    home.a.parrot.waiting(1).await;
    assert_eq!(send(&home.a, &home.ann, &home.chat).await, Some((Whose::Yours, 2)));
    let anew = home.a.regenerate(&home.ann, &home.chat, home.last().await.id).await;
    assert_eq!(refusal(anew), Some((Whose::Yours, 2)));
    assert_eq!(home.house.messages(home.chat.id).await.len(), 4, "nothing is stored of what was refused");
    assert_eq!(send(&home.a, &ben, &home.chat).await, None, "others have places of their own");
    home.a.parrot.release();
    home.pass(SECOND).await;
    assert_eq!(send(&home.a, &home.ann, &home.chat).await, None);
}

#[tokio::test]
async fn so_many_run_in_a_workspace_and_in_a_process() {
    let home = Home::set([slow()], capped(ReplyCaps { in_workspace: Some(1), ..ReplyCaps::default() })).await;
    let ben = home.person("Ben", Role::Member).await;
    let other = home.a.new_workspace(&home.ann).await;
    let elsewhere = home.a.new_chat(&home.ann, other, Visibility::Workspace).await;
    assert_eq!(send(&home.a, &home.ann, &home.chat).await, None);
    assert_eq!(send(&home.a, &ben, &home.chat).await, Some((Whose::Workspace, 1)));
    assert_eq!(send(&home.a, &home.ann, &elsewhere).await, None);

    let home = Home::set([slow()], capped(ReplyCaps { here: Some(1), ..ReplyCaps::default() })).await;
    let b = home.house.process(slow()).await;
    // Two at once: one gets the place.
    let answers = join_all([send(&home.a, &home.ann, &home.chat), send(&home.a, &home.ann, &home.chat)]).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_none()).count(), 1);
    assert!(answers.contains(&Some((Whose::Server, 1))));
    assert_eq!(send(&b, &home.ann, &home.chat).await, None, "another process has places of its own");
}

// However a reply ends, its place is free.
#[tokio::test]
async fn a_place_is_free_whichever_way_its_reply_went() {
    let broken =
        || Script::new().content("Hel").pause().fail(InferenceFailure::failed(ReplyFault::ProviderError, "500"));
    let home = Home::set([slow(), broken(), slow()], of_user(1)).await;
    let b = home
        .house
        .start(std::sync::Arc::new(private_chat_adapters::memory::ScriptedInference::new(slow())), of_user(1))
        .await;
    let full = async || assert_eq!(send(&home.a, &home.ann, &home.chat).await, Some((Whose::Yours, 1)));
    let began = async |sent: Result<Sent, Error>| {
        let sent = sent.unwrap();
        home.a.parrot.waiting(1).await;
        full().await;
        sent
    };
    for status in [MessageStatus::Complete, MessageStatus::Failed] {
        let sent = began(home.a.send(&home.ann, &home.chat, "Hi").await).await;
        home.a.parrot.release();
        assert_eq!(sent.end.wait().await.unwrap().1.status, status);
    }
    began(home.a.send(&home.ann, &home.chat, "Stop").await).await;
    home.a.stop(&home.ann, &home.chat, home.last().await.id).await.unwrap();
    let gone = home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    began(home.a.send(&home.ann, &gone, "Chat").await).await;
    home.a.delete_chat(&home.ann, &gone).await.unwrap();
    settle().await;
    let gone = home.a.new_workspace(&home.ann).await;
    let in_gone = home.a.new_chat(&home.ann, gone, Visibility::Workspace).await;
    began(home.a.send(&home.ann, &in_gone, "Workspace").await).await;
    home.a.delete_workspace(&home.ann, gone).await.unwrap();
    home.pass(SECOND).await;
    // The process that made it dies.
    b.send(&home.ann, &home.chat, "Death").await.unwrap();
    b.parrot.waiting(1).await;
    full().await;
    b.kill().await;
    home.pass(20 * SECOND).await;
    let last = began(home.a.send(&home.ann, &home.chat, "Last").await).await;
    home.a.parrot.release();
    last.end.wait().await.unwrap();
    home.is_quiet().await;
}

// R84: whoever hangs up, at whatever step, leaves no place taken.
#[tokio::test]
async fn a_thousand_sends_that_were_hung_up_on_leave_every_place_free() {
    let quick = Script::new().content("Yes.").finish("stop");
    let caps = ReplyCaps { of_user: Some(3), in_workspace: Some(3), here: Some(3) };
    let scripts = std::iter::repeat_n(quick, 1_000).chain([slow()]);
    let home = Home::set(scripts, capped(caps)).await;
    home.a.store.set_pace(vec![1, 0, 2]);
    let mut begun = 0;
    for number in 0..1_000 {
        let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
        let mut polls = number % 25;
        let mut sending = pin!(home.a.cases.chats.send(&at, a_message("Hi"), number % 2 == 0, None));
        std::future::poll_fn(|cx| {
            if sending.as_mut().poll(cx).is_ready() || polls == 0 {
                return Poll::Ready(());
            }
            polls -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        if number % 10 == 9 {
            settle().await;
            begun = home.a.told().len();
        }
    }
    settle().await;
    assert!(begun > 100 && begun < 1_000, "{begun}");
    home.is_quiet().await;
    while home.a.told().len() < 1_000 {
        home.a.ask(&home.ann, &home.chat, "Hi").await;
    }
    let chats = [(); 4].map(|()| home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace));
    let chats = join_all(chats).await;
    for chat in &chats[..3] {
        assert_eq!(send(&home.a, &home.ann, chat).await, None);
    }
    assert!(send(&home.a, &home.ann, &chats[3]).await.is_some());
}

// F44: what begins nothing takes no place.
#[tokio::test]
async fn a_request_that_is_sent_again_is_answered_also_where_no_place_is_free() {
    let home = Home::set([slow()], capped(ReplyCaps { of_user: Some(1), here: Some(1), in_workspace: Some(1) })).await;
    let b = home.house.start(home.a.parrot.clone(), of_user(1)).await;
    for process in [&home.a, &b] {
        process.store.set_pace(vec![0, 1, 2]);
    }
    let asked = |process: &Process| process.cases.idempotency.repeatable("key", [b"P", b"/", b"Hi"]).unwrap();
    let sending = (0..20).map(|number| {
        let process = if number % 2 == 0 { &home.a } else { &b };
        let (ann, chat) = (&home.ann, &home.chat);
        async move {
            // One at once on the process whose places are counted before anything is looked up; the others come as they like.
            let at = process.enter(ann, chat, Right::Send).await.unwrap();
            process.cases.chats.send(&at, a_message("Hi"), false, Some(asked(process))).await
        }
    });
    let mut refused = 0;
    let mut messages = Vec::new();
    for answer in join_all(sending).await {
        match answer {
            Ok(sent) => messages.push(sent.message.id),
            // The first was not stored yet: whoever asks once more is answered.
            Err(Error::TooManyReplies { whose: Whose::Server, .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(messages.len() >= 10 && refused < 10, "{refused}");
    assert!(messages.windows(2).all(|pair| pair[0] == pair[1]));
    for process in [&home.a, &b] {
        let at = process.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
        process.cases.chats.send(&at, a_message("Hi"), false, Some(asked(process))).await.unwrap();
        assert!(send(process, &home.ann, &home.chat).await.is_some());
    }
    assert_eq!(home.house.messages(home.chat.id).await.len(), 2);
    assert_eq!(home.a.told().len(), 1);
}

// R108: of many who send at once, on two processes, nobody forks.
#[tokio::test]
async fn many_who_send_at_once_queue_up_and_never_fork() {
    let quick = Script::new().content("Yes.").finish("stop");
    let home = Home::of(quick.clone()).await;
    let b = home.house.process(quick).await;
    let ben = home.person("Ben", Role::Member).await;
    let sends = (0..20).map(|number| {
        let process = if number % 2 == 0 { &home.a } else { &b };
        let person = if number % 3 == 0 { &ben } else { &home.ann };
        process.send(person, &home.chat, "Hi")
    });
    for sent in join_all(sends).await {
        sent.unwrap();
    }
    for _ in 0..40 {
        home.pass(SECOND).await;
    }
    let thread = home.house.messages(home.chat.id).await;
    assert_eq!(thread.len(), 40);
    for pair in thread.windows(2) {
        assert_eq!(pair[1].parent, Some(pair[0].id));
    }
    assert!(thread.iter().all(|message| message.status == MessageStatus::Complete));
    let longest = home.a.told().into_iter().chain(b.told()).map(|told| told.len()).max();
    assert_eq!(longest, Some(39), "each was told all that came before it");
}

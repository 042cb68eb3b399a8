//! Messages that are edited and replies that are asked for anew: branches of one chat.

use private_chat_adapters::memory::Script;
use private_chat_core::error::{Error, Forbidden, Kind, Obstacle};
use private_chat_core::model::chat::{MessageStatus, ReplyFault, Visibility};
use private_chat_core::model::workspace::Role;
use private_chat_core::policy::Right;
use private_chat_core::port::inference::InferenceFailure;
use private_chat_core::usecase::chats::{NewMessage, Regeneration};

use super::house::{Home, SECOND, a_message, settle};

fn says(text: &str) -> Script {
    Script::new().content(text).finish("stop")
}

// R87
#[tokio::test]
async fn an_edited_message_is_a_branch_beside_the_one_it_was() {
    let home = Home::playing(["a", "b", "c", "d", "e"].map(says)).await;
    let (ann, chat) = (&home.ann, &home.chat);
    let first = home.a.ask(ann, chat, "One").await;
    let sent = home.a.send(ann, chat, "Two").await.unwrap();
    let (two, b) = sent.end.wait().await.unwrap();
    let (edited, c) = home.a.edit(ann, chat, (two.id, "Deux")).await.unwrap().end.wait().await.unwrap();
    assert_eq!((edited.parent, c.parent), (Some(first.id), Some(edited.id)));
    // An edit of an edit stands beside both.
    let (again, _) = home.a.edit(ann, chat, (edited.id, "Zwei")).await.unwrap().end.wait().await.unwrap();
    assert_eq!(again.parent, Some(first.id));
    // The first message of all begins a branch that knows nothing of the others.
    let root = first.parent.unwrap();
    let (other_root, _) = home.a.edit(ann, chat, (root, "Uno")).await.unwrap().end.wait().await.unwrap();
    assert_eq!(other_root.parent, None);
    assert_eq!(home.a.told()[2..], [vec!["One", "a", "Deux"], vec!["One", "a", "Zwei"], vec!["Uno"]]);
    let stored = home.house.messages(chat.id).await;
    assert_eq!(stored.len(), 10);
    assert!(stored.contains(&two) && stored.contains(&b), "what was edited stays as it was");
    // What is sent now follows the last message of all.
    let next = home.a.send(ann, chat, "Next").await.unwrap().end.wait().await.unwrap().0;
    assert_eq!(next.parent, Some(stored.last().unwrap().id));
}

#[tokio::test]
async fn only_ones_own_messages_can_be_edited() {
    let home = Home::of(says("Yes.")).await;
    let ben = home.person("Ben", Role::Owner).await;
    let reply = home.a.ask(&home.ann, &home.chat, "Hi").await;
    for message in [reply.id, reply.parent.unwrap()] {
        let answer = home.a.edit(&ben, &home.chat, (message, "Ho")).await.map(|_| ());
        assert!(matches!(answer, Err(Error::Forbidden(Forbidden::Role))), "{answer:?}");
    }
    let other = home.a.new_chat(&home.ann, home.workspace, Visibility::Workspace).await;
    let answer = home.a.edit(&home.ann, &other, (reply.parent.unwrap(), "Ho")).await.map(|_| ());
    assert!(matches!(answer, Err(Error::NotFound(Kind::Message))), "{answer:?}");
    let answer = home.a.edit(&home.ann, &home.chat, (reply.parent.unwrap(), " ")).await.map(|_| ());
    assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
    assert_eq!(home.house.messages(home.chat.id).await.len(), 2);
    home.is_quiet().await;
}

#[tokio::test]
async fn a_reply_that_is_asked_for_anew_stands_beside_the_first() {
    let broken = Script::refusing(InferenceFailure::failed(ReplyFault::ProviderError, "500"));
    let home = Home::playing([says("a"), broken, says("c"), says("d")]).await;
    let ben = home.person("Ben", Role::Member).await;
    let first = home.a.ask(&home.ann, &home.chat, "Hi").await;
    let mut last = first.id;
    // Of one that was complete, of one that failed, by whoever may write.
    for (person, status) in [(&home.ann, MessageStatus::Failed), (&ben, MessageStatus::Complete)] {
        let (message, reply) = home.a.regenerate(person, &home.chat, last).await.unwrap().end.wait().await.unwrap();
        assert_eq!((Some(message.id), reply.parent), (first.parent, first.parent));
        assert_eq!(reply.status, status);
        last = reply.id;
    }
    assert_eq!(home.a.told(), vec![vec!["Hi"]; 3]);
    let answer = home.a.regenerate(&ben, &home.chat, first.parent.unwrap()).await.map(|_| ());
    assert!(matches!(answer, Err(Error::Conflict(Obstacle::NotAReply))), "{answer:?}");
    // What follows the failed one is told without it, what follows another one with it.
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    let on_first = NewMessage { parent: Some(first.id), ..a_message("More") };
    home.a.cases.chats.send(&at, on_first, false, None).await.unwrap().end.wait().await.unwrap();
    assert_eq!(home.a.told().pop().unwrap(), ["Hi", "a", "More"]);
    assert_eq!(home.house.messages(home.chat.id).await.len(), 6);
}

#[tokio::test]
async fn replies_to_one_message_run_side_by_side_and_what_follows_one_waits_for_it_alone() {
    let slow = Script::new().content("slow").pause().finish("stop");
    let home = Home::playing([slow, says("quick"), says("after quick"), says("after slow")]).await;
    let first = home.a.send(&home.ann, &home.chat, "Hi").await.unwrap();
    home.a.parrot.waiting(1).await;
    let slow = home.last().await.id;
    let (_, quick) = home.a.regenerate(&home.ann, &home.chat, slow).await.unwrap().end.wait().await.unwrap();
    assert_eq!(quick.content, "quick");
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    let follow = |parent| {
        let new = NewMessage { parent: Some(parent), ..a_message("And?") };
        home.a.cases.chats.send(&at, new, false, None)
    };
    let waits = follow(slow).await.unwrap();
    let (_, reply) = follow(quick.id).await.unwrap().end.wait().await.unwrap();
    assert_eq!(reply.content, "after quick");
    settle().await;
    assert_eq!(home.a.told().len(), 3, "one still waits");
    home.a.parrot.release();
    assert_eq!(first.end.wait().await.unwrap().1.content, "slow");
    assert_eq!(waits.end.wait().await.unwrap().1.content, "after slow");
    assert_eq!(home.a.told()[2..], [vec!["Hi", "quick", "And?"], vec!["Hi", "slow", "And?"]]);
    home.is_quiet().await;
}

// What waits on another process is waited for as well.
#[tokio::test]
async fn a_reply_waits_for_the_one_before_it_wherever_that_runs() {
    let home = Home::of(Script::new().content("One.").pause().finish("stop")).await;
    let b = home.house.process(says("Two.")).await;
    let one = home.a.send(&home.ann, &home.chat, "First?").await.unwrap();
    home.a.parrot.waiting(1).await;
    let two = b.send(&home.ann, &home.chat, "Second?").await.unwrap();
    home.pass(2 * SECOND).await;
    assert_eq!(b.told().len(), 0);
    home.a.parrot.release();
    one.end.wait().await.unwrap();
    home.pass(SECOND).await;
    assert_eq!(two.end.wait().await.unwrap().1.content, "Two.");
    assert_eq!(b.told(), [["First?", "One.", "Second?"]]);
}

// F44
#[tokio::test]
async fn an_edit_and_a_new_reply_that_are_asked_for_twice_are_made_once() {
    let home = Home::of(says("Yes.")).await;
    let b = home.house.process(says("No.")).await;
    let reply = home.a.ask(&home.ann, &home.chat, "Hi").await;
    let message = reply.parent.unwrap();
    let mut made = Vec::new();
    for process in [&home.a, &b, &b] {
        let key = |key: &str| Some(process.cases.idempotency.repeatable(key, [b"P", b"/", b"{}"]).unwrap());
        let at = process.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
        let edited = process.cases.chats.edit(&at, (message, "Ho".into()), false, key("edit")).await.unwrap();
        let anew = (reply.id, Regeneration::default());
        let anew = process.cases.chats.regenerate(&at, anew, false, key("anew")).await.unwrap();
        made.push((edited.end.wait().await.unwrap(), anew.end.wait().await.unwrap()));
    }
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(home.house.messages(home.chat.id).await.len(), 5);
    assert_eq!((home.a.told().len(), b.told().len()), (3, 0));
}

#[tokio::test]
async fn nothing_is_begun_in_a_chat_that_is_hidden_or_gone() {
    let home = Home::of(says("Yes.")).await;
    let ben = home.person("Ben", Role::Member).await;
    let reply = home.a.ask(&ben, &home.chat, "Hi").await;
    let at = home.a.enter(&home.ann, &home.chat, Right::Send).await.unwrap();
    home.a.make(&home.ann, &home.chat, Visibility::Private).await;
    let answers = [
        home.a.regenerate(&ben, &home.chat, reply.id).await.map(|_| ()),
        home.a.edit(&ben, &home.chat, (reply.parent.unwrap(), "Ho")).await.map(|_| ()),
    ];
    home.a.delete_chat(&home.ann, &home.chat).await.unwrap();
    let gone = home.a.cases.chats.regenerate(&at, (reply.id, Regeneration::default()), false, None).await.map(|_| ());
    let late = home.a.cases.chats.send(&at, a_message("Late"), false, None).await.map(|_| ());
    for answer in answers.into_iter().chain([late]) {
        assert!(matches!(answer, Err(Error::NotFound(Kind::Chat))), "{answer:?}");
    }
    assert!(matches!(gone, Err(Error::NotFound(Kind::Message | Kind::Chat))), "{gone:?}");
    assert_eq!(home.a.told().len(), 1);
}

//! Promises of the search over titles and messages. What a text's words are is said in one place, `core::model::search`; every database has to find
//! by them, and by nothing else.

use std::collections::BTreeSet;
use std::slice;

use private_chat_core::change::{Changes, Checkpoint, Follows, TextSoFar, Version};
use private_chat_core::error::Conflict;
use private_chat_core::id::ChatId;
use private_chat_core::model::chat::{Chat, Message, MessageStatus, ReplyError, ReplyFault, Visibility};
use private_chat_core::model::search::{MOST_TERMS, Query, terms};
use private_chat_core::model::workspace::Role;
use private_chat_core::page::ActivityKey;
use private_chat_core::port::store::ChatFilter;

use super::{Db, NOTHING_OVER, attempt, begin, page, purge, race};
use crate::fixture::{
    Say as _, Scene, a_chat, a_message, a_reply, a_user, a_workspace, an_instance, joining, new_id, now,
};

/// What the owner of a scene asks for.
fn asking(scene: &Scene, words: &str) -> ChatFilter {
    let query = Query::parse(words);
    assert!(query.is_some(), "{words:?} asks for nothing");
    ChatFilter { workspace: scene.workspace.id, viewer: scene.user.id, archived: false, mine: false, query }
}

fn place(chat: &Chat) -> ActivityKey {
    ActivityKey { at: chat.active_at(), id: *chat.id.as_uuid() }
}

/// All that is found, page by page.
async fn walk(store: &Db, filter: &ChatFilter, limit: u64) -> Vec<Chat> {
    let mut found = Vec::new();
    let mut after: Option<ActivityKey> = None;
    loop {
        let got = store.chats(filter.clone(), page(after, limit)).await.unwrap();
        assert!(got.items.len() as u64 <= limit);
        found.extend(got.items);
        let Some(next) = got.next else { return found };
        assert!(after.is_none_or(|after| next < after), "pages that lead nowhere");
        after = Some(next);
    }
}

async fn found(store: &Db, filter: &ChatFilter) -> BTreeSet<ChatId> {
    let found = walk(store, filter, 100).await;
    assert!(found.windows(2).all(|pair| place(&pair[0]) > place(&pair[1])), "most recently active first, each once");
    found.into_iter().map(|chat| chat.id).collect()
}

async fn found_by(store: &Db, scene: &Scene, words: &str) -> BTreeSet<ChatId> {
    found(store, &asking(scene, words)).await
}

fn ids<const N: usize>(chats: [&Chat; N]) -> BTreeSet<ChatId> {
    chats.into_iter().map(|chat| chat.id).collect()
}

fn saying(chat: &Chat, scene: &Scene, content: impl Into<String>) -> Message {
    Message { content: content.into(), ..a_message(chat, &scene.user) }
}

/// Makes a chat in the scene's workspace, in which these messages are written.
async fn a_chat_about<const N: usize>(store: &Db, scene: &Scene, title: Option<&str>, messages: [&str; N]) -> Chat {
    let chat = Chat { title: title.map(str::to_owned), ..a_chat(&scene.workspace, &scene.user) };
    let changes = Changes::new().insert(chat.clone());
    let changes = messages.into_iter().fold(changes, |changes, text| changes.say(saying(&chat, scene, text)));
    attempt(store, changes).await.unwrap();
    store.chat(chat.workspace, chat.id).await.unwrap().unwrap()
}

/// Makes ready to be found what is not yet, until nothing is left.
async fn index_backlog(store: &Db) {
    for _ in 0..10_000 {
        if store.index_backlog().await.unwrap() == 0 {
            return;
        }
    }
    panic!("there is always something left");
}

pub(super) async fn finds_chats_by_the_words_of_their_title_and_of_their_final_messages(store: Db) {
    let scene = Scene::set(&store).await;
    let Scene { user, workspace, chat, .. } = &scene;
    let titled = Chat {
        title: Some("The quarterly budget".into()),
        system_prompt: Some("Speak like a pirate.".into()),
        model: Some("vllm/llama".into()),
        ..a_chat(workspace, user)
    };
    attempt(&store, Changes::new().insert(titled.clone())).await.unwrap();
    for words in ["budget", "BUDGET, quarterly!", "the"] {
        assert_eq!(found_by(&store, &scene, words).await, ids([&titled]), "{words}");
    }
    // Words are whole, and what else a chat or its makers have is not searched.
    for words in ["quarter", "budgets", "pirate", "llama", "vllm", &user.name, &workspace.name] {
        assert_eq!(found_by(&store, &scene, words).await, ids([]), "{words}");
    }

    // What people write is found at once, wherever it stands in a unit.
    let other = a_chat(workspace, user);
    let unit = Changes::new()
        .insert(other.clone())
        .say(saying(chat, &scene, "Where do otters sleep?"))
        .say(saying(&other, &scene, "Otters, again."))
        .say(saying(chat, &scene, "And badgers, on the budget?"));
    attempt(&store, unit).await.unwrap();
    assert_eq!(found_by(&store, &scene, "otters").await, ids([chat, &other]));
    assert_eq!(found_by(&store, &scene, "badgers").await, ids([chat]));
    assert_eq!(found_by(&store, &scene, "budget").await, ids([&titled, chat]));

    // A reply is found once it has ended, however it did; what it was on the way is not.
    let instance = an_instance();
    attempt(&store, Changes::new().insert(instance)).await.unwrap();
    let ends = [
        (MessageStatus::Complete, "whole", None),
        (MessageStatus::Stopped, "halted", None),
        (MessageStatus::Failed, "broken", Some(ReplyFault::ProviderError)),
        (MessageStatus::Interrupted, "severed", Some(ReplyFault::ServerStopped)),
    ];
    let mut ended_in = BTreeSet::new();
    for (beat, (status, word, fault)) in (1..).zip(ends) {
        let chat = a_chat_about(&store, &scene, None, []).await;
        let (reply, running) = begin(&store, &Scene { chat: chat.clone(), ..scene.clone() }, &instance).await;
        let draft = TextSoFar {
            chat: chat.id,
            seq: reply.seq,
            message: reply.id,
            content: format!("Draft, {word}"),
            reasoning: Some("Ponderous".into()),
        };
        let checkpoint = Checkpoint { instance: instance.id, beat, texts: vec![draft], at: now() };
        assert!(store.checkpoint(checkpoint).await.unwrap().alive);
        let grown = Message { content: format!("Growing, {word}"), ..reply };
        attempt(&store, Changes::new().update(grown.clone())).await.unwrap();
        for words in ["draft", "growing", word] {
            assert_eq!(found_by(&store, &scene, words).await, ids([]), "{words} before the end, {status:?}");
        }
        let ended = Message {
            content: format!("Ending, {word}"),
            reasoning: Some("Ponderous".into()),
            status,
            finish_reason: Some("because".into()),
            error: fault.map(|code| ReplyError { code, detail: "Calamity".into() }),
            version: Version(2),
            ..grown
        };
        attempt(&store, Changes::new().update(ended).delete(running)).await.unwrap();
        assert_eq!(found_by(&store, &scene, word).await, ids([&chat]), "{status:?}");
        ended_in.insert(chat.id);
        assert_eq!(found_by(&store, &scene, "ending").await, ended_in);
    }
    // One without a word, one that no process made, and one that was over when it came.
    let (reply, running) = begin(&store, &scene, &instance).await;
    let empty = Message { status: MessageStatus::Failed, ..reply };
    attempt(&store, Changes::new().update(empty).delete(running)).await.unwrap();
    let slow = Message { content: "Marmots.".into(), ..a_reply(chat) };
    let over = Message { content: "Marmots dig.".into(), status: MessageStatus::Complete, ..a_reply(&other) };
    let places = attempt(&store, Changes::new().say(slow.clone()).say(over)).await.unwrap().appended;
    assert_eq!(found_by(&store, &scene, "marmots").await, ids([&other]));
    let slow = Message { status: MessageStatus::Complete, seq: places[0].seq, parent: places[0].parent, ..slow };
    attempt(&store, Changes::new().update(slow)).await.unwrap();
    assert_eq!(found_by(&store, &scene, "marmots").await, ids([chat, &other]));
    for words in ["draft", "growing", "ponderous", "calamity", "because", "echo", "provider_error"] {
        assert_eq!(found_by(&store, &scene, words).await, ids([]), "{words}");
    }

    // Of a text with thousands of words those count that come first, in a message and at the end of a reply.
    let word = |n: usize| format!("w{n}x");
    let long: String = (0..MOST_TERMS + 500).map(|n| word(n) + " ").collect();
    attempt(&store, Changes::new().say(saying(chat, &scene, long.clone()))).await.unwrap();
    let (reply, running) = begin(&store, &Scene { chat: other.clone(), ..scene.clone() }, &instance).await;
    let ended = Message { content: long, status: MessageStatus::Complete, ..reply };
    attempt(&store, Changes::new().update(ended).delete(running)).await.unwrap();
    for n in [0, 1, MOST_TERMS / 2, MOST_TERMS - 1] {
        assert_eq!(found_by(&store, &scene, &word(n)).await, ids([chat, &other]), "word {n}");
    }
    assert_eq!(found_by(&store, &scene, &word(MOST_TERMS)).await, ids([]));

    // What makes older texts ready to be found, and what removes, change nothing of all this.
    index_backlog(&store).await;
    purge(&store, NOTHING_OVER).await;
    index_backlog(&store).await;
    assert_eq!(found_by(&store, &scene, "budget").await, ids([&titled, chat]));
    assert_eq!(found_by(&store, &scene, "otters").await, ids([chat, &other]));
    assert_eq!(found_by(&store, &scene, "ending").await, ended_in);
    assert_eq!(found_by(&store, &scene, &word(7)).await, ids([chat, &other]));
    assert_eq!(found_by(&store, &scene, "draft").await, ids([]));
    let all = ChatFilter { query: None, ..asking(&scene, "any") };
    assert_eq!(found(&store, &all).await.len(), 3 + ended_in.len(), "and without words there is no search");
}

pub(super) async fn finds_a_chat_only_where_one_text_has_all_the_words(store: Db) {
    let scene = Scene::set(&store).await;
    let alphabet: Vec<String> = ('a'..='z').map(|c| format!("word{c}")).collect();
    let [most, one_more] = [16, 17].map(|n| alphabet[..n].join(" "));
    let fruit =
        a_chat_about(&store, &scene, Some("Fruit of the season"), ["A red apple", "A green pear, red too"]).await;
    let pie = a_chat_about(&store, &scene, None, ["Apple", "pie", "apple; red; pie; pear"]).await;
    let long = a_chat_about(&store, &scene, None, [most.as_str()]).await;
    for (words, expected) in [
        ("red", ids([&fruit, &pie])),
        ("apple red", ids([&fruit, &pie])),
        ("red red RED apple", ids([&fruit, &pie])),
        ("green pear", ids([&fruit])),
        ("pear red", ids([&fruit, &pie])),
        ("season fruit", ids([&fruit])),
        ("apple pie", ids([&pie])),
        // In one chat, though not in one text of it.
        ("green apple", ids([])),
        ("fruit apple", ids([])),
        ("season pear", ids([])),
        // One of them nowhere.
        ("red apple tart", ids([])),
        ("tart", ids([])),
        ("the apple", ids([])),
        // As many words as count, and one more, which does not.
        (most.as_str(), ids([&long])),
        (one_more.as_str(), ids([&long])),
        ("worda wordb wordq", ids([])),
    ] {
        assert_eq!(found_by(&store, &scene, words).await, expected, "{words}");
    }

    // A word that every text has, and one that is rare, meet in one text of hundreds.
    let mut crowd = Vec::new();
    for n in 0..6 {
        let chat = a_chat(&scene.workspace, &scene.user);
        let text = |m: usize| match (n * 60 + m) % 47 {
            0 => "common rare",
            1 => "rare",
            _ => "common",
        };
        let changes = Changes::new().insert(chat.clone());
        let changes = (0..60).fold(changes, |changes, m| changes.say(saying(&chat, &scene, text(m))));
        attempt(&store, changes).await.unwrap();
        crowd.push(chat);
    }
    let in_crowd = |has: &dyn Fn(usize) -> bool| -> BTreeSet<_> {
        (0..6).filter(|n| (0..60).any(|m| has((n * 60 + m) % 47))).map(|n| crowd[n].id).collect()
    };
    assert_eq!(found_by(&store, &scene, "common").await.len(), 6);
    assert_eq!(found_by(&store, &scene, "rare").await, in_crowd(&|n| n < 2));
    assert_eq!(found_by(&store, &scene, "rare common").await, in_crowd(&|n| n == 0));
}

/// Texts, and what is searched for in them and found.
const FOUND: &[(&str, &[&str])] = &[
    ("Says José, loudly.", &["jose", "JOSÉ", "jose\u{301}", "José?", "loudly says"]),
    ("Die Straße nach Łódź", &["strasse", "STRAẞE", "straße", "lodz", "die"]),
    ("smørrebrød og æbler på øen", &["SMORREBROD", "aebler", "pa", "Øen"]),
    ("Þórr, Œuvre, Ħal", &["thorr", "oeuvre", "hal"]),
    ("ışık IŞIK İstanbul", &["isik", "IŞIK", "istanbul", "ışık"]),
    ("ΣΟΦΟΣ Ελλάδα", &["σοφος", "σοφοσ", "Σοφός", "ελλαδα"]),
    ("Ёлка и ещё", &["елка", "ЁЛКА", "еще", "и"]),
    ("שָׁלוֹם עוֹלָם", &["שלום", "עולם שלום"]),
    ("مُحَمَّد كتـــاب", &["محمد", "كتاب"]),
    ("यह हिन्दी है", &["हिन्दी", "यह है"]),
    ("ﬁne ﬂour ½ Ⅷ ①②", &["fine", "flour", "viii", "12"]),
    ("ｆｕｌｌ ＷＩＤＴＨ", &["full", "width"]),
    ("私は東京都に住む", &["東", "東京", "京都", "東京都に", "私は東京都に住む", "む", "住む 東京"]),
    ("東京 2020年", &["2020", "東京2020", "年", "2020年"]),
    ("ｶﾞｷﾞｸﾞとカタカナ", &["ガギグ", "ガ", "カタカナ", "とカ"]),
    ("ひらがなの「が」", &["が", "ひらがな", "か\u{3099}"]),
    ("한국어를 배운다", &["한국", "한국어", "국어", "어", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}"]),
    ("ไปกรุงเทพมหานคร", &["กรุงเทพ", "ไป", "นคร"]),
    ("𠮷野家と叱る", &["𠮷", "𠮷野家", "野家"]),
    ("人々は時々コーヒー", &["人々", "々", "コーヒー"]),
    ("Rust 🦀! 👨‍👩‍👧 ❤️", &["🦀", "rust 🦀", "👨", "👧👩", "❤"]),
    ("answer=42; 007, 3.14 and 1,000,000", &["42", "007", "3.14", "1,000,000", "000", "and"]),
    ("snake_case kebab-case e-mail can't", &["snake", "case", "snake_case", "kebab", "mail e", "can't", "t"]),
    ("I am a robot: to be or not to be", &["i", "a", "to be", "or not", "OR", "NOT be", "I am"]),
    ("The www of about com, for how long", &["the", "about", "www", "com", "how for"]),
    ("NULL is near SELECT; DROP TABLE chats --", &["null", "NULL", "near", "select drop", "TABLE", "near chats"]),
    (
        "rust*, 100% +sure -not \"quoted phrase\"",
        &["rust*", "+rust", "-rust", "100%", "-not", "\"phrase quoted\"", "(sure)"],
    ),
    ("c++ c# .net \\d+ ~tilde @at >lt", &["c++", "c", "net", "\\d+", "~tilde", "@at", "<lt"]),
    ("x\u{0}y z\u{ad}w v\u{200b}u", &["x", "y", "zw", "vu", "x\u{0}y"]),
    ("ا ل م 123 ٣", &["ا", "م", "٣"]),
    ("ԱՐԵՎ ღვინო ᏣᎳᎩ", &["արեվ", "ღვინო", "ᏣᎳᎩ"]),
];

/// Texts, and what is searched for in them and not found.
const NOT_FOUND: &[(&str, &[&str])] = &[
    ("a party, a deployment", &["art", "deploy", "deployments", "part", "arty"]),
    ("abc 42 4.2", &["b", "ab", "c", "24", "422"]),
    ("東京と北京", &["東北", "京東", "都", "京北"]),
    ("が ぎ", &["か", "き"]),
    ("한국", &["하", "국한"]),
    ("हिन्दी", &["हिन्द", "हन"]),
    ("rusty* crab%", &["rust*", "cra%", "cra_", "rust", "%"]),
    ("plain words", &["*", "\"", "+-><()~*\"@", "%", "_", "\u{0}", "\\", "…", "\u{301}", "'--", "plain AND words"]),
];

/// Chance that is the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn text(&mut self, palette: &[char], longest: usize) -> String {
        let length = 1 + self.roll(longest);
        (0..length).map(|_| palette[self.roll(palette.len())]).collect()
    }
}

pub(super) async fn finds_words_in_any_language_whatever_their_case_and_accents(store: Db) {
    // Letters, marks and signs of all the kinds that are treated apart, thrown together.
    let palette: Vec<char> =
        "aBzé\u{301}ßẞﬁİıςΣёЖש\u{5b8}م\u{64e}\u{640}ह\u{93f}\u{94d}ท\u{e49}東京がか\u{3099}ｶﾞ한\u{1112}\u{1161}\u{11ab}\
                              々ー𠮷🦀❤\u{fe0f}👨\u{200d}1٣Ⅷ½ﷺ𐐀ǆÅ  -_'\"*%\\.。，\u{0}\n\u{a0}\u{ad}"
            .chars()
            .collect();
    let mut dice = Dice(0x5eed);
    let shuffled: Vec<String> = (0..150).map(|_| dice.text(&palette, 16)).collect();
    let cut_out = |text: &String, dice: &mut Dice| -> String {
        let from = dice.roll(text.chars().count());
        text.chars().skip(from).take(1 + dice.roll(5)).collect()
    };
    let shuffled_words: Vec<String> = shuffled.iter().map(|text| cut_out(text, &mut dice)).collect();

    // A word counts up to its 64th byte, or as far as whole letters go, of which some have three bytes and some have four.
    let long = ["y".repeat(64), "ж".repeat(32), "ह".repeat(21), "𐐨".repeat(16), "é".repeat(64)];
    let longer: Vec<String> = long.iter().map(|word| word.clone() + "жहéz𐐨").collect();
    let shorter: Vec<String> = long.iter().map(|word| word.chars().skip(1).collect()).collect();
    let huge = "q".repeat(5_000);

    let listed = || FOUND.iter().chain(NOT_FOUND);
    let mut texts: Vec<&str> = listed().map(|(text, _)| *text).collect();
    texts.extend(long.iter().chain(&longer).chain(&shuffled).map(String::as_str));
    texts.push(&huge);
    let mut queries: BTreeSet<&str> = listed().flat_map(|(_, queries)| *queries).copied().collect();
    queries.extend(long.iter().chain(&longer).chain(&shorter).chain(&shuffled_words).map(String::as_str));
    queries.insert(&huge);

    // Every second text is a title where one may be as long.
    let scene = Scene::set(&store).await;
    let mut chats = Vec::new();
    let mut changes = Changes::new();
    for (n, text) in texts.iter().enumerate() {
        let chat = a_chat(&scene.workspace, &scene.user);
        chats.push(chat.id);
        changes = if n % 2 == 0 && text.len() <= 200 {
            changes.insert(Chat { title: Some((*text).to_owned()), ..chat })
        } else {
            changes.insert(chat.clone()).say(saying(&chat, &scene, *text))
        };
    }
    attempt(&store, changes).await.unwrap();
    let terms_of: Vec<BTreeSet<String>> = texts.iter().map(|text| terms(text)).collect();
    for words in &queries {
        let Some(query) = Query::parse(words) else { continue };
        let got = found_by(&store, &scene, words).await;
        for (n, text) in texts.iter().enumerate() {
            let (is_found, shown) = (got.contains(&chats[n]), text.chars().take(100).collect::<String>());
            assert_eq!(is_found, query.finds(&terms_of[n]), "{words:?} ({query:?}) in {shown:?}");
        }
    }
    // And the words are those that people expect.
    for (word, longer) in long.iter().zip(&longer) {
        assert!(Query::parse(longer).unwrap().finds(&terms(word)), "{longer}");
    }
    for (expected, list) in [(true, FOUND), (false, NOT_FOUND)] {
        for (text, queries) in list {
            let chat = chats[texts.iter().position(|other| other == text).unwrap()];
            for words in *queries {
                assert_eq!(found_by(&store, &scene, words).await.contains(&chat), expected, "{words:?} in {text:?}");
            }
        }
    }
}

pub(super) async fn finds_only_what_the_viewer_may_see(store: Db) {
    let scene = Scene::set(&store).await;
    let Scene { user: ann, workspace, .. } = &scene;
    let elsewhere = Scene::set(&store).await;
    let bob = a_user();
    attempt(&store, Changes::new().insert(bob.clone())).await.unwrap();
    attempt(&store, joining(workspace, &bob, Role::Member)).await.unwrap();
    // Of each chat the title or a message has the word.
    let by = |creator, visibility, archived, n: usize| {
        let title = n.is_multiple_of(2).then(|| "Treasure".to_owned());
        Chat { visibility, archived, title, ..a_chat(workspace, creator) }
    };
    let (open, private) = (Visibility::Workspace, Visibility::Private);
    for n in 0..2 {
        let anns =
            [by(ann, open, false, n), by(ann, private, false, n), by(ann, open, true, n), by(ann, private, true, n)];
        let bobs = [by(&bob, open, false, n), by(&bob, private, false, n), by(&bob, private, true, n)];
        let theirs = Chat { title: anns[0].title.clone(), ..a_chat(&elsewhere.workspace, ann) };
        let mut changes = Changes::new();
        for chat in anns.iter().chain(&bobs).chain([&theirs]) {
            let text = if n % 2 == 0 { "Nothing" } else { "A treasure" };
            changes = changes.insert(chat.clone()).say(Message { content: text.into(), ..a_message(chat, &bob) });
        }
        attempt(&store, changes).await.unwrap();

        let seen = async |viewer, archived, mine| {
            found(&store, &ChatFilter { viewer, archived, mine, ..asking(&scene, "treasure") }).await
        };
        assert_eq!(seen(ann.id, false, false).await, ids([&anns[0], &anns[1], &bobs[0]]));
        assert_eq!(seen(bob.id, false, false).await, ids([&anns[0], &bobs[0], &bobs[1]]));
        assert_eq!(seen(ann.id, true, false).await, ids([&anns[2], &anns[3]]));
        assert_eq!(seen(bob.id, true, false).await, ids([&anns[2], &bobs[2]]));
        assert_eq!(seen(ann.id, false, true).await, ids([&anns[0], &anns[1]]));
        assert_eq!(seen(bob.id, false, true).await, ids([&bobs[0], &bobs[1]]));
        assert_eq!(seen(bob.id, true, true).await, ids([&bobs[2]]));
        assert_eq!(seen(elsewhere.user.id, false, false).await, ids([&anns[0], &bobs[0]]), "whoever asks");
        assert_eq!(seen(elsewhere.user.id, false, true).await, ids([]));
        assert_eq!(found_by(&store, &elsewhere, "treasure").await, ids([&theirs]));

        // What is made private, made everybody's, or put away is so for a search too.
        let hidden = Chat { visibility: private, ..anns[0].clone() };
        let shown = Chat { visibility: open, ..bobs[1].clone() };
        let put_away = Chat { archived: true, ..bobs[0].clone() };
        let changes = Changes::new().update(hidden).update(shown).update(put_away);
        attempt(&store, changes).await.unwrap();
        assert_eq!(seen(ann.id, false, false).await, ids([&anns[0], &anns[1], &bobs[1]]));
        assert_eq!(seen(bob.id, false, false).await, ids([&bobs[1]]));
        assert_eq!(seen(ann.id, true, false).await, ids([&anns[2], &anns[3], &bobs[0]]));
        assert_eq!(seen(bob.id, true, true).await, ids([&bobs[0], &bobs[2]]));

        // Out of the way of the next round.
        for Chat { workspace, id, .. } in anns.iter().chain(&bobs).chain([&theirs]) {
            let stands = store.chat(*workspace, *id).await.unwrap().unwrap();
            attempt(&store, Changes::new().delete(stands)).await.unwrap();
        }
    }

    // When the creator is gone, nobody is left to see it, and what everybody saw is nobody's own.
    let chats = [by(&bob, open, false, 0), by(&bob, private, false, 0)];
    attempt(&store, Changes::new().insert(chats[0].clone()).insert(chats[1].clone())).await.unwrap();
    attempt(&store, Changes::new().delete(bob.clone())).await.unwrap();
    for viewer in [ann.id, bob.id] {
        let filter = ChatFilter { viewer, ..asking(&scene, "treasure") };
        assert_eq!(found(&store, &filter).await, ids([&chats[0]]));
        assert_eq!(found(&store, &ChatFilter { mine: true, ..filter }).await, ids([]));
    }
}

pub(super) async fn pages_through_what_is_found_most_recently_active_first_without_repeats(store: Db) {
    let scene = Scene::set(&store).await;
    let Scene { user, workspace, .. } = &scene;
    let other = a_user();
    attempt(&store, Changes::new().insert(other.clone())).await.unwrap();
    attempt(&store, joining(workspace, &other, Role::Member)).await.unwrap();
    let instant = now();
    let mut made = Vec::new();
    for n in 0..120 {
        let (by_title, by_message, private) = (n % 4 == 0, n % 6 == 0, n % 8 == 0);
        let chat = Chat {
            title: by_title.then(|| "On lanterns".to_owned()),
            visibility: if private { Visibility::Private } else { Visibility::Workspace },
            // Many of one instant: only the id tells where the next page starts.
            created_at: if (30..50).contains(&n) { instant } else { now() },
            ..a_chat(workspace, if n % 7 == 0 { &other } else { user })
        };
        let changes = Changes::new().insert(chat.clone());
        let changes = if by_message {
            // Some have the word again and again.
            let times = if n == 66 { 250 } else { 1 + n % 7 };
            let told = (0..times).fold(changes, |all, _| all.say(saying(&chat, &scene, "Lanterns!")));
            told.say(saying(&chat, &scene, "Something else"))
        } else {
            changes
        };
        attempt(&store, changes).await.unwrap();
        made.push((chat.id, by_title || by_message));
    }
    // An old one of them comes to the front, by a message that has not the word.
    let (woken, _) = made[12];
    let read = store.chat(workspace.id, woken).await.unwrap().unwrap();
    attempt(&store, Changes::new().say(saying(&read, &scene, "Anybody here?"))).await.unwrap();

    let mut filter = asking(&scene, "lanterns");
    let expected = async |mine: bool| -> Vec<ChatId> {
        let mut chats = Vec::new();
        for (id, matches) in &made {
            let chat = store.chat(workspace.id, *id).await.unwrap().unwrap();
            let own = chat.created_by.as_ref().is_some_and(|by| by.id == user.id);
            if *matches && chat.visible_to(user.id) && (own || !mine) {
                chats.push(chat);
            }
        }
        chats.sort_by_key(|chat| std::cmp::Reverse(place(chat)));
        chats.into_iter().map(|chat| chat.id).collect()
    };
    for mine in [false, true] {
        filter.mine = mine;
        let expected = expected(mine).await;
        assert!(expected.len() > 20);
        for limit in [1, 2, 7, 33, 100] {
            let walked: Vec<_> = walk(&store, &filter, limit).await.iter().map(|chat| chat.id).collect();
            assert_eq!(walked, expected, "in pages of {limit}, mine: {mine}");
        }
    }
    filter.mine = false;
    let before = expected(false).await;
    assert_eq!(before[0], woken);

    // What others do meanwhile: chats that are new or seen come to the front, and in no later page.
    let mut walked: Vec<Chat> = Vec::new();
    let mut after = None;
    for round in 0.. {
        assert!(round < 1000, "pages that lead nowhere");
        let got = store.chats(filter.clone(), page(after, 3)).await.unwrap();
        walked.extend(got.items);
        after = got.next;
        if after.is_none() {
            break;
        }
        a_chat_about(&store, &scene, Some("New lanterns"), []).await;
        a_chat_about(&store, &scene, None, ["More lanterns"]).await;
        if let Some(seen) = walked.get(round) {
            let again = Changes::new().say(saying(seen, &scene, "Lanterns, again"));
            attempt(&store, again).await.unwrap();
        }
    }
    assert_eq!(walked.iter().map(|chat| chat.id).collect::<Vec<_>>(), before);

    // One that nobody touched for long is found behind hundreds that were.
    let deep = asking(&scene, "unearthed");
    let relic = Chat { created_at: scene.chat.created_at, ..a_chat(workspace, user) };
    let relic = Chat { title: Some("Unearthed lanterns".into()), ..relic };
    attempt(&store, Changes::new().insert(relic.clone())).await.unwrap();
    let rest = (0..300).fold(Changes::new(), |all, n| {
        let title = if n % 2 == 0 { "Lanterns" } else { "Unlit" };
        all.insert(Chat { title: Some(title.into()), ..a_chat(workspace, &other) })
    });
    attempt(&store, rest).await.unwrap();
    assert_eq!(walk(&store, &deep, 2).await, slice::from_ref(&relic));
    assert_eq!(walk(&store, &asking(&scene, "lanterns unearthed"), 2).await, slice::from_ref(&relic));
    let own = ChatFilter { mine: true, ..asking(&scene, "lanterns") };
    assert_eq!(walk(&store, &own, 2).await.last(), Some(&relic));
}

pub(super) async fn finds_a_chat_no_longer_by_what_its_title_was(store: Db) {
    let scene = Scene::set(&store).await;
    let chat = a_chat_about(&store, &scene, Some("Summer plans"), ["What about the lake?"]).await;
    let by = async |words| found_by(&store, &scene, words).await == ids([&chat]);
    let stored = async || store.chat(chat.workspace, chat.id).await.unwrap().unwrap();
    let retitle = async |title: Option<&str>| {
        let titled = Chat { title: title.map(str::to_owned), ..stored().await };
        attempt(&store, Changes::new().update(titled)).await.unwrap();
    };
    assert!(by("summer").await && by("summer plans").await && by("lake").await);

    retitle(Some("Winter plans at the lake")).await;
    assert!(by("winter").await && by("winter lake").await && by("plans").await);
    assert!(!by("summer").await && !by("summer plans").await);
    retitle(Some("Winter")).await;
    assert!(by("winter").await && !by("plans").await);
    assert!(by("lake").await, "its message has the word still");
    retitle(None).await;
    assert!(!by("winter").await && by("lake").await);
    retitle(Some("Summer plans")).await;
    assert!(by("summer plans").await && !by("winter").await);

    // Other settings leave the title as it is, and a unit that is refused the words as they were.
    let read = stored().await;
    attempt(&store, Changes::new().update(Chat { model: Some("vllm/llama".into()), ..read })).await.unwrap();
    assert!(by("summer").await);
    let read = stored().await;
    let refused = Changes::new().update(Chat { title: Some("Autumn".into()), ..read }).update(a_user());
    assert_eq!(attempt(&store, refused).await, Err((Conflict::Stale, 1)));
    assert!(by("summer plans").await && !by("autumn").await);
    index_backlog(&store).await;
    assert!(by("summer plans").await && !by("winter").await);

    // Of many titles given at once the last one counts.
    let words: Vec<String> = (0..8).map(|n| format!("name{n}")).collect();
    race(words.len(), |n| {
        let (store, workspace, id) = (store.clone(), chat.workspace, chat.id);
        let title = Some(format!("Plans of {}", words[n]));
        async move {
            loop {
                let read = store.chat(workspace, id).await.unwrap().unwrap();
                match attempt(&store, Changes::new().update(Chat { title: title.clone(), ..read })).await {
                    Ok(_) => return,
                    Err((Conflict::Stale, 0)) => {}
                    odd => panic!("{odd:?}"),
                }
            }
        }
    })
    .await;
    let last = stored().await.title.unwrap();
    assert!(by("plans").await && !by("summer").await);
    for word in &words {
        assert_eq!(by(word).await, last.ends_with(word.as_str()), "{word} in {last}");
    }
}

pub(super) async fn finds_nothing_of_deleted_chats_and_workspaces(store: Db) {
    let scene = Scene::set(&store).await;
    let gone = Scene::set(&store).await;
    let kept = a_chat_about(&store, &scene, Some("Comets"), ["Comets and planets"]).await;
    let chat = a_chat_about(&store, &scene, Some("Comets"), ["Comets and moons", "comets"]).await;
    let theirs = a_chat_about(&store, &gone, Some("Comets"), ["Comets"]).await;
    let instance = an_instance();
    attempt(&store, Changes::new().insert(instance)).await.unwrap();
    let (reply, running) = begin(&store, &Scene { chat: chat.clone(), ..scene.clone() }, &instance).await;
    let chat = store.chat(chat.workspace, chat.id).await.unwrap().unwrap();
    assert_eq!(found_by(&store, &scene, "comets").await, ids([&kept, &chat]));
    assert_eq!(found_by(&store, &gone, "comets").await, ids([&theirs]));

    attempt(&store, Changes::new().delete(chat.clone())).await.unwrap();
    attempt(&store, Changes::new().delete(gone.workspace.clone())).await.unwrap();
    let late = Message { content: "Comets, at last".into(), status: MessageStatus::Complete, ..reply };
    let late = Changes::new().update(late).delete(running);
    assert!(matches!(attempt(&store, late).await, Err((Conflict::Stale, _))));
    for _ in 0..2 {
        assert_eq!(found_by(&store, &scene, "comets").await, ids([&kept]));
        assert_eq!(found_by(&store, &scene, "planets").await, ids([&kept]));
        for words in ["moons", "last"] {
            assert_eq!(found_by(&store, &scene, words).await, ids([]), "{words}");
        }
        // Who was in the workspace can't ask any more; nothing of it is found where they can.
        let theirs = ChatFilter { viewer: gone.user.id, ..asking(&scene, "comets") };
        assert_eq!(found(&store, &theirs).await, ids([&kept]));
        index_backlog(&store).await;
        purge(&store, NOTHING_OVER).await;
    }
    assert_eq!(found_by(&store, &gone, "comets").await, ids([]), "and once it is purged, there is nothing to be found");

    // What takes the place of what was purged has words of its own.
    let again = Chat { title: Some("Tides".into()), ..a_chat(&scene.workspace, &scene.user) };
    let again = Chat { id: chat.id, ..again };
    attempt(&store, Changes::new().insert(again.clone()).say(saying(&again, &scene, "Ebb and flow"))).await.unwrap();
    assert_eq!(found_by(&store, &scene, "comets").await, ids([&kept]));
    assert_eq!(found_by(&store, &scene, "moons").await, ids([]));
    assert_eq!(found_by(&store, &scene, "tides").await, ids([&again]));

    // Whoever writes or looks while a chat is deleted: in the end there is nothing.
    for round in 0..8 {
        let chat = a_chat_about(&store, &scene, Some("Meteors"), ["Meteors"]).await;
        race(8, |n| {
            let (store, scene, chat) = (store.clone(), scene.clone(), chat.clone());
            let message = saying(&chat, &scene, "Meteors and more");
            async move {
                match n {
                    0 => attempt(&store, Changes::new().delete(chat)).await.map(drop).unwrap(),
                    1 => while store.purge(NOTHING_OVER).await.unwrap() > 0 {},
                    2 | 3 => assert!(found_by(&store, &scene, "meteors").await.len() <= 1),
                    _ => {
                        let outcome = attempt(&store, Changes::new().append(message, Follows::Last)).await;
                        assert!(matches!(outcome, Ok(_) | Err((Conflict::MissingParent, 0))), "{outcome:?}");
                    }
                }
            }
        })
        .await;
        assert_eq!(found_by(&store, &scene, "meteors").await, ids([]), "round {round}");
        assert_eq!(found_by(&store, &scene, "more").await, ids([]), "round {round}");
        purge(&store, NOTHING_OVER).await;
        assert_eq!(found_by(&store, &scene, "meteors").await, ids([]), "round {round}");
    }
    assert_eq!(found_by(&store, &scene, "comets planets").await, ids([&kept]));
    let nowhere = ChatFilter { workspace: a_workspace().id, viewer: new_id(), ..asking(&scene, "comets") };
    assert_eq!(found(&store, &nowhere).await, ids([]));
}

//! What every database promises: the contracts of `private_chat_core::port::store`.

mod append;
mod checkpoint;
mod fields;
mod guard;
mod people;
mod read;
mod removal;
mod running;
mod search;
mod unit;

use crate::fixture::Say as _;
use std::sync::Arc;

use private_chat_core::change::{Changes, Committed, Instance, LoggedEvent, Record, Ref, Version};
use private_chat_core::error::Conflict;
use private_chat_core::id::{ChatId, WorkspaceId};
use private_chat_core::model::chat::{Message, RunningReply};
use private_chat_core::page::{Limit, PageRequest};
use private_chat_core::port::store::{Order, Over, Store};
use private_chat_core::time::Timestamp;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::Case;
use crate::cases;
use crate::fixture::{
    Scene, a_keyed_request, a_message, a_reply, a_running_reply, a_session, an_installation, an_instance, an_invitation,
};

use append::*;
use checkpoint::*;
use fields::*;
use guard::*;
use people::*;
use read::*;
use removal::*;
use running::*;
use search::*;
use unit::*;

/// The cases, in the order of the promises.
pub const CASES: &[Case<dyn Store>] = cases![
    finds_a_user_by_id_and_by_email,
    compares_emails_byte_by_byte,
    lists_users_newest_first_without_repeats,
    finds_users_by_a_part_of_their_email_or_folded_name_taken_literally,
    tells_whether_there_is_another_active_administrator,
    finds_a_keyed_request_of_its_own_user_only,
    finds_the_installation_once_it_is_set_up,
    finds_a_session_together_with_its_user,
    finds_a_session_together_with_what_its_user_asks_for,
    tells_which_of_many_sessions_stand,
    lists_the_sessions_of_a_user_that_stand_newest_first,
    finds_a_workspace_for_its_members_only,
    lists_the_workspaces_of_a_user_newest_first_without_repeats,
    tells_which_of_many_memberships_stand,
    lists_the_members_of_a_workspace_by_their_ids_without_repeats,
    tells_whether_a_workspace_has_another_owner,
    finds_an_invitation_by_id_and_by_workspace_and_email,
    lists_the_invitations_of_a_workspace_and_of_an_email_that_stand_newest_first,
    finds_a_chat_in_its_own_workspace_only,
    lists_chats_most_recently_active_first_without_repeats,
    hides_private_chats_from_everybody_but_their_creator,
    tells_who_may_see_which_of_many_chats,
    finds_chats_by_the_words_of_their_title_and_of_their_final_messages,
    finds_a_chat_only_where_one_text_has_all_the_words,
    finds_words_in_any_language_whatever_their_case_and_accents,
    finds_only_what_the_viewer_may_see,
    pages_through_what_is_found_most_recently_active_first_without_repeats,
    finds_a_chat_no_longer_by_what_its_title_was,
    finds_nothing_of_deleted_chats_and_workspaces,
    pages_messages_by_number_in_both_orders,
    finds_a_message_in_its_own_chat_only,
    returns_text_byte_for_byte,
    shows_the_authors_present_names,
    numbers_the_events_of_a_workspace_from_one_without_gaps,
    reads_the_log_after_a_number_in_order,
    tells_the_bounds_of_the_log,
    lists_the_running_replies_of_a_workspace_and_of_an_instance,
    lists_the_running_replies_of_processes_that_are_gone,
    lists_the_processes_with_their_beats,
    writes_all_changes_or_none,
    names_the_change_that_conflicts,
    keeps_every_field_of_a_row_as_it_was_last_written,
    refuses_a_stale_version,
    lets_exactly_one_of_many_racing_writers_win_a_version,
    refuses_a_duplicate_key_and_a_duplicate_email,
    refuses_a_row_whose_parent_is_gone,
    expects_without_writing,
    deletes_what_belongs_to_a_deleted_row,
    leaves_nothing_of_a_deleted_chat_within_reach,
    leaves_nothing_of_a_deleted_workspace_within_reach,
    purges_what_is_over_and_what_nobody_can_reach_and_nothing_else,
    forgets_old_events_from_the_front_of_their_log_and_tells_up_to_where,
    appends_messages_in_one_sequence_however_many_write,
    gives_an_appended_message_the_last_one_as_its_parent,
    begins_a_branch_where_an_appended_message_is_to_follow_nothing,
    refuses_a_parent_of_another_chat,
    caps_the_replies_that_run_of_a_user_and_in_a_workspace_however_many_begin,
    frees_a_running_replys_place_whichever_way_it_goes,
    moves_the_activity_of_a_chat_with_its_messages,
    keeps_what_append_moves_when_a_chat_is_updated,
    adds_up_to_a_ceiling_however_many_write,
    numbers_events_in_the_order_of_their_commits,
    numbers_the_events_of_several_workspaces_in_one_unit,
    is_not_undone_by_a_caller_that_goes_away,
    retries_deadlocks_and_lock_timeouts_by_itself,
    checkpoints_only_replies_that_still_run,
    never_lets_a_checkpoint_change_an_ended_reply,
    tells_an_instance_that_was_declared_dead,
    keeps_a_stop_request_until_the_reply_ends,
];

type Db = Arc<dyn Store>;

/// Commits; a refusal is an answer, everything else that goes wrong fails the case.
async fn attempt(store: &Db, changes: Changes) -> Result<Committed, (Conflict, usize)> {
    let failure = match store.commit(changes).await {
        Ok(committed) => return Ok(committed),
        Err(failure) => failure,
    };
    Err(failure.conflict().unwrap_or_else(|| panic!("neither written nor refused: {failure:?}")))
}

/// Runs so many futures at once, none of which starts before all are there.
async fn race<T: Send + 'static, F>(racers: usize, racer: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(racers));
    let mut running = JoinSet::new();
    for number in 0..racers {
        let (start, racer) = (start.clone(), racer(number));
        running.spawn(async move {
            start.wait().await;
            racer.await
        });
    }
    running.join_all().await
}

fn page<K>(after: Option<K>, limit: u64) -> PageRequest<K> {
    PageRequest { after, limit: Limit::new(limit).unwrap() }
}

/// All messages of a chat, oldest first.
async fn messages(store: &Db, chat: ChatId) -> Vec<Message> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let got = store.messages(chat, Order::Ascending, page(after, 100)).await.unwrap();
        all.extend(got.items);
        if got.next.is_none() {
            return all;
        }
        assert!(got.next > after, "pages that lead nowhere");
        after = got.next;
    }
}

/// The whole log of a workspace.
async fn events(store: &Db, workspace: WorkspaceId) -> Vec<LoggedEvent> {
    let mut all: Vec<LoggedEvent> = Vec::new();
    loop {
        let after = all.last().map_or(0, |logged| logged.number);
        let got = store.events(workspace, after, Limit::new(100).unwrap()).await.unwrap();
        let Some(first) = got.first() else { return all };
        assert!(first.number > after, "a log that leads nowhere");
        all.extend(got);
    }
}

/// Begins a reply as a send does, and reads back what was stored.
async fn begin(store: &Db, scene: &Scene, instance: &Instance) -> (Message, RunningReply) {
    let (asked, reply) = (a_message(&scene.chat, &scene.user), a_reply(&scene.chat));
    let running = a_running_reply(&reply, &scene.user, instance);
    attempt(store, Changes::new().say(asked).say(reply.clone()).insert(running)).await.unwrap();
    let reply = store.message(reply.chat, reply.id).await.unwrap().unwrap();
    let running = store.running(reply.id).await.unwrap().unwrap();
    (reply, running)
}

/// That nothing is over yet, so that only what nobody can reach goes.
const NOTHING_OVER: Over = {
    let start = Timestamp::from_micros(0);
    Over { sessions: start, invitations: start, keyed_requests: start, events: start }
};

/// Purges until nothing is left to be, and says how many rows went.
async fn purge(store: &Db, over: Over) -> u64 {
    let mut gone = 0;
    for _ in 0..10_000 {
        match store.purge(over).await.unwrap() {
            0 => return gone,
            some => gone += some,
        }
    }
    panic!("there is always something left");
}

/// The row of this key, as the owner of the scene's workspace sees it.
async fn row(store: &Db, scene: &Scene, key: Ref) -> Option<Record> {
    match key {
        Ref::Installation => store.installation().await.unwrap().map(Record::from),
        Ref::User(id) => store.user(id).await.unwrap().map(Record::from),
        Ref::Session(id) => store.session(id).await.unwrap().map(|(session, _)| session.into()),
        Ref::Workspace(id) => store.joined(id, scene.user.id).await.unwrap().map(|joined| joined.workspace.into()),
        Ref::Membership(workspace, user) => store.membership(workspace, user).await.unwrap().map(Record::from),
        Ref::Invitation(id) => store.invitation(id).await.unwrap().map(|invited| invited.invitation.into()),
        Ref::KeyedRequest(user, key) => store.keyed_request(user, key).await.unwrap().map(Record::from),
        Ref::Chat(id) => store.chat(scene.workspace.id, id).await.unwrap().map(Record::from),
        Ref::Message(chat, id) => store.message(chat, id).await.unwrap().map(Record::from),
        Ref::RunningReply(id) => store.running(id).await.unwrap().map(Record::from),
        Ref::Instance(id) => {
            let all = store.instances().await.unwrap();
            all.into_iter().find(|instance| instance.id == id).map(Record::from)
        }
    }
}

/// The same record, read with another version.
fn with_version(record: &Record, version: Version) -> Record {
    let mut record = record.clone();
    *match &mut record {
        Record::Installation(it) => &mut it.version,
        Record::User(it) => &mut it.version,
        Record::Session(it) => &mut it.version,
        Record::Workspace(it) => &mut it.version,
        Record::Membership(it) => &mut it.version,
        Record::Invitation(it) => &mut it.version,
        Record::KeyedRequest(it) => &mut it.version,
        Record::Chat(it) => &mut it.version,
        Record::Message(it) => &mut it.version,
        Record::RunningReply(it) => &mut it.version,
        Record::Instance(it) => &mut it.version,
    } = version;
    record
}

/// A scene, and a stored row of every kind in it.
async fn one_of_each(store: &Db) -> (Scene, Vec<Record>) {
    let scene = Scene::set(store).await;
    let session = a_session(&scene.user);
    let installation = an_installation();
    let invitation = an_invitation(&scene.workspace, &scene.user);
    let request = a_keyed_request(&scene.user);
    let instance = an_instance();
    let reply = a_reply(&scene.chat);
    let running = a_running_reply(&reply, &scene.user, &instance);
    let changes = Changes::new()
        .insert(installation)
        .insert(session.clone())
        .insert(invitation.clone())
        .insert(request.clone())
        .insert(instance)
        .say(reply.clone())
        .insert(running.clone());
    attempt(store, changes).await.unwrap();
    let keys = [
        Ref::Installation,
        Ref::User(scene.user.id),
        Ref::Session(session.id),
        Ref::Workspace(scene.workspace.id),
        Ref::Membership(scene.workspace.id, scene.user.id),
        Ref::Invitation(invitation.id),
        Ref::KeyedRequest(scene.user.id, request.key),
        Ref::Chat(scene.chat.id),
        Ref::Message(scene.chat.id, reply.id),
        Ref::RunningReply(reply.id),
        Ref::Instance(instance.id),
    ];
    let mut records = Vec::new();
    for key in keys {
        records.push(row(store, &scene, key).await.unwrap_or_else(|| panic!("{key:?} was written and is not found")));
    }
    (scene, records)
}

/// Rows of every kind that were never stored.
fn one_of_each_missing(scene: &Scene) -> Vec<Record> {
    let user = crate::fixture::a_user();
    let workspace = crate::fixture::a_workspace();
    let message = a_message(&scene.chat, &scene.user);
    let instance = an_instance();
    vec![
        a_session(&user).into(),
        crate::fixture::a_membership(&scene.workspace, &user, private_chat_core::model::workspace::Role::Guest).into(),
        an_invitation(&scene.workspace, &scene.user).into(),
        a_keyed_request(&scene.user).into(),
        crate::fixture::a_chat(&workspace, &user).into(),
        a_running_reply(&message, &user, &instance).into(),
        message.into(),
        workspace.into(),
        user.into(),
        instance.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::assert_every_promise_has_a_case;

    #[test]
    fn every_promise_of_the_store_has_a_case() {
        assert_every_promise_has_a_case(include_str!("../../../../core/src/port/store.rs"), CASES);
    }
}

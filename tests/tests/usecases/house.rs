//! One database, one clock, as many processes as a story needs, and the people in it.

use std::sync::Arc;
use std::time::Duration;

use private_chat_adapters::memory::{
    self, InstantHasher, MemoryStore, OwnedTasks, Script, ScriptedInference, SeededEntropy, TestClock,
};
use private_chat_core::change::{Changes, Counter, Version};
use private_chat_core::error::Error;
use private_chat_core::id::{ChatId, MessageId, UserId, WorkspaceId};
use private_chat_core::model::chat::{Chat, Message, MessageStatus, Parameters, ReplyCaps, ReplyLimits, Visibility};
use private_chat_core::model::invitation::{InvitationToken, Invited};
use private_chat_core::model::password::Password;
use private_chat_core::model::secret::ServerKey;
use private_chat_core::model::session::{Device, Lifetimes};
use private_chat_core::model::user::{GlobalRole, User};
use private_chat_core::model::workspace::{Joined, Membership, Participant, Role};
use private_chat_core::page::{Limit, PageRequest};
use private_chat_core::policy::Right;
use private_chat_core::port::Ports;
use private_chat_core::port::inference::{Completion, Inference};
use private_chat_core::port::passwords::PasswordHasher as _;
use private_chat_core::port::store::{ChatRepository as _, Order, UnitOfWork as _, WorkspaceRepository as _};
use private_chat_core::time::Timestamp;
use private_chat_core::usecase::auth::{Actor, SignedIn};
use private_chat_core::usecase::chats::{ChatChange, InChat, NewChat, NewMessage, Regeneration, Sent};
use private_chat_core::usecase::invitations::Which;
use private_chat_core::usecase::live::Watch;
use private_chat_core::usecase::users::UserChange;
use private_chat_core::usecase::workspaces::{Member, NewWorkspace};
use private_chat_core::usecase::{Patch, Settings, UseCases};
use private_chat_tests::fixture;
use tokio::task::JoinSet;

use super::screen::Viewer;
use super::troubled::TroubledStore;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// How many of its tasks' timers run in a process in which nothing happens: the keeper's.
pub(crate) const TIMERS: usize = 3;
pub(crate) const PASSWORD: &str = "correct horse battery";

/// Lets every task that can go on do so, until it waits for the clock, for a pause of the provider, or for a gate.
pub(crate) async fn settle() {
    for _ in 0..256 {
        tokio::task::yield_now().await;
    }
}

/// Returns when it is so. It must come to be so without time passing.
pub(crate) async fn eventually(what: &str, so: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to be so: {what}");
}

pub(crate) fn settings() -> Settings {
    Settings {
        key: ServerKey::new([7; 32]),
        lifetimes: Lifetimes::default(),
        setup_token: None,
        default_model: None,
        reply: ReplyLimits::default(),
        caps: ReplyCaps::default(),
        titles: false,
    }
}

/// Another title, and nothing else.
pub(crate) fn titled(title: impl Into<String>) -> ChatChange {
    ChatChange { title: Patch::Set(title.into()), ..ChatChange::default() }
}

/// Ends the whole run with a word where a story waits for what never comes. It is no measure of speed.
fn watched() -> JoinSet<()> {
    let mut watchdog = JoinSet::new();
    #[expect(clippy::print_stderr, reason = "the last word of a run")]
    watchdog.spawn(async {
        tokio::time::sleep(Duration::from_secs(120)).await;
        eprintln!("{} waits for what never comes", std::thread::current().name().unwrap_or("a story"));
        std::process::exit(101);
    });
    watchdog
}

/// One installation.
pub(crate) struct House {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<TestClock>,
    entropy: Arc<SeededEntropy>,
    hasher: Arc<InstantHasher>,
    _watchdog: JoinSet<()>,
}

impl House {
    pub(crate) fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(TestClock::new()),
            entropy: Arc::new(SeededEntropy::new(11)),
            hasher: Arc::new(InstantHasher::new()),
            _watchdog: watched(),
        }
    }

    /// The ports of one more process, and what of them a story may want to trouble.
    pub(crate) fn ports(&self, inference: Arc<dyn Inference>) -> (Ports, Arc<TroubledStore>, Arc<OwnedTasks>) {
        let store = Arc::new(TroubledStore::over(self.store.clone()));
        let tasks = Arc::new(OwnedTasks::new());
        let ports = Ports {
            inference: memory::providers(inference),
            passwords: self.hasher.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            tasks: tasks.clone(),
            ..memory::ports()
        };
        (ports.over(store.clone()), store, tasks)
    }

    /// Starts a process whose provider plays this script again and again.
    pub(crate) async fn process(&self, script: Script) -> Process {
        self.playing([script]).await
    }

    /// Starts a process whose provider plays these scripts.
    pub(crate) async fn playing(&self, scripts: impl IntoIterator<Item = Script>) -> Process {
        self.start(Arc::new(ScriptedInference::playing(scripts)), settings()).await
    }

    /// Starts a process.
    pub(crate) async fn start(&self, parrot: Arc<ScriptedInference>, settings: Settings) -> Process {
        let (ports, store, tasks) = self.ports(parrot.clone());
        Process::start(ports, store, tasks, parrot, settings).await
    }

    /// What the setup leaves besides the first administrator.
    pub(crate) async fn set_up(&self) {
        self.store.commit(Changes::new().insert(fixture::an_installation())).await.unwrap();
    }

    /// A person with an account, who has not signed in.
    pub(crate) async fn account(&self, name: &str) -> User {
        let password = self.hasher.hash(Password::presented(PASSWORD.to_owned()).unwrap()).await.unwrap();
        let user = User { name: name.to_owned(), password, ..fixture::a_user() };
        self.store.commit(Changes::new().insert(user.clone())).await.unwrap();
        user
    }

    /// Makes somebody a member.
    pub(crate) async fn join(&self, workspace: WorkspaceId, user: &User, role: Role) -> Membership {
        let membership =
            Membership { workspace, user: user.id, role, joined_at: fixture::now(), version: Version::FIRST };
        let changes = Changes::new().insert(membership.clone()).add(Counter::Members(workspace), 1, None).add(
            Counter::Memberships(user.id),
            1,
            None,
        );
        self.store.commit(changes).await.unwrap();
        membership
    }

    /// Takes a membership away.
    pub(crate) async fn remove(&self, workspace: WorkspaceId, user: &User) {
        let membership = self.store.membership(workspace, user.id).await.unwrap().unwrap();
        let changes = Changes::new().delete(membership).add(Counter::Members(workspace), -1, None).add(
            Counter::Memberships(user.id),
            -1,
            None,
        );
        self.store.commit(changes).await.unwrap();
    }

    /// All messages of a chat as they are stored, oldest first.
    pub(crate) async fn messages(&self, chat: ChatId) -> Vec<Message> {
        let mut all = Vec::new();
        let mut page = PageRequest { after: None, limit: Limit::new(100).unwrap() };
        loop {
            let found = self.store.messages(chat, Order::Ascending, page).await.unwrap();
            all.extend(found.items);
            match found.next {
                Some(next) => page.after = Some(next),
                None => return all,
            }
        }
    }

    /// One message as it is stored.
    pub(crate) async fn message(&self, of: &Message) -> Message {
        self.store.message(of.chat, of.id).await.unwrap().unwrap()
    }

    /// The reply to the last message of a chat.
    pub(crate) async fn last(&self, chat: ChatId) -> Message {
        self.messages(chat).await.pop().unwrap()
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        private_chat_core::port::clock::Clock::now(&*self.clock)
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, length: Duration) {
        self.clock.pass(length).await;
        settle().await;
    }
}

/// Somebody who has signed in.
pub(crate) struct Person {
    pub(crate) user: User,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl From<SignedIn> for Person {
    fn from(signed_in: SignedIn) -> Self {
        Self {
            user: signed_in.user,
            access: signed_in.tokens.access.expose().to_owned(),
            refresh: signed_in.tokens.refresh.expose().to_owned(),
        }
    }
}

/// One process of the program.
pub(crate) struct Process {
    pub(crate) cases: UseCases,
    pub(crate) store: Arc<TroubledStore>,
    pub(crate) parrot: Arc<ScriptedInference>,
    tasks: Arc<OwnedTasks>,
}

impl Process {
    pub(crate) async fn start(
        ports: Ports,
        store: Arc<TroubledStore>,
        tasks: Arc<OwnedTasks>,
        parrot: Arc<ScriptedInference>,
        settings: Settings,
    ) -> Self {
        let cases = UseCases::new(&ports, settings);
        cases.replies.register().await.unwrap();
        ports.tasks.spawn(Box::pin(cases.replies.clone().keep()));
        settle().await;
        Self { cases, store, parrot, tasks }
    }

    /// Ends the process without a word, as `kill -9` does.
    pub(crate) async fn kill(&self) {
        self.store.set_away(true);
        self.tasks.kill();
        settle().await;
    }

    pub(crate) async fn sign_in(&self, user: &User) -> Person {
        self.cases.auth.login(user.email.as_str(), PASSWORD.to_owned(), Device::default()).await.unwrap().into()
    }

    pub(crate) async fn actor(&self, person: &Person) -> Actor {
        self.cases.auth.authenticate(&person.access).await.unwrap()
    }

    pub(crate) async fn member(&self, person: &Person, workspace: WorkspaceId, right: Right) -> Result<Member, Error> {
        self.cases.auth.arrive(&person.access, workspace, None).await?.member(right)
    }

    pub(crate) async fn enter(&self, person: &Person, chat: &Chat, right: Right) -> Result<InChat, Error> {
        self.enter_at(person, (chat.workspace, chat.id), right).await
    }

    pub(crate) async fn enter_at(
        &self,
        person: &Person,
        (workspace, chat): (WorkspaceId, ChatId),
        right: Right,
    ) -> Result<InChat, Error> {
        self.cases.auth.arrive(&person.access, workspace, Some(chat)).await?.in_chat(right)
    }

    pub(crate) async fn send(&self, person: &Person, chat: &Chat, text: &str) -> Result<Sent, Error> {
        self.send_as(person, chat, text, false).await
    }

    /// Sends and asks for the stream of the reply.
    pub(crate) async fn send_watched(&self, person: &Person, chat: &Chat, text: &str) -> Sent {
        self.send_as(person, chat, text, true).await.unwrap()
    }

    async fn send_as(&self, person: &Person, chat: &Chat, text: &str, watched: bool) -> Result<Sent, Error> {
        let at = self.enter(person, chat, Right::Send).await?;
        self.cases.chats.send(&at, a_message(text), watched, None).await
    }

    /// Sends, and waits for the reply's end; time stands still.
    pub(crate) async fn ask(&self, person: &Person, chat: &Chat, text: &str) -> Message {
        self.send(person, chat, text).await.unwrap().end.wait().await.unwrap().1
    }

    pub(crate) async fn stop(&self, person: &Person, chat: &Chat, message: MessageId) -> Result<Message, Error> {
        let at = self.enter(person, chat, Right::StopReply).await?;
        self.cases.chats.stop(&at, message).await
    }

    /// Follows a whole workspace.
    pub(crate) async fn watch(
        &self,
        person: &Person,
        workspace: WorkspaceId,
        after: Option<u64>,
    ) -> Result<Watch, Error> {
        let member = self.member(person, workspace, Right::ReadChats).await?;
        self.cases.live.watch(&member, after).await
    }

    /// Follows one chat.
    pub(crate) async fn watch_chat(&self, person: &Person, chat: &Chat, after: Option<u64>) -> Result<Watch, Error> {
        let at = self.enter(person, chat, Right::ReadChats).await?;
        self.cases.chats.watch(&at, after).await
    }

    pub(crate) async fn new_chat(&self, person: &Person, workspace: WorkspaceId, visibility: Visibility) -> Chat {
        let member = self.member(person, workspace, Right::CreateChat).await.unwrap();
        let new = NewChat { title: None, visibility, model: None, system_prompt: None };
        self.cases.chats.create(&member, new, None).await.unwrap()
    }

    pub(crate) async fn change_chat(&self, person: &Person, chat: &Chat, change: ChatChange) -> Result<Chat, Error> {
        let at = self.enter(person, chat, Right::EditChat).await?;
        self.cases.chats.change(&at, change).await
    }

    /// Makes a chat private, or the workspace's.
    pub(crate) async fn make(&self, person: &Person, chat: &Chat, visibility: Visibility) -> Chat {
        let change = ChatChange { visibility: Some(visibility), ..ChatChange::default() };
        self.change_chat(person, chat, change).await.unwrap()
    }

    pub(crate) async fn delete_chat(&self, person: &Person, chat: &Chat) -> Result<(), Error> {
        let at = self.enter(person, chat, Right::DeleteChat).await?;
        self.cases.chats.delete(&at).await
    }

    pub(crate) async fn edit(
        &self,
        person: &Person,
        chat: &Chat,
        (message, text): (MessageId, &str),
    ) -> Result<Sent, Error> {
        let at = self.enter(person, chat, Right::Send).await?;
        self.cases.chats.edit(&at, (message, text.to_owned()), false, None).await
    }

    pub(crate) async fn regenerate(&self, person: &Person, chat: &Chat, reply: MessageId) -> Result<Sent, Error> {
        let at = self.enter(person, chat, Right::Send).await?;
        self.cases.chats.regenerate(&at, (reply, Regeneration::default()), false, None).await
    }

    /// What the model was told, question by question.
    pub(crate) fn told(&self) -> Vec<Vec<String>> {
        let texts = |asked: Completion| asked.messages.into_iter().map(|message| message.content).collect();
        self.parrot.completions().into_iter().map(texts).collect()
    }

    /// Follows a whole workspace, from now on.
    pub(crate) async fn view(&self, person: &Person, workspace: WorkspaceId) -> Viewer {
        Viewer::of(self.watch(person, workspace, None).await.unwrap())
    }

    pub(crate) async fn invite(
        &self,
        owner: &Person,
        workspace: WorkspaceId,
        email: &str,
        role: Role,
    ) -> Result<(Invited, InvitationToken), Error> {
        let member = self.member(owner, workspace, Right::Invite).await?;
        self.cases.invitations.invite(&member, email, role, None).await
    }

    pub(crate) async fn accept(&self, person: &Person, which: &Which) -> Result<Joined, Error> {
        self.cases.invitations.accept(&self.cases.auth.authenticate(&person.access).await?, which).await
    }

    pub(crate) async fn decline(&self, person: &Person, which: &Which) -> Result<(), Error> {
        self.cases.invitations.decline(&self.cases.auth.authenticate(&person.access).await?, which).await
    }

    /// Who belongs to a workspace, as one of them sees it.
    pub(crate) async fn members(&self, person: &Person, workspace: WorkspaceId) -> Vec<(UserId, Role)> {
        let member = self.member(person, workspace, Right::SeeMembers).await.unwrap();
        let page = PageRequest { after: None, limit: Limit::MOST };
        let page = self.cases.members.list(&member, page).await.unwrap();
        assert_eq!(page.next, None);
        assert_eq!(member.joined().member_count, page.items.len() as u64);
        page.items.into_iter().map(|member| (member.membership.user, member.membership.role)).collect()
    }

    pub(crate) async fn give_role(
        &self,
        owner: &Person,
        workspace: WorkspaceId,
        user: UserId,
        role: Role,
    ) -> Result<Participant, Error> {
        let member = self.member(owner, workspace, Right::ChangeRoles).await?;
        self.cases.members.change_role(&member, user, role).await
    }

    /// Removes a member, or lets somebody leave.
    pub(crate) async fn remove(&self, person: &Person, workspace: WorkspaceId, user: UserId) -> Result<(), Error> {
        let member = self.member(person, workspace, Right::Leave).await?;
        self.cases.members.remove(&member, user).await
    }

    pub(crate) async fn delete_workspace(&self, person: &Person, workspace: WorkspaceId) -> Result<(), Error> {
        let member = self.member(person, workspace, Right::DeleteWorkspace).await?;
        self.cases.workspaces.delete(&member).await
    }

    pub(crate) async fn change_user(&self, person: &Person, user: UserId, change: UserChange) -> Result<User, Error> {
        let actor = self.cases.auth.authenticate(&person.access).await?;
        let account = self.cases.users.open(actor, user).await?;
        self.cases.users.change(&account, change).await
    }

    pub(crate) async fn delete_user(&self, admin: &Person, user: UserId, heir: Option<UserId>) -> Result<(), Error> {
        let actor = self.cases.auth.authenticate(&admin.access).await?;
        self.cases.users.delete(&actor, user, heir).await
    }

    pub(crate) async fn new_workspace(&self, person: &Person) -> WorkspaceId {
        let new = NewWorkspace { name: "Research".into(), description: None };
        self.cases.workspaces.create(&self.actor(person).await, new, None).await.unwrap().workspace.id
    }
}

pub(crate) fn a_message(text: &str) -> NewMessage {
    NewMessage { content: text.to_owned(), parent: None, model: None, parameters: Parameters::default() }
}

/// A house with one process, and Ann, who owns a workspace with a chat.
pub(crate) struct Home {
    pub(crate) house: House,
    pub(crate) a: Process,
    pub(crate) ann: Person,
    pub(crate) workspace: WorkspaceId,
    pub(crate) chat: Chat,
}

impl Home {
    pub(crate) async fn of(script: Script) -> Self {
        Self::playing([script]).await
    }

    pub(crate) async fn playing(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self::set(scripts, settings()).await
    }

    pub(crate) async fn set(scripts: impl IntoIterator<Item = Script>, settings: Settings) -> Self {
        let house = House::new();
        let a = house.start(Arc::new(ScriptedInference::playing(scripts)), settings).await;
        Self::with(house, a).await
    }

    pub(crate) async fn limited(script: Script, reply: ReplyLimits) -> Self {
        let house = House::new();
        let a = house.start(Arc::new(ScriptedInference::new(script)), Settings { reply, ..settings() }).await;
        Self::with(house, a).await
    }

    pub(crate) async fn with(house: House, a: Process) -> Self {
        let ann = a.sign_in(&house.account("Ann").await).await;
        let workspace = a.new_workspace(&ann).await;
        let chat = a.new_chat(&ann, workspace, Visibility::Workspace).await;
        Self { house, a, ann, workspace, chat }
    }

    /// One more member.
    pub(crate) async fn person(&self, name: &str, role: Role) -> Person {
        let person = self.a.sign_in(&self.house.account(name).await).await;
        self.house.join(self.workspace, &person.user, role).await;
        person
    }

    pub(crate) async fn last(&self) -> Message {
        self.house.last(self.chat.id).await
    }

    pub(crate) async fn pass(&self, length: Duration) {
        self.house.pass(length).await;
    }

    /// Everything has come to its end: no reply runs, here or in the database, and no stream is open.
    pub(crate) async fn is_quiet(&self) {
        use private_chat_core::port::store::ReplyRepository as _;
        assert_eq!(self.a.cases.replies.running(), 0, "a reply still runs");
        assert_eq!(self.house.store.running_in(self.workspace).await.unwrap(), []);
        assert_eq!(self.a.cases.live.watchers(), 0, "a stream is still open");
        for message in self.house.messages(self.chat.id).await {
            assert_ne!(message.status, MessageStatus::Streaming);
        }
    }
}

/// An administrator.
pub(crate) async fn an_admin(process: &Process, house: &House) -> Person {
    an_admin_named("Root", process, house).await
}

pub(crate) async fn an_admin_named(name: &str, process: &Process, house: &House) -> Person {
    let user = house.account(name).await;
    let admin = User { role: GlobalRole::Admin, ..user };
    house.store.commit(Changes::new().update(admin.clone())).await.unwrap();
    process.sign_in(&admin).await
}

//! The people and the database of this folder's unit tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;

use super::Settings;
use super::auth::{Actor, Arrived, Auth};
use super::idempotency::Idempotency;
use super::live::Live;
use super::models::Models;
use super::workspaces::{Member, Workspaces};
use crate::change::{Changes, Committed, Version};
use crate::error::{Conflict, Failure};
use crate::model::chat::{ReplyCaps, ReplyLimits};
use crate::model::password::PasswordHash;
use crate::model::secret::ServerKey;
use crate::model::session::{Device, Lifetimes, Session};
use crate::model::user::{Email, GlobalRole, User};
use crate::model::workspace::{Joined, Membership, Participant, Role, Workspace};
use crate::policy::Right;
use crate::port::Ports;
use crate::port::clock::{MockClock, MockEntropy};
use crate::port::store::{MockSessionRepository, MockUnitOfWork};
use crate::port::tokens::{Claims, MockTokenSigner};
use crate::time::Timestamp;

pub(super) const NOW: Timestamp = Timestamp::from_micros(1_769_851_800_000_000);
pub(super) const KEY: ServerKey = ServerKey::new([5; 32]);

pub(super) fn settings() -> Settings {
    Settings {
        key: KEY,
        lifetimes: Lifetimes::default(),
        setup_token: None,
        default_model: None,
        reply: ReplyLimits::default(),
        caps: ReplyCaps::default(),
        titles: false,
    }
}

fn id<I: From<uuid::Uuid>>(id: u128) -> I {
    uuid::Uuid::from_u128(id).into()
}

fn user(number: u128, name: &str, role: GlobalRole) -> User {
    User {
        id: id(number),
        email: Email::stored(format!("{}@example.com", name.to_lowercase())),
        name: name.into(),
        role,
        is_active: true,
        must_change_password: false,
        password: PasswordHash::new("$hash"),
        credentials_epoch: 3,
        created_at: NOW,
        updated_at: NOW,
        version: Version(7),
    }
}

/// An administrator.
pub(super) fn ann() -> User {
    user(1, "Ann", GlobalRole::Admin)
}

/// A user.
pub(super) fn ben() -> User {
    user(2, "Ben", GlobalRole::User)
}

pub(super) fn workspace() -> Workspace {
    Workspace {
        id: id(10),
        name: "Lab".into(),
        description: None,
        default_model: None,
        system_prompt: None,
        require_two_factor: false,
        created_at: NOW,
        updated_at: NOW,
        version: Version(4),
    }
}

pub(super) fn membership(user: &User, role: Role) -> Membership {
    Membership { workspace: workspace().id, user: user.id, role, joined_at: NOW, version: Version(2) }
}

pub(super) fn joined(user: &User, role: Role) -> Joined {
    Joined { workspace: workspace(), membership: membership(user, role), member_count: 2 }
}

pub(super) fn participant(user: &User, role: Role) -> Participant {
    Participant { membership: membership(user, role), name: user.name.clone(), email: user.email.clone() }
}

/// A session of theirs that stands.
pub(super) fn session(user: &User) -> Session {
    let of = (user.id, user.credentials_epoch);
    Session::open(&KEY, id(20), of, Device::default(), NOW, &Lifetimes::default(), &[1; 16]).0
}

/// A clock that stands, chance that is always the same, and nothing else.
pub(super) fn ports() -> Ports {
    let mut clock = MockClock::new();
    clock.expect_now().return_const(NOW);
    let mut entropy = MockEntropy::new();
    entropy.expect_fill().returning(|buffer| buffer.fill(9));
    Ports { clock: Arc::new(clock), entropy: Arc::new(entropy), ..Ports::untouched() }
}

/// The session's user, as each look finds them; the last one ever after.
pub(super) fn signed_in<const N: usize>(looks: [User; N]) -> Arc<MockSessionRepository> {
    let opened = session(&looks[0]);
    let mut users = in_turn(looks);
    let mut sessions = MockSessionRepository::new();
    sessions.expect_session().returning(move |_| Ok(Some((opened.clone(), users()))));
    Arc::new(sessions)
}

/// Somebody who is let in by their token.
pub(super) fn actor(user: &User) -> Actor {
    let opened = session(user);
    let claims =
        Claims { user: user.id, session: opened.id, role: user.role, issued_at: NOW, expires_at: opened.expires_at };
    let mut tokens = MockTokenSigner::new();
    tokens.expect_verify().return_const(Some(claims));
    let ports = Ports { tokens: Arc::new(tokens), sessions: signed_in([user.clone()]), ..ports() };
    now(Auth::new(ports, settings()).authenticate("token")).unwrap()
}

/// Somebody who is let into the workspace.
pub(super) fn member(user: &User, role: Role) -> Member {
    Arrived { actor: actor(user), joined: Some(joined(user, role)), chat: None }.member(Right::SeeWorkspace).unwrap()
}

pub(super) fn spaces(ports: &Ports) -> Workspaces {
    Workspaces::new(ports.clone(), Arc::new(Models::new(ports.clone(), None)), once(ports))
}

pub(super) fn once(ports: &Ports) -> Arc<Idempotency> {
    Arc::new(Idempotency::new(ports.clone(), KEY))
}

pub(super) fn live(ports: &Ports) -> Arc<Live> {
    Arc::new(Live::new(ports.clone()))
}

/// What comes of something that waits for nothing.
pub(super) fn now<T>(something: impl Future<Output = T>) -> T {
    something.now_or_never().expect("nothing is waited for")
}

/// Answers one after the other; the last one ever after.
pub(super) fn in_turn<T: Clone, const N: usize>(answers: [T; N]) -> impl FnMut() -> T {
    let mut answers = VecDeque::from(answers);
    move || match answers.len() {
        1 => answers[0].clone(),
        _ => answers.pop_front().expect("there is an answer"),
    }
}

/// How a commit ends.
#[derive(Clone, Copy)]
pub(super) enum Commit {
    /// Written.
    Done,
    /// Refused.
    Refused(Conflict, usize),
    /// The database is away.
    Away,
}

/// What was to be written, in the order of the commits.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Vec<Changes>>>);

impl Ledger {
    pub(super) fn all(&self) -> Vec<Changes> {
        self.0.lock().unwrap().clone()
    }

    /// The only commit.
    pub(super) fn only(&self) -> Changes {
        let mut all = self.all();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

/// A database that takes these commits and no more.
pub(super) fn work<const N: usize>(ends: [Commit; N]) -> (Arc<MockUnitOfWork>, Ledger) {
    let ledger = Ledger::default();
    let (book, mut ends) = (ledger.clone(), VecDeque::from(ends));
    let mut work = MockUnitOfWork::new();
    work.expect_commit().returning(move |changes| {
        let events = (1..=changes.events().len() as u64).collect();
        book.0.lock().unwrap().push(changes);
        match ends.pop_front().expect("nothing more is written") {
            Commit::Done => Ok(Committed { events, appended: Vec::new() }),
            Commit::Refused(conflict, change) => Err(Failure::Conflict { conflict, change }),
            Commit::Away => Err(Failure::database("away")),
        }
    });
    (Arc::new(work), ledger)
}

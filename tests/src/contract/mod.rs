//! Contracts as data: each bullet under a `# Contract` in the core is the name of a case here, and each case runs on every adapter.

pub mod clock;
pub mod inference;
pub mod passwords;
pub mod store;
pub mod tokens;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use libtest_mimic::{Completion, Failed, Trial};
use tokio::time::timeout;

/// One promise of the port `P`, and how it is put to the test.
pub struct Case<P: ?Sized> {
    /// The promise, in snake case.
    pub name: &'static str,
    /// Panics where the promise is broken.
    pub run: fn(Arc<P>) -> BoxFuture<'static, ()>,
}

/// Makes a list of [`Case`]s of functions `async fn(Arc<P>)`, named as these are.
#[macro_export]
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        &[$($crate::contract::Case { name: stringify!($case), run: |port| Box::pin($case(port)) }),*]
    };
}

/// An adapter with nothing in it, made for one case.
pub struct Fresh<P: ?Sized> {
    port: Arc<P>,
    discard: BoxFuture<'static, ()>,
}

impl<P: ?Sized> Fresh<P> {
    /// An adapter that leaves nothing behind.
    pub fn new(port: Arc<P>) -> Self {
        Self { port, discard: Box::pin(async {}) }
    }

    /// The same, with what clears up after the case, passed or not.
    #[must_use]
    pub fn discarded_by(self, discard: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { discard: Box::pin(discard), ..self }
    }
}

type Make<P> = Box<dyn Fn() -> BoxFuture<'static, Fresh<P>>>;

/// Where the adapter under test comes from.
pub enum Subject<P: ?Sized> {
    /// A fresh one for the case. What panics here fails it.
    Fresh(Make<P>),
    /// What it needs is not here.
    Absent(Absence),
}

impl<P: ?Sized> Subject<P> {
    /// An adapter that is made anew for each case.
    pub fn fresh<F>(make: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = Fresh<P>> + Send + 'static,
    {
        Self::Fresh(Box::new(move || Box::pin(make())))
    }
}

/// That something a case needs is not here. The case shows as ignored, never as passed; and it fails where somebody counts on it.
#[derive(Clone, Debug)]
pub struct Absence {
    /// What is missing, and how to provide it.
    pub why: String,
    /// Whether it was demanded.
    pub demanded: bool,
}

/// The longest that a case may take: one that hangs has failed.
const DEADLINE: Duration = Duration::from_secs(120);

/// A trial for each case, named `sqlite::store::refuses_a_stale_version`. The subject is asked for when a case runs, on a thread of its own.
pub fn trials<P: ?Sized + Send + Sync + 'static>(
    adapter: &str,
    contract: &str,
    cases: &'static [Case<P>],
    subject: impl Fn() -> Subject<P> + Send + Sync + 'static,
) -> Vec<Trial> {
    let subject = Arc::new(subject);
    let trial = |case: &'static Case<P>| {
        let subject = subject.clone();
        Trial::ignorable_test(format!("{adapter}::{contract}::{}", case.name), move || match subject() {
            Subject::Fresh(make) => run(case, &make),
            Subject::Absent(absence) if absence.demanded => Err(Failed::from(absence.why)),
            Subject::Absent(absence) => Ok(Completion::ignored_with(absence.why)),
        })
    };
    cases.iter().map(trial).collect()
}

fn run<P: ?Sized + Send + Sync + 'static>(case: &Case<P>, make: &Make<P>) -> Result<Completion, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let fresh = make().await;
        // As a task, so that the deadline holds for one that spins as well.
        let case = timeout(DEADLINE, runtime.spawn((case.run)(fresh.port))).await;
        // Also after a panic, or every broken promise would leave a database behind.
        fresh.discard.await;
        case
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    match outcome {
        Ok(Ok(())) => Ok(Completion::Completed),
        Ok(Err(ended)) => resume_unwind(ended.into_panic()),
        Err(_) => Err(Failed::from(format!("took longer than {} s", DEADLINE.as_secs()))),
    }
}

/// The promises in the source of a port: the bullets under each `# Contract`, as cases are named.
#[must_use]
pub fn promises(source: &str) -> Vec<String> {
    let mut promises = Vec::new();
    let mut in_contract = false;
    for line in source.lines() {
        match line.trim().strip_prefix("///").map(str::trim) {
            Some("# Contract") => in_contract = true,
            Some(doc) if in_contract => promises.extend(doc.strip_prefix("- ").map(snake_case)),
            Some(_) => {}
            None => in_contract = false,
        }
    }
    promises
}

fn snake_case(sentence: &str) -> String {
    let kept = sentence.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// Panics unless there is one case for each promise in the source of a port, in the same order, and no other.
pub fn assert_every_promise_has_a_case<P: ?Sized>(source: &str, cases: &[Case<P>]) {
    let promised = promises(source);
    let tested: Vec<_> = cases.iter().map(|case| case.name).collect();
    assert!(!promised.is_empty(), "the source has no contract");
    assert_eq!(tested, promised, "cases (left) and the bullets of the port (right)");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_the_bullets_under_a_contract_and_nothing_else() {
        let source = "/// - no promise\n/// # Contract\n/// - shows the authors' names\n/// - counts\ntrait A {}\n/// - none either\n";
        assert_eq!(promises(source), ["shows_the_authors_names", "counts"]);
    }
}

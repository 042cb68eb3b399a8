//! Passwords hashed with Argon2id (RFC 9106), off the async threads and no more at once than there are cores.

use std::sync::{Arc, Mutex, PoisonError};

use ::argon2::password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt};
use ::argon2::{Algorithm, Argon2, Block, Params, Version};
use async_trait::async_trait;
use private_chat_core::error::{Backend, Cause, Failure};
use private_chat_core::model::password::{Password, PasswordHash};
use private_chat_core::port::Result;
use private_chat_core::port::clock::Entropy;
use private_chat_core::port::passwords::{PasswordHasher, Verdict};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// What a new hash costs (OWASP Password Storage Cheat Sheet): 19 MiB, two passes, one lane.
const COST: (u32, u32, u32) = (19_456, 2, 1);
/// What a hash must at least have cost not to be made anew: less memory for more passes is as good, down to 12 MiB.
const LEAST_MEMORY: u32 = 12_288;
const LEAST_WORK: u64 = 3 * 12_288;
/// What a stored hash may cost at most. It comes from the database, and nobody shall stop the server by writing an absurd one there.
const MOST: (u32, u32, u32) = (65_536, 16, 16);

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Hashes with Argon2id.
///
/// At most `concurrency` hashes are computed at once, which bounds memory to 19 MiB each, and at most `queue` requests wait for their turn.
pub struct Argon2Hasher {
    entropy: Arc<dyn Entropy>,
    /// Places in line: those that compute and those that wait.
    line: Arc<Semaphore>,
    /// Those that compute.
    turns: Arc<Semaphore>,
    worker: Arc<Worker>,
}

impl Argon2Hasher {
    /// Computes `concurrency` hashes at once, but no more than there are cores; zero means as many as there are cores.
    #[must_use]
    pub fn new(concurrency: usize, queue: usize, entropy: Arc<dyn Entropy>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let turns = if concurrency == 0 { cores } else { concurrency.min(cores) };
        Self {
            entropy,
            line: Arc::new(Semaphore::new(turns.saturating_add(queue).min(Semaphore::MAX_PERMITS))),
            turns: Arc::new(Semaphore::new(turns)),
            worker: Arc::new(Worker { turns, queue, memory: Mutex::default() }),
        }
    }

    /// Runs `work` on a thread of its own when its turn comes. The turn goes with the work: a caller that goes away frees it no earlier than
    /// the computation ends, so that the bound holds.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = match self.line.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(TryAcquireError::NoPermits) => return Err(Failure::Busy { backend: Backend::Passwords }),
            Err(closed @ TryAcquireError::Closed) => return Err(unavailable(closed)),
        };
        let turn = self.turns.clone().acquire_owned().await.map_err(unavailable)?;
        let worker = self.worker.clone();
        let line = self.line.clone();
        tokio::task::spawn_blocking(move || worker.run(work, &line, (place, turn))).await.map_err(unavailable)?
    }
}

#[async_trait]
impl PasswordHasher for Argon2Hasher {
    async fn hash(&self, password: Password) -> Result<PasswordHash> {
        let mut salt = [0; SALT_BYTES];
        self.entropy.fill(&mut salt);
        self.in_turn(move |memory| {
            let cost = Cost::of_today().map_err(unavailable)?;
            let hash = memory.compute(&cost, &password, &salt, HASH_BYTES).map_err(unavailable)?;
            Ok(PasswordHash::new(cost.phc(&salt, hash).map_err(unavailable)?.to_string()))
        })
        .await
    }

    async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<Verdict> {
        self.in_turn(move |memory| {
            let Some(hash) = hash else {
                // The same work as for a wrong password, so that the time tells nothing.
                let cost = Cost::of_today().map_err(unavailable)?;
                let nobody = cost.phc(&[0; SALT_BYTES], Output::new(&[0; HASH_BYTES]).map_err(unavailable)?);
                let nobody = PasswordHash::new(nobody.map_err(unavailable)?.to_string());
                return memory.check(&password, &nobody).map(|_| Verdict::Wrong);
            };
            memory.check(&password, &hash)
        })
        .await
    }
}

/// Computes, and keeps the memory of computations for those that wait.
struct Worker {
    turns: usize,
    queue: usize,
    memory: Mutex<Vec<Memory>>,
}

impl Worker {
    fn run<T>(
        &self,
        work: impl FnOnce(&mut Memory) -> Result<T>,
        line: &Semaphore,
        places: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    ) -> Result<T> {
        let spare = || self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = spare().pop().unwrap_or_default();
        let result = work(&mut memory);
        // Under load, memory goes from one computation to the next without the kernel clearing 19 MiB each time; an idle server holds none.
        let in_line = self.turns.saturating_add(self.queue).saturating_sub(line.available_permits());
        if in_line > self.turns {
            spare().push(memory);
        } else {
            spare().clear();
        }
        drop(places);
        result
    }
}

/// How many blocks of 1 KiB glibc maps by themselves, and gives back to the system as soon as they are freed, whatever was allocated before:
/// more than 32 MiB (`M_MMAP_THRESHOLD` in mallopt(3)). It would keep smaller ones for each thread that ever hashed. What is reserved beyond need
/// is never touched, and so costs nothing.
const GIVEN_BACK: usize = 33 << 10;

/// The blocks that a computation fills.
#[derive(Default)]
struct Memory(Vec<Block>);

impl Memory {
    fn compute(
        &mut self,
        cost: &Cost,
        password: &Password,
        salt: &[u8],
        length: usize,
    ) -> std::result::Result<Output, ::argon2::Error> {
        let blocks = cost.params.block_count();
        if self.0.len() < blocks {
            self.0.reserve_exact(blocks.max(GIVEN_BACK).saturating_sub(self.0.len()));
            self.0.resize(blocks, Block::new());
        }
        let memory = self.0.get_mut(..blocks).ok_or(::argon2::Error::OutOfMemory)?;
        let argon2 = Argon2::new(cost.algorithm, cost.version, cost.params.clone());
        let mut hash = [0; Output::MAX_LENGTH];
        let hash = hash.get_mut(..length).ok_or(::argon2::Error::OutputTooLong)?;
        argon2.hash_password_into_with_memory(password.expose().as_bytes(), salt, hash, memory)?;
        Output::new(hash).map_err(|_| ::argon2::Error::OutputTooLong)
    }

    fn check(&mut self, password: &Password, hash: &PasswordHash) -> Result<Verdict> {
        let phc = Phc::new(hash.as_str()).map_err(corrupt)?;
        let cost = Cost::of(&phc)?;
        let (Some(salt), Some(expected)) = (phc.salt, phc.hash) else {
            return Err(corrupt("the hash lacks its salt or its value"));
        };
        let found = self.compute(&cost, password, salt.as_ref(), expected.len()).map_err(corrupt)?;
        // Compares in constant time.
        Ok(if found != expected {
            Verdict::Wrong
        } else if cost.is_weak() || salt.as_ref().len() < SALT_BYTES || expected.len() < HASH_BYTES {
            Verdict::RightButWeak
        } else {
            Verdict::Right
        })
    }
}

/// How a hash is computed.
struct Cost {
    algorithm: Algorithm,
    version: Version,
    params: Params,
}

impl Cost {
    fn of_today() -> std::result::Result<Self, ::argon2::Error> {
        let (memory, passes, lanes) = COST;
        let params = Params::new(memory, passes, lanes, Some(HASH_BYTES))?;
        Ok(Self { algorithm: Algorithm::Argon2id, version: Version::V0x13, params })
    }

    fn of(phc: &Phc) -> Result<Self> {
        let algorithm = Algorithm::try_from(phc.algorithm.as_str()).map_err(corrupt)?;
        let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from).map_err(corrupt)?;
        let params = Params::try_from(phc).map_err(corrupt)?;
        let (memory, passes, lanes) = MOST;
        if params.m_cost() > memory || params.t_cost() > passes || params.p_cost() > lanes {
            return Err(corrupt("the hash asks for more work than any that is accepted"));
        }
        Ok(Self { algorithm, version, params })
    }

    fn is_weak(&self) -> bool {
        let work = u64::from(self.params.m_cost()) * u64::from(self.params.t_cost());
        self.algorithm != Algorithm::Argon2id
            || self.version != Version::V0x13
            || self.params.m_cost() < LEAST_MEMORY
            || work < LEAST_WORK
    }

    fn phc(&self, salt: &[u8], hash: Output) -> ::argon2::password_hash::Result<Phc> {
        Ok(Phc {
            algorithm: self.algorithm.ident(),
            version: Some(self.version.into()),
            params: ParamsString::try_from(&self.params)?,
            salt: Some(Salt::new(salt)?),
            hash: Some(hash),
        })
    }
}

fn unavailable(cause: impl Into<Cause>) -> Failure {
    Failure::Unavailable { backend: Backend::Passwords, cause: cause.into() }
}

fn corrupt(cause: impl Into<Cause>) -> Failure {
    Failure::Corrupt { backend: Backend::Passwords, cause: cause.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(7);
        }
    }

    fn password(text: &str) -> Password {
        Password::presented(text.into()).unwrap()
    }

    fn phc(
        algorithm: Algorithm,
        version: Version,
        (memory, passes, lanes): (u32, u32, u32),
        text: &str,
    ) -> PasswordHash {
        let params = Params::new(memory, passes, lanes, Some(HASH_BYTES)).unwrap();
        let cost = Cost { algorithm, version, params };
        let salt = [1; SALT_BYTES];
        let hash = Memory::default().compute(&cost, &password(text), &salt, HASH_BYTES).unwrap();
        PasswordHash::new(cost.phc(&salt, hash).unwrap().to_string())
    }

    #[tokio::test]
    async fn a_hash_is_a_phc_string_of_the_cost_that_is_asked_for() {
        let hasher = Argon2Hasher::new(0, 1, Arc::new(Sevens));
        let hash = hasher.hash(password("correct horse")).await.unwrap();
        assert!(
            hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$"),
            "{}",
            hash.as_str()
        );
        assert_eq!(hasher.verify(password("correct horse"), Some(hash)).await.unwrap(), Verdict::Right);
    }

    // R3
    #[test]
    fn weak_is_what_costs_less_than_the_choices_of_owasp() {
        let verdict = |hash: PasswordHash| Memory::default().check(&password("pw"), &hash).unwrap();
        for good in [(19_456, 2, 1), (47_104, 1, 1), (12_288, 3, 1), (19_456, 3, 2)] {
            assert_eq!(verdict(phc(Algorithm::Argon2id, Version::V0x13, good, "pw")), Verdict::Right, "{good:?}");
        }
        for weak in [(19_456, 1, 1), (12_288, 2, 1), (4_096, 16, 1), (8, 1, 1)] {
            assert_eq!(
                verdict(phc(Algorithm::Argon2id, Version::V0x13, weak, "pw")),
                Verdict::RightButWeak,
                "{weak:?}"
            );
        }
        assert_eq!(verdict(phc(Algorithm::Argon2i, Version::V0x13, COST, "pw")), Verdict::RightButWeak);
        assert_eq!(verdict(phc(Algorithm::Argon2id, Version::V0x10, COST, "pw")), Verdict::RightButWeak);
        assert_eq!(verdict(phc(Algorithm::Argon2id, Version::V0x13, (8, 1, 1), "other")), Verdict::Wrong);
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_corrupt() {
        let tail = "$AQEBAQEBAQEBAQEBAQEBAQ$AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
        for bad in [
            "".to_owned(),
            "secret in clear".to_owned(),
            format!("$argon2id$v=19$m=1048576,t=2,p=1{tail}"),
            format!("$argon2id$v=19$m=19456,t=4000000,p=1{tail}"),
            format!("$argon2id$v=19$m=19456,t=2,p=17{tail}"),
            format!("$argon2id$v=18$m=19456,t=2,p=1{tail}"),
            format!("$scrypt$v=19$m=19456,t=2,p=1{tail}"),
            "$argon2id$v=19$m=19456,t=2,p=1$AQEBAQEBAQEBAQEBAQEBAQ".to_owned(),
        ] {
            let checked = Memory::default().check(&password("pw"), &PasswordHash::new(bad.clone()));
            assert!(matches!(checked, Err(Failure::Corrupt { backend: Backend::Passwords, .. })), "{bad}: {checked:?}");
        }
    }

    // R100
    #[tokio::test]
    async fn memory_serves_those_that_wait_and_an_idle_server_holds_none() {
        let hasher = Arc::new(Argon2Hasher::new(1, 8, Arc::new(Sevens)));
        let hashes = (0..8).map(|n| {
            let hasher = hasher.clone();
            async move { hasher.hash(password(&n.to_string())).await }
        });
        let hashes = futures_util::future::join_all(hashes).await;
        assert!(hashes.iter().all(Result::is_ok), "{hashes:?}");
        assert!(hasher.worker.memory.lock().unwrap().is_empty());
        assert_eq!(hasher.line.available_permits(), 9);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_keeps_its_turn_until_the_work_ends() {
        let hasher = Argon2Hasher::new(1, 0, Arc::new(Sevens));
        {
            let mut abandoned = Box::pin(hasher.hash(password("first")));
            assert!(futures_util::poll!(&mut abandoned).is_pending());
        }
        let refused = hasher.hash(password("second")).await;
        assert!(matches!(refused, Err(Failure::Busy { backend: Backend::Passwords })), "{refused:?}");
        while hasher.line.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        hasher.hash(password("third")).await.unwrap();
    }
}

//! Requests that are sent again: done once, and answered each time.
//!
//! What a request made is noted in the same unit of work that makes it, so that of many that carry one key at the same time exactly one is done,
//! on however many processes. The others find the note and answer with what was made, as it is then.

use super::ATTEMPTS;
use crate::change::{Changes, Version};
use crate::error::{Error, Obstacle};
use crate::id::UserId;
use crate::model::idempotency::{KeyedRequest, LIFETIME, Made, Repeatable};
use crate::model::secret::ServerKey;
use crate::port::Ports;
use crate::time::Timestamp;

/// Doing things once.
pub struct Idempotency {
    ports: Ports,
    key: ServerKey,
}

impl Idempotency {
    /// Over these ports.
    #[must_use]
    pub const fn new(ports: Ports, key: ServerKey) -> Self {
        Self { ports, key }
    }

    /// Takes an `Idempotency-Key`, and what is asked for under it: the verb, the path, and the body.
    ///
    /// # Errors
    /// `Invalid` unless the key has 1 to 255 visible ASCII characters.
    pub fn repeatable(&self, key: &str, asked: [&[u8]; 3]) -> Result<Repeatable, Error> {
        Ok(Repeatable::new(&self.key, key, asked)?)
    }

    /// Does what is asked for, or answers with what it made before. `first` commits with its [`Stamp`].
    ///
    /// # Errors
    /// `IdempotencyKeyReused` where the key came with another request; what `first` or `again` answer.
    pub(super) async fn once<T, F, A>(
        &self,
        user: UserId,
        request: Option<Repeatable>,
        first: impl Fn(Stamp) -> F + Send + Sync,
        again: impl Fn(Made) -> A + Send + Sync,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send,
        A: Future<Output = Result<T, Error>> + Send,
    {
        let Some(request) = request else { return first(Stamp(None)).await };
        for _ in 0..ATTEMPTS {
            let now = self.ports.clock.now();
            let noted = self.ports.users.keyed_request(user, request.key).await?;
            let expired = match noted {
                Some(noted) if now.since(noted.created_at) < LIFETIME => {
                    if noted.fingerprint != request.fingerprint {
                        return Err(Error::IdempotencyKeyReused);
                    }
                    return again(noted.made).await;
                }
                expired => expired,
            };
            let version = expired.as_ref().map(|noted| noted.version);
            let outcome = first(Stamp(Some(Stamped { user, request, expired: version, now }))).await;
            // It may conflict with itself, sent twice at once, or find the place taken that it took: then it was done, and nothing stands
            // against it.
            let beaten = matches!(outcome, Err(Error::Conflict(_) | Error::TooManyReplies { .. }))
                && self.ports.users.keyed_request(user, request.key).await? != expired;
            if !beaten {
                return outcome;
            }
        }
        Err(Error::Conflict(Obstacle::Concurrent))
    }
}

/// The note that a unit of work takes along, where its request carries a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp(Option<Stamped>);

#[derive(Clone, Copy, Debug)]
struct Stamped {
    user: UserId,
    request: Repeatable,
    /// The version of a note that is too old to count.
    expired: Option<Version>,
    now: Timestamp,
}

impl Stamp {
    /// Adds the note of what the unit makes.
    pub(super) fn add(self, changes: Changes, made: Made) -> Changes {
        let Some(Stamped { user, request, expired, now }) = self.0 else { return changes };
        let note = KeyedRequest {
            user,
            key: request.key,
            fingerprint: request.fingerprint,
            made,
            created_at: now,
            version: expired.unwrap_or(Version::FIRST),
        };
        // An old note is written over, never deleted: the new one would have its version, and whoever comes second would take it for the old one.
        if expired.is_some() { changes.update(note) } else { changes.insert(note) }
    }
}

#[cfg(test)]
mod tests;

//! Signed-in devices and their refresh tokens.
//!
//! A refresh token names its session and generation and carries a keyed checksum, so that a token of an earlier generation is known for ours
//! without keeping it: only the hash of the present one, and of the one before, is stored. RFC 9700, section 4.14.2.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::change::Version;
use crate::id::{SessionId, UserId};
use crate::model::secret::{Secret, ServerKey, same};
use crate::time::Timestamp;

/// How long the token before may come again when its answer was lost.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long tokens and sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of an access token.
    pub access: Duration,
    /// Of a refresh token.
    pub refresh: Duration,
    /// Of a session, however often it is refreshed.
    pub session: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            access: Duration::from_secs(15 * 60),
            refresh: Duration::from_secs(30 * DAY),
            session: Duration::from_secs(90 * DAY),
        }
    }
}

/// The SHA-256 of a refresh token: all that the database knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenHash(pub [u8; 32]);

/// From where a session was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The client's IP address.
    pub address: String,
    /// What its `User-Agent` said, at most 512 bytes.
    pub user_agent: String,
}

/// A signed-in device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Which one; `sid` in access tokens.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// The user's `credentials_epoch` it belongs to.
    pub epoch: u64,
    /// Which refresh token is the present one, counted from zero.
    pub generation: u32,
    /// The present refresh token.
    pub token: TokenHash,
    /// The one before, for a lost answer.
    pub previous: Option<TokenHash>,
    /// When the present token took the place of the one before.
    pub rotated_at: Timestamp,
    /// When the present refresh token ends.
    pub expires_at: Timestamp,
    /// Ended by logout, or by a token that was used twice.
    pub ended: bool,
    /// From where it was opened.
    pub device: Device,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Timestamp,
    /// For guarded changes.
    pub version: Version,
}

/// What a presented refresh token means for its session.
#[derive(Debug, PartialEq, Eq)]
pub enum Presented {
    /// It is the present one, or the one before whose answer was lost: here is its successor.
    Rotated(Box<Session>, RefreshToken),
    /// It was spent, and its successor used: the session is to be ended.
    Reused(Box<Session>),
    /// It is none, or its time is over.
    Refused,
}

/// A refresh token in clear: session, generation, 128 random bits, and 128 bits of keyed checksum over these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// The session it names.
    pub session: SessionId,
    generation: u32,
    text: Secret,
}

const PREFIX: &str = "pcr_";
const PURPOSE: &str = "refresh-token";

impl RefreshToken {
    fn mint(key: &ServerKey, session: SessionId, generation: u32, random: &[u8; 16]) -> Self {
        let body = [&session.as_bytes()[..], &generation.to_be_bytes(), random].concat();
        let mac = key.mac(PURPOSE, &[&body]);
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([&body[..], &mac[..16]].concat()));
        Self { session, generation, text: Secret::new(text) }
    }

    /// Takes a token back, if this server made it.
    #[must_use]
    pub fn parse(key: &ServerKey, text: &str) -> Option<Self> {
        if text.len() > 128 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (body, mac) = bytes.split_last_chunk::<16>()?;
        let (session, rest) = body.split_first_chunk::<16>()?;
        let (generation, random) = rest.split_first_chunk::<4>()?;
        if random.len() != 16 || !same(&key.mac(PURPOSE, &[body])[..16], mac) {
            return None;
        }
        Some(Self {
            session: uuid::Uuid::from_bytes(*session).into(),
            generation: u32::from_be_bytes(*generation),
            text: Secret::new(text),
        })
    }

    /// The token as its owner carries it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// What the database keeps.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.text.expose().as_bytes()).into())
    }
}

impl Session {
    /// Opens a session, with its first refresh token.
    #[must_use]
    pub fn open(
        key: &ServerKey,
        id: SessionId,
        (user, epoch): (UserId, u64),
        device: Device,
        now: Timestamp,
        lifetimes: &Lifetimes,
        random: &[u8; 16],
    ) -> (Self, RefreshToken) {
        let token = RefreshToken::mint(key, id, 0, random);
        let session = Self {
            id,
            user,
            epoch,
            generation: 0,
            token: token.hash(),
            previous: None,
            rotated_at: now,
            expires_at: now + lifetimes.refresh.min(lifetimes.session),
            ended: false,
            device,
            created_at: now,
            last_used_at: now,
            version: Version::FIRST,
        };
        (session, token)
    }

    /// Whether it may still be used at `now` by a user of this epoch.
    #[must_use]
    pub fn stands(&self, now: Timestamp, epoch: u64) -> bool {
        !self.ended && self.epoch == epoch && now < self.expires_at
    }

    /// Decides what a refresh token means. The caller has checked that the session's user may still sign in.
    #[must_use]
    pub fn present(
        self,
        key: &ServerKey,
        token: &RefreshToken,
        now: Timestamp,
        lifetimes: &Lifetimes,
        random: &[u8; 16],
    ) -> Presented {
        if self.ended || now >= self.expires_at || token.session != self.id {
            return Presented::Refused;
        }
        let hash = token.hash();
        let successor =
            |session: &Self| RefreshToken::mint(key, session.id, session.generation.wrapping_add(1), random);
        let ends = (now + lifetimes.refresh).min(self.created_at + lifetimes.session);
        if hash == self.token {
            let next = successor(&self);
            let session = Self {
                generation: next.generation,
                token: next.hash(),
                previous: Some(hash),
                rotated_at: now,
                expires_at: ends,
                last_used_at: now,
                ..self
            };
            return Presented::Rotated(Box::new(session), next);
        }
        if Some(hash) == self.previous && now.since(self.rotated_at) <= GRACE {
            // The answer was lost: the unused successor dies. The grace still counts from the first rotation.
            let next = successor(&self);
            let session = Self { generation: next.generation, token: next.hash(), last_used_at: now, ..self };
            return Presented::Rotated(Box::new(session), next);
        }
        // Ours by its checksum, yet neither the present one nor excusable: somebody has a copy.
        Presented::Reused(Box::new(Self { ended: true, ..self }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ServerKey = ServerKey::new([3; 32]);
    const START: Timestamp = Timestamp::from_micros(1_000_000_000_000);

    fn open() -> (Session, RefreshToken) {
        let id = uuid::Uuid::from_u128(5).into();
        let user = uuid::Uuid::from_u128(6).into();
        Session::open(&KEY, id, (user, 0), Device::default(), START, &Lifetimes::default(), &[1; 16])
    }

    fn present(session: &Session, token: &RefreshToken, after: u64, random: u8) -> Presented {
        session.clone().present(&KEY, token, START + Duration::from_secs(after), &Lifetimes::default(), &[random; 16])
    }

    fn rotated(presented: Presented) -> (Session, RefreshToken) {
        match presented {
            Presented::Rotated(session, token) => (*session, token),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_is_known_by_its_checksum_and_nothing_else() {
        let (_, token) = open();
        assert_eq!(RefreshToken::parse(&KEY, token.expose()), Some(token.clone()));
        assert_eq!(RefreshToken::parse(&ServerKey::new([4; 32]), token.expose()), None);
        let mut altered = token.expose().to_owned();
        altered.replace_range(10..11, if &altered[10..11] == "A" { "B" } else { "A" });
        assert_eq!(RefreshToken::parse(&KEY, &altered), None);
        for garbage in ["", "pcr_", "pcr_AAAA", "x", &"pcr_A".repeat(4000)] {
            assert_eq!(RefreshToken::parse(&KEY, garbage), None);
        }
    }

    // R20
    #[test]
    fn a_spent_token_ends_the_session_once_its_successor_was_used() {
        let (session, first) = open();
        let (session, second) = rotated(present(&session, &first, 1, 2));
        let (session, _) = rotated(present(&session, &second, 2, 3));
        let Presented::Reused(ended) = present(&session, &first, 3, 4) else { panic!() };
        assert!(ended.ended);
        assert_eq!(present(&ended, &second, 3, 4), Presented::Refused);
    }

    // R21
    #[test]
    fn a_lost_answer_is_forgiven_for_ten_seconds() {
        let (session, first) = open();
        let (session, unused) = rotated(present(&session, &first, 100, 2));
        let (session, again) = rotated(present(&session, &first, 110, 3));
        assert_ne!(unused.hash(), again.hash());
        assert!(matches!(present(&session, &unused, 110, 4), Presented::Reused(_)));
        assert!(matches!(present(&session, &again, 110, 4), Presented::Rotated(..)));
        assert!(matches!(present(&session, &first, 111, 4), Presented::Reused(_)));
    }

    // R24
    #[test]
    fn a_session_ends_by_inactivity_and_by_age() {
        const DAY: u64 = 86_400;
        let (session, first) = open();
        assert_eq!(present(&session, &first, 30 * DAY, 2), Presented::Refused);
        let (mut session, mut token) = rotated(present(&session, &first, 29 * DAY, 2));
        for day in [58, 87] {
            (session, token) = rotated(present(&session, &token, day * DAY, 3));
        }
        assert!(session.stands(START + Duration::from_secs(89 * DAY), 0));
        assert!(!session.stands(START + Duration::from_secs(90 * DAY), 0));
        assert_eq!(present(&session, &token, 90 * DAY, 4), Presented::Refused);
    }
}

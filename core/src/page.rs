//! Pages of a list, by key: as cheap at any depth, and nothing twice or skipped while others insert.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::error::Violation;
use crate::time::Timestamp;

/// How many items a page may hold: 1 to 100, 50 unless told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u8);

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl Limit {
    /// As many as a page may hold.
    pub const MOST: Self = Self(100);

    /// Takes a number of items.
    ///
    /// # Errors
    /// A violation of `limit` unless it lies in 1 to 100.
    pub fn new(items: u64) -> Result<Self, Violation> {
        match u8::try_from(items) {
            Ok(items @ 1..=100) => Ok(Self(items)),
            _ => Err(Violation::new("limit", "must be from 1 to 100")),
        }
    }

    /// The number of items.
    #[must_use]
    pub const fn items(self) -> usize {
        self.0 as usize
    }

    /// One more than fits: whether that one comes tells if there is a next page.
    #[must_use]
    pub const fn overfetch(self) -> i64 {
        self.0 as i64 + 1
    }
}

/// Which page is asked for: the one after `after`, or the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// The key of the last item already seen.
    pub after: Option<K>,
    /// At most so many items.
    pub limit: Limit,
}

impl<K> Default for PageRequest<K> {
    fn default() -> Self {
        Self { after: None, limit: Limit::default() }
    }
}

/// A page, and where the next one starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// The key to ask the next page with; none at the end.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// Makes a page of up to `limit + 1` items: the surplus one tells that there are more and is left out.
    pub fn from_overfetched(mut items: Vec<T>, limit: Limit, key: impl FnOnce(&T) -> K) -> Self {
        let more = items.len() > limit.items();
        items.truncate(limit.items());
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }

    /// The same page of other items.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U, K> {
        Page { items: self.items.into_iter().map(each).collect(), next: self.next }
    }
}

/// A key that clients carry about as an opaque cursor.
pub trait Cursor: Sized {
    /// The bytes of the key.
    fn to_bytes(&self) -> Vec<u8>;
    /// The key of these bytes, if it is one.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;

    /// What the client sees.
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.to_bytes())
    }

    /// Takes a cursor back.
    ///
    /// # Errors
    /// A violation of `cursor` where it is none of this list.
    fn decode(text: &str) -> Result<Self, Violation> {
        let bytes = if text.len() <= 64 { URL_SAFE_NO_PAD.decode(text).ok() } else { None };
        bytes.and_then(|bytes| Self::from_bytes(&bytes)).ok_or_else(|| {
            Violation::new("cursor", "is no cursor of this list; leave it out to start from the first page")
        })
    }
}

impl Cursor for u64 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes).filter(|n| i64::try_from(*n).is_ok())
    }
}

/// Where a row stands in a list that goes by activity: its time, and its id among those of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActivityKey {
    /// When something last happened.
    pub at: Timestamp,
    /// Which row.
    pub id: Uuid,
}

impl Cursor for ActivityKey {
    fn to_bytes(&self) -> Vec<u8> {
        [&self.at.as_micros().to_be_bytes()[..], self.id.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (at, id) = bytes.split_first_chunk::<8>()?;
        Some(Self { at: Timestamp::from_micros(i64::from_be_bytes(*at)), id: Uuid::from_slice(id).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surplus_item_becomes_the_next_page() {
        let limit = Limit::new(2).unwrap();
        let page = Page::from_overfetched(vec![9_u64, 8, 7], limit, |n| *n);
        assert_eq!(page, Page { items: vec![9, 8], next: Some(8) });
        assert_eq!(Page::from_overfetched(vec![7_u64], limit, |n| *n).next, None);
    }

    #[test]
    fn cursors_come_back_and_garbage_does_not() {
        let key = ActivityKey { at: Timestamp::from_micros(-3), id: Uuid::from_u128(7) };
        assert_eq!(ActivityKey::decode(&key.encode()), Ok(key));
        for garbage in ["", "x", "!!!!", "AAAA", &"A".repeat(10_000), "é"] {
            assert!(ActivityKey::decode(garbage).is_err(), "{garbage}");
            assert!(u64::decode(garbage).is_err(), "{garbage}");
        }
    }
}

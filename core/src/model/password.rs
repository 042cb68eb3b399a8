//! Passwords: what may be one (NIST SP 800-63B: length, no composition rules, a list of common ones).

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::error::Violation;
use crate::model::secret::Secret;

/// The most common passwords that are long enough to be taken at all, one a line, most common first.
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

const LEAST_CHARACTERS: usize = 8;
const MOST_CHARACTERS: usize = 256;
const MOST_BYTES: usize = 1024;

/// A password in clear, on its way to the hasher.
#[derive(Clone, Debug)]
pub struct Password(Secret);

impl Password {
    /// Takes a password that somebody chooses; `context` has the words around it, which it must not be made of.
    ///
    /// # Errors
    /// A violation of `field`: shorter than 8 or longer than 256 characters (or 1 KiB), a common one, or one that the name and email nearly give away.
    pub fn choose(field: &str, text: String, context: &[&str]) -> Result<Self, Violation> {
        let wrong = |message: &str| Err(Violation::new(field, message));
        if text.len() > MOST_BYTES || text.chars().count() > MOST_CHARACTERS {
            return wrong("must have at most 256 characters and 1024 bytes");
        }
        if text.chars().count() < LEAST_CHARACTERS {
            return wrong("must have at least 8 characters");
        }
        let folded = text.to_lowercase();
        if COMMON.contains(folded.as_str()) || COMMON.contains(text.as_str()) {
            return wrong("is one of the most common passwords");
        }
        let mut rest = folded;
        for word in words(context) {
            rest = rest.replace(&word, "");
        }
        if rest.chars().count() < LEAST_CHARACTERS && rest.len() < text.to_lowercase().len() {
            return wrong("must not be made of the product's name, your name or your email");
        }
        Ok(Self(Secret::new(text)))
    }

    /// Takes a password that somebody says is theirs. One that could never have been chosen is none.
    #[must_use]
    pub fn presented(text: String) -> Option<Self> {
        let possible = text.len() <= MOST_BYTES && text.chars().count() <= MOST_CHARACTERS && !text.is_empty();
        possible.then(|| Self(Secret::new(text)))
    }

    /// The password in clear, for the hasher.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// The context's words of four letters or more, in lower case, longest first.
fn words(context: &[&str]) -> Vec<String> {
    let own = ["private-chat", "private", "chat"];
    let mut words: Vec<String> = context
        .iter()
        .chain(&own)
        .flat_map(|text| {
            let whole = text.to_lowercase();
            let parts: Vec<String> = whole.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect();
            parts.into_iter().chain([whole])
        })
        .filter(|word| word.chars().filter(|c| c.is_alphabetic()).count() >= 4)
        .collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words
}

/// A password as the database keeps it: a PHC string.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Wraps a PHC string.
    pub fn new(phc: impl Into<String>) -> Self {
        Self(phc.into())
    }

    /// The PHC string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(text: &str) -> Result<Password, Violation> {
        Password::choose("password", text.into(), &["Maria Rossi", "maria.rossi"])
    }

    // R4
    #[test]
    fn length_is_the_only_composition_rule() {
        assert!(choose("sieben7").is_err());
        assert!(choose("acht acht!").is_ok());
        assert!(choose(&"långt lösenord ".repeat(16)).is_ok());
        assert!(choose(&"a b".repeat(86)).is_err());
        assert!(choose(&"\u{1F600}".repeat(256)).is_ok());
        assert!(Password::presented("x".repeat(1025)).is_none());
    }

    // R5
    #[test]
    fn common_and_telling_passwords_are_refused() {
        for bad in ["password1", "PASSWORD1", "12345678", "maria1234", "RossiRossi", "private-chat1", "maria.rossi!"] {
            assert!(choose(bad).is_err(), "{bad}");
        }
        for good in ["correct horse battery", "the private chat of maria", "rossignol-au-bois"] {
            assert!(choose(good).is_ok(), "{good}");
        }
    }
}

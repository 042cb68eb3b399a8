//! People with an account.

use unicode_normalization::UnicodeNormalization as _;

use crate::change::Version;
use crate::error::Violation;
use crate::id::UserId;
use crate::model::password::PasswordHash;
use crate::time::Timestamp;

/// An email address in the one form in which it is stored and compared: trimmed, NFC, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// Takes an address as somebody typed it.
    ///
    /// # Errors
    /// A violation of `field` unless it is `local@domain` of at most 254 bytes (RFC 5321, section 4.5.3.1.3) and nothing in it only looks like
    /// something else: invisible characters and compatibility forms are refused.
    pub fn parse(field: &str, text: &str) -> Result<Self, Violation> {
        if text.len() > 1024 {
            return Err(Violation::new(field, "must have at most 254 bytes"));
        }
        let canonical: String = text.trim().nfc().collect::<String>().to_lowercase().nfc().collect();
        if canonical.len() > 254 {
            return Err(Violation::new(field, "must have at most 254 bytes"));
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';' | '"' | '\\');
        if canonical.contains(is_invisible) || !canonical.nfkc().eq(canonical.chars()) {
            // It would be another account that looks the same.
            return Err(Violation::new(field, "must not contain invisible characters or other forms of plain ones"));
        }
        match canonical.split_once('@') {
            Some((local, domain))
                if !local.is_empty()
                    && !domain.is_empty()
                    && !domain.contains('@')
                    && !domain.starts_with('.')
                    && !domain.ends_with('.')
                    && !canonical.contains(odd) =>
            {
                Ok(Self(canonical))
            }
            _ => Err(Violation::new(field, "must be an email address")),
        }
    }

    /// Takes an address that was parsed before, as the database has it.
    #[must_use]
    pub const fn stored(canonical: String) -> Self {
        Self(canonical)
    }

    /// The canonical address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }
}

/// Whether a character shows nothing by itself: the default ignorable ones (UAX #44, section 5.3), but for controls.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// What somebody may do with the installation as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GlobalRole {
    /// Works in workspaces.
    User,
    /// Also manages accounts. No key to other people's workspaces.
    Admin,
}

/// A person with an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Which one.
    pub id: UserId,
    /// Unique among all users.
    pub email: Email,
    /// How others see them.
    pub name: String,
    /// The installation-wide role.
    pub role: GlobalRole,
    /// Whether they may sign in.
    pub is_active: bool,
    /// Nothing but a change of the password is open to them while this stands.
    pub must_change_password: bool,
    /// Their password.
    pub password: PasswordHash,
    /// Sessions of an earlier epoch are dead: raising it signs the user out everywhere.
    pub credentials_epoch: u64,
    /// When the account was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// For guarded changes.
    pub version: Version,
}

impl User {
    /// A new account of somebody without any special right, who may sign in and need not change their password.
    #[must_use]
    pub const fn new(id: UserId, email: Email, name: String, password: PasswordHash, now: Timestamp) -> Self {
        Self {
            id,
            email,
            name,
            role: GlobalRole::User,
            is_active: true,
            must_change_password: false,
            password,
            credentials_epoch: 0,
            created_at: now,
            updated_at: now,
            version: Version::FIRST,
        }
    }

    /// Whether they manage the installation and may sign in.
    #[must_use]
    pub const fn is_active_admin(&self) -> bool {
        matches!(self.role, GlobalRole::Admin) && self.is_active
    }

    /// Signed out everywhere.
    #[must_use]
    pub fn signed_out(self) -> Self {
        Self { credentials_epoch: self.credentials_epoch + 1, ..self }
    }

    /// With another password, and signed out everywhere.
    #[must_use]
    pub fn with_password(self, password: PasswordHash, now: Timestamp) -> Self {
        Self { password, updated_at: now, ..self }.signed_out()
    }
}

/// A user as others see them beside what they wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Which user.
    pub id: UserId,
    /// Their name.
    pub name: String,
}

impl From<&User> for Author {
    fn from(user: &User) -> Self {
        Self { id: user.id, name: user.name.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // R11
    #[test]
    fn one_person_has_one_address() {
        let canonical = Email::parse("email", "josé@example.com").unwrap();
        for same in [" JOSÉ@Example.COM ", "jose\u{301}@example.com", "JOSE\u{301}@EXAMPLE.com\n"] {
            assert_eq!(Email::parse("email", same).as_ref(), Ok(&canonical), "{same:?}");
        }
        assert_ne!(Email::parse("email", "jose@example.com").unwrap(), canonical);
    }

    #[test]
    fn refuses_what_is_no_address() {
        for bad in ["", "a", "@b", "a@", "a@@b", "a b@c.d", "a@b\u{0}c", "a@.b", &format!("{}@b.c", "a".repeat(252))] {
            assert!(Email::parse("email", bad).is_err(), "{bad:?}");
        }
    }

    // R11
    #[test]
    fn refuses_what_looks_like_another_address() {
        for bad in
            ["a\u{200b}nn@b.c", "\u{202e}ann@b.c", "ann@b.c\u{200f}", "an\u{ad}n@b.c", "ａｎｎ@b.c", "ann@b.ⓒ", "ﬁ@b.c"]
        {
            assert!(Email::parse("email", bad).is_err(), "{bad:?}");
        }
        for good in ["😀@b.c", "안녕@例え.jp", "straße@b.c", "ann@b.c\u{3000}", "ΑΝΝΑ@b.gr", "\u{212a}@b.c"]
        {
            assert!(Email::parse("email", good).is_ok(), "{good:?}");
        }
    }
}

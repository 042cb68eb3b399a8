//! The one row that stands for the installation as a whole.

use crate::change::Version;
use crate::time::Timestamp;

/// Made once, together with the first administrator: whoever inserts it wins the setup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// When the first administrator was made.
    pub set_up_at: Timestamp,
    /// The fingerprint of the encryption key that every instance must have.
    pub encryption_key: String,
    /// The ids of the signing keys that instances accept, with commas between.
    pub signing_keys: String,
    /// For guarded changes.
    pub version: Version,
}

impl Installation {
    /// Whether an instance with these keys belongs to this installation; if not, which key is the wrong one.
    ///
    /// # Errors
    /// What an operator should read.
    pub fn admits(&self, encryption_key: &str, signing_key: &str) -> Result<(), &'static str> {
        if self.encryption_key != encryption_key {
            return Err(
                "the encryption key (security.encryption_key_file) is not the one this database was set up with: copy that file from the instance that set it up",
            );
        }
        if !self.signing_keys.split(',').any(|known| known == signing_key) {
            return Err(
                "the signing key (JWT_PRIVATE_KEY_PATH) is not one that the other instances accept: copy the key files from an instance that runs",
            );
        }
        Ok(())
    }
}

//! Invitations into workspaces.
//!
//! A token is derived from the invitation's id with the server's key, so that a repeated request can be shown the same one again, while the
//! database holds nothing but its hash.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::change::Version;
use crate::id::{InvitationId, WorkspaceId};
use crate::model::secret::{Secret, ServerKey, same};
use crate::model::session::TokenHash;
use crate::model::user::{Author, Email};
use crate::model::workspace::Role;
use crate::time::Timestamp;

/// How long an invitation stands.
pub const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// That somebody may join a workspace, once. It gives nothing until it is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Which one.
    pub id: InvitationId,
    /// Into which workspace. There is one for each workspace and address.
    pub workspace: WorkspaceId,
    /// Who may accept it: whoever has this address.
    pub email: Email,
    /// As what they join.
    pub role: Role,
    /// Which member made it. It is void when they are no member any more.
    pub invited_by: Author,
    /// Its token.
    pub token: TokenHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// For guarded changes.
    pub version: Version,
}

impl Invitation {
    /// Whether it can still be accepted at `now`.
    #[must_use]
    pub fn stands(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

/// An invitation, and into what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// The invitation.
    pub invitation: Invitation,
    /// What people call the workspace.
    pub workspace_name: String,
}

/// An invitation's token in clear: its id, and 128 bits of keyed checksum over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationToken {
    /// The invitation it names.
    pub invitation: InvitationId,
    text: Secret,
}

const PREFIX: &str = "pci_";
const PURPOSE: &str = "invitation-token";

impl InvitationToken {
    /// The one token of this invitation.
    #[must_use]
    pub fn of(key: &ServerKey, invitation: InvitationId) -> Self {
        let mac = key.mac(PURPOSE, &[invitation.as_bytes()]);
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([&invitation.as_bytes()[..], &mac[..16]].concat()));
        Self { invitation, text: Secret::new(text) }
    }

    /// Takes a token back, if this server made it.
    #[must_use]
    pub fn parse(key: &ServerKey, text: &str) -> Option<Self> {
        if text.len() > 128 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let id: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
        let token = Self::of(key, uuid::Uuid::from_bytes(id).into());
        same(token.expose().as_bytes(), text.as_bytes()).then_some(token)
    }

    /// The token as the invited one gets it.
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ServerKey = ServerKey::new([3; 32]);

    // R47
    #[test]
    fn a_token_is_made_by_this_server_alone_and_always_the_same() {
        let id = uuid::Uuid::from_u128(5).into();
        let token = InvitationToken::of(&KEY, id);
        assert_eq!(InvitationToken::of(&KEY, id), token);
        assert_eq!(InvitationToken::parse(&KEY, token.expose()), Some(token.clone()));
        assert_eq!(InvitationToken::parse(&ServerKey::new([4; 32]), token.expose()), None);
        for place in [4, 20, token.expose().len() - 1] {
            let mut altered = token.expose().to_owned();
            let other = if &altered[place..=place] == "A" { "B" } else { "A" };
            altered.replace_range(place..=place, other);
            assert_eq!(InvitationToken::parse(&KEY, &altered), None, "{altered}");
        }
        for garbage in ["", "pci_", "pci_AAAA", "x", &"pci_A".repeat(4000), &token.expose()[4..]] {
            assert_eq!(InvitationToken::parse(&KEY, garbage), None);
        }
    }
}

//! Access tokens as JWTs (RFC 7519, RFC 9068), signed with RS256 by a key pair in two files.
//!
//! Verification follows RFC 8725: one algorithm, one type, keys from a fixed map, everything required and of its own JSON type. What decides is
//! [`TokenSigner::verify`] below from its first line to its last; the arithmetic is AWS-LC's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use private_chat_core::error::{Backend, Cause, Failure};
use private_chat_core::model::secret::Secret;
use private_chat_core::model::user::GlobalRole;
use private_chat_core::port::Result;
use private_chat_core::port::clock::Entropy;
use private_chat_core::port::tokens::{Claims, TokenSigner};
use private_chat_core::time::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::key_file::{self, KeyFileError, Readers};

const ALGORITHM: &str = "RS256";
/// RFC 9068, section 2.1.
const TYPE: &str = "at+jwt";
/// How far the clocks of two instances may differ.
const LEEWAY: Duration = Duration::from_secs(5);
/// Nothing that is longer is looked at.
const MOST_BYTES: usize = 8 << 10;

/// Where the keys are, and in whose name tokens are made.
#[derive(Clone, Debug)]
pub struct Config {
    /// The private key, PEM (PKCS #8 or PKCS #1). Made at the first start.
    pub private_key: PathBuf,
    /// The public key, PEM. Made from the private one where it is missing.
    pub public_key: PathBuf,
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
}

/// Signs and verifies with RSA keys in memory.
pub struct JwtSigner {
    issuer: String,
    audience: String,
    entropy: Arc<dyn Entropy>,
    private: RsaKeyPair,
    key_id: String,
    /// The first part of every token, which is always the same.
    header: String,
    /// All keys whose tokens are taken, by their ids.
    public: BTreeMap<String, ParsedPublicKey>,
    jwks: String,
}

impl JwtSigner {
    /// Opens the key pair, and makes it where there is none, which takes up to a few seconds. Reads and writes files: call it off the async
    /// threads.
    ///
    /// # Errors
    /// When the private key is open to others, a file holds something else, the two don't belong together, or they can't be made.
    pub fn open(config: Config, entropy: Arc<dyn Entropy>) -> std::result::Result<Self, KeyFileError> {
        // The public key comes after the private one, so that it is looked for first: where it is found, the private one stood already.
        let public = key_file::read(&config.public_key, Readers::Everybody)?;
        let private = key_file::read_or_make(&config.private_key, Readers::Owner, &*entropy, || match &public {
            None => generate().map_err(|what| KeyFileError::unusable(&config.private_key, what)),
            Some(_) => Err(KeyFileError::unusable(
                &config.private_key,
                format!(
                    "it does not exist, and yet its public key {} does: bring the private key back, or remove the public one to have a new pair made",
                    config.public_key.display()
                ),
            )),
        })?;
        let signer = Self::new(&private, config.issuer, config.audience, entropy)
            .map_err(|what| KeyFileError::unusable(&config.private_key, what))?;
        signer.check_public(public, &config.public_key)?;
        Ok(signer)
    }

    /// Signs with this private key.
    ///
    /// # Errors
    /// What is wrong with the key.
    pub fn new(
        private_key_pem: &Secret,
        issuer: String,
        audience: String,
        entropy: Arc<dyn Entropy>,
    ) -> std::result::Result<Self, String> {
        let encoding = EncodingKey::from_rsa_pem(private_key_pem.expose().as_bytes())
            .map_err(|_| "it must hold an RSA private key in PEM, as `openssl genrsa 3072` prints it")?;
        let private =
            RsaKeyPair::from_der(encoding.as_bytes()).map_err(|why| format!("its RSA key is refused ({why})"))?;
        let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, private.public_key().as_ref())
            .map_err(|_| "its RSA key must have 2048 to 8192 bits")?;

        let mut jwk = jwk(&DecodingKey::from_rsa_der(private.public_key().as_ref()))?;
        let key_id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|why| why.to_string())?;
        jwk.common.key_id = Some(key_id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let jwks = serde_json::to_string(&JwkSet { keys: vec![jwk] }).map_err(|why| why.to_string())?;

        let header = serde_json::to_vec(&Header {
            typ: Cow::Borrowed(TYPE),
            alg: Cow::Borrowed(ALGORITHM),
            kid: Cow::Borrowed(&key_id),
            crit: false,
        });
        let header = URL_SAFE_NO_PAD.encode(header.map_err(|why| why.to_string())?);
        let public = BTreeMap::from([(key_id.clone(), public)]);
        Ok(Self { issuer, audience, entropy, private, key_id, header, public, jwks })
    }

    /// Makes sure that the public key file tells the same as the private one.
    fn check_public(&self, found: Option<Secret>, path: &Path) -> std::result::Result<(), KeyFileError> {
        let of_ours = || -> std::result::Result<Secret, KeyFileError> {
            let der: std::result::Result<PublicKeyX509Der<'_>, _> = self.private.public_key().as_der();
            let der = der.map_err(|why| KeyFileError::unusable(path, why.to_string()))?;
            Ok(Secret::new(pem("PUBLIC KEY", der.as_ref())))
        };
        let text = match found {
            Some(text) => text,
            None => match key_file::read_or_make(path, Readers::Everybody, &*self.entropy, of_ours) {
                Ok(text) => text,
                // Only others need it, and they can ask for the JWK set.
                Err(error @ KeyFileError::Io { action: "make", .. }) => {
                    tracing::warn!("{error}; going on without it");
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        let key = DecodingKey::from_rsa_pem(text.expose().as_bytes())
            .map_err(|_| KeyFileError::unusable(path, "it must hold an RSA public key in PEM"))?;
        let key_id = jwk(&key)
            .and_then(|jwk| jwk.thumbprint(ThumbprintHash::SHA256).map_err(|why| why.to_string()))
            .map_err(|what| KeyFileError::unusable(path, what))?;
        if key_id == self.key_id {
            return Ok(());
        }
        Err(KeyFileError::unusable(
            path,
            "it is not the public half of the private key: remove it to have it made anew",
        ))
    }
}

/// A new key pair, PKCS #8 in PEM.
///
/// # Errors
/// When AWS-LC makes none.
pub fn generate() -> std::result::Result<Secret, String> {
    let pair = RsaKeyPair::generate(KeySize::Rsa3072).map_err(|why| why.to_string())?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|why| why.to_string())?;
    Ok(Secret::new(pem("PRIVATE KEY", der.as_ref())))
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for chunk in STANDARD.encode(der).as_bytes().chunks(64) {
        text.extend(chunk.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

fn jwk(key: &DecodingKey) -> std::result::Result<Jwk, String> {
    Jwk::from_decoding_key(key, Some(Algorithm::RS256)).map_err(|why| why.to_string())
}

/// A token's first part. Whatever else stands in it (`jku`, `jwk`, `x5u`) is passed over: keys are known by their ids alone.
#[derive(Serialize, Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    typ: Cow<'a, str>,
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    kid: Cow<'a, str>,
    /// Whether there is one. It names extensions that must be understood, and none is.
    #[serde(default, deserialize_with = "there", skip_serializing)]
    crit: bool,
}

fn there<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// A token's second part. Every claim is required, once, and of this type.
#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    aud: Cow<'a, str>,
    sub: Uuid,
    sid: Uuid,
    role: Role,
    iat: i64,
    exp: i64,
    #[serde(borrow)]
    jti: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Role {
    User,
    Admin,
}

impl TokenSigner for JwtSigner {
    fn sign(&self, claims: &Claims) -> Result<Secret> {
        let mut id = [0; 16];
        self.entropy.fill(&mut id);
        let payload = Payload {
            iss: Cow::Borrowed(&self.issuer),
            aud: Cow::Borrowed(&self.audience),
            sub: *claims.user.as_uuid(),
            sid: *claims.session.as_uuid(),
            role: match claims.role {
                GlobalRole::User => Role::User,
                GlobalRole::Admin => Role::Admin,
            },
            iat: claims.issued_at.as_seconds(),
            exp: claims.expires_at.as_seconds(),
            jti: Cow::Owned(URL_SAFE_NO_PAD.encode(id)),
            nbf: None,
        };
        let mut token = self.header.clone();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&payload).map_err(unavailable)?, &mut token);
        let mut signature = vec![0; self.private.public_modulus_len()];
        self.private
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(unavailable)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if token.len() > MOST_BYTES || !token.bytes().all(known) {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;

        // A second dot too many ends here as well, as none may stand in base64url.
        let header = URL_SAFE_NO_PAD.decode(header).ok()?;
        let header: Header<'_> = serde_json::from_slice(&header).ok()?;
        if header.alg != ALGORITHM || header.typ != TYPE || header.crit {
            return None;
        }
        let key = self.public.get(&*header.kid)?;
        key.verify_sig(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;

        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let payload: Payload<'_> = serde_json::from_slice(&payload).ok()?;
        let (issued_at, expires_at) = (timestamp(payload.iat)?, timestamp(payload.exp)?);
        let not_before = payload.nbf.map_or(Some(issued_at), timestamp)?;
        if payload.iss != self.issuer || payload.aud != self.audience {
            return None;
        }
        // A token of the future is fine where the clock that made it is: no clock of ours decides what another one may say of itself.
        if now >= expires_at + LEEWAY || (payload.nbf.is_some() && now + LEEWAY < not_before) {
            return None;
        }
        Some(Claims {
            user: payload.sub.into(),
            session: payload.sid.into(),
            role: match payload.role {
                Role::User => GlobalRole::User,
                Role::Admin => GlobalRole::Admin,
            },
            issued_at,
            expires_at,
        })
    }

    fn jwks(&self) -> String {
        self.jwks.clone()
    }

    fn key_id(&self) -> String {
        self.key_id.clone()
    }
}

/// A `NumericDate` in whole seconds; none where it lies outside of what a timestamp can say.
fn timestamp(seconds: i64) -> Option<Timestamp> {
    seconds.checked_mul(1_000_000).map(Timestamp::from_micros)
}

fn unavailable(cause: impl Into<Cause>) -> Failure {
    Failure::Unavailable { backend: Backend::Tokens, cause: cause.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    /// Gives other bytes every time, to whomever: instances that start at once never have the same chance.
    struct Counting;

    static COUNT: AtomicU64 = AtomicU64::new(0);

    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            let count = COUNT.fetch_add(1, Ordering::SeqCst).to_le_bytes();
            for (byte, count) in buffer.iter_mut().zip(count.iter().cycle()) {
                *byte = *count;
            }
        }
    }

    fn config(folder: &Path) -> Config {
        Config {
            private_key: folder.join("keys/private.pem"),
            public_key: folder.join("keys/public.pem"),
            issuer: "private-chat".into(),
            audience: "private-chat".into(),
        }
    }

    fn open(folder: &Path) -> std::result::Result<JwtSigner, KeyFileError> {
        JwtSigner::open(config(folder), Arc::new(Counting))
    }

    fn claims() -> Claims {
        Claims {
            user: Uuid::from_u128(1).into(),
            session: Uuid::from_u128(2).into(),
            role: GlobalRole::Admin,
            issued_at: NOW,
            expires_at: NOW + Duration::from_secs(900),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    // R91
    #[test]
    fn of_instances_that_start_at_once_all_use_one_pair() {
        let folder = tempfile::tempdir().unwrap();
        let start = Barrier::new(3);
        let signers: Vec<JwtSigner> = std::thread::scope(|threads| {
            let one = || {
                start.wait();
                open(folder.path()).unwrap()
            };
            let running: Vec<_> = (0..3).map(|_| threads.spawn(one)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (signer, verifier) in signers.iter().zip(signers.iter().cycle().skip(1)) {
            let token = signer.sign(&claims()).unwrap();
            assert_eq!(verifier.verify(token.expose(), NOW), Some(claims()));
        }
        let config = config(folder.path());
        assert_eq!((mode(&config.private_key), mode(&config.public_key)), (0o600, 0o644));
        assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 2);

        // The next start finds the pair; without its public half it makes that anew; with another it refuses.
        let public = fs::read(&config.public_key).unwrap();
        fs::remove_file(&config.public_key).unwrap();
        assert_eq!(open(folder.path()).unwrap().key_id(), signers[0].key_id());
        assert_eq!(fs::read(&config.public_key).unwrap(), public);

        fs::set_permissions(&config.private_key, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = open(folder.path()).err().unwrap();
        assert!(matches!(refused, KeyFileError::TooOpen { .. }), "{refused}");
        fs::remove_file(&config.private_key).unwrap();
        let refused = open(folder.path()).err().unwrap();
        assert!(refused.to_string().contains("bring the private key back"), "{refused}");
        assert!(!config.private_key.exists());

        let (other_folder, other) = (tempfile::tempdir().unwrap(), generate().unwrap());
        let other_config = self::config(other_folder.path());
        fs::create_dir(other_folder.path().join("keys")).unwrap();
        fs::write(&other_config.private_key, other.expose()).unwrap();
        fs::set_permissions(&other_config.private_key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&other_config.public_key, public).unwrap();
        let refused = open(other_folder.path()).err().unwrap();
        assert!(refused.to_string().contains("not the public half"), "{refused}");
    }

    #[test]
    fn what_is_no_rsa_private_key_is_refused_without_a_word_of_it() {
        for bad in ["", "hunter2", "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"] {
            let refused = JwtSigner::new(&Secret::new(bad), "i".into(), "a".into(), Arc::new(Counting));
            let refused = refused.err().unwrap();
            assert!(!refused.contains("hunter2") && !refused.contains("aHVudGVyMg"), "{refused}");
        }
    }

    #[test]
    fn every_token_has_an_id_of_its_own() {
        let signer = JwtSigner::new(&generate().unwrap(), "i".into(), "a".into(), Arc::new(Counting)).unwrap();
        assert_ne!(signer.sign(&claims()).unwrap(), signer.sign(&claims()).unwrap());
    }

    // RFC 7638, section 3.1: the thumbprint is of the members in order, without white space.
    #[test]
    fn the_key_id_is_the_thumbprint_of_the_public_key() {
        use sha2::{Digest as _, Sha256};
        let signer = JwtSigner::new(&generate().unwrap(), "i".into(), "a".into(), Arc::new(Counting)).unwrap();
        let set: serde_json::Value = serde_json::from_str(&signer.jwks()).unwrap();
        let key = &set["keys"][0];
        let canonical = format!(r#"{{"e":{},"kty":"RSA","n":{}}}"#, key["e"], key["n"]);
        assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(canonical)), signer.key_id());
        assert_eq!((&key["kid"], &key["use"], &key["alg"]), (&signer.key_id().into(), &"sig".into(), &"RS256".into()));
        for private in ["d", "p", "q", "dp", "dq", "qi"] {
            assert!(key.get(private).is_none(), "{private}");
        }
    }
}

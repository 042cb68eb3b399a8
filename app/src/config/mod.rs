//! The settings: `config/default.toml` < a file < the environment.
//!
//! [`Config`] has what the program itself needs, checked; adapters read their own sections from [`Config::figment`]. Whatever is wrong stops the
//! start with one message that names the key, where it came from and what is allowed, and never shows a secret.

mod layers;
#[cfg(test)]
mod tests;
mod value;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::error::{Kind, OneOf};
use private_chat_core::model::chat::{ReplyCaps, ReplyLimits};
use private_chat_core::model::secret::Secret;
use private_chat_core::model::session::Lifetimes;
use serde::Deserialize;
use serde::de::IgnoredAny;

pub use value::Network;

/// Why the program can't start with these settings. The text is for an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn about(key: &str, source: &str, rule: &str) -> Self {
        Self(format!("`{key}`, from {source}, {rule}"))
    }
}

impl From<figment::Error> for ConfigError {
    fn from(error: figment::Error) -> Self {
        // The value is left out everywhere: this may be a secret.
        let rule = match &error.kind {
            Kind::Message(rule) => rule.clone(),
            Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) | Kind::InvalidLength(_, expected) => {
                format!("must be {}", expectation(expected))
            }
            Kind::UnknownVariant(_, known) => format!("must be {}", OneOf(known)),
            Kind::UnknownField(field, known) => format!("has no key `{field}`; it may have {}", OneOf(known)),
            Kind::MissingField(field) => format!("lacks the key `{field}`"),
            Kind::DuplicateField(field) => format!("has the key `{field}` twice"),
            _ => "is not what it must be".to_owned(),
        };
        let key = layers::full_key(&error.path);
        match error.metadata {
            Some(source) => Self::about(&key, &source.name, &rule),
            None => Self(format!("`{key}` {rule}")),
        }
    }
}

impl From<Box<figment::Error>> for ConfigError {
    fn from(error: Box<figment::Error>) -> Self {
        Self::from(*error)
    }
}

/// What serde expects, in words for people.
fn expectation(expected: &str) -> String {
    let most = match expected {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" | "usize" => return "a whole number of 0 or more".into(),
        other => return other.into(),
    };
    format!("a whole number from 0 to {most}")
}

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the server listens.
    pub server: Server,
    /// Which web pages may call it.
    pub cors: Cors,
    /// Whether guessing and flooding are slowed down.
    pub rate_limit: RateLimit,
    /// What is logged, and how.
    pub log: Log,
    /// Which database.
    pub database: Database,
    /// Where files are kept.
    pub storage: Storage,
    /// How instances tell each other of news.
    pub events: Events,
    /// How models are asked.
    pub inference: Inference,
    /// Where the program keeps what is its own.
    pub data_dir: PathBuf,
    /// Keys and tokens.
    pub security: Security,
    /// The hashing of passwords.
    pub passwords: Passwords,
    /// Uploaded files.
    pub files: Files,
    /// The web pages of the server's own.
    pub web: Web,
    layers: Layers,
}

/// The settings of all layers, with what only adapters read.
#[derive(Clone)]
struct Layers(Figment);

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layers")
    }
}

/// The sections as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    server: Server,
    cors: Cors,
    rate_limit: RateLimit,
    log: Log,
    database: Database,
    storage: Storage,
    events: Events,
    inference: Inference,
    #[serde(deserialize_with = "value::path")]
    data_dir: PathBuf,
    security: Security,
    passwords: Passwords,
    files: Files,
    web: Web,
}

/// `server`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// An address or a name.
    #[serde(deserialize_with = "value::text")]
    pub host: String,
    /// Zero for any.
    pub port: u16,
    /// Without a slash at its end.
    #[serde(deserialize_with = "value::web_address")]
    pub public_url: Option<String>,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// How many connections may be open at once.
    #[serde(deserialize_with = "value::at_least_one")]
    pub max_connections: usize,
    /// How long a stopping server lets work come to its end.
    #[serde(deserialize_with = "value::duration")]
    pub drain_timeout: Duration,
}

/// `cors`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// As browsers write them, to be compared byte by byte.
    #[serde(deserialize_with = "value::origins")]
    pub allowed_origins: Vec<String>,
}

/// `rate_limit`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Whether it is on.
    pub enabled: bool,
}

/// `log`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`.
    #[serde(deserialize_with = "value::log_level")]
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// `database`, whose other sections belong to the adapters.
#[derive(Clone, Debug, Deserialize)]
pub struct Database {
    /// The adapter's name in the register.
    #[serde(deserialize_with = "value::text")]
    pub backend: String,
}

/// `storage`
#[derive(Clone, Debug, Deserialize)]
pub struct Storage {
    /// Which store.
    pub backend: StorageBackend,
    /// Where browsers reach it.
    #[serde(deserialize_with = "value::web_address")]
    pub public_endpoint: Option<String>,
    /// A folder.
    pub fs: FolderStorage,
    /// S3.
    pub s3: S3Storage,
}

/// The stores there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageBackend {
    /// A folder.
    Fs,
    /// MinIO, or whatever speaks S3.
    S3,
}

/// `storage.fs`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderStorage {
    /// Relative to `data_dir`.
    #[serde(deserialize_with = "value::path")]
    pub root: PathBuf,
}

/// `storage.s3`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Storage {
    /// Host and port, with or without a scheme.
    #[serde(deserialize_with = "value::text")]
    pub endpoint: String,
    /// The key's name.
    #[serde(deserialize_with = "value::secret")]
    pub access_key: Secret,
    /// The key's secret.
    #[serde(deserialize_with = "value::secret")]
    pub secret_key: Secret,
    /// The bucket.
    #[serde(deserialize_with = "value::text")]
    pub bucket: String,
    /// The region.
    #[serde(deserialize_with = "value::text")]
    pub region: String,
}

/// `events`
#[derive(Clone, Debug, Deserialize)]
pub struct Events {
    /// How news travel.
    pub backend: EventsBackend,
    /// Redis.
    pub redis: Redis,
}

/// The ways there are for news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventsBackend {
    /// Inside the process.
    Memory,
    /// Through a Redis server.
    Redis,
}

/// `events.redis`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// With its password, if it has one.
    #[serde(deserialize_with = "value::optional_secret")]
    pub url: Option<Secret>,
}

/// `inference`, whose providers belong to the adapters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inference {
    /// `provider/model`
    #[serde(deserialize_with = "value::optional")]
    pub default_model: Option<String>,
    /// Until the first piece of an answer.
    #[serde(deserialize_with = "value::duration")]
    pub first_byte_timeout: Duration,
    /// From one piece to the next.
    #[serde(deserialize_with = "value::duration")]
    pub idle_timeout: Duration,
    /// For the whole answer.
    #[serde(deserialize_with = "value::duration")]
    pub total_timeout: Duration,
    /// Of an answer and its thoughts together.
    #[serde(deserialize_with = "value::at_least_one")]
    pub max_reply_bytes: usize,
    /// How many replies of one user may run at once.
    #[serde(deserialize_with = "value::at_least_one")]
    pub max_running_replies_per_user: usize,
    /// How many may run in one workspace.
    #[serde(deserialize_with = "value::at_least_one")]
    pub max_running_replies_per_workspace: usize,
    /// How many may run in this process.
    #[serde(deserialize_with = "value::at_least_one")]
    pub max_running_replies: usize,
    /// Whether chats without a title are given one by their model.
    pub titles: bool,
    #[serde(rename = "providers")]
    _providers: IgnoredAny,
}

impl Inference {
    /// The bounds of a reply.
    #[must_use]
    pub const fn limits(&self) -> ReplyLimits {
        ReplyLimits {
            first_byte: self.first_byte_timeout,
            idle: self.idle_timeout,
            total: self.total_timeout,
            bytes: self.max_reply_bytes,
        }
    }
}

impl Config {
    /// How many replies may run at once. Where nothing is limited for tests and measurements, only the process as a whole is.
    #[must_use]
    pub fn reply_caps(&self) -> ReplyCaps {
        let Inference { max_running_replies_per_user, max_running_replies_per_workspace, max_running_replies, .. } =
            self.inference;
        let unless_off = |most: usize| self.rate_limit.enabled.then_some(most as u64);
        ReplyCaps {
            of_user: unless_off(max_running_replies_per_user),
            in_workspace: unless_off(max_running_replies_per_workspace),
            here: Some(max_running_replies as u64),
        }
    }
}

/// `security`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// The server's own key.
    #[serde(deserialize_with = "value::path")]
    pub encryption_key_file: PathBuf,
    /// The key that signs access tokens.
    #[serde(deserialize_with = "value::path")]
    pub jwt_private_key_path: PathBuf,
    /// Its public half.
    #[serde(deserialize_with = "value::path")]
    pub jwt_public_key_path: PathBuf,
    /// `iss`
    #[serde(deserialize_with = "value::text")]
    pub issuer: String,
    /// `aud`
    #[serde(deserialize_with = "value::text")]
    pub audience: String,
    /// Of an access token.
    #[serde(deserialize_with = "value::duration")]
    pub access_token_lifetime: Duration,
    /// Of a refresh token.
    #[serde(deserialize_with = "value::duration")]
    pub refresh_token_lifetime: Duration,
    /// Of a session.
    #[serde(deserialize_with = "value::duration")]
    pub session_lifetime: Duration,
    /// What the setup of the first administrator must show; from the file, if it is there.
    #[serde(deserialize_with = "value::optional_secret")]
    pub setup_token: Option<Secret>,
    /// Where it was read from.
    #[serde(deserialize_with = "value::optional_path")]
    pub setup_token_file: Option<PathBuf>,
}

impl Security {
    /// How long tokens and sessions live.
    #[must_use]
    pub const fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            access: self.access_token_lifetime,
            refresh: self.refresh_token_lifetime,
            session: self.session_lifetime,
        }
    }
}

/// `passwords`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passwords {
    /// How many are hashed at once; zero for as many as there are cores.
    pub concurrency: usize,
    /// How many may wait.
    pub queue: usize,
}

/// `files`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Bytes of one file.
    pub max_size: u64,
    /// Media types, with `*` for all of a kind.
    pub allowed_types: Vec<String>,
}

/// `web`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    /// Whether there are pages beside the API.
    pub enabled: bool,
}

/// The provider that serves when none is configured.
pub const FALLBACK_PROVIDER: &str = "echo";

/// The most that a reply may be allowed to hold. Each of its two texts must fit a `MEDIUMTEXT` of MySQL, and one packet of its protocol.
const MOST_REPLY_BYTES: usize = 8 << 20;

impl Config {
    /// Gathers and checks the settings of this file and of the process's environment.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::of(file, std::env::vars_os())
    }

    /// Gathers and checks the settings of this file and these variables.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    pub fn of(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let figment = layers::gather(file, variables)?;
        let sections: Sections = figment.extract()?;
        let Sections {
            server,
            cors,
            rate_limit,
            log,
            database,
            storage,
            events,
            inference,
            data_dir,
            security,
            passwords,
            files,
            web,
        } = sections;
        let mut config = Self {
            server,
            cors,
            rate_limit,
            log,
            database,
            storage,
            events,
            inference,
            data_dir,
            security,
            passwords,
            files,
            web,
            layers: Layers(figment),
        };
        config.check()?;
        config.read_setup_token()?;
        Ok(config)
    }

    /// What adapters read their own sections from, by their full paths: `extract_inner("database.mysql")`. It holds secrets in clear.
    #[must_use]
    pub const fn figment(&self) -> &Figment {
        &self.layers.0
    }

    /// The names of the configured providers, in their order. Each has a section `inference.providers.NAME`; where there are none,
    /// [`FALLBACK_PROVIDER`] serves.
    #[must_use]
    pub fn provider_names(&self) -> Vec<String> {
        let section = self.figment().find_value("inference.providers").ok();
        section.and_then(figment::value::Value::into_dict).map(|names| names.into_keys().collect()).unwrap_or_default()
    }

    /// Says that a key breaks a rule ("must be …"), with where its value came from.
    #[must_use]
    pub fn wrong(&self, key: &str, rule: &str) -> ConfigError {
        match self.figment().find_metadata(key) {
            Some(source) => ConfigError::about(key, &source.name, rule),
            None => ConfigError(format!("`{key}` {rule}")),
        }
    }

    /// Where the value of a key came from, unless it is the default.
    fn given(&self, key: &str) -> Option<&str> {
        let source = self.figment().find_metadata(key)?;
        (source.name != layers::DEFAULTS).then_some(&*source.name)
    }

    /// The rules that tie settings together.
    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, rule: &str| Err(self.wrong(key, rule));
        if self.events.backend == EventsBackend::Redis && self.events.redis.url.is_none() {
            return wrong("events.backend", "needs `events.redis.url`, such as \"redis://cache:6379/0\"");
        }
        if self.inference.max_reply_bytes > MOST_REPLY_BYTES {
            return wrong(
                "inference.max_reply_bytes",
                "must be at most 8388608: a larger reply would not fit every database",
            );
        }
        if self.given("security.jwt_public_key_path").is_some() && self.given("security.jwt_private_key_path").is_none()
        {
            return wrong(
                "security.jwt_public_key_path",
                "needs `security.jwt_private_key_path` (JWT_PRIVATE_KEY_PATH) beside it: a public key alone signs nothing",
            );
        }
        if self.security.setup_token.is_some() && self.security.setup_token_file.is_some() {
            return wrong("security.setup_token_file", "must not be set together with `security.setup_token`");
        }
        for (key, length) in [
            ("security.access_token_lifetime", self.security.access_token_lifetime),
            ("security.refresh_token_lifetime", self.security.refresh_token_lifetime),
            ("security.session_lifetime", self.security.session_lifetime),
            ("inference.first_byte_timeout", self.inference.first_byte_timeout),
            ("inference.idle_timeout", self.inference.idle_timeout),
            ("inference.total_timeout", self.inference.total_timeout),
        ] {
            // Tokens tell their times to the second.
            if length < Duration::from_secs(1) {
                return wrong(key, "must be at least \"1s\"");
            }
            // Beyond a hundred years, sums of times are no times any more.
            if length > Duration::from_secs(100 * 365 * 24 * 60 * 60) {
                return wrong(key, "must be at most \"36500d\"");
            }
        }
        if self.security.access_token_lifetime > self.security.refresh_token_lifetime {
            return wrong(
                "security.access_token_lifetime",
                "must not be longer than `security.refresh_token_lifetime`",
            );
        }
        self.check_default_model()
    }

    fn check_default_model(&self) -> Result<(), ConfigError> {
        const KEY: &str = "inference.default_model";
        let Some(model) = &self.inference.default_model else { return Ok(()) };
        let mut names = self.provider_names();
        if names.is_empty() {
            names.push(FALLBACK_PROVIDER.into());
        }
        match model.split_once('/') {
            Some((provider, name)) if !name.is_empty() && names.iter().any(|known| known == provider) => Ok(()),
            Some((provider, name)) if !name.is_empty() => Err(self.wrong(
                KEY,
                &format!("names the provider `{provider}`, which is not configured; configured: {}", names.join(", ")),
            )),
            _ => Err(self.wrong(KEY, "must be a provider and its model, such as \"openai/gpt-4o\"")),
        }
    }

    fn read_setup_token(&mut self) -> Result<(), ConfigError> {
        const KEY: &str = "security.setup_token_file";
        let Some(path) = &self.security.setup_token_file else { return Ok(()) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            self.wrong(KEY, &format!("must name a file that can be read; {}: {error}", path.display()))
        })?;
        if text.trim().is_empty() {
            return Err(self.wrong(KEY, &format!("must name a file with a token in it; {} is empty", path.display())));
        }
        self.security.setup_token = Some(Secret::new(text.trim()));
        Ok(())
    }

    /// What an operator should know of these settings, a sentence each: what has no effect, and what is dangerous.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (section, what) in [
            ("storage.", "file storage"),
            ("files.", "files"),
            ("events.", "the passing on of news between instances (they learn of them from the database)"),
            ("web.", "web pages"),
        ] {
            let mut sources: Vec<String> = layers::keys().unwrap_or_default();
            sources.retain(|key| key.starts_with(section));
            sources = sources.iter().filter_map(|key| Some(format!("{key}, from {}", self.given(key)?))).collect();
            if !sources.is_empty() {
                warnings.push(format!("this version does not have {what} yet; without effect: {}", sources.join("; ")));
            }
        }
        if !self.rate_limit.enabled {
            warnings.push("rate_limit.enabled is false: nothing slows down guessing and flooding, and users and workspaces may have any number of replies running. For tests and measurements only".into());
        }
        let is = |key: &str, text: &str| self.figment().extract_inner::<String>(key).is_ok_and(|found| found == text);
        if self.database.backend == "mysql" && is("database.mysql.password", "chat_password") {
            warnings.push("the MySQL password is the default that everybody knows: set MYSQL_PASSWORD".into());
        }
        let default = |key: &Secret| key.expose() == "minioadmin";
        if self.storage.backend == StorageBackend::S3
            && (default(&self.storage.s3.access_key) || default(&self.storage.s3.secret_key))
        {
            warnings.push("the MinIO credentials are the defaults that everybody knows: set MINIO_ACCESS_KEY and MINIO_SECRET_KEY".into());
        }
        warnings
    }
}

//! The composition root: configuration → adapters → ports → use cases. The only place where everything meets.

use std::collections::BTreeMap;
use std::sync::Arc;

use private_chat_adapters::adapter::{self, OpenError};
use private_chat_adapters::argon2::Argon2Hasher;
use private_chat_adapters::jwt::{self, JwtSigner};
use private_chat_adapters::key_file::{self, KeyFileError};
use private_chat_adapters::provider::{self, ProviderConfig};
use private_chat_adapters::system::{OsEntropy, RuntimeTasks, SystemClock};
use private_chat_adapters::{DATABASES, PROVIDER_KINDS};
use private_chat_core::model::installation::Installation;
use private_chat_core::model::secret::ServerKey;
use private_chat_core::port::Ports;
use private_chat_core::port::clock::Entropy;
use private_chat_core::port::inference::Provider;
use private_chat_core::port::store::Store;
use private_chat_core::port::tokens::TokenSigner;
use private_chat_core::usecase::operator::Operator;
use private_chat_core::usecase::{Settings, UseCases};
use tokio::runtime::Handle;

use crate::config::{Config, ConfigError, FALLBACK_PROVIDER};

/// Why the program can't be put together.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key file can't be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// An adapter can't be opened.
    #[error("{0}")]
    Adapter(String),
}

impl From<OpenError> for WireError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Config(error) => Self::Config(error.into()),
            OpenError::Other(error) => Self::Adapter(error.to_string()),
        }
    }
}

/// The program, put together.
pub struct Wired {
    /// What the product does.
    pub cases: UseCases,
    /// What an operator does at the machine itself.
    pub operator: Operator,
    /// What it stands on.
    pub ports: Ports,
    /// The server's own key.
    pub key: ServerKey,
}

impl Wired {
    /// Whether a process with these keys belongs to this installation; if not, which key is the wrong one.
    ///
    /// # Errors
    /// What an operator should read.
    pub fn belongs_to(&self, installation: &Installation) -> Result<(), &'static str> {
        installation.admits(&self.key.fingerprint(), &self.ports.tokens.key_id())
    }
}

/// Puts the program together. Reads key files, and makes them at the first start: call it off the async threads.
///
/// # Errors
/// What an operator has to mend.
pub fn wire(config: &Config, runtime: Handle) -> Result<Wired, WireError> {
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let key = key_file::server_key(&config.security.encryption_key_file, &*entropy)?;
    let store = database(config)?;
    let ports = Ports {
        users: store.clone(),
        sessions: store.clone(),
        workspaces: store.clone(),
        chats: store.clone(),
        replies: store.clone(),
        work: store,
        inference: Arc::new(providers(config)?),
        passwords: Arc::new(Argon2Hasher::new(config.passwords.concurrency, config.passwords.queue, entropy.clone())),
        tokens: signer(config, entropy.clone())?,
        clock: Arc::new(SystemClock::start()),
        entropy,
        tasks: Arc::new(RuntimeTasks::on(runtime)),
    };
    let settings = Settings {
        key: key.clone(),
        lifetimes: config.security.lifetimes(),
        setup_token: config.security.setup_token.clone(),
        default_model: config.inference.default_model.clone(),
        reply: config.inference.limits(),
        caps: config.reply_caps(),
        titles: config.inference.titles,
    };
    let operator = Operator::new(ports.clone(), settings.clone());
    Ok(Wired { cases: UseCases::new(&ports, settings), operator, ports, key })
}

/// The database of the configured name.
///
/// # Errors
/// When there is no such adapter, or its section is wrong.
pub fn database(config: &Config) -> Result<Arc<dyn Store>, WireError> {
    let adapter = adapter::find(DATABASES, &config.database.backend)
        .map_err(|known| config.wrong("database.backend", &format!("names {known}")))?;
    Ok((adapter.open)(config.figment())?)
}

/// The configured providers, or the one that serves when there are none.
///
/// # Errors
/// When a section is wrong.
pub fn providers(config: &Config) -> Result<BTreeMap<String, Provider>, WireError> {
    let names = config.provider_names();
    if names.is_empty() {
        let fallback = ProviderConfig::of_kind(FALLBACK_PROVIDER);
        let provider = provider::open(PROVIDER_KINDS, FALLBACK_PROVIDER, &fallback)?;
        return Ok(BTreeMap::from([(FALLBACK_PROVIDER.to_owned(), provider)]));
    }
    let mut providers = BTreeMap::new();
    for name in names {
        let section: ProviderConfig = config
            .figment()
            .extract_inner(&format!("inference.providers.{name}"))
            .map_err(|error| WireError::Config(error.into()))?;
        let provider = provider::open(PROVIDER_KINDS, &name, &section)?;
        providers.insert(name, provider);
    }
    Ok(providers)
}

fn signer(config: &Config, entropy: Arc<dyn Entropy>) -> Result<Arc<dyn TokenSigner>, WireError> {
    let security = &config.security;
    let keys = jwt::Config {
        private_key: security.jwt_private_key_path.clone(),
        public_key: security.jwt_public_key_path.clone(),
        issuer: security.issuer.clone(),
        audience: security.audience.clone(),
    };
    Ok(Arc::new(JwtSigner::open(keys, entropy)?))
}

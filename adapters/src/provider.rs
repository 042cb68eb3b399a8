//! What the register lists for models: a kind of provider, and how to open one from its section of the configuration.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use private_chat_core::model::chat::model_id;
use private_chat_core::model::secret::Secret;
use private_chat_core::port::inference::{Inference, Provider};
use serde::{Deserialize, Deserializer};

use crate::adapter::OpenError;

/// The section `inference.providers.<name>`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Which of the register's kinds it is.
    pub kind: String,
    /// Where it is, up to and with its `/v1`. Each kind says what it does without one.
    #[serde(default)]
    pub base_url: Option<String>,
    /// What it knows us by. An empty text is none.
    #[serde(default, deserialize_with = "secret")]
    pub api_key: Option<Secret>,
    /// A file that holds the key, in place of `api_key`.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// The models that may be used; empty for all that it lists.
    #[serde(default)]
    pub models: Vec<String>,
    /// How many tokens prompt and reply may have together, where that is known.
    #[serde(default)]
    pub context_length: Option<u32>,
    /// Whether its models take images.
    #[serde(default = "yes")]
    pub vision: bool,
}

fn yes() -> bool {
    true
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

impl ProviderConfig {
    /// A provider of this kind about which nothing else is said.
    #[must_use]
    pub fn of_kind(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            base_url: None,
            api_key: None,
            api_key_file: None,
            models: Vec::new(),
            context_length: None,
            vision: true,
        }
    }

    /// The key, from whichever place holds it.
    ///
    /// # Errors
    /// When both places are given, the file can't be read, or what is there can't be sent as a key.
    pub fn key(&self, name: &str) -> Result<Option<Secret>, OpenError> {
        let given = self.api_key.clone().filter(|key| !key.expose().is_empty());
        let (field, key) = match (given, &self.api_key_file) {
            (Some(_), Some(_)) => return Err(invalid(name, "api_key", "must not be set together with `api_key_file`")),
            (Some(key), None) => ("api_key", key),
            (None, Some(file)) => match std::fs::read_to_string(file) {
                Ok(text) => ("api_key_file", Secret::new(text.trim())),
                Err(error) => {
                    let rule = format!("must name a text file that can be read; {}: {error}", file.display());
                    return Err(invalid(name, "api_key_file", &rule));
                }
            },
            (None, None) => return Ok(None),
        };
        if key.expose().is_empty() || !key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid(name, field, "must hold one key of visible ASCII characters without blanks"));
        }
        Ok(Some(key))
    }
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, base_url, api_key, api_key_file, models, context_length, vision } = self;
        // A URL that carries a password is refused, but not before somebody may have printed the configuration.
        let base_url = base_url.as_deref().map(|url| if url.contains(['@', '?']) { "[redacted]" } else { url });
        f.debug_struct("ProviderConfig")
            .field("kind", kind)
            .field("base_url", &base_url)
            .field("api_key", api_key)
            .field("api_key_file", api_key_file)
            .field("models", models)
            .field("context_length", context_length)
            .field("vision", vision)
            .finish()
    }
}

/// Opens a provider from its name and its section. It asks nothing of the provider yet, which may be away.
pub type OpenProvider = fn(&str, &ProviderConfig) -> Result<Arc<dyn Inference>, OpenError>;

/// One kind of provider, as configuration names it.
pub struct ProviderKind {
    /// What selects it: `kind = "openai"`.
    pub name: &'static str,
    /// How to open one.
    pub open: OpenProvider,
    /// Whether what it answers may do as a chat's title.
    pub writes_titles: bool,
}

/// Opens the provider `name` with the kind that its section says.
///
/// # Errors
/// Which key of the section is wrong, and what it must be.
pub fn open(kinds: &[ProviderKind], name: &str, config: &ProviderConfig) -> Result<Provider, OpenError> {
    let kind = kinds.iter().find(|kind| kind.name == config.kind).ok_or_else(|| {
        let known: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
        invalid(name, "kind", &format!("must be one of: {}", known.join(", ")))
    })?;
    for model in &config.models {
        model_id("models", model.clone()).map_err(|_| {
            invalid(
                name,
                "models",
                "must list names of up to 128 of `A-Z a-z 0-9 . _ : / -`, as the provider calls its models",
            )
        })?;
    }
    if config.context_length == Some(0) {
        return Err(invalid(name, "context_length", "must be more than 0"));
    }
    Ok(Provider {
        inference: (kind.open)(name, config)?,
        models: config.models.clone(),
        context_length: config.context_length,
        vision: config.vision,
        writes_titles: kind.writes_titles,
    })
}

/// Says which key of a provider's section breaks which rule. The rule never holds the value: it may be a secret.
#[must_use]
pub fn invalid(name: &str, key: &str, rule: &str) -> OpenError {
    OpenError::Other(format!("inference.providers.{name}.{key}: {rule}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROVIDER_KINDS;

    const KEY: &str = "sk-canary-0123456789";

    fn config(toml: &str) -> Result<ProviderConfig, Box<figment::Error>> {
        use figment::providers::{Format as _, Toml};
        figment::Figment::from(Toml::string(toml)).extract().map_err(Box::new)
    }

    /// What is said against this section.
    fn refused(toml: &str) -> String {
        let config = config(toml).unwrap();
        match open(PROVIDER_KINDS, "mine", &config) {
            Ok(_) => panic!("{config:?} was opened"),
            Err(error) => {
                let said = format!("{error} {error:?} {config:?}");
                assert!(!said.contains(KEY), "{said}");
                error.to_string()
            }
        }
    }

    #[test]
    fn a_section_may_say_little_or_all() {
        let little = config("kind = 'openai'\napi_key = 'k'").unwrap();
        assert!(little.vision && little.models.is_empty());
        let provider = open(PROVIDER_KINDS, "mine", &little).unwrap();
        assert_eq!((provider.vision, provider.context_length), (true, None));

        let all = "kind = 'vllm'\nbase_url = 'https://models.example:8443/base/'\napi_key = 'k'\nmodels = ['a/b:c']\ncontext_length = 8192\nvision = false";
        let provider = open(PROVIDER_KINDS, "mine", &config(all).unwrap()).unwrap();
        assert_eq!(provider.models, ["a/b:c"]);
        assert_eq!((provider.vision, provider.context_length), (false, Some(8192)));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = config("kind = 'echo'\nurl = 'http://x'").unwrap_err().to_string();
        assert!(error.contains("`url`") && error.contains("base_url"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named_and_secrets_are_not() {
        for (section, key, rule) in [
            ("kind = 'gpt'".to_owned(), "kind", "openai, vllm, echo"),
            ("kind = 'openai'".to_owned(), "api_key", "must be set"),
            ("kind = 'openai'\napi_key = ''".to_owned(), "api_key", "must be set"),
            ("kind = 'vllm'".to_owned(), "base_url", "must be set"),
            (format!("kind = 'openai'\napi_key = '{KEY}'\napi_key_file = '/key'"), "api_key", "together"),
            (
                "kind = 'openai'\napi_key_file = '/does/not/exist'".to_owned(),
                "api_key_file",
                "/does/not/exist: No such file",
            ),
            (format!("kind = 'openai'\napi_key = '{KEY} {KEY}'"), "api_key", "one key"),
            (format!("kind = 'openai'\napi_key = '{KEY}é'"), "api_key", "one key"),
            ("kind = 'vllm'\nbase_url = 'gpu:8000'".to_owned(), "base_url", "http"),
            ("kind = 'vllm'\nbase_url = 'not a url'".to_owned(), "base_url", "http"),
            ("kind = 'vllm'\nbase_url = 'ftp://gpu/v1'".to_owned(), "base_url", "http"),
            (format!("kind = 'vllm'\nbase_url = 'http://me:{KEY}@gpu/v1'"), "base_url", "user"),
            (format!("kind = 'vllm'\nbase_url = 'http://gpu/v1?key={KEY}'"), "base_url", "query"),
            ("kind = 'vllm'\nbase_url = 'http://gpu/v1#x'".to_owned(), "base_url", "query"),
            ("kind = 'echo'\nmodels = ['a b']".to_owned(), "models", "names"),
            ("kind = 'echo'\ncontext_length = 0".to_owned(), "context_length", "more than 0"),
            ("kind = 'echo'\nbase_url = 'http://x'".to_owned(), "base_url", "echo"),
        ] {
            let error = refused(&section);
            assert!(error.starts_with(&format!("inference.providers.mine.{key}: ")), "{section}: {error}");
            assert!(error.contains(rule), "{section}: {error}");
        }
    }

    #[test]
    fn a_key_may_lie_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{KEY}\n")).unwrap();
        let mut config = ProviderConfig::of_kind("openai");
        config.api_key_file = Some(file.path().to_owned());
        assert_eq!(config.key("mine").unwrap().unwrap().expose(), KEY);

        std::fs::write(file.path(), "\n").unwrap();
        assert!(config.key("mine").is_err());
    }
}

//! Where settings come from: the defaults, a file, the environment, each over the one before.
//!
//! `config/default.toml` is the schema as well: it has every key, and the kind of a key's default is the kind of the key. So a variable is read as
//! what it is to be, and `MYSQL_PASSWORD=007` stays a text.

use std::ffi::OsString;
use std::path::Path;

use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::ConfigError;

const DEFAULT: &str = include_str!("../../../config/default.toml");
/// The name of the layer that everything else lies over.
pub(super) const DEFAULTS: &str = "the defaults";

/// The keys of a section `inference.providers.NAME`.
const PROVIDER: &str = r#"
    kind = ""
    base_url = ""
    api_key = ""
    api_key_file = ""
    models = []
    context_length = 0
    vision = true
"#;
const PROVIDERS: [&str; 2] = ["inference", "providers"];

const PREFIX: &str = "PRIVATE_CHAT_";

/// The variables with a name of their own, and what they set.
const PLAIN: [(&str, &str); 15] = [
    ("MYSQL_HOST", "database.mysql.host"),
    ("MYSQL_PORT", "database.mysql.port"),
    ("MYSQL_USER", "database.mysql.user"),
    ("MYSQL_PASSWORD", "database.mysql.password"),
    ("MYSQL_DATABASE", "database.mysql.database"),
    ("MINIO_ENDPOINT", "storage.s3.endpoint"),
    ("MINIO_ACCESS_KEY", "storage.s3.access_key"),
    ("MINIO_SECRET_KEY", "storage.s3.secret_key"),
    ("MINIO_BUCKET", "storage.s3.bucket"),
    ("OPENAI_API_KEY", "inference.providers.openai.api_key"),
    ("OPENAI_BASE_URL", "inference.providers.openai.base_url"),
    ("VLLM_ENDPOINT", "inference.providers.vllm.base_url"),
    ("VLLM_API_KEY", "inference.providers.vllm.api_key"),
    ("JWT_PRIVATE_KEY_PATH", "security.jwt_private_key_path"),
    ("JWT_PUBLIC_KEY_PATH", "security.jwt_public_key_path"),
];

/// What a variable selects besides, where nobody says otherwise: the start of what it sets, the key, and its value.
const SELECTS: [(&str, &str, &str); 4] = [
    ("database.mysql.", "database.backend", "mysql"),
    ("storage.s3.", "storage.backend", "s3"),
    ("inference.providers.openai.", "inference.providers.openai.kind", "openai"),
    ("inference.providers.vllm.base_url", "inference.providers.vllm.kind", "vllm"),
];

/// Gathers the settings of all layers.
pub(super) fn gather(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Figment, ConfigError> {
    let schema = Schema::new()?;
    let mut figment = Figment::from(Layer { source: DEFAULTS.into(), values: schema.keys.clone() });
    let mut in_file = Value::from(Dict::new());
    if let Some(path) = file {
        let layer = read(path)?;
        schema.check(&layer.values, &mut Vec::new(), &layer.source)?;
        in_file = Value::from(layer.values.clone());
        figment = figment.merge(layer);
    }
    let named = |key: &str| in_file.find_ref(key).is_some();
    let variables = ours(variables)?;

    let mut plain: Vec<Layer> = Vec::new();
    let mut selected: Vec<Layer> = Vec::new();
    for (name, key) in PLAIN {
        let Some((_, text)) = variables.iter().find(|(variable, _)| variable == name) else { continue };
        // A key for a server that is nowhere named switches nothing on.
        let vllm =
            named("inference.providers.vllm") || variables.iter().any(|(variable, _)| variable == "VLLM_ENDPOINT");
        if name == "VLLM_API_KEY" && !vllm {
            continue;
        }
        plain.push(schema.variable(name, key, text)?);
        for (_, choice, value) in SELECTS.iter().filter(|(start, ..)| key.starts_with(start)) {
            if !named(choice) {
                selected.push(Layer::of(variable_source(name), choice, Value::from(*value)));
            }
        }
    }
    let mut prefixed = Vec::new();
    for (name, text) in &variables {
        if let Some(rest) = name.strip_prefix(PREFIX) {
            let key = rest.to_ascii_lowercase().replace("__", ".");
            prefixed.push(schema.variable(name, &key, text)?);
        }
    }
    // Joined in reverse, the first of several variables that select the same thing is the one that errors name.
    selected.reverse();
    Ok(selected.into_iter().chain(plain).chain(prefixed).fold(figment, Figment::merge))
}

/// The variables that are for us, without those that are empty.
fn ours(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, ConfigError> {
    let mut ours = Vec::new();
    for (name, text) in variables {
        let Some(name) =
            name.to_str().filter(|name| name.starts_with(PREFIX) || PLAIN.iter().any(|(plain, _)| plain == name))
        else {
            continue;
        };
        match text.into_string() {
            Ok(text) if text.is_empty() => {}
            Ok(text) => ours.push((name.to_owned(), text)),
            Err(_) => return Err(ConfigError::new(format!("the environment variable {name} must be text in UTF-8"))),
        }
    }
    // The order of an environment is chance; that of errors should not be.
    ours.sort();
    Ok(ours)
}

fn variable_source(name: &str) -> String {
    format!("the environment variable {name}")
}

fn read(path: &Path) -> Result<Layer, ConfigError> {
    let source = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new(format!("can't read the configuration file {source}: {error}")))?;
    // The error's own text quotes the line, which may hold a secret.
    let values = Toml::from_str::<Dict>(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        ConfigError::new(format!("{source}, line {line}, is not TOML: {}", error.message()))
    })?;
    Ok(Layer { source, values })
}

/// The settings of one source.
struct Layer {
    source: String,
    values: Dict,
}

impl Layer {
    fn of(source: String, key: &str, value: Value) -> Self {
        let values = figment::util::nest(key, value).into_dict().unwrap_or_default();
        Self { source, values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// Every key there is, with its default.
struct Schema {
    keys: Dict,
    provider: Dict,
}

impl Schema {
    fn new() -> Result<Self, ConfigError> {
        let parse = |text| Toml::from_str(text).map_err(|error| ConfigError::new(error.to_string()));
        Ok(Self { keys: parse(DEFAULT)?, provider: parse(PROVIDER)? })
    }

    /// The default of a key, or the keys of a section.
    fn find(&self, path: &[&str]) -> Option<Value> {
        match path {
            [inference, providers, name] if [*inference, *providers] == PROVIDERS && is_name(name) => {
                Some(Value::from(self.provider.clone()))
            }
            [inference, providers, name, key] if [*inference, *providers] == PROVIDERS && is_name(name) => {
                self.provider.get(*key).cloned()
            }
            [first, rest @ ..] => {
                rest.iter().try_fold(self.keys.get(*first)?, |section, key| section.as_dict()?.get(*key)).cloned()
            }
            [] => Some(Value::from(self.keys.clone())),
        }
    }

    /// Makes sure that every key is known and has a value of its kind.
    fn check(&self, values: &Dict, path: &mut Vec<String>, source: &str) -> Result<(), ConfigError> {
        for (key, value) in values {
            path.push(key.clone());
            let full = path.join(".");
            match (self.find(&path.iter().map(String::as_str).collect::<Vec<_>>()), value) {
                (Some(Value::Dict(..)), Value::Dict(_, inner)) => self.check(inner, path, source)?,
                (Some(Value::Dict(..)), _) => {
                    return Err(ConfigError::about(&full, source, "must be a section, not a single value"));
                }
                (Some(default), _) if same_kind(&default, value) => {}
                (Some(default), _) => return Err(ConfigError::about(&full, source, &rule(&full, &default))),
                // An adapter from elsewhere has a section of its name, with keys that only it knows.
                (None, Value::Dict(..)) if values.get("backend").and_then(Value::as_str) == Some(key.as_str()) => {}
                (None, _) => {
                    return Err(ConfigError::new(format!("{source}: `{full}` is no setting{}", self.hint(path))));
                }
            }
            path.pop();
        }
        Ok(())
    }

    /// The layer of one variable.
    fn variable(&self, name: &str, key: &str, text: &str) -> Result<Layer, ConfigError> {
        let path: Vec<&str> = key.split('.').collect();
        let source = variable_source(name);
        let value = match self.find(&path) {
            None | Some(Value::Dict(..)) => {
                let known = self.leaves().into_iter().map(|key| variable_name(&key));
                let hint = match nearest(name, known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "config/default.toml lists them; the parts of a key are joined by two underscores".into(),
                };
                return Err(ConfigError::new(format!("{source} is no setting: {hint}")));
            }
            Some(Value::String(..)) => Some(Value::from(text)),
            Some(Value::Bool(..)) => text.trim().parse::<bool>().ok().map(Value::from),
            Some(Value::Num(..)) => text.trim().parse::<u64>().ok().map(Value::from),
            Some(_) => list(text),
        };
        match (value, self.find(&path)) {
            (Some(value), _) => Ok(Layer::of(source, key, value)),
            (None, default) => {
                let rule = default.map_or_else(String::new, |default| rule(key, &default));
                Err(ConfigError::about(key, &source, &rule))
            }
        }
    }

    /// All keys, by their full names.
    fn leaves(&self) -> Vec<String> {
        fn walk(values: &Dict, path: &str, leaves: &mut Vec<String>) {
            for (key, value) in values {
                let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match value {
                    Value::Dict(_, inner) => walk(inner, &full, leaves),
                    _ => leaves.push(full),
                }
            }
        }
        let mut leaves = Vec::new();
        walk(&self.keys, "", &mut leaves);
        leaves
    }

    /// What somebody may have meant by a key that there is not.
    fn hint(&self, path: &[String]) -> String {
        let Some((key, section)) = path.split_last() else { return String::new() };
        let section: Vec<&str> = section.iter().map(String::as_str).collect();
        if section == PROVIDERS {
            return "; a provider's name has letters, digits, `-` and `_` only, and is a section".into();
        }
        let siblings: Vec<String> = match self.find(&section) {
            Some(Value::Dict(_, keys)) => keys.into_keys().collect(),
            _ => Vec::new(),
        };
        let full = path.join(".");
        let near = nearest(key, siblings.iter().cloned())
            .map(|near| [section.join("."), near].join(".").trim_start_matches('.').to_owned());
        match near.or_else(|| nearest(&full, self.leaves().into_iter())) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => format!("; known here: {}", siblings.join(", ")),
        }
    }
}

/// Every key there is, by its full name.
pub(super) fn keys() -> Result<Vec<String>, ConfigError> {
    Ok(Schema::new()?.leaves())
}

/// The key of an error's path. When a section is extracted by its path, figment puts that behind the key instead of before it.
pub(super) fn full_key(path: &[String]) -> String {
    let known = |path: &Vec<&str>| Schema::new().is_ok_and(|schema| schema.find(path).is_some());
    let turned = |by: usize| path.iter().cycle().skip(by).take(path.len()).map(String::as_str).collect();
    (0..path.len()).map(turned).find(known).unwrap_or_else(|| turned(0)).join(".")
}

/// Whether the value of this key must not be seen.
pub(super) fn is_secret(key: &str) -> bool {
    let secrets = ["password", "access_key", "secret_key", "api_key", "setup_token"];
    key == "events.redis.url" || key.rsplit('.').next().is_some_and(|last| secrets.contains(&last))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

fn nearest(given: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let distance = |name: &String| strsim::damerau_levenshtein(given, name);
    known.min_by_key(distance).filter(|name| distance(name) <= 2.max(given.len() / 6))
}

fn same_kind(default: &Value, value: &Value) -> bool {
    match (default, value) {
        (Value::String(..), Value::String(..)) | (Value::Bool(..), Value::Bool(..)) => true,
        (Value::Num(..), Value::Num(_, number)) => number.to_f64().is_none(),
        (Value::Array(..), Value::Array(_, items)) => items.iter().all(|item| item.as_str().is_some()),
        _ => false,
    }
}

/// What a value of this kind must be. The default serves as the example, unless it says nothing or is a secret.
fn rule(key: &str, default: &Value) -> String {
    match default {
        Value::String(_, text) if text.is_empty() || is_secret(key) => "must be a text in quotes".into(),
        Value::String(_, text) => format!("must be a text in quotes such as \"{text}\""),
        Value::Bool(..) => "must be true or false".into(),
        Value::Num(_, number) => {
            format!("must be a whole number such as {}", number.to_u128_lossy().filter(|n| *n > 0).unwrap_or(4))
        }
        _ => r#"must be a list of texts such as ["a", "b"]"#.into(),
    }
}

/// A list as TOML has it.
fn list(text: &str) -> Option<Value> {
    let mut parsed: Dict = Toml::from_str(&format!("list = {text}")).ok()?;
    let list = parsed.remove("list")?;
    let texts = list.as_array()?.iter().all(|item| item.as_str().is_some());
    (texts && parsed.is_empty()).then_some(list)
}

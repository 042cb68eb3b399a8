//! The sections `database.sqlite` and `database.mysql` of the configuration.

use std::num::NonZeroU32;
use std::path::PathBuf;

use figment::Figment;
use private_chat_core::model::secret::Secret;
use serde::{Deserialize, Deserializer};
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

use crate::adapter::OpenError;

/// The password of the example configuration, which everybody knows.
const EXAMPLE_PASSWORD: &str = "chat_password";

/// `[database.sqlite]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteSettings {
    /// The file; a relative path lies in `data_dir`.
    pub path: PathBuf,
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self { path: PathBuf::from("private-chat.db") }
    }
}

impl SqliteSettings {
    /// Where the file of this configuration lies.
    ///
    /// # Errors
    /// The key that is wrong, and where it came from.
    pub fn path_from(config: &Figment) -> Result<PathBuf, OpenError> {
        let data_dir: PathBuf = section(config, "data_dir")?.unwrap_or_else(|| PathBuf::from("data"));
        let settings: Self = section(config, "database.sqlite")?.unwrap_or_default();
        Ok(data_dir.join(settings.path))
    }
}

/// `[database.mysql]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MySqlSettings {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who the program is there.
    pub user: String,
    /// That user's password.
    #[serde(deserialize_with = "secret")]
    pub password: Secret,
    /// The database.
    pub database: String,
    /// The most connections that this process opens.
    pub max_connections: NonZeroU32,
    /// Whether the connection is encrypted.
    pub tls: Tls,
}

/// Whether the connection to MySQL is encrypted. The server's certificate is not checked in any of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Never.
    Disabled,
    /// Where the server offers it.
    #[default]
    Preferred,
    /// Or not at all.
    Required,
}

impl Default for MySqlSettings {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            port: 3306,
            user: "chat_user".into(),
            password: Secret::new(EXAMPLE_PASSWORD),
            database: "chat_db".into(),
            max_connections: NonZeroU32::MIN.saturating_add(31),
            tls: Tls::default(),
        }
    }
}

impl MySqlSettings {
    /// The section of this configuration.
    ///
    /// # Errors
    /// The key that is wrong, and where it came from.
    pub fn from(config: &Figment) -> Result<Self, OpenError> {
        Ok(section(config, "database.mysql")?.unwrap_or_default())
    }

    /// Warns of a password that everybody knows.
    pub(super) fn warn(&self) {
        if self.password.expose() == EXAMPLE_PASSWORD {
            tracing::warn!("database.mysql.password is the example's: anybody who reaches the database knows it");
        }
    }

    /// How the driver is told.
    pub(super) fn options(&self) -> MySqlConnectOptions {
        MySqlConnectOptions::new()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .password(self.password.expose())
            .database(&self.database)
            .ssl_mode(match self.tls {
                Tls::Disabled => MySqlSslMode::Disabled,
                Tls::Preferred => MySqlSslMode::Preferred,
                Tls::Required => MySqlSslMode::Required,
            })
    }
}

/// The value at a full path, which errors then name; none where the configuration has nothing there.
fn section<'a, T: Deserialize<'a>>(config: &Figment, path: &str) -> Result<Option<T>, OpenError> {
    if config.contains(path) { Ok(Some(config.extract_inner(path)?)) } else { Ok(None) }
}

fn secret<'a, D: Deserializer<'a>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use figment::providers::{Format as _, Toml};

    fn config(toml: &str) -> Figment {
        Figment::from(Toml::string(toml))
    }

    #[test]
    fn a_relative_file_lies_in_the_data_folder() {
        let path = |toml: &str| SqliteSettings::path_from(&config(toml)).unwrap();
        assert_eq!(path(""), PathBuf::from("data/private-chat.db"));
        assert_eq!(path("data_dir = '/srv'\n[database.sqlite]\npath = 'a.db'"), PathBuf::from("/srv/a.db"));
        assert_eq!(path("data_dir = '/srv'\n[database.sqlite]\npath = '/b.db'"), PathBuf::from("/b.db"));
    }

    #[test]
    fn a_wrong_key_is_named_with_what_is_allowed() {
        let error = MySqlSettings::from(&config("[database.mysql]\nhsot = 'x'")).unwrap_err().to_string();
        assert!(error.contains("hsot") && error.contains("`host`"), "{error}");
        let error = SqliteSettings::path_from(&config("[database.sqlite]\npath = 3")).unwrap_err().to_string();
        assert!(error.contains("database") && error.contains("path"), "{error}");
    }

    #[test]
    fn a_password_is_not_shown() {
        let settings =
            MySqlSettings::from(&config("[database.mysql]\npassword = 'hunter2'\ntls = 'required'")).unwrap();
        assert_eq!((settings.password.expose(), settings.tls), ("hunter2", Tls::Required));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}

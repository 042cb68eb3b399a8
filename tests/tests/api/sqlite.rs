//! Applications on a SQLite database of their own.

use std::sync::Arc;

use figment::Figment;
use private_chat_adapters::sql;
use private_chat_core::port::store::Store;
use private_chat_tests::client::{App, ports};
use tempfile::TempDir;

/// A database file that is gone when this is.
pub(crate) struct File(TempDir);

impl File {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The database, opened once more, as by another process.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        let config = Figment::new().merge(("data_dir", self.0.path())).merge(("database.sqlite.path", "api.db"));
        (sql::SQLITE.open)(&config).unwrap()
    }

    /// An application on it. There may be several.
    pub(crate) async fn app(&self) -> App {
        App::on(ports().over(self.store())).await
    }
}

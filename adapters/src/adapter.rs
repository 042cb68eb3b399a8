//! What the register lists: a name, and how to open the adapter of that name from the configuration.

use std::error::Error;
use std::sync::Arc;

use figment::Figment;

/// One adapter of the port `P`, as configuration names it.
pub struct Adapter<P: ?Sized> {
    /// What selects it: `database.backend = "sqlite"`.
    pub name: &'static str,
    /// Opens it from the whole configuration; it reads its own section by its full path, so that an error names key and source.
    pub open: fn(&Figment) -> Result<Arc<P>, OpenError>,
}

/// Why an adapter could not be opened. Being away is no reason: a backend is asked when it is first needed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its section is wrong.
    #[error(transparent)]
    Config(Box<figment::Error>),
    /// Its section is right, and yet it can't be opened.
    #[error("{0}")]
    Other(Box<dyn Error + Send + Sync>),
}

impl From<figment::Error> for OpenError {
    fn from(error: figment::Error) -> Self {
        Self::Config(Box::new(error))
    }
}

/// Finds the adapter of a name.
///
/// # Errors
/// The names there are.
pub fn find<'a, P: ?Sized>(register: &'a [Adapter<P>], name: &str) -> Result<&'a Adapter<P>, String> {
    register.iter().find(|adapter| adapter.name == name).ok_or_else(|| {
        let known: Vec<_> = register.iter().map(|adapter| adapter.name).collect();
        format!("no adapter `{name}`; known: {}", known.join(", "))
    })
}

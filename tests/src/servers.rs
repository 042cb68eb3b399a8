//! Where the servers come from that some adapters need: an address in the environment, else a container, else they are absent.
//!
//! | variable | |
//! | --- | --- |
//! | `CHAT_TEST_MYSQL_URL` | `mysql://root:secret@host:3306/`, of a user who may make and drop databases; without it a container of `mysql:9.7` is started |
//! | `CHAT_TEST_LLM_URL` | the base URL of a server that speaks OpenAI's protocol: `http://127.0.0.1:8080/v1` |
//! | `CHAT_TEST_REQUIRE` | what must not be absent, with commas between: `mysql,llm` |

use std::collections::BTreeSet;
use std::env;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use figment::Figment;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, MySqlConnection};
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::contract::Absence;

const MYSQL: &str = "mysql";
const LLM: &str = "llm";
const ROOT_PASSWORD: &str = "root-of-the-tests";

/// The servers of one run of the tests. Each is looked for when it is first asked for.
pub struct Servers {
    demanded: BTreeSet<String>,
    runtime: Runtime,
    mysql: OnceLock<Result<MySql, Absence>>,
    container: Mutex<Option<ContainerAsync<GenericImage>>>,
}

impl Servers {
    /// Reads what is demanded; looks for nothing yet.
    ///
    /// # Errors
    /// When `CHAT_TEST_REQUIRE` names what is no server.
    pub fn from_env() -> Result<Arc<Self>, String> {
        let listed = env::var("CHAT_TEST_REQUIRE").unwrap_or_default();
        let names = listed.split(',').map(str::trim).filter(|name| !name.is_empty());
        let demanded: BTreeSet<String> = names.map(str::to_owned).collect();
        if let Some(unknown) = demanded.iter().find(|name| ![MYSQL, LLM].contains(&name.as_str())) {
            return Err(format!("CHAT_TEST_REQUIRE names `{unknown}`; known: {MYSQL}, {LLM}"));
        }
        let runtime = Runtime::new().map_err(|error| format!("no runtime: {error}"))?;
        Ok(Arc::new(Self { demanded, runtime, mysql: OnceLock::new(), container: Mutex::default() }))
    }

    /// A MySQL server. The first call may take as long as a container takes to start. Not to be called on a thread of a runtime.
    ///
    /// # Errors
    /// When there is none and none can be started.
    pub fn mysql(&self) -> Result<MySql, Absence> {
        self.mysql.get_or_init(|| self.runtime.block_on(self.find_mysql())).clone()
    }

    async fn find_mysql(&self) -> Result<MySql, Absence> {
        if let Some(url) = var("CHAT_TEST_MYSQL_URL") {
            // Whoever names a server wants it tested: one that does not answer is a failure.
            let counted_on = |why| Absence { why: format!("CHAT_TEST_MYSQL_URL: {why}"), demanded: true };
            let server = MySql::at(&url).map_err(counted_on)?;
            server.answers(Duration::from_secs(10)).await.map_err(counted_on)?;
            return Ok(server);
        }
        let hint = "set CHAT_TEST_MYSQL_URL, or start a container engine";
        self.start_mysql().await.map_err(|why| self.absent(MYSQL, &format!("no MySQL ({why}): {hint}")))
    }

    async fn start_mysql(&self) -> Result<MySql, String> {
        // A client that nobody answers would wait for minutes.
        let engine = async { docker_client_instance().await.map_err(told)?.ping().await.map_err(told) };
        timeout(Duration::from_secs(5), engine)
            .await
            .map_err(|_| "the container engine does not answer".to_owned())??;
        let image = GenericImage::new("mysql", "9.7")
            .with_exposed_port(3306.tcp())
            .with_wait_for(WaitFor::message_on_stderr("port: 3306 "))
            .with_env_var("MYSQL_ROOT_PASSWORD", ROOT_PASSWORD)
            .with_cmd(["--performance-schema=OFF", "--innodb-redo-log-capacity=8388608", "--max-connections=500"])
            .with_startup_timeout(Duration::from_secs(120));
        let container = image.start().await.map_err(told)?;
        let host = container.get_host().await.map_err(told)?;
        let port = container.get_host_port_ipv4(3306.tcp()).await.map_err(told)?;
        let kept = self.container.lock().unwrap_or_else(PoisonError::into_inner).insert(container).id().to_owned();
        let server = MySql::at(&format!("mysql://root:{ROOT_PASSWORD}@{host}:{port}/"))?;
        let answers = server.answers(Duration::from_secs(30)).await;
        answers.map_err(|why| format!("container {kept}: {why}"))?;
        Ok(server)
    }

    /// The base URL of a server of models.
    ///
    /// # Errors
    /// When none is named.
    pub fn llm(&self) -> Result<String, Absence> {
        var("CHAT_TEST_LLM_URL").ok_or_else(|| self.absent(LLM, "no server of models: set CHAT_TEST_LLM_URL"))
    }

    fn absent(&self, name: &str, why: &str) -> Absence {
        Absence { why: why.to_owned(), demanded: self.demanded.contains(name) }
    }

    /// Removes what was started. To be called before the end of `main`: what lives in a `static` is never dropped.
    ///
    /// # Errors
    /// When the engine does not remove it.
    pub fn shut_down(&self) -> Result<(), String> {
        let container = self.container.lock().unwrap_or_else(PoisonError::into_inner).take();
        match container {
            Some(container) => self.runtime.block_on(container.rm()).map_err(told),
            None => Ok(()),
        }
    }
}

fn var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// An error as one line, with its causes.
fn told(error: impl std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !told.contains(&more) {
            told = format!("{told}: {more}");
        }
        cause = error.source();
    }
    told
}

/// A MySQL server, and somebody who may make databases there.
#[derive(Clone, Debug)]
pub struct MySql {
    url: Url,
}

impl MySql {
    fn at(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(told)?;
        if url.scheme() != "mysql" || !url.has_host() {
            return Err("is not of the form mysql://user:password@host:port/".to_owned());
        }
        Ok(Self { url })
    }

    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        MySqlConnectOptions::from_url(&self.url)?.connect().await
    }

    /// Returns when it answers. It says that it is ready a little before it is.
    async fn answers(&self, within: Duration) -> Result<(), String> {
        const PAUSE: Duration = Duration::from_millis(200);
        let mut waited = Duration::ZERO;
        loop {
            let why = match timeout(Duration::from_secs(5), self.connect()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => told(error),
                Err(_) => "does not answer".to_owned(),
            };
            if waited >= within {
                return Err(why);
            }
            sleep(PAUSE).await;
            waited += PAUSE;
        }
    }

    async fn execute(&self, sql: String) {
        let mut connection = self.connect().await.expect("the server answered before");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("the user may make and drop databases");
    }

    /// An empty database that nobody else has.
    pub async fn database(&self) -> Database {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("chat_test_{}_{number}", std::process::id());
        // A run that was killed may have left one of this name.
        self.execute(format!("DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}")).await;
        Database { server: self.clone(), name }
    }
}

/// A database of one case.
#[derive(Debug)]
pub struct Database {
    server: MySql,
    name: String,
}

impl Database {
    /// The configuration that opens it.
    #[must_use]
    pub fn config(&self) -> Figment {
        let url = &self.server.url;
        // Many cases run at once: together they must not want more connections than the server gives.
        const CONNECTIONS: u32 = 8;
        Figment::new()
            .merge(("database.mysql.host", url.host_str().unwrap_or_default()))
            .merge(("database.mysql.port", url.port().unwrap_or(3306)))
            .merge(("database.mysql.user", url.username()))
            .merge(("database.mysql.password", url.password().unwrap_or_default()))
            .merge(("database.mysql.database", &self.name))
            .merge(("database.mysql.max_connections", CONNECTIONS))
    }

    /// Drops it.
    pub async fn discard(self) {
        self.server.execute(format!("DROP DATABASE IF EXISTS {}", self.name)).await;
    }
}

//! The program itself, as an operator runs it: in a folder, with an environment, and with signals.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use private_chat_tests::contract::tokens::private_key;
use private_chat_tests::servers::Database;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::client::Api;
use crate::upstream::Upstream;
use crate::{spawn, until};

/// Where the program is.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_private-chat");

/// How long a start may take on a machine that has other things to do.
const START: Duration = Duration::from_secs(60);

/// The folder of an installation. What is started in it shares its keys and its database.
pub(crate) struct Home {
    folder: TempDir,
    settings: Vec<(String, String)>,
}

impl Home {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), settings: Vec::new() }
    }

    /// A folder that has its keys already, which spares the time of making them.
    pub(crate) fn with_keys() -> Self {
        let home = Self::new();
        DirBuilder::new().mode(0o700).create(home.path("keys")).unwrap();
        home.write("keys/private.pem", 0o600, &private_key());
        home.write("keys/encryption.key", 0o600, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
        home
    }

    /// The same, on this database.
    pub(crate) fn on(self, database: Option<&Database>) -> Self {
        let Some(database) = database else { return self };
        let config = database.config();
        let text = |key: &str| config.extract_inner::<String>(&format!("database.mysql.{key}")).unwrap();
        self.set("MYSQL_HOST", &text("host"))
            .set("MYSQL_PORT", &config.extract_inner::<u16>("database.mysql.port").unwrap().to_string())
            .set("MYSQL_USER", &text("user"))
            .set("MYSQL_PASSWORD", &text("password"))
            .set("MYSQL_DATABASE", &text("database"))
            .set("PRIVATE_CHAT_DATABASE__MYSQL__MAX_CONNECTIONS", "8")
    }

    /// The same, with this server of models. It is asked for replies alone, so that they can be counted.
    pub(crate) fn asking(self, upstream: &Upstream) -> Self {
        self.asking_also_titles(upstream).set("PRIVATE_CHAT_INFERENCE__TITLES", "false")
    }

    /// The same, with this server of models, of which titles are asked, too.
    pub(crate) fn asking_also_titles(self, upstream: &Upstream) -> Self {
        self.set("OPENAI_BASE_URL", &upstream.url).set("OPENAI_API_KEY", "sk-of-the-tests")
    }

    /// The same, with as many replies at once as somebody likes.
    pub(crate) fn without_caps(self) -> Self {
        self.set("PRIVATE_CHAT_RATE_LIMIT__ENABLED", "false")
    }

    /// The same, with this variable.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A path in the folder.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The permissions of something in the folder.
    pub(crate) fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).unwrap().permissions().mode() & 0o7777
    }

    /// Sets the permissions of something in the folder.
    pub(crate) fn set_mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), Permissions::from_mode(mode)).unwrap();
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, mode: u32, text: &str) {
        fs::write(self.path(path), text).unwrap();
        self.set_mode(path, mode);
    }

    /// The names in a folder of this one, in order.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.prepared(PROGRAM, arguments)
    }

    /// Another program, in the folder and with the settings of this one.
    pub(crate) fn prepared<A: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PRIVATE_CHAT_SERVER__PORT", "0")
            .env("PRIVATE_CHAT_LOG__FORMAT", "json")
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let output = timeout(START, self.command(arguments).output()).await.expect("it ends by itself");
        Ran::from(output.unwrap())
    }

    /// Runs a command to its end, and tells it this.
    pub(crate) async fn run_telling(&self, arguments: &[&str], told: &str) -> Ran {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // One that ends before it has heard all did not want to.
        let _ = stdin.write_all(told.as_bytes()).await;
        drop(stdin);
        let output = timeout(START, child.wait_with_output()).await.expect("it ends by itself");
        Ran::from(output.unwrap())
    }

    /// Starts serving, and waits for nothing.
    pub(crate) fn launch(&self) -> Program {
        let mut child = self.command(["serve"]).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let deaf = Arc::new(AtomicBool::new(false));
        gather(child.stdout.take().unwrap(), log.clone(), deaf.clone());
        gather(child.stderr.take().unwrap(), log.clone(), deaf.clone());
        Program { child, log, deaf, address: String::new() }
    }

    /// Starts serving, and waits until it is ready.
    pub(crate) async fn start(&self) -> Program {
        let program = self.launch().listening().await;
        program.api().ready().await;
        program
    }
}

fn gather(stream: impl AsyncRead + Unpin + Send + 'static, log: Arc<Mutex<Vec<String>>>, deaf: Arc<AtomicBool>) {
    let mut lines = BufReader::new(stream).lines();
    spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            log.lock().unwrap().push(line);
            if deaf.load(Ordering::SeqCst) {
                return;
            }
        }
    });
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// With which code.
    pub(crate) code: Option<i32>,
    /// What it told.
    pub(crate) told: String,
    /// What it complained of.
    pub(crate) complaint: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), told: text(output.stdout), complaint: text(output.stderr) }
    }
}

/// The serving program. It is killed at the latest when this is dropped.
pub(crate) struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    deaf: Arc<AtomicBool>,
    address: String,
}

impl Program {
    /// Waits until it listens.
    pub(crate) async fn listening(mut self) -> Self {
        let mut address = None;
        until(START, "the program listens", async || {
            address = self.entries("listening").iter().find_map(|line| line["address"].as_str().map(str::to_owned));
            assert!(address.is_some() || self.child.try_wait().unwrap().is_none(), "it ended instead of listening");
            address.is_some()
        })
        .await;
        self.address = address.unwrap();
        self
    }

    /// The lines of its log with this message.
    pub(crate) fn entries(&self, message: &str) -> Vec<Value> {
        let parsed = self.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        parsed.filter(|line| line["message"] == message).collect()
    }

    /// All that it said.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Closes its output after the next line.
    pub(crate) fn close_output(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// `host:port`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its API, to a stranger.
    pub(crate) fn api(&self) -> Api {
        Api::at(&self.address)
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Kills it, as a power cut would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        timeout(within, self.child.wait()).await.expect("it ends in time").unwrap()
    }

    /// Tells it to stop, and sees it end well.
    pub(crate) async fn stop(mut self) {
        self.terminate();
        assert_eq!(self.ended(START).await.code(), Some(0), "{}", self.log().join("\n"));
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Lets it open so many files at most.
    pub(crate) fn limit_files(&self, most: u64) {
        prlimit(Some(self.pid()), Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.iter().rev().take(40).rev().collect();
            #[expect(clippy::print_stderr, reason = "whoever reads of a failure needs to know what the program said")]
            for line in tail {
                eprintln!("{}: {line}", self.address);
            }
        }
    }
}

/// The bytes of a file.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

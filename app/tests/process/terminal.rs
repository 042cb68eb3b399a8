//! A terminal, and somebody who types at it.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::ioctl_fionbio;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use tokio::process::Child;
use tokio::time::timeout;

use crate::program::{Home, PROGRAM, Ran};
use crate::until;

const PATIENCE: Duration = Duration::from_secs(30);

/// The program at a terminal of its own; what it tells and complains of goes elsewhere.
pub(crate) struct Terminal {
    child: Child,
    typist: File,
    /// Keeps the terminal when the program has ended.
    _line: File,
    shown: String,
}

impl Terminal {
    /// Runs a command there. None where the system has no `setsid` that gives it the terminal.
    pub(crate) fn run(home: &Home, arguments: &[&str]) -> Option<Self> {
        let typist = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&typist).unwrap();
        unlockpt(&typist).unwrap();
        let name = ptsname(&typist, Vec::new()).unwrap();
        let line = File::from(open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap());
        ioctl_fionbio(&typist, true).unwrap();
        let mut command = home.prepared("/usr/bin/setsid", ["--ctty", PROGRAM].iter().chain(arguments));
        let child = command.stdin(Stdio::from(line.try_clone().unwrap())).spawn().ok()?;
        Some(Self { child, typist: File::from(typist), _line: line, shown: String::new() })
    }

    /// What it shows so far.
    pub(crate) fn shown(&mut self) -> &str {
        let mut buffer = [0; 1024];
        loop {
            match self.typist.read(&mut buffer) {
                Ok(read) if read > 0 => self.shown.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                _ => return &self.shown,
            }
        }
    }

    /// Whether it shows what is typed.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.typist).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Types this once it is asked for.
    pub(crate) async fn answer(&mut self, prompt: &str, typed: &str) {
        until(PATIENCE, prompt, async || self.shown().ends_with(prompt) && !self.echoes()).await;
        self.typist.write_all(typed.as_bytes()).unwrap();
    }

    /// Waits for the end of the program; gives also all that the terminal has shown.
    pub(crate) async fn ended(mut self) -> (Ran, String) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends by itself").unwrap();
        assert!(self.echoes(), "the terminal is left as it was");
        let shown = self.shown().to_owned();
        let mut output = self.child.wait_with_output().await.unwrap();
        output.status = status;
        (Ran::from(output), shown)
    }
}

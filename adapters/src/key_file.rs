//! Key files: made once, whoever starts first; seen by nobody else.
//!
//! A new key is written to a file of another name, brought to the disk, and only then given its own name by a hard link, which fails where the
//! name is taken. So no process ever sees half a key, however it or the machine stops, and of two that start at once both use the same one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use private_chat_core::model::secret::{Secret, ServerKey};
use private_chat_core::port::clock::Entropy;

/// No key file is longer.
const MOST_BYTES: u64 = 64 << 10;

/// Why a key file can't be used. The text is for an operator and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Others than its owner may read it.
    #[error(
        "the key file {} may be read by others than its owner (mode {mode:04o}): run `chmod 600 {}`; if others had access to this machine, make a new key",
        path.display(), path.display()
    )]
    TooOpen {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds something else.
    #[error("the key file {} is of no use: {what}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// In which way.
        what: String,
    },
    /// It can't be read, or can't be made.
    #[error("can't {action} the key file {}: {cause}", path.display())]
    Io {
        /// `read` or `make`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

impl KeyFileError {
    pub(crate) fn unusable(path: &Path, what: impl Into<String>) -> Self {
        Self::Unusable { path: path.into(), what: what.into() }
    }
}

/// Who may read a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its owner alone.
    Owner,
    /// Everybody: it is the public half.
    Everybody,
}

/// The text of a key file; none where there is no such file.
pub(crate) fn read(path: &Path, readers: Readers) -> Result<Option<Secret>, KeyFileError> {
    let io = |cause| KeyFileError::Io { action: "read", path: path.into(), cause };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(io(cause)),
    };
    // Asked of the open file, so that it is the one that is read.
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() {
        return Err(KeyFileError::unusable(path, "it is no file"));
    }
    if readers == Readers::Owner && mode & 0o077 != 0 {
        return Err(KeyFileError::TooOpen { path: path.into(), mode });
    }
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(io)?;
    Ok(Some(Secret::new(text)))
}

/// The text of a key file, which is made where there is none: of `make`'s text, unless another process is first.
pub(crate) fn read_or_make(
    path: &Path,
    readers: Readers,
    entropy: &dyn Entropy,
    make: impl FnOnce() -> Result<Secret, KeyFileError>,
) -> Result<Secret, KeyFileError> {
    if let Some(text) = read(path, readers)? {
        return Ok(text);
    }
    let made = make()?;
    place(path, readers, entropy, &made).map_err(|cause| KeyFileError::Io {
        action: "make",
        path: path.into(),
        cause,
    })?;
    read(path, readers)?.ok_or_else(|| KeyFileError::unusable(path, "it was removed while the program started"))
}

/// Gives the text its name, whole and on the disk, unless the name is taken.
fn place(path: &Path, readers: Readers, entropy: &dyn Entropy, text: &Secret) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;

    let mut random = [0; 8];
    entropy.fill(&mut random);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unnamed = folder.join(format!(".{name}.{:016x}.new", u64::from_le_bytes(random)));
    let mode = if readers == Readers::Owner { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unnamed)?;
    let placed = file
        .write_all(text.expose().as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&unnamed, path));
    // Whether it got its name or not, the other one is of no more use.
    let removed = fs::remove_file(&unnamed);
    match placed {
        Err(taken) if taken.kind() == ErrorKind::AlreadyExists => {}
        other => other?,
    }
    removed?;
    File::open(folder)?.sync_all()
}

/// The server's own key: 32 bytes in base64, made at the first start.
///
/// # Errors
/// When the file is open to others, holds something else, or can't be made.
pub fn server_key(path: &Path, entropy: &dyn Entropy) -> Result<ServerKey, KeyFileError> {
    let text = read_or_make(path, Readers::Owner, entropy, || {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Ok(Secret::new(format!("{}\n", STANDARD.encode(key))))
    })?;
    let key = STANDARD.decode(text.expose().trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let what = "it must hold 32 bytes in base64, as `openssl rand -base64 32` prints them";
    key.map(ServerKey::new).ok_or_else(|| KeyFileError::unusable(path, what))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    /// Gives other bytes every time.
    #[derive(Default)]
    struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0.fetch_add(1, Ordering::SeqCst));
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    // R91
    #[test]
    fn a_new_key_is_its_owners_alone_and_comes_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/encryption.key");
        let entropy = Counting::default();
        let made = server_key(&path, &entropy).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(server_key(&path, &entropy).unwrap().fingerprint(), made.fingerprint());
        assert_eq!(names(path.parent().unwrap()), ["encryption.key"]);
    }

    #[test]
    fn of_many_that_start_at_once_all_use_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("encryption.key");
        let (entropy, start) = (Counting::default(), Barrier::new(16));
        let keys: Vec<String> = std::thread::scope(|threads| {
            let one = || {
                start.wait();
                server_key(&path, &entropy).unwrap().fingerprint()
            };
            let running: Vec<_> = (0..16).map(|_| threads.spawn(one)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        assert_eq!(names(folder.path()), ["encryption.key"]);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("encryption.key");
        server_key(&path, &Counting::default()).unwrap();
        for open in [0o640, 0o604, 0o660, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let refused = server_key(&path, &Counting::default()).unwrap_err();
            assert!(matches!(refused, KeyFileError::TooOpen { mode, .. } if mode == open), "{refused}");
            assert!(refused.to_string().contains(&format!("chmod 600 {}", path.display())), "{refused}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        server_key(&path, &Counting::default()).unwrap();
    }

    #[test]
    fn what_is_no_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("encryption.key");
        for bad in ["", "AAAA", "not base64!", &STANDARD.encode([1; 33])] {
            fs::write(&path, bad).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let refused = server_key(&path, &Counting::default()).unwrap_err();
            assert!(matches!(refused, KeyFileError::Unusable { .. }), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        server_key(&path, &Counting::default()).unwrap_err();
    }
}

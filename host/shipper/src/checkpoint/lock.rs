//! One agent per state directory: a lock file that the kernel lets go of when its holder ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::store::StoreError;

/// Name of the lock file in the state directory.
const LOCK_FILE: &str = "lock";

/// Held as long as it lives.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock or says who has it. The directory is made when it is not there.
    pub fn acquire(state_dir: &Path) -> Result<StateLock, StoreError> {
        std::fs::create_dir_all(state_dir).map_err(|source| StoreError::io("making", state_dir, source))?;
        let path = state_dir.join(LOCK_FILE);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|source| StoreError::io("opening", &path, source))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Whoever holds it may not have written its number yet.
                let _ = file.read_to_string(&mut text);
                return Err(StoreError::Locked { state_dir: state_dir.to_owned(), pid: text.trim().parse().ok() });
            }
            Err(problem) => return Err(StoreError::io("locking", &path, problem.into())),
        }
        // The number is for people; the lock holds without it (a full disk must not stop the agent here).
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(StateLock { _file: file })
    }
}

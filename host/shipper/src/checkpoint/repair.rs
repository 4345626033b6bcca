//! Repair of a damaged store: it is set aside, never deleted, and what can still be read of it goes to a new one.
//!
//! Values prove themselves (`frame.rs`), so the bytes of the file are searched for them, whatever became of the tree. Where
//! several versions of a record are found the newest wins. One that is older than what was lost is safe: its stream goes
//! on from an earlier mark, so lines may come twice but none is left out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use super::frame::{self, Found, Kept};
use super::lock::StateLock;
use super::records::StreamRecord;
use super::store::{Contents, STORE_FILE, StoreError, create, exists, read_all, sync_dir};

/// What a repair came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Where the damaged file is now; `None`: the store is sound, nothing was changed.
    pub aside: Option<PathBuf>,
    /// Streams in the store.
    pub streams: usize,
    /// Entries in the store.
    pub entries: usize,
}

/// Repairs the store of a state directory. Refuses while an agent has it, and a store that a newer version wrote.
pub fn repair(state_dir: &Path) -> Result<Repaired, StoreError> {
    let path = state_dir.join(STORE_FILE);
    if !exists(state_dir)? {
        return Err(StoreError::io("repairing", &path, std::io::ErrorKind::NotFound.into()));
    }
    let _lock = StateLock::acquire(state_dir)?;
    match read_all(&path) {
        Ok(sound) => Ok(Repaired { aside: None, streams: sound.streams.len(), entries: sound.entries_seen.len() }),
        Err(StoreError::Damaged { .. }) => {
            let contents = salvage(&std::fs::read(&path).map_err(|source| StoreError::io("reading", &path, source))?);
            let aside = set_aside(state_dir, &path)?;
            create(state_dir, &contents)?;
            let (streams, entries) = (contents.streams.len(), contents.entries_seen.len());
            Ok(Repaired { aside: Some(aside), streams, entries })
        }
        Err(other) => Err(other),
    }
}

/// A second name for the damaged file. The first one goes over to the new store in one step, so that at no moment an
/// agent finds no store and begins an empty one.
fn set_aside(state_dir: &Path, path: &Path) -> Result<PathBuf, StoreError> {
    for number in 1..u32::MAX {
        let aside = state_dir.join(format!("{STORE_FILE}.damaged-{number}"));
        match std::fs::hard_link(path, &aside) {
            Ok(()) => return sync_dir(state_dir).map(|()| aside),
            Err(problem) if problem.kind() == std::io::ErrorKind::AlreadyExists => {}
            // A file system without hard links.
            Err(_) => {
                let copied = std::fs::copy(path, &aside).and_then(|_| std::fs::File::open(&aside)?.sync_all());
                copied.map_err(|source| StoreError::io("copying to", &aside, source))?;
                return sync_dir(state_dir).map(|()| aside);
            }
        }
    }
    Err(StoreError::io("setting aside", path, std::io::ErrorKind::AlreadyExists.into()))
}

fn salvage(bytes: &[u8]) -> Contents {
    let mut streams: HashMap<_, (u64, StreamRecord)> = HashMap::new();
    let mut contents = Contents::default();
    for Found { seq, kept } in frame::scan(bytes) {
        match kept {
            Kept::Stream(record) => match streams.entry(record.key()) {
                Entry::Vacant(place) => {
                    place.insert((seq, *record));
                }
                Entry::Occupied(mut place) if place.get().0 < seq => {
                    place.insert((seq, *record));
                }
                Entry::Occupied(_) => {}
            },
            Kept::Entry(name) => contents.entries_seen.push(name),
            Kept::SteppedOver(line) if !contents.stepped_over.contains(&line) => contents.stepped_over.push(line),
            Kept::SteppedOver(_) => {}
        }
    }
    contents.streams = streams.into_values().map(|(_, record)| record).collect();
    // An entry with a stream was seen, even if its own value is lost: else `start: end` would skip lines.
    contents.entries_seen.extend(contents.streams.iter().map(|record| record.entry.clone()));
    contents.entries_seen.sort();
    contents.entries_seen.dedup();
    contents.stepped_over.sort_by_key(|line| line.at_ms);
    contents
}

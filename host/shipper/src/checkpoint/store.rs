//! The store: one redb file in the state directory, a group of changes a commit, all or nothing.
//!
//! In: records of streams, names of entries seen. Out: the same after any crash. A damaged store is never replaced in
//! silence: opening it fails and says what to run. After an I/O error redb answers nothing until it is opened again: the
//! next commit does that.
//!
//! Tables: `meta` (name → number), `streams` ((entry, file) → value), `entries_seen` (name → value), `stepped_over`
//! (number → value); values as in `frame.rs`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError};
use tailmill_tail::StreamKey;

use super::frame::{self, Kept};
use super::lock::StateLock;
use super::records::{SteppedOver, StreamRecord};

/// The format that this version writes.
pub const FORMAT_VERSION: u64 = 1;
pub(super) const STORE_FILE: &str = "tailmill.redb";
/// Pages of the store in memory.
const CACHE_BYTES: usize = 4 << 20;
const NEW_FILE: &str = "tailmill.redb.new";

const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const STREAMS: TableDefinition<'static, (&str, u128), &[u8]> = TableDefinition::new("streams");
const ENTRIES_SEEN: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries_seen");
const STEPPED_OVER: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("stepped_over");

const META_VERSION: &str = "format_version";
const META_COMMITS: &str = "commits";

/// The store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the state directory.
    #[error(
        "the state directory {} is in use by {}: one agent per state directory (set state_dir, or stop the other one)",
        state_dir.display(), holder(*pid)
    )]
    Locked {
        /// The directory.
        state_dir: PathBuf,
        /// Who has it, when known.
        pid: Option<u32>,
    },
    /// The file is not what was written. Nothing was changed.
    #[error(
        "the state store {} is damaged ({reason}): nothing was changed; `tailmill state repair` sets it aside and saves \
         what can be read",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not add up.
        reason: String,
    },
    /// A newer version wrote it.
    #[error(
        "the state store {} has format version {version}, this tailmill knows up to {FORMAT_VERSION}: use the newer tailmill",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// The operating system said no. What was to be written is not in the store.
    #[error("while {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError::Io { action, path: path.to_owned(), source }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> StoreError {
        StoreError::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    fn of_redb(action: &'static str, path: &Path, error: redb::Error) -> StoreError {
        match error {
            redb::Error::Io(source) => StoreError::of_io(action, path, source),
            redb::Error::PreviousIo => StoreError::io(action, path, io::Error::other("an earlier write failed")),
            redb::Error::DatabaseAlreadyOpen => {
                StoreError::Locked { state_dir: path.parent().unwrap_or(path).to_owned(), pid: None }
            }
            other => StoreError::damaged(path, other.to_string()),
        }
    }

    /// redb reports some damage as an I/O error.
    fn of_io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StoreError::damaged(path, source.to_string()),
            _ => StoreError::io(action, path, source),
        }
    }
}

/// Everything that is in a store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) streams: Vec<StreamRecord>,
    pub(super) entries_seen: Vec<String>,
    pub(super) stepped_over: Vec<SteppedOver>,
}

/// Changes that go in together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes<'a> {
    /// Written or replaced.
    pub records: &'a [StreamRecord],
    /// Taken out.
    pub removed: &'a [StreamKey],
    /// Entries that were seen.
    pub entries_seen: &'a [String],
    /// Lines left out by hand.
    pub stepped_over: &'a [SteppedOver],
}

/// The open store, and the lock on its directory.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// `None` after an error, until the next commit opens it again.
    db: Option<Database>,
    _lock: StateLock,
}

impl Store {
    /// Takes the lock and opens the store, or makes an empty one where there is none.
    pub fn open(state_dir: &Path) -> Result<Store, StoreError> {
        let lock = StateLock::acquire(state_dir)?;
        if !exists(state_dir)? {
            create(state_dir, &Contents::default())?;
        }
        Store::open_locked(state_dir, lock)
    }

    /// Takes the lock and opens the store; an error where there is none.
    pub fn open_existing(state_dir: &Path) -> Result<Store, StoreError> {
        if !exists(state_dir)? {
            let missing =
                io::Error::new(io::ErrorKind::NotFound, "there is no state store (is this the agent's state_dir?)");
            return Err(StoreError::io("opening", &state_dir.join(STORE_FILE), missing));
        }
        Store::open_locked(state_dir, StateLock::acquire(state_dir)?)
    }

    fn open_locked(state_dir: &Path, lock: StateLock) -> Result<Store, StoreError> {
        let path = state_dir.join(STORE_FILE);
        let mut db = open_file(&path)?;
        guarded(&path, || verify(&mut db, &path))?;
        Ok(Store { path, db: Some(db), _lock: lock })
    }

    /// All records, by entry and file.
    pub fn load(&self) -> Result<Vec<StreamRecord>, StoreError> {
        Ok(self.contents()?.streams)
    }

    /// Names of all entries that were ever seen.
    pub fn entries_seen(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.contents()?.entries_seen)
    }

    /// Lines that were left out by hand, in the order in which that was done.
    pub fn stepped_over(&self) -> Result<Vec<SteppedOver>, StoreError> {
        Ok(self.contents()?.stepped_over)
    }

    /// Writes all of it or, on an error, nothing. Returns when it is on the disk.
    pub fn commit(&mut self, changes: Changes<'_>) -> Result<(), StoreError> {
        let db = match self.db.take() {
            Some(db) => db,
            None => open_file(&self.path)?,
        };
        // A failed transaction drops the database with it: it would answer nothing more.
        guarded(&self.path, || write(&db, changes).map_err(|error| StoreError::of_redb("writing", &self.path, error)))?;
        self.db = Some(db);
        Ok(())
    }

    fn contents(&self) -> Result<Contents, StoreError> {
        match &self.db {
            Some(db) => guarded(&self.path, || read(db, &self.path)),
            None => Err(StoreError::io("reading", &self.path, io::Error::other("an earlier write failed"))),
        }
    }
}

/// What is in a store that may be damaged; the caller has the lock.
pub(super) fn read_all(path: &Path) -> Result<Contents, StoreError> {
    let mut db = open_file(path)?;
    guarded(path, || {
        verify(&mut db, path)?;
        read(&db, path)
    })
}

/// Makes a store with these contents under another name and moves it in place: there is never half a store.
pub(super) fn create(state_dir: &Path, contents: &Contents) -> Result<(), StoreError> {
    let (new, path) = (state_dir.join(NEW_FILE), state_dir.join(STORE_FILE));
    match std::fs::remove_file(&new) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::io("removing", &new, problem));
        }
        _ => {}
    }
    guarded(&new, || {
        let db = builder().create(&new).map_err(|error| StoreError::of_redb("making", &new, error.into()))?;
        let changes = Changes {
            records: &contents.streams,
            removed: &[],
            entries_seen: &contents.entries_seen,
            stepped_over: &contents.stepped_over,
        };
        write(&db, changes).map_err(|error| StoreError::of_redb("writing", &new, error))
    })?;
    std::fs::rename(&new, &path).map_err(|source| StoreError::io("renaming", &new, source))?;
    sync_dir(state_dir)
}

/// Makes names in a directory last.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| StoreError::io("syncing", dir, source))
}

/// Whether a state directory has a store, sound or not.
pub(super) fn exists(state_dir: &Path) -> Result<bool, StoreError> {
    let path = state_dir.join(STORE_FILE);
    path.try_exists().map_err(|source| StoreError::io("looking for", &path, source))
}

/// redb would cache up to 1 GiB; marks are written far more often than read.
fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    guarded(path, || {
        builder().open(path).map_err(|error| match error {
            DatabaseError::Storage(StorageError::Io(source)) => StoreError::of_io("opening", path, source),
            other => StoreError::of_redb("opening", path, other.into()),
        })
    })
}

/// redb asserts where the bytes of a file contradict each other; for us that is damage like any other.
fn guarded<T>(path: &Path, body: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let reason = panic.downcast_ref::<String>().cloned();
        let reason = reason.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(StoreError::damaged(path, reason.unwrap_or_else(|| "its parts contradict each other".to_owned())))
    })
}

/// The version is ours, and every page is what was written. A store is small: this reads all of it once a start.
fn verify(db: &mut Database, path: &Path) -> Result<(), StoreError> {
    let checked = db.check_integrity();
    // `false`: repaired, which is what follows every crash.
    let _repaired = checked.map_err(|error| StoreError::of_redb("checking", path, error.into()))?;
    match meta(db, META_VERSION).map_err(|error| StoreError::of_redb("reading", path, error))? {
        Some(version) if version > FORMAT_VERSION => Err(StoreError::Newer { path: path.to_owned(), version }),
        Some(_) => Ok(()),
        None => Err(StoreError::damaged(path, "it holds no format version")),
    }
}

fn meta(db: &Database, name: &str) -> Result<Option<u64>, redb::Error> {
    match db.begin_read()?.open_table(META) {
        Ok(table) => Ok(table.get(name)?.map(|number| number.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write(db: &Database, changes: Changes<'_>) -> Result<(), redb::Error> {
    // Durability::Immediate is redb's default: committed means on the disk.
    let transaction = db.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let seq = meta.get(META_COMMITS)?.map_or(0, |number| number.value()) + 1;
        meta.insert(META_COMMITS, seq)?;
        meta.insert(META_VERSION, FORMAT_VERSION)?;
        let mut streams = transaction.open_table(STREAMS)?;
        for key in changes.removed {
            streams.remove((&*key.entry, key.file.0))?;
        }
        for record in changes.records {
            streams.insert((record.entry.as_str(), record.file.0), frame::stream(record, seq).as_slice())?;
        }
        let mut seen = transaction.open_table(ENTRIES_SEEN)?;
        for name in changes.entries_seen {
            seen.insert(name.as_str(), frame::entry(name, seq).as_slice())?;
        }
        let mut stepped_over = transaction.open_table(STEPPED_OVER)?;
        let next = stepped_over.last()?.map_or(0, |(number, _)| number.value() + 1);
        for (number, line) in (next..).zip(changes.stepped_over) {
            stepped_over.insert(number, frame::stepped_over(line, seq).as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn read(db: &Database, path: &Path) -> Result<Contents, StoreError> {
    let mut contents = Contents::default();
    let values = values(db).map_err(|error| StoreError::of_redb("reading", path, error))?;
    for value in values {
        match frame::decode(&value).map(|found| found.kept) {
            Some(Kept::Stream(record)) => contents.streams.push(*record),
            Some(Kept::Entry(name)) => contents.entries_seen.push(name),
            Some(Kept::SteppedOver(line)) => contents.stepped_over.push(line),
            None => return Err(StoreError::damaged(path, "a record in it does not match its checksum")),
        }
    }
    Ok(contents)
}

fn values(db: &Database) -> Result<Vec<Vec<u8>>, redb::Error> {
    let transaction = db.begin_read()?;
    let mut values = Vec::new();
    for row in transaction.open_table(STREAMS)?.iter()? {
        values.push(row?.1.value().to_vec());
    }
    for row in transaction.open_table(ENTRIES_SEEN)?.iter()? {
        values.push(row?.1.value().to_vec());
    }
    for row in transaction.open_table(STEPPED_OVER)?.iter()? {
        values.push(row?.1.value().to_vec());
    }
    Ok(values)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

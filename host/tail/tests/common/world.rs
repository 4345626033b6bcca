//! A directory with logs, a discovery that watches it, and a shard of the simplest kind: it reads what it is told to,
//! and keeps what it knows. Events are written down as short sentences; files are called A, B, C… in the order in which
//! they were opened first.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tailmill_tail::{
    AllowPaths, BatchLimits, BufferPool, DiscoverOptions, Discovery, Evidence, FileEvent, FileId, Framing, KnownFile,
    LossCause, OpenProblem, OpenedFile, PathPatterns, Read, Reader, StartAt, StreamKey, StreamReport, WatchSpec,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A stream as the shard sees it.
pub struct Stream {
    pub opened: OpenedFile,
    pub path: PathBuf,
    pub reader: Option<Reader>,
    pub lines: Vec<String>,
    pub leaving: bool,
    /// Which of the runs is its last.
    pub run: usize,
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub discovery: Discovery,
    pub streams: BTreeMap<StreamKey, Stream>,
    names: Vec<FileId>,
    /// What a store would hold: written when a file is opened, at `checkpoint` and when a stream ends.
    records: Vec<KnownFile>,
    /// Every line that was read, in that order.
    pub delivered: Vec<String>,
    /// What each opening of a file gave, in that order.
    pub runs: Vec<Vec<String>>,
    pub entries_seen: BTreeSet<Arc<str>>,
    allow: AllowPaths,
    pub specs: Vec<WatchSpec>,
    hints: bool,
    /// How long files that may be copies are held back.
    pub copy_hold: Duration,
    pub forget_after: Duration,
    pub lost_bytes: u64,
    /// The clock is so far ahead.
    pub ahead: Duration,
}

pub fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

impl World {
    pub fn new(patterns: &[&str]) -> World {
        Self::with(patterns, &[], StartAt::Beginning, false)
    }

    pub fn with(patterns: &[&str], exclude: &[&str], start: StartAt, hints: bool) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World {
            discovery: discovery(AllowPaths::all(), vec![], BTreeSet::new(), hints, Duration::ZERO, DAY),
            dir,
            streams: BTreeMap::new(),
            names: vec![],
            records: vec![],
            delivered: vec![],
            runs: vec![],
            entries_seen: BTreeSet::new(),
            allow: AllowPaths::all(),
            specs: vec![],
            hints,
            copy_hold: Duration::ZERO,
            forget_after: DAY,
            lost_bytes: 0,
            ahead: Duration::ZERO,
        };
        let spec = world.spec("e", patterns, exclude, start);
        world.set_specs(vec![spec]);
        world
    }

    pub fn spec(&self, entry: &str, patterns: &[&str], exclude: &[&str], start: StartAt) -> WatchSpec {
        let include: Vec<String> =
            patterns.iter().map(|pattern| format!("{}/{pattern}", self.dir.path().display())).collect();
        let patterns = Arc::new(PathPatterns::new(&include, &strings(exclude)).unwrap());
        WatchSpec {
            entry: entry.into(),
            patterns,
            start,
            finish_after: Duration::ZERO,
            ignore_older: None,
            close_idle: None,
            compressed: false,
        }
    }

    pub fn set_specs(&mut self, specs: Vec<WatchSpec>) {
        self.specs = specs;
        self.discovery.set_specs(self.specs.clone());
    }

    pub fn allow(&mut self, glob: &str) {
        self.allow = AllowPaths::new(&[format!("{}/{glob}", self.dir.path().display())]).unwrap();
        self.restart();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Compresses a file; the original stays. `to` ends with how.
    pub fn pack(&self, from: &str, to: &str) {
        let content = fs::read(self.path(from)).unwrap();
        let packed = if to.ends_with(".zst") {
            zstd::encode_all(&content[..], 1).unwrap()
        } else {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&content).unwrap();
            encoder.finish().unwrap()
        };
        fs::write(self.path(to), packed).unwrap();
        // As gzip and zstd do.
        let modified = fs::metadata(self.path(from)).unwrap().modified().unwrap();
        fs::File::options().append(true).open(self.path(to)).unwrap().set_modified(modified).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub fn link(&self, target: &str, name: &str) {
        let _ = fs::remove_file(self.path(name));
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
    }

    /// Scans, and compares what happened, in order, with what should have.
    pub fn expect(&mut self, expected: &[&str]) {
        let said = self.scan();
        assert_eq!(said, expected);
    }

    pub fn scan(&mut self) -> Vec<String> {
        let events = self.discovery.scan_at(Instant::now() + self.ahead);
        self.take(events)
    }

    /// Waits until `sentence` is said (by hints), and returns everything that was said until then.
    pub fn wait_for(&mut self, sentence: &str) -> Vec<String> {
        let give_up = Instant::now() + Duration::from_secs(60);
        let mut said = Vec::new();
        while !said.iter().any(|one| one == sentence) {
            assert!(Instant::now() < give_up, "never said {sentence:?}, only {said:?}");
            let events = self.discovery.wait(give_up);
            said.extend(self.take(events));
        }
        said
    }

    fn take(&mut self, events: Vec<FileEvent>) -> Vec<String> {
        events.into_iter().map(|event| self.tell(event)).collect()
    }

    fn tell(&mut self, event: FileEvent) -> String {
        match event {
            FileEvent::Opened(opened) => {
                let name = self.name(opened.key.file);
                let place = self.short(&opened.path);
                let from = opened.known.as_ref().map_or(opened.start, |known| known.offset);
                let known = if opened.known.is_some() { "again " } else { "" };
                let at = if from > 0 { format!(" from {from}") } else { String::new() };
                let entry =
                    if &*opened.key.entry == "e" { String::new() } else { format!(" for {}", opened.key.entry) };
                let after = opened.predecessor.as_ref().map(|key| format!(" after {}", self.name(key.file)));
                let sentence = format!("{name} opened {known}{place}{at}{entry}{}", after.unwrap_or_default());
                let packed = Evidence { packed_bytes: opened.packing.map(|_| 0), ..Evidence::default() };
                let evidence = opened.known.as_ref().map_or(packed, |known| known.evidence);
                let file = opened.file.try_clone().unwrap();
                let compressed = self.specs.iter().any(|spec| spec.compressed);
                let framing = Arc::new(Framing { compressed, ..Framing::default() });
                let reader = Reader::new(file, from, evidence, framing).unwrap();
                let path = opened.path.to_path_buf();
                let lines = self.streams.remove(&opened.key).map(|stream| stream.lines).unwrap_or_default();
                let run = self.runs.len();
                self.runs.push(vec![]);
                let stream = Stream { path, reader: Some(reader), lines, leaving: false, opened: *opened, run };
                let key = stream.opened.key.clone();
                self.streams.insert(key.clone(), stream);
                self.record(&key, false);
                sentence
            }
            FileEvent::Shrank(key) => {
                let sentence = format!("{} shrank", self.name(key.file));
                let unread = |stream: &Stream| stream.reader.as_ref().is_some_and(|reader| reader.position() == 0);
                if self.streams.get(&key).is_some_and(unread) {
                    self.truncated(&key);
                }
                sentence
            }
            FileEvent::Recognised(known) => {
                let name = self.name(known.key.file);
                let sentence = format!("{name} shipped already as {}", self.short(&known.path));
                self.records.retain(|other| other.key != known.key);
                self.records.push(*known);
                sentence
            }
            FileEvent::Lost { key, offset, bytes, cause, .. } => {
                self.lost_bytes += bytes;
                let name = self.name(key.file);
                match cause {
                    LossCause::NotFound if bytes == 0 => format!("{name} not found again, read up to {offset}"),
                    _ => format!("{name} lost {bytes} bytes behind {offset}"),
                }
            }
            FileEvent::Reopened { key, file } => {
                let reader = self.streams.get_mut(&key).unwrap().reader.as_mut().unwrap();
                let refused = reader.reopen(file).is_err();
                if refused {
                    self.truncated(&key);
                }
                format!("{} reopened{}", self.name(key.file), if refused { " in vain" } else { "" })
            }
            FileEvent::Settled { key, offset } => {
                let name = self.name(key.file);
                let mut records = self.records.iter_mut();
                records.find(|known| known.key == key).unwrap().size_seen = offset;
                format!("{name} settled at {offset}")
            }
            FileEvent::GiveUp { key, unread } => {
                let known = self.end(&key, true);
                let lost_bytes = unread;
                self.discovery.report(StreamReport::GivenUp { known, lost_bytes });
                format!("{} to be given up", self.name(key.file))
            }
            FileEvent::Forgotten(key) => {
                self.records.retain(|known| known.key != key);
                format!("{} forgotten", self.name(key.file))
            }
            FileEvent::Grew(key) => format!("{} grew", self.name(key.file)),
            FileEvent::Moved { key, to } => {
                self.streams.get_mut(&key).unwrap().path = to.clone();
                format!("{} moved to {}", self.name(key.file), self.short(&to))
            }
            FileEvent::Leaving { key, gone } => {
                self.streams.get_mut(&key).unwrap().leaving = true;
                format!("{} leaves{}", self.name(key.file), if gone { ", gone" } else { "" })
            }
            FileEvent::Back(key) => {
                self.streams.get_mut(&key).unwrap().leaving = false;
                format!("{} is back", self.name(key.file))
            }
            FileEvent::Dropped(key) => format!("{} dropped", self.name(key.file)),
            FileEvent::Problem { path, problem, .. } => {
                let kind = match problem {
                    OpenProblem::Outside { .. } => "outside".to_owned(),
                    other => other.to_string(),
                };
                format!("problem {}: {kind}", self.short(&path))
            }
            FileEvent::Healed { path, .. } => format!("healed {}", self.short(&path)),
            FileEvent::FirstScan(entry) => {
                self.entries_seen.insert(entry.clone());
                format!("{entry} seen")
            }
            FileEvent::Notice(notice) => notice.to_string(),
        }
    }

    fn short(&self, path: &Path) -> String {
        path.strip_prefix(self.dir.path()).unwrap().to_string_lossy().into_owned()
    }

    /// A, B, C… in the order in which files were opened.
    pub fn name(&mut self, id: FileId) -> char {
        let at = self.names.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.names.push(id);
            self.names.len() - 1
        });
        (b'A' + u8::try_from(at % 58).unwrap()) as char
    }

    pub fn key(&self, name: char) -> StreamKey {
        let id = self.names[usize::from(name as u8 - b'A')];
        self.streams.keys().find(|key| key.file == id).unwrap().clone()
    }

    /// Reads a stream to its end; the lines that came. A truncated one is reported.
    pub fn read(&mut self, name: char) -> Vec<String> {
        let key = self.key(name);
        self.read_key(&key, false)
    }

    pub fn read_key(&mut self, key: &StreamKey, finish: bool) -> Vec<String> {
        self.read_key_upto(key, finish, usize::MAX)
    }

    fn read_key_upto(&mut self, key: &StreamKey, finish: bool, batches_max: usize) -> Vec<String> {
        let stream = self.streams.get_mut(key).unwrap();
        let reader = stream.reader.as_mut().unwrap();
        if !reader.is_open() {
            return vec![]; // idle
        }
        let mut batches = 0;
        let pool = BufferPool::new(4096, 2);
        let limits = BatchLimits { bytes: 4096, lines: 100 };
        let before = stream.lines.len();
        let truncated = loop {
            let read = if finish { reader.finish(&limits, &pool) } else { reader.read(&limits, &pool) };
            match read.unwrap() {
                Read::Batch(batch) => {
                    stream.lines.extend((0..batch.len()).map(|i| String::from_utf8_lossy(batch.line(i)).into_owned()));
                    batches += 1;
                    if batches == batches_max {
                        break false;
                    }
                }
                Read::Working | Read::Waiting => {}
                Read::AtEnd { .. } => break false,
                Read::Truncated { .. } => break true,
            }
        };
        let lines = stream.lines[before..].to_vec();
        let run = stream.run;
        self.runs[run].extend(lines.iter().cloned());
        self.delivered.extend(lines.iter().cloned());
        if truncated {
            self.truncated(key);
        }
        lines
    }

    fn truncated(&mut self, key: &StreamKey) {
        let file = self.streams[key].reader.as_ref().and_then(Reader::file).map(Arc::new);
        let known = self.end(key, false);
        self.discovery.report(StreamReport::Truncated { known, file });
    }

    /// Ends a stream; what is known of it.
    fn end(&mut self, key: &StreamKey, finished: bool) -> KnownFile {
        let known = self.record(key, finished);
        self.streams.get_mut(key).unwrap().reader = None;
        known
    }

    fn record(&mut self, key: &StreamKey, finished: bool) -> KnownFile {
        let known = self.known_of(key, finished);
        self.records.retain(|other| other.key != *key);
        self.records.push(known.clone());
        known
    }

    pub fn live(&self) -> Vec<StreamKey> {
        self.streams.iter().filter(|(_, stream)| stream.reader.is_some()).map(|(key, _)| key.clone()).collect()
    }

    pub fn checkpoint(&mut self) {
        for key in self.live() {
            self.record(&key, false);
        }
    }

    pub fn known_of(&self, key: &StreamKey, finished: bool) -> KnownFile {
        let stream = &self.streams[key];
        let reader = stream.reader.as_ref().unwrap();
        KnownFile {
            key: key.clone(),
            place: stream.opened.place,
            evidence: reader.evidence(),
            offset: reader.position(),
            path: stream.path.clone(),
            home: stream.opened.home.to_path_buf(),
            target: stream.opened.target.as_deref().map(Path::to_path_buf),
            finished,
            size_seen: reader.size().unwrap_or(reader.position()), // closed: at its end
            updated_ms: now_ms(),
        }
    }

    pub fn finish(&mut self, name: char) -> Vec<String> {
        let key = self.key(name);
        let lines = self.read_key(&key, true);
        let known = self.end(&key, true);
        self.discovery.report(StreamReport::Finished { known });
        lines
    }

    /// Closes an idle stream's file.
    pub fn idle(&mut self, name: char) {
        let key = self.key(name);
        self.idle_key(key);
    }

    fn idle_key(&mut self, key: StreamKey) {
        let reader = self.streams.get_mut(&key).unwrap().reader.as_mut().unwrap();
        let bytes_read = reader.close();
        self.discovery.report(StreamReport::Idle { key, bytes_read });
    }

    /// Closes all files that are read to their ends.
    pub fn idle_all(&mut self) {
        for key in self.live() {
            self.read_key(&key, false);
            let stream = &self.streams[&key];
            let at_end = |reader: &Reader| reader.is_open() && reader.size().ok() == Some(reader.position());
            if !stream.leaving && stream.reader.as_ref().is_some_and(at_end) {
                self.idle_key(key);
            }
        }
    }

    pub fn close(&mut self, name: char) {
        let key = self.key(name);
        let known = self.end(&key, false);
        self.discovery.report(StreamReport::Closed { known });
    }

    /// The agent stops and writes down how far it came.
    pub fn stop(&mut self) {
        self.checkpoint();
        self.crash();
    }

    /// The agent is gone, and only what was written down before is known.
    pub fn crash(&mut self) {
        for stream in self.streams.values_mut() {
            stream.reader = None;
        }
    }

    pub fn start(&mut self) {
        self.discovery = discovery(
            self.allow.clone(),
            self.records.clone(),
            self.entries_seen.clone(),
            self.hints,
            self.copy_hold,
            self.forget_after,
        );
        self.discovery.set_specs(self.specs.clone());
    }

    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    pub fn known_mut(&mut self) -> &mut Vec<KnownFile> {
        &mut self.records
    }

    /// One batch of each file.
    pub fn read_some(&mut self) {
        for key in self.live() {
            self.read_key_upto(&key, false, 1);
        }
    }

    /// Reads all files to their ends, and finishes those that leave.
    pub fn read_all(&mut self) {
        for key in self.live() {
            self.read_key(&key, false);
            let stream = &self.streams[&key];
            if stream.leaving && stream.reader.is_some() {
                self.read_key(&key, true);
                if self.streams[&key].reader.is_none() {
                    continue; // truncated
                }
                let known = self.end(&key, true);
                self.discovery.report(StreamReport::Finished { known });
            }
        }
    }
}

fn now_ms() -> i64 {
    let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(age.as_millis()).unwrap()
}

fn discovery(
    allow: AllowPaths,
    known: Vec<KnownFile>,
    entries_seen: BTreeSet<Arc<str>>,
    hints: bool,
    copy_hold: Duration,
    forget_after: Duration,
) -> Discovery {
    let scan_every = Duration::from_secs(3600);
    let limits = DiscoverOptions { forget_after, pinned_bytes_max: 1000, ..DiscoverOptions::default() };
    Discovery::new(DiscoverOptions { scan_every, allow, known, entries_seen, hints, copy_hold, ..limits })
}

//! A file becomes a stream, at the place that its record says.

use super::command::{Opening, ShardReport};
use super::recovery::Recovery;
use super::seat::Seat;
use super::shard::Shard;
use super::stream::{Life, Stream, known_file};
use super::streams::StreamIx;
use crate::checkpoint::{CommitMessage, Progress, ResumePoint, StreamRecord};
use crate::filter::{ArmedChain, Chain, StreamFacts};
use crate::observe::FileLedger;
use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tailmill_tail::reader::ReadError;
use tailmill_tail::{Evidence, FileKey, Reader, StreamKey};

/// What a new stream starts with beside its record.
struct Beginning {
    key: StreamKey,
    place: FileKey,
    path: Arc<Path>,
    home: Arc<Path>,
    target: Option<Arc<Path>>,
    predecessor: Option<StreamKey>,
    armed: Arc<ArmedChain>,
    batch_lines_max: usize,
}

impl Shard {
    /// Begins to read a file. One that cannot be read is given back, to be looked at again at the next scan.
    pub(super) fn open(&mut self, opening: Opening) {
        let Opening { opened, record, armed } = opening;
        let now_ms = self.services.now_ms();
        let mut record = record.unwrap_or_else(|| StreamRecord {
            entry: opened.key.entry.to_string(),
            file: opened.key.file,
            path: opened.path.to_path_buf(),
            home: opened.home.to_path_buf(),
            target: None,
            place: opened.place,
            evidence: Evidence { packed_bytes: opened.packing.map(|_| 0), ..Evidence::default() },
            resume: ResumePoint::Position { offset: opened.start },
            partition: None,
            finished: false,
            size_seen: 0,
            updated_ms: now_ms,
            blocked: None,
            step_over: Vec::new(),
        });
        let from = record.resume.offset();
        let reader = match Reader::new(opened.file, from, record.evidence, armed.entry.framing.clone()) {
            Ok(reader) => reader,
            Err(error) => {
                let message = format!("while opening {} at offset {from}: {error}", opened.path.display());
                tracing::error!(entry = %armed.entry.name, "{message}");
                self.services.ledger(&armed.entry.name).error(now_ms, &message);
                let (known, record) = (known_file(&opened.key, &record), Box::new(record));
                (self.links.report)(match error {
                    // Another file took its place since discovery looked.
                    ReadError::OtherContent | ReadError::TooShort { .. } => {
                        ShardReport::Truncated { known, record, file: None }
                    }
                    _ => ShardReport::Closed { known, record },
                });
                return;
            }
        };
        if record.evidence.at == 0 {
            record.evidence = reader.evidence(); // what was seen of it
        }
        record.target = opened.target.as_deref().map(Path::to_path_buf);
        let beginning = Beginning {
            key: opened.key,
            place: opened.place,
            // What the store says: discovery has it from there.
            home: if *opened.home == *record.home { opened.home } else { Arc::from(record.home.as_path()) },
            path: opened.path,
            target: opened.target,
            predecessor: opened.predecessor,
            armed,
            batch_lines_max: self.services.settings.batch_lines,
        };
        let snapshot = match &record.resume {
            ResumePoint::Snapshot { offset, stages } => Some((*offset, stages.clone())),
            ResumePoint::Position { .. } => None,
        };
        // From now on the file can be found again, wherever it is moved while the agent is down.
        let _ = self.links.commits.send(CommitMessage::Commit { records: vec![record.clone()], removed: Vec::new() });
        let ix = self.streams.insert(|ix| new_stream(ix, beginning, record, reader));
        if let (Some((offset, stages)), Some(stream)) = (snapshot, self.streams.get_mut(ix)) {
            stream.restore(offset, stream.reader.evidence(), stages);
        }
        self.schedule.ready(ix);
    }
}

fn new_stream(ix: StreamIx, beginning: Beginning, record: StreamRecord, reader: Reader) -> Stream {
    let facts = StreamFacts {
        stream_id: ix,
        path: beginning.path.as_os_str().as_bytes().into(),
        inode: beginning.place.inode,
        generation: beginning.key.file.to_string().into(),
    };
    Stream {
        key: beginning.key,
        ix,
        incarnation: 0,
        chain: Seat::new(Chain::new(beginning.armed.clone(), facts)),
        has_place: false,
        goes_back: false,
        is_saved: false,
        save_due: false,
        call_in_due: false,
        progress: Progress::new(reader.position(), reader.evidence()),
        armed: beginning.armed,
        next_armed: None,
        place: beginning.place,
        path: beginning.path,
        home: beginning.home,
        target: beginning.target,
        reader,
        life: Life::Reading,
        rest: VecDeque::new(),
        step_over: record.step_over.into_iter().collect(),
        unsent: VecDeque::new(),
        recovery: Recovery::default(),
        numbered: None,
        line_numbers: None,
        partition: record.partition,
        predecessor: beginning.predecessor,
        must_ask: true,
        waits_for: Vec::new(),
        gone: false,
        pinned: false,
        shrank: false,
        stuck: None,
        goes_on: None,
        outstanding: 0,
        dirty: true,
        rest_tried: false,
        lively: false,
        read_since_seen: false,
        counts: FileLedger::default(),
        at_end: false,
        partial_bytes: 0,
        read_at: Instant::now(),
        caught_up_at: Instant::now(),
        idle_since: None,
        close_at: None,
        quiet_since: None,
        flushed: false,
        batch_lines: beginning.batch_lines_max,
        batch_lines_max: beginning.batch_lines_max,
    }
}

/// A stream without filters whose file is read by `reader`.
#[cfg(test)]
pub(super) fn sample(ix: StreamIx, file: u128, path: &Path, reader: Reader) -> Stream {
    let armed = ArmedChain::without_filters(crate::model::EntryPlan::sample(vec!["topic".into()]));
    let place = FileKey::of(&std::fs::metadata(path).expect("a file"));
    let path: Arc<Path> = path.into();
    let record = StreamRecord {
        entry: "entry".into(),
        file: tailmill_tail::FileId(file),
        path: path.to_path_buf(),
        home: path.to_path_buf(),
        target: None,
        place,
        evidence: reader.evidence(),
        resume: ResumePoint::Position { offset: reader.position() },
        partition: Some(("topic".into(), 3)),
        finished: false,
        size_seen: 0,
        updated_ms: 0,
        blocked: None,
        step_over: Vec::new(),
    };
    let (key, home) = (record.key(), path.clone());
    let beginning = Beginning { key, place, path, home, target: None, predecessor: None, armed, batch_lines_max: 4096 };
    new_stream(ix, beginning, record, reader)
}

//! A stream whose file is closed and that has nothing to do, in few bytes.
//!
//! A machine may have tens of thousands of files that nobody writes to for hours. What such a stream needs when it wakes
//! is made again then: tickets, chain, buffers. What cannot be made again keeps it whole: a filter's instance or state,
//! anything that is held, unsent or refused. Parking changes nothing that anybody could see.

use super::recovery::Recovery;
use super::seat::Seat;
use super::stream::{Life, Stream};
use super::streams::StreamIx;
use crate::checkpoint::{Progress, StageSnapshot};
use crate::filter::{ArmedChain, Chain, StreamFacts};
use crate::model::EntryName;
use crate::observe::{FileLedger, StreamSnapshot, StreamState};
use std::collections::{BTreeSet, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tailmill_tail::{FileKey, ParkedReader, StreamKey};

/// See the module.
pub(super) struct Parked {
    key: StreamKey,
    incarnation: u32,
    armed: Arc<ArmedChain>,
    place: FileKey,
    path: Arc<Path>,
    home: Arc<Path>,
    target: Option<Arc<Path>>,
    reader: ParkedReader,
    /// Numbers of the next lines of the chain's stages.
    numbers: Box<[u64]>,
    /// What filters with a state of this stream's own saved.
    snapshot: Box<[StageSnapshot]>,
    /// Of the entry's own topic.
    partition: Option<i32>,
    gone: bool,
    counts: FileLedger,
    caught_up_at: Instant,
    idle_since: Option<Instant>,
    close_at: Option<Instant>,
    batch_lines: u32,
    batch_lines_max: u32,
}

impl Parked {
    /// The stream in few bytes. None: something of it cannot be made again.
    pub(super) fn of(stream: &Stream) -> Option<Parked> {
        let at_rest = stream.may_sleep()
            && !stream.pinned
            && !stream.shrank
            && !stream.flushed
            && stream.predecessor.is_none()
            && stream.step_over.is_empty();
        let snapshot = match stream.progress.has_snapshots() {
            true => stream.progress.snapshot_at(stream.reader.position())?,
            false => &[],
        };
        let own_topic = |topic: &str| topic == &**stream.topic();
        let partition = match &stream.partition {
            Some((topic, _)) if !own_topic(topic) => return None,
            partition => partition.as_ref().map(|(_, number)| *number),
        };
        let reader = stream.reader.park().filter(|_| at_rest)?;
        Some(Parked {
            key: stream.key.clone(),
            incarnation: stream.incarnation,
            armed: stream.armed.clone(),
            place: stream.place,
            path: stream.path.clone(),
            home: stream.home.clone(),
            target: stream.target.clone(),
            reader,
            numbers: stream.chain.at_rest()?.numbers_at_rest(snapshot)?,
            snapshot: snapshot.into(),
            partition,
            gone: stream.gone,
            counts: stream.counts,
            caught_up_at: stream.caught_up_at,
            idle_since: stream.idle_since,
            close_at: stream.close_at,
            batch_lines: u32::try_from(stream.batch_lines).ok()?,
            batch_lines_max: u32::try_from(stream.batch_lines_max).ok()?,
        })
    }

    /// The stream that it was.
    pub(super) fn wake(self, ix: StreamIx) -> Stream {
        let reader = self.reader.wake();
        let facts = StreamFacts {
            stream_id: ix,
            path: self.path.as_os_str().as_bytes().into(),
            inode: self.place.inode,
            generation: self.key.file.to_string().into(),
        };
        let mut chain = Chain::new(self.armed.clone(), facts);
        let mut progress = Progress::new(reader.position(), reader.evidence());
        // It is the chain's own snapshot: there is a place for each state, and no line is held in any.
        if !self.snapshot.is_empty() && chain.restore_later(&self.snapshot, reader.position()).is_ok() {
            progress.snapshot_taken(reader.position(), reader.evidence(), self.snapshot.into());
        }
        chain.go_on_from(&self.numbers);
        Stream {
            key: self.key,
            ix,
            incarnation: self.incarnation,
            chain: Seat::new(chain),
            has_place: false,
            goes_back: false,
            is_saved: false,
            save_due: false,
            call_in_due: false,
            progress,
            partition: self.partition.map(|number| (self.armed.entry.topics[0].to_string(), number)),
            armed: self.armed,
            next_armed: None,
            place: self.place,
            path: self.path,
            home: self.home,
            target: self.target,
            reader,
            life: Life::Reading,
            rest: VecDeque::new(),
            step_over: BTreeSet::new(),
            unsent: VecDeque::new(),
            recovery: Recovery::default(),
            numbered: None,
            line_numbers: None,
            predecessor: None,
            must_ask: true,
            waits_for: Vec::new(),
            gone: self.gone,
            pinned: false,
            shrank: false,
            stuck: None,
            goes_on: None,
            outstanding: 0,
            dirty: false,
            rest_tried: false,
            lively: false,
            read_since_seen: false,
            counts: self.counts,
            at_end: true,
            partial_bytes: 0,
            read_at: self.caught_up_at,
            caught_up_at: self.caught_up_at,
            idle_since: self.idle_since,
            close_at: self.close_at,
            quiet_since: None,
            flushed: false,
            batch_lines: self.batch_lines as usize,
            batch_lines_max: self.batch_lines_max as usize,
        }
    }

    /// Name of the entry.
    pub(super) fn entry(&self) -> &EntryName {
        &self.armed.entry.name
    }

    /// What a person sees of it.
    pub(super) fn show(&self) -> StreamSnapshot {
        let (path, position) = (self.path.as_os_str().as_bytes().into(), self.reader.position());
        StreamSnapshot {
            entry: self.entry().clone(),
            file: self.key.file,
            path,
            read: position,
            mark: position,
            size: position,
            state: StreamState::Idle,
            loss: self.counts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::opening::sample;
    use super::super::stream::Stuck;
    use super::super::streams::Streams;
    use super::*;
    use crate::checkpoint::ResumePoint;
    use crate::model::EntryPlan;
    use crate::model::LineCount;
    use std::fs::File;
    use tailmill_tail::{BatchLimits, BufferPool, Evidence, Read, Reader};

    const LINES: &[u8] = b"one\ntwo\n";

    fn armed() -> Arc<ArmedChain> {
        ArmedChain::without_filters(EntryPlan::sample(vec!["topic".into()]))
    }

    /// A stream that read its file to the end, whose lines were delivered, and that was closed.
    fn idle(file: u128, ix: StreamIx) -> Stream {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::fs::write(&path, LINES).expect("a file");
        let open = || File::open(&path).expect("a file");
        let mut reader = Reader::new(open(), 0, Evidence::default(), Arc::default()).expect("a reader");
        let pool = BufferPool::new(4096, 1);
        while matches!(reader.read(&BatchLimits::default(), &pool).expect("lines"), Read::Batch(_)) {}
        reader.close();
        let mut stream = sample(ix, file, &path, reader);
        (stream.dirty, stream.at_end, stream.batch_lines, stream.incarnation) = (false, true, 77, 5);
        let all = LineCount { lines: 2, bytes: 8 };
        stream.counts = FileLedger { read: all, delivered: all, ..FileLedger::default() };
        stream
    }

    #[test]
    fn an_idle_stream_that_was_parked_is_what_it_was() {
        let mut stream = idle(1, 9);
        let parked = Parked::of(&stream).expect("it may be parked");
        assert_eq!(parked.show(), stream.show());
        let mut woken = parked.wake(9);
        assert_eq!(woken.record(false, 1), stream.record(false, 1));
        assert_eq!(woken.record(false, 1).resume, ResumePoint::Position { offset: LINES.len() as u64 });
        assert_eq!((woken.show(), woken.may_sleep()), (stream.show(), true));
        assert_eq!((woken.ix, woken.incarnation, woken.batch_lines), (9, 5, 77));
        assert_eq!((woken.pending(), woken.key), (LineCount::default(), stream.key));
    }

    /// A stream of which `change` was done to stays whole.
    fn check_whole(what: &str, change: impl FnOnce(&mut Stream)) {
        let mut stream = idle(1, 1);
        change(&mut stream);
        assert!(Parked::of(&stream).is_none(), "{what}");
    }

    #[test]
    fn whatever_could_not_be_made_again_keeps_a_stream_whole() {
        check_whole("its mark was not written", |stream| stream.dirty = true);
        check_whole("it leaves", |stream| stream.life = Life::Leaving);
        check_whole("half a line", |stream| stream.partial_bytes = 1);
        check_whole("something is on its way", |stream| stream.outstanding = 1);
        check_whole("lines have no end yet", |stream| stream.counts.read.lines += 1);
        check_whole("a new plan waits", |stream| stream.next_armed = Some(armed()));
        check_whole("a line to be left out", |stream| {
            stream.step_over.insert(9);
        });
        check_whole("it waits for another", |stream| stream.predecessor = Some(stream.key.clone()));
        check_whole("its partition is of another topic", |stream| stream.partition = Some(("other".into(), 1)));
        check_whole("a saved state of another place", |stream| {
            stream.progress.snapshot_taken(stream.reader.position() - 1, stream.reader.evidence(), Vec::new());
        });
        check_whole("it stands still", |stream| {
            stream.stuck = Some(Stuck { reason: "why".into(), line: None, retry_at: Instant::now() });
        });
        check_whole("its file is open", |stream| {
            let file = tempfile::tempfile().expect("a file");
            std::os::unix::fs::FileExt::write_all_at(&file, LINES, 0).expect("lines");
            stream.reader.reopen(file).expect("the same lines");
        });
    }

    #[test]
    fn a_parked_stream_takes_few_bytes() {
        // 20,000 of them, and all else, fit into 100 MB.
        assert!(size_of::<Parked>() <= 512, "{} bytes", size_of::<Parked>());
    }

    #[test]
    fn a_shard_parks_what_sleeps_and_has_it_whole_again_when_it_is_changed() {
        let mut streams = Streams::default();
        let ix = streams.insert(|ix| idle(1, ix));
        let key = streams.get(ix).expect("awake").key.clone();
        let entry: EntryName = "entry".into();
        streams.put_to_sleep(ix);
        assert!(streams.get(ix).is_none(), "it is parked");
        assert_eq!(
            (streams.find(&key), streams.asleep().get(&entry), streams.are_asleep()),
            (Some(ix), Some(&1), true)
        );
        assert_eq!((streams.all(), streams.of_entry(&entry), streams.iter().count()), (vec![ix], vec![ix], 0));
        assert_eq!(streams.show_sleepers().map(|shown| shown.read).collect::<Vec<_>>(), [LINES.len() as u64]);
        streams.get_mut(ix).expect("whole again").at_end = false;
        streams.wake(ix);
        assert_eq!((streams.iter().count(), streams.asleep().get(&entry)), (1, None));
        streams.put_to_sleep(ix);
        assert!(streams.get(ix).is_some(), "there may be more to read");
        assert_eq!(streams.remove(ix).map(|stream| stream.key), Some(key));
    }
}

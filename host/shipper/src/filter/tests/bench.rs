//! A chain on a bench: lines go in, everything that comes out is noted and the count is checked after every answer.

use super::fake::{Fake, Shared, armed};
use crate::filter::{Answered, ArmedChain, Chain, SharedInstances, Step, StreamFacts};
use crate::model::LineCount;
use crate::observe::EntryLedger;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailmill_tail::{Batch, Chunk, Evidence, FileOffset};

/// See the module.
pub(super) struct Bench {
    pub chain: Chain,
    pub shared: SharedInstances,
    pub ledger: EntryLedger,
    pub world: Shared,
    /// End of what was put in.
    pub at: FileOffset,
    /// All that came out.
    pub out: Vec<Seen>,
    pub dead: Vec<String>,
    pub input: LineCount,
    pub carries: LineCount,
    pub filtered: LineCount,
    pub dropped: LineCount,
    pub passed_lines: u64,
    /// Steps end after one call, so that every stop between two calls is tried.
    pub one_call_a_step: bool,
    /// What the last blocked step said.
    pub why: String,
    pub now: Instant,
    sources: BTreeSet<FileOffset>,
    /// Lines before this came from an earlier run: they count nowhere.
    counted_from: FileOffset,
}

/// A record that came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub text: String,
    pub source: FileOffset,
    pub key: Option<String>,
    pub headers: Vec<(String, String)>,
}

/// How a drive ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Blocked { line: FileOffset, stage: usize },
}

impl Bench {
    pub(super) fn new(fakes: &[Fake]) -> Bench {
        let world = Shared::default();
        Bench::with(armed(fakes, &world), world)
    }

    pub(super) fn with(armed: Arc<ArmedChain>, world: Shared) -> Bench {
        let facts =
            StreamFacts { stream_id: 1, path: Arc::from(&b"/var/log/a"[..]), inode: 12, generation: "id of a".into() };
        Bench {
            chain: Chain::new(armed, facts),
            shared: SharedInstances::new(),
            ledger: EntryLedger::default(),
            world,
            at: 0,
            out: Vec::new(),
            dead: Vec::new(),
            input: LineCount::default(),
            carries: LineCount::default(),
            filtered: LineCount::default(),
            dropped: LineCount::default(),
            passed_lines: 0,
            one_call_a_step: false,
            why: String::new(),
            now: Instant::now(),
            sources: BTreeSet::new(),
            counted_from: 0,
        }
    }

    /// A new process: a fresh chain that goes on from this one's snapshot. What came out so far is kept.
    /// `None`-snapshots change nothing.
    pub(super) fn restarted(mut self) -> Bench {
        let Some(snapshot) = self.chain.snapshot(&mut self.ledger).expect("it saves") else { return self };
        let (armed, at) = (self.chain.armed().clone(), self.at);
        let mut next = self.reopened(armed, at);
        next.chain.restore(&snapshot, at, &mut next.ledger).expect("it loads");
        next
    }

    /// A new process with this chain, which has seen nothing and will read from `at` on. What came out so far is kept.
    pub(super) fn reopened(self, armed: Arc<ArmedChain>, at: FileOffset) -> Bench {
        let mut next = Bench::with(armed, self.world);
        (next.at, next.counted_from) = (at, at);
        (next.out, next.dead) = (self.out, self.dead);
        next.one_call_a_step = self.one_call_a_step;
        next
    }

    /// One batch of lines, LF behind each.
    pub(super) fn batch(&mut self, lines: &[&str]) -> Batch {
        let (mut bytes, mut starts, mut ends, mut line_ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            starts.push(bytes.len() as u32);
            bytes.extend_from_slice(line.as_bytes());
            ends.push(bytes.len() as u32);
            bytes.push(b'\n');
            line_ends.push(self.at + bytes.len() as u64);
        }
        let first_offset = self.at;
        self.at += bytes.len() as u64;
        self.input += LineCount { lines: lines.len() as u64, bytes: bytes.len() as u64 };
        Batch {
            chunk: Chunk::new(bytes),
            starts,
            ends,
            line_ends,
            first_offset,
            end_offset: self.at,
            evidence: Evidence::default(),
            skipped_lines: 0,
            skipped_bytes: 0,
            cut_lines: 0,
            replaced: 0,
            first_line: None,
            physicals: Vec::new(),
            read_at_ms: 0,
        }
    }

    /// Puts a batch in and works as far as it goes.
    pub(super) fn feed(&mut self, lines: &[&str]) -> End {
        let batch = self.batch(lines);
        self.chain.offer(batch);
        self.drive()
    }

    pub(super) fn tick(&mut self) -> End {
        self.now += Duration::from_secs(3600);
        self.chain.tick(self.now);
        self.drive()
    }

    pub(super) fn flush(&mut self) -> End {
        self.chain.flush();
        self.drive()
    }

    /// Steps until all is done or blocked.
    pub(super) fn drive(&mut self) -> End {
        // Far more steps than any script needs: a chain that makes no progress fails here instead of hanging.
        for _ in 0..100_000 {
            let until = if self.one_call_a_step { self.now } else { Instant::now() + Duration::from_secs(3600) };
            match self.chain.step(&mut self.shared, &mut self.ledger, until) {
                Step::Working => self.check_count(),
                Step::Done(answered) => {
                    self.note(answered);
                    return End::Done;
                }
                Step::Blocked { so_far, line, stage, fault, .. } => {
                    self.note(so_far);
                    self.why = fault.message;
                    assert!(!self.chain.is_idle(), "a blocked chain is not idle");
                    return End::Blocked { line, stage };
                }
            }
        }
        panic!("the chain makes no progress");
    }

    /// Calls with lines so far.
    pub(super) fn runs(&self) -> u32 {
        self.world.lock().expect("no panic").runs
    }

    /// The texts that came out, in order.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.out.iter().map(|seen| &*seen.text).collect()
    }

    fn note(&mut self, answered: Answered) {
        let mut named = Vec::new();
        for set in &answered.records {
            assert!(!set.is_empty(), "no empty set leaves a chain");
            assert_eq!((set.starts.len(), set.starts.len()), (set.ends.len(), set.sources.len()));
            for i in 0..set.len() {
                let extras = set.extras.as_deref();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("test lines are text");
                let key = extras.and_then(|extras| extras.keys.as_ref()).and_then(|keys| keys.get(i)).map(text);
                let headers = extras
                    .into_iter()
                    .flat_map(|extras| &extras.headers)
                    .filter_map(|header| header.values.get(i).map(|value| (header.name.clone(), text(value))));
                self.out.push(Seen {
                    text: text(set.value(i)),
                    source: set.sources[i],
                    key,
                    headers: headers.collect(),
                });
                named.push(set.sources[i]);
            }
        }
        for letter in &answered.dead_letters {
            self.dead.push(String::from_utf8(letter.line.clone()).expect("test lines are text"));
            named.push(letter.source);
        }
        assert_eq!(answered.floor, named.iter().copied().min());
        self.carries += answered.carries;
        self.filtered += answered.filtered;
        self.dropped += answered.dropped;
        self.passed_lines += answered.passed_lines;
        self.sources.extend(named.into_iter().filter(|source| *source >= self.counted_from));
        self.check_count();
    }

    /// The loss equation, exactly.
    fn check_count(&self) {
        assert_eq!(
            self.input,
            self.carries + self.filtered + self.dropped + self.chain.pending(),
            "input = carries + filtered + dropped + pending"
        );
        assert!(self.carries.lines <= self.sources.len() as u64, "a line is carried once, by a record that names it");
        let holds_mark = self.chain.pending().is_zero() || self.chain.oldest_held().is_some();
        assert!(holds_mark, "what is pending holds the mark");
    }
}

//! What a chain must come to, said as simply as possible: one line at a time goes through all stages, nothing fails
//! halfway, nothing is numbered. Lines are text and offset; a faulty line meets its policy.

use super::bench::Seen;
use super::fake::Fake;
use crate::model::OnError;
use tailmill_tail::FileOffset;

/// A line on its way through the model. `offsets`: of every input line that is in it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub text: String,
    pub offsets: Vec<FileOffset>,
    pub key: Option<String>,
    pub headers: Vec<(String, String)>,
}

/// The model of a chain.
#[derive(Clone, Debug)]
pub(super) struct Model {
    stages: Vec<(Fake, Vec<Item>)>,
    pub out: Vec<Item>,
    pub dead: Vec<String>,
    pub dropped_lines: u64,
    pub passed_lines: u64,
}

impl Model {
    pub(super) fn new(fakes: &[Fake]) -> Model {
        let stages = fakes.iter().map(|fake| (fake.clone(), Vec::new())).collect();
        Model { stages, out: Vec::new(), dead: Vec::new(), dropped_lines: 0, passed_lines: 0 }
    }

    /// One input line.
    pub(super) fn feed(&mut self, text: &str, offset: FileOffset) {
        let item = Item { text: text.into(), offsets: vec![offset], key: None, headers: Vec::new() };
        self.through(0, item);
    }

    /// A tick or a flush: every stage that can (and `wants`) lets go, in order.
    pub(super) fn let_go(&mut self, wants: impl Fn(usize, &Fake) -> bool) {
        for stage in 0..self.stages.len() {
            if wants(stage, &self.stages[stage].0)
                && let Some(joined) = join(std::mem::take(&mut self.stages[stage].1))
            {
                self.through(stage + 1, joined);
            }
        }
    }

    /// Offsets of all lines that some stage holds.
    pub(super) fn held(&self) -> impl Iterator<Item = FileOffset> + '_ {
        self.stages.iter().flat_map(|(_, held)| held).flat_map(|item| &item.offsets).copied()
    }

    fn through(&mut self, stage: usize, mut item: Item) {
        let Some((fake, held)) = self.stages.get_mut(stage) else {
            self.out.push(item);
            return;
        };
        let holds = !held.is_empty();
        match item.text.as_bytes().get(stage).copied().unwrap_or(b'k') {
            b'd' => {}
            b'h' if !fake.stateless => held.push(item),
            b'r' if holds => {
                held.push(item);
                if let Some(joined) = join(std::mem::take(held)) {
                    self.through(stage + 1, joined);
                }
            }
            b'p' if holds => {
                let all = std::mem::take(held);
                all.into_iter().chain([item]).for_each(|item| self.through(stage + 1, item));
            }
            b's' => {
                let mut twin = item.clone();
                twin.text.push('\'');
                self.through(stage + 1, item);
                self.through(stage + 1, twin);
            }
            b'e' => {
                let key = format!("key {stage}");
                item.headers.insert(0, (format!("header {stage}"), key.clone()));
                item.key = Some(key);
                self.through(stage + 1, item);
            }
            b'x' => match fake.on_error {
                // The test heals it, and then it is kept.
                OnError::Block => self.through(stage + 1, item),
                OnError::Pass => {
                    self.passed_lines += 1;
                    self.through(stage + 1, item);
                }
                OnError::Drop => self.dropped_lines += 1,
                OnError::DeadLetter => self.dead.push(item.text),
            },
            _ => self.through(stage + 1, item),
        }
    }
}

/// The joined line comes with what its first line came with.
fn join(items: Vec<Item>) -> Option<Item> {
    let mut items = items.into_iter();
    let mut joined = items.next()?;
    for item in items {
        joined.text = format!("{}+{}", joined.text, item.text);
        joined.offsets.extend(item.offsets);
    }
    Some(joined)
}

/// Whether a record is what the model says; its source may be older than the model's (that is safe), never younger.
pub(super) fn check(seen: &[Seen], model: &Model) {
    let wanted: Vec<_> = model.out.iter().map(|item| (&item.text, &item.key, sorted(&item.headers))).collect();
    let got: Vec<_> = seen.iter().map(|seen| (&seen.text, &seen.key, sorted(&seen.headers))).collect();
    assert_eq!(got, wanted, "the records, in order");
    for (seen, item) in seen.iter().zip(&model.out) {
        let oldest = item.offsets.iter().min().expect("a line came from somewhere");
        assert!(seen.source <= *oldest, "{} came from {oldest}, its record says {}", item.text, seen.source);
    }
}

fn sorted(headers: &[(String, String)]) -> Vec<&(String, String)> {
    let mut headers: Vec<_> = headers.iter().collect();
    headers.sort();
    headers
}

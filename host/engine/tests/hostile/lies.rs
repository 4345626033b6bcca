//! Answers to the lines 10 and 11 of an entry with two topics that do not add up. What a host does that believes them is shown
//! with its own types: see `without_the_limit` in the engine's tests.

use super::{At, Case, Stops};
use crate::guests::{self, Answer, Column, Output, bytes, emits, two_lines, u16s, u32s, u64s};

pub(super) fn cases() -> Vec<Case> {
    let lie = |name, says, answer: Answer| {
        let guest = guests::batch().answers(&answer);
        Case { lie: Some(answer), ..Case::new(name, Stops::Checks, At::Run, says, guest) }
    };
    let changed = |name, says, change: &dyn Fn(&mut Output)| {
        let mut output = two_lines();
        change(&mut output);
        lie(name, says, emits(output))
    };
    let keys = |name, says, ends: &[u32]| {
        let column = Column { data: bytes(b"abc"), ends: u32s(ends), ..Column::default() };
        changed(name, says, &move |output| output.keys = Some(column.clone()))
    };
    let header = Column { data: bytes(b"abc"), ends: u32s(&[1, 9]), ..Column::default() };
    vec![
        changed("answers a line that ends before it starts", "line 1 is 3..2", &|o| o.ends = u32s(&[2, 2])),
        changed("answers a line that lies behind its data", "ends at 5 of 4 bytes", &|o| o.ends = u32s(&[2, 5])),
        changed("answers a line at 4 GiB", "of 4 bytes", &|o| o.ends = u32s(&[2, u32::MAX])),
        changed("answers lines without data", "of 0 bytes", &|o| o.data = bytes(b"")),
        changed("answers more starts than ends", "starts has 12 bytes", &|o| o.starts = u32s(&[0, 3, 4])),
        changed("answers more lines than sources", "source has 8 bytes", &|o| o.source = u64s(&[10])),
        changed("answers a source from the past", "a source is 9, not in", &|o| o.source = u64s(&[9, 10])),
        changed("answers a source from the future", "a source is 12, not in", &|o| o.source = u64s(&[10, 12])),
        changed("answers the last source there can be", "a source is 1844", &|o| o.source = u64s(&[10, u64::MAX])),
        changed("answers a topic that is not allowed", "topic 2 is not one", &|o| o.topics = u16s(&[0, 2])),
        changed("answers topics for some lines", "topics has 2 bytes", &|o| o.topics = u16s(&[1])),
        keys("answers a key that lies behind its data", "ends at 9 of 3 bytes", &[1, 9]),
        keys("answers a key that ends before it starts", "value 1 ends at 1", &[2, 1]),
        changed("answers a header that lies behind its data", "ends at 9 of 3 bytes", &move |o| {
            o.headers = vec![(bytes(b"name"), header.clone())];
        }),
        lie(
            "holds a line from the future",
            "the oldest held line is 12",
            Answer { held: Some(12), ..Answer::default() },
        ),
        lie("holds a line from the past", "the oldest held line is 9", Answer { held: Some(9), ..Answer::default() }),
    ]
}

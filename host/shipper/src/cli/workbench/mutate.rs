//! Lines that look a little like others: a random number of small changes to each, the same for the same seed.
//!
//! None of them holds a newline, which no line of a file does either.

/// A small generator (splitmix64). Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

/// Pieces that parsers stumble over.
const PIECES: [&[u8]; 32] = [
    b"",
    b"\0",
    b"\xff",
    b"\r",
    b"\t",
    b" ",
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"=",
    b"%",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"1e999",
    b"NaN",
    b"null",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\xe2\x80\xa8",
    b"\x1b[31m",
    b"{}",
    b"[[[[[[[[[[",
    b"=\"",
    b"9999-12-31T23:59:60Z",
];
/// Changes to one line.
const CHANGES_MAX: u64 = 4;
/// One line in so many becomes very long.
const LONG_ONE_IN: u64 = 500;
const LONG_BYTES: usize = 100_000;

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 when `end` is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// `count` lines: a stretch of the corpus, so that what belongs together stays together, half of it changed. The corpus is
/// not empty.
pub(super) fn lines(corpus: &[&[u8]], count: usize, random: &mut Random) -> Vec<Vec<u8>> {
    let from = random.below(corpus.len());
    let stretch = corpus.iter().cycle().skip(from).take(count);
    stretch
        .map(|line| {
            let mut line = line.to_vec();
            if random.one_in(2) {
                for _ in 0..=random.next() % CHANGES_MAX {
                    change(&mut line, corpus, random);
                }
            }
            line
        })
        .collect()
}

fn change(line: &mut Vec<u8>, corpus: &[&[u8]], random: &mut Random) {
    let at = random.below(line.len() + 1);
    let upto = (at + 1 + random.below(8)).min(line.len());
    match random.next() % 8 {
        0 => line.truncate(at),
        1 => drop(line.drain(at..upto.max(at))),
        2 => {
            let again = line[at..upto.max(at)].to_vec();
            line.splice(at..at, again.repeat(1 + random.below(3)));
        }
        3 => {
            if let Some(byte) = line.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        4 => {
            let other = corpus[random.below(corpus.len())];
            line.splice(at.., other[random.below(other.len() + 1)..].iter().copied());
        }
        5 => {
            if let Some(byte) = line.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        6 if random.one_in(LONG_ONE_IN / 8) && !line.is_empty() => {
            *line = line.repeat(LONG_BYTES.div_ceil(line.len()));
        }
        _ => drop(line.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
    }
    line.retain(|byte| *byte != b'\n');
}

/// Cuts lines into batches: at random, some of them of one line.
pub(super) fn cut(lines: &[Vec<u8>], random: &mut Random) -> Vec<Vec<Vec<u8>>> {
    let longest = 1 + random.below(lines.len());
    let (mut groups, mut rest) = (Vec::new(), lines);
    while !rest.is_empty() {
        let (group, behind) = rest.split_at((1 + random.below(longest)).min(rest.len()));
        groups.push(group.to_vec());
        rest = behind;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_lines_and_no_newline() {
        let corpus: Vec<&[u8]> = vec![b"INFO a=1", b"", b"{\"x\": 2}"];
        let made = |seed| lines(&corpus, 5_000, &mut Random::new(seed));
        assert_eq!(made(7), made(7));
        assert_ne!(made(7), made(8));
        assert!(made(7).iter().all(|line| !line.contains(&b'\n')));
        let changed = made(7).iter().filter(|line| !corpus.contains(&line.as_slice())).count();
        assert!((1_000..4_000).contains(&changed), "{changed}");
    }

    #[test]
    fn cutting_loses_no_line() {
        let mut random = Random::new(1);
        for n in 0..50_usize {
            let lines: Vec<Vec<u8>> = (0..n).map(|i| vec![i as u8]).collect();
            let groups = cut(&lines, &mut random);
            assert!(groups.iter().all(|group| !group.is_empty()));
            assert_eq!(groups.concat(), lines);
        }
    }
}

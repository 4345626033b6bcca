//! A failure made small: fewer lines, fewer batches, shorter lines, plainer bytes, as long as it still fails.

/// Lines in batches.
pub(super) type Groups = Vec<Vec<Vec<u8>>>;

/// A line, and whether a batch begins with it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    begins: bool,
    line: Vec<u8>,
}

/// What plain bytes are.
const PLAIN: u8 = b'a';
/// Longer lines are shortened only: making each byte plain would take too many tries.
const PLAIN_LINE_MAX: usize = 200;

/// Makes `groups`, which fails, as small as `fails` allows. `fails` is asked until it says `None`: enough.
pub(super) fn shrink(groups: Groups, mut fails: impl FnMut(&Groups) -> Option<bool>) -> Groups {
    let mut best = flat(&groups);
    let mut still = |items: &[Item]| fails(&grouped(items));
    while let Some(true) = round(&mut best, &mut still) {}
    grouped(&best)
}

/// One round over all ways. True: it got smaller. `None`: enough.
fn round(best: &mut Vec<Item>, still: &mut dyn FnMut(&[Item]) -> Option<bool>) -> Option<bool> {
    let before = best.clone();
    fewer(best, still)?;
    merge(best, still)?;
    for i in 0..best.len() {
        shorter(best, i, still)?;
        plainer(best, i, still)?;
    }
    Some(*best != before)
}

/// Leaves lines out, many at a time first.
fn fewer(best: &mut Vec<Item>, still: &mut dyn FnMut(&[Item]) -> Option<bool>) -> Option<()> {
    let mut size = best.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < best.len() {
            let without = without(best, at, size);
            match !without.is_empty() && still(&without)? {
                true => *best = without,
                false => at += size,
            }
        }
        size /= 2;
    }
    Some(())
}

/// A batch that began with one of the lines that go begins with the next one.
fn without(items: &[Item], at: usize, size: usize) -> Vec<Item> {
    let end = (at + size).min(items.len());
    let begins = items[at..end].iter().any(|item| item.begins);
    let mut rest: Vec<Item> = items[..at].iter().chain(&items[end..]).cloned().collect();
    if let Some(next) = rest.get_mut(at) {
        next.begins |= begins;
    }
    rest
}

/// Makes one batch of two.
fn merge(best: &mut Vec<Item>, still: &mut dyn FnMut(&[Item]) -> Option<bool>) -> Option<()> {
    for i in 1..best.len() {
        if best[i].begins {
            let mut merged = best.clone();
            merged[i].begins = false;
            if still(&merged)? {
                *best = merged;
            }
        }
    }
    Some(())
}

/// Takes bytes out of a line, many at a time first.
fn shorter(best: &mut Vec<Item>, i: usize, still: &mut dyn FnMut(&[Item]) -> Option<bool>) -> Option<()> {
    let mut size = best[i].line.len();
    while size > 0 {
        let mut at = 0;
        while at < best[i].line.len() {
            let mut items = best.clone();
            let end = (at + size).min(items[i].line.len());
            items[i].line.drain(at..end);
            match still(&items)? {
                true => *best = items,
                false => at += size,
            }
        }
        size /= 2;
    }
    Some(())
}

fn plainer(best: &mut Vec<Item>, i: usize, still: &mut dyn FnMut(&[Item]) -> Option<bool>) -> Option<()> {
    if best[i].line.len() > PLAIN_LINE_MAX {
        return Some(());
    }
    for at in 0..best[i].line.len() {
        if best[i].line[at] != PLAIN {
            let mut items = best.clone();
            items[i].line[at] = PLAIN;
            if still(&items)? {
                *best = items;
            }
        }
    }
    Some(())
}

fn flat(groups: &Groups) -> Vec<Item> {
    let items = groups
        .iter()
        .flat_map(|group| group.iter().enumerate().map(|(i, line)| Item { begins: i == 0, line: line.clone() }));
    items.collect()
}

fn grouped(items: &[Item]) -> Groups {
    let mut groups = Groups::new();
    for item in items {
        match groups.last_mut().filter(|_| !item.begins) {
            Some(group) => group.push(item.line.clone()),
            None => groups.push(vec![item.line.clone()]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(text: &str) -> Groups {
        text.split('|').map(|group| group.split(' ').map(|line| line.as_bytes().to_vec()).collect()).collect()
    }

    fn check(from: &str, to: &str, fails: impl Fn(&Groups) -> bool) {
        assert!(fails(&groups(from)), "it does not fail: {from}");
        assert_eq!(shrink(groups(from), |case| Some(fails(case))), groups(to), "{from}");
    }

    #[test]
    fn one_guilty_line_is_left_and_only_what_makes_it_guilty() {
        let guilty = |case: &Groups| case.iter().flatten().any(|line| line.contains(&b'x'));
        check("a b c|d ..x.. e|f", "x", guilty);
    }

    #[test]
    fn two_lines_that_need_each_other_stay() {
        let both = |case: &Groups| {
            let has = |byte: u8| case.iter().flatten().position(|line| line.contains(&byte));
            matches!((has(b'x'), has(b'y')), (Some(x), Some(y)) if x < y)
        };
        check("a|x1 b c|d e|2y f", "x y", both);
    }

    #[test]
    fn a_cut_that_matters_stays_and_others_go() {
        let cut = |case: &Groups| case.len() > 1;
        check("a b|c d|e f", "|", cut);
        let inside = |case: &Groups| case.windows(2).any(|pair| pair[0].len() >= 2 && !pair[1].is_empty());
        check("a|b c|d|e", " |", inside);
        // The first line of a batch goes, the cut does not.
        let behind = |case: &Groups| case.len() == 2 && case[1].last().is_some_and(|line| line.contains(&b'y'));
        check("a|x y", "|y", behind);
    }

    #[test]
    fn bytes_that_do_not_matter_become_plain() {
        check("7f|3", "aa", |case| case.iter().flatten().any(|line| line.len() == 2));
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        let mut left = 3;
        let small = shrink(groups("a b c d e f g h"), |_| {
            left -= 1;
            (left >= 0).then_some(true)
        });
        assert_eq!(small, groups("h"));
    }
}

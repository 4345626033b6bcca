//! Which filters of a chain are the successors of which of another: in order, and worth most in sum.

/// What a pair is worth; of two ways with the same first sum the second decides.
type Worth = (usize, usize);

/// For each of `news` new places the old one that it follows. `worth`: of an old and a new place; `None`: they are no pair.
pub(super) fn pairs(olds: usize, news: usize, worth: impl Fn(usize, usize) -> Option<Worth>) -> Vec<Option<usize>> {
    // What the old places from `i` on and the new ones from `j` on can come to.
    let mut best: Vec<Vec<Worth>> = vec![vec![(0, 0); news + 1]; olds + 1];
    let both = |best: &[Vec<Worth>], i: usize, j: usize| {
        let (rest, own) = (best[i + 1][j + 1], worth(i, j)?);
        Some((own.0 + rest.0, own.1 + rest.1))
    };
    for i in (0..olds).rev() {
        for j in (0..news).rev() {
            let skipped = best[i + 1][j].max(best[i][j + 1]);
            best[i][j] = both(&best, i, j).map_or(skipped, |both| both.max(skipped));
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, vec![None; news]);
    while i < olds && j < news {
        if both(&best, i, j) == Some(best[i][j]) {
            pairs[j] = Some(i);
            (i, j) = (i + 1, j + 1);
        } else if best[i + 1][j] == best[i][j] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with what they say in capitals or not: `a` and `A` are a pair, `a` and `a` are worth more.
    fn check(old: &str, new: &str, expected: &[Option<usize>]) {
        let (olds, news) = (old.as_bytes(), new.as_bytes());
        let worth =
            |i: usize, j: usize| olds[i].eq_ignore_ascii_case(&news[j]).then(|| (1, usize::from(olds[i] == news[j])));
        assert_eq!(pairs(olds.len(), news.len(), worth), expected, "{old} became {new}");
    }

    #[test]
    fn most_filters_have_a_successor_and_then_most_of_these_say_the_same() {
        check("", "a", &[None]);
        check("a", "", &[]);
        check("abc", "abc", &[Some(0), Some(1), Some(2)]);
        check("abc", "ac", &[Some(0), Some(2)]);
        check("ac", "abc", &[Some(0), None, Some(1)]);
        check("ab", "ba", &[Some(1), None]);
        check("aA", "AA", &[Some(0), Some(1)]);
        check("aA", "A", &[Some(1)]);
        check("aA", "a", &[Some(0)]);
        check("A", "aA", &[None, Some(0)]);
        check("bA", "ab", &[None, Some(0)]);
    }
}

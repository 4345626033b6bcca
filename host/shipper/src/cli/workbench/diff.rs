//! Two lists of texts side by side: what is missing (`-`), what is more (`+`), with a little of what stands around it.

use similar::{Algorithm, DiffTag, capture_diff_slices, group_diff_ops};

use crate::observe::text::Paint;

/// Equal lines shown around a difference.
const CONTEXT: usize = 3;

/// The difference. `None`: there is none.
pub(in crate::cli) fn unified(old: &[String], new: &[String], paint: Paint) -> Option<String> {
    if old == new {
        return None;
    }
    let ops = capture_diff_slices(Algorithm::Myers, old, new);
    let mut text = String::new();
    for group in group_diff_ops(ops, CONTEXT) {
        let (first, last) = (group.first()?, group.last()?);
        let place = |from: usize, to: usize| match to - from {
            0 => format!("{from},0"),
            1 => format!("{}", from + 1),
            lines => format!("{},{lines}", from + 1),
        };
        let at_old = place(first.old_range().start, last.old_range().end);
        let at_new = place(first.new_range().start, last.new_range().end);
        line(&mut text, &paint.faint(&format!("@@ -{at_old} +{at_new} @@")));
        for op in group {
            if op.tag() == DiffTag::Equal {
                old[op.old_range()].iter().for_each(|same| line(&mut text, &format!("  {same}")));
                continue;
            }
            old[op.old_range()].iter().for_each(|gone| line(&mut text, &paint.bad(&format!("- {gone}"))));
            new[op.new_range()].iter().for_each(|more| line(&mut text, &paint.good(&format!("+ {more}"))));
        }
    }
    Some(text)
}

/// Adds a line.
pub(super) fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &str, new: &str, expected: Option<&str>) {
        let lines = |text: &str| text.split_terminator(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        let found = unified(&lines(old), &lines(new), Paint(false));
        assert_eq!(found.as_deref(), expected, "{old:?} and {new:?}");
    }

    #[test]
    fn what_is_equal_has_no_difference() {
        check("", "", None);
        check("a b", "a b", None);
    }

    #[test]
    fn what_is_missing_more_and_other_is_told_apart() {
        check("a", "", Some("@@ -1 +0,0 @@\n- a\n"));
        check("", "a b", Some("@@ -0,0 +1,2 @@\n+ a\n+ b\n"));
        check("a b c", "a x c", Some("@@ -1,3 +1,3 @@\n  a\n- b\n+ x\n  c\n"));
        // The same lines in another order are no less a difference.
        check("a b", "b a", Some("@@ -1,2 +1,2 @@\n+ b\n  a\n- b\n"));
    }

    #[test]
    fn far_from_a_difference_nothing_is_shown() {
        let found = "@@ -1,4 +1,3 @@\n- 1\n  2\n  3\n  4\n@@ -9,3 +8,4 @@\n  9\n  10\n  11\n+ 12\n";
        check("1 2 3 4 5 6 7 8 9 10 11", "2 3 4 5 6 7 8 9 10 11 12", Some(found));
    }
}

//! Cases that random scripts found, each with what was wrong.

use crate::check;
use crate::script::Action::*;
use crate::script::Layout::*;
use crate::script::Text::*;
use crate::script::{Action, Layout, Setting, Text};

#[track_caller]
fn holds(layout: Layout, text: Text, compressed: bool, script: &[Action]) {
    check(Setting { layout, text, compressed }, script).unwrap();
}

const PACK: Action = Pack { zstd: false, finished: false };
const STOP: Action = Stop { read: false };
const DELETE: Action = Delete { read: false };

#[test]
fn a_file_of_two_names_is_not_finished_after_a_restart_because_the_other_name_comes_first() {
    holds(Matching, Distinct, false, &[Write(1), HardLink, WritePartial, Reboot, Write(1)]);
}

#[test]
fn a_truncated_file_of_two_names_keeps_the_one_that_it_was_read_under() {
    holds(Matching, Distinct, false, &[HardLink, Truncate, Write(1), Prune, Write(1), WritePartial, Scan, Write(1)]);
}

#[test]
fn the_target_of_a_link_is_found_where_it_was_renamed_while_stopped() {
    holds(Linked, Equal, false, &[Write(1), STOP, RenameAway]);
    holds(Linked, Distinct, false, &[Write(1), STOP, RenameDated, Write(1), RenameChain, Write(1)]);
}

#[test]
fn a_target_that_is_renamed_while_closed_as_idle_is_opened_again_for_its_last_lines() {
    holds(Linked, Equal, false, &[RenameDated, Idle, WriteOld(1)]);
}

#[test]
fn a_target_that_was_truncated_and_renamed_between_two_looks_is_read() {
    holds(Linked, Distinct, false, &[Reboot, Rewrite(1), RenameDated, Write(1)]);
}

#[test]
fn a_copy_beside_the_target_of_a_link_is_held_back_like_one_beside_the_link() {
    holds(Linked, Distinct, false, &[Write(35), CopyTruncate, DELETE]);
}

#[test]
fn an_archive_that_is_known_is_known_after_the_device_number_changed() {
    holds(Matching, Distinct, true, &[Write(35), RenameDated, PACK, Reboot]);
}

#[test]
fn a_finished_generation_does_not_claim_the_inode_that_an_unseen_one_has_now() {
    holds(Plain, Headed, false, &[Write(1), DELETE, RenameDated, RenameDated, WriteOld(1), Reboot]);
}

#[test]
fn a_new_log_that_begins_like_all_of_a_finished_one_is_followed_when_it_grows_and_is_renamed() {
    holds(Plain, Headed, false, &[DELETE, RenameAway, Write(1), RenameDated]);
}

#[test]
fn an_unseen_generation_that_looks_like_a_copy_is_not_held_back_over_a_restart() {
    let script = [STOP, Write(1), RenameAway, Write(2), RenameDated, Write(1), Restart, Restart];
    holds(Nested, Equal, false, &script);
}

#[test]
fn behind_a_directory_that_was_replaced_while_stopped_unseen_generations_are_read() {
    holds(Nested, Equal, false, &[STOP, ReplaceDir { meant: true }, Write(1), RenameDated]);
}

#[test]
fn equal_lines_are_not_taken_for_shipped_in_the_file_that_was_rotated_next() {
    holds(Plain, Equal, false, &[Reboot, RenameDated, PACK, Write(1), RenameDated, Restart]);
    let set_back = [Reboot, STOP, ClockJump(true), Write(1), RenameDated, PACK, Write(2), RenameDated];
    holds(Plain, Equal, false, &set_back);
    let script = [RenameAway, Reboot, STOP, RenameChain, RenameDated, WriteOld(2), PACK];
    holds(Linked, Equal, false, &script);
}

#[test]
fn of_files_with_the_same_head_the_one_with_unread_lines_is_found() {
    holds(Plain, Headed, false, &[RenameAway, RenameDated, WriteOld(1), STOP, PACK, Write(1)]);
    holds(Linked, Headed, false, &[Scan, RenameDated, WriteOld(1), Write(1), STOP, PACK]);
    let packed_twice = [Write(1), RenameDated, PACK, Write(1), Crash { stay: true }, RenameDated, PACK];
    holds(Plain, Headed, false, &packed_twice);
    holds(Linked, Headed, false, &packed_twice);
}

#[test]
fn a_generation_that_holds_what_a_finished_one_held_is_read_on_when_it_is_written() {
    let script = [RenameAway, RenameDated, Crash { stay: true }, Prune, RenameDated, Write(1), Restart, WriteOld(1)];
    holds(Plain, Headed, false, &script);
    holds(Linked, Headed, false, &script);
}

#[test]
fn what_was_seen_behind_the_end_of_the_only_copy_is_counted() {
    holds(Plain, Distinct, false, &[Write(35), Copy, WritePartial, Truncate]);
}

#[test]
fn nothing_is_counted_as_lost_of_a_copy_that_was_read_before_it_was_deleted() {
    holds(Matching, Distinct, false, &[Write(1), Copy, CopyTruncate, Prune, Restart]);
}

#[test]
fn all_that_a_file_of_equal_lines_may_be_is_read_again_when_it_was_compressed_while_stopped() {
    holds(Plain, Equal, false, &[Write(1), Scan, STOP, Write(1), RenameChain, Write(2), PACK, RenameDated]);
    let packed: Action = Pack { zstd: false, finished: true };
    holds(Plain, Equal, false, &[Reboot, STOP, Write(27), RenameChain, Write(3), packed.clone(), RenameDated]);
    let twice = [Write(9), RenameDated, Write(1), Scan, STOP, PACK, RenameDated, Write(1), WriteOld(10), PACK];
    holds(Linked, Equal, false, &twice);
    let script = [Write(10), RenameChain, Write(1), Restart, STOP, Write(11), RenameDated, PACK, packed];
    holds(Plain, Equal, false, &script);
}

#[test]
fn a_vanished_file_whose_archive_is_read_is_not_counted_as_lost_at_the_next_start() {
    let script = [WritePartial, Scan, RenameDated, PACK, Restart, Write(1), Restart, Write(1)];
    holds(Matching, Distinct, true, &script);
}

#[test]
fn an_archive_beside_the_target_of_a_link_is_known_by_the_link() {
    holds(Linked, Distinct, false, &[Write(35), RenameDated, PACK, DELETE]);
}

#[test]
fn a_copy_beside_the_target_of_a_link_waits_for_the_search_that_is_about_it() {
    let script = [
        WritePartial,
        Stop { read: true },
        CopyTruncate,
        RenameDated,
        Truncate,
        Write(35),
        Scan,
        CopyTruncate,
        Restart,
    ];
    holds(Linked, Distinct, false, &script);
}

#[test]
fn what_lies_in_the_place_of_a_truncated_file_is_not_held_back_as_a_copy() {
    holds(Matching, Distinct, false, &[Write(1), Copy, Damage(50), STOP, RenameDated, PACK]);
}

//! A stream's counts in its entry's ledger: the loss equation, line by line and byte by byte.
//!
//! read = delivered + filtered + dropped{reason} + rewound + pending, in input lines of the files.

use super::parcels::ParcelNote;
use super::services::Services;
use super::stream::Stream;
use crate::checkpoint::Ticket;
use crate::filter::Answered;
use crate::model::LineCount;
use crate::observe::DropReason;
use tailmill_tail::Batch;

/// A batch was read.
pub(super) fn read(stream: &mut Stream, batch: &Batch, services: &mut Services) {
    let skipped = LineCount { lines: batch.skipped_lines, bytes: batch.skipped_bytes };
    let count = LineCount { lines: batch.len() as u64 + skipped.lines, bytes: batch.bytes() };
    stream.counts.read += count;
    stream.counts.dropped += skipped;
    let ledger = services.ledger(stream.entry());
    ledger.read += count;
    if !skipped.is_zero() {
        ledger.drop_lines(DropReason::TooLong, skipped);
    }
    ledger.cut_lines += batch.cut_lines;
    ledger.malformed += batch.replaced;
}

/// The chain answered: what was filtered or dropped has come to its end.
pub(super) fn answered(stream: &mut Stream, answered: &Answered, services: &mut Services) {
    stream.counts.filtered += answered.filtered;
    stream.counts.dropped += answered.dropped;
    let ledger = services.ledger(stream.entry());
    ledger.filtered += answered.filtered;
    if !answered.dropped.is_zero() {
        ledger.drop_lines(DropReason::FilterError, answered.dropped);
    }
    ledger.passed_lines += answered.passed_lines;
}

/// Records were acknowledged.
pub(super) fn acknowledged(stream: &mut Stream, note: &ParcelNote, records: u32, bytes: u64, services: &mut Services) {
    let carried = stream.progress.settle(note.ticket, records);
    let ledger = services.ledger(stream.entry());
    ledger.dead_letters += if note.dead_letter { u64::from(records) } else { 0 };
    ledger.records_acked += u64::from(records);
    ledger.records_acked_bytes += bytes;
    finish_ticket(stream, carried, services);
}

/// A refused record was dropped by policy: with the line that it stands for.
pub(super) fn dropped_refused(stream: &mut Stream, ticket: Ticket, line: LineCount, services: &mut Services) {
    let line = stream.progress.take_from(ticket, line);
    stream.counts.dropped += line;
    let ledger = services.ledger(stream.entry());
    ledger.records_refused += 1;
    if !line.is_zero() {
        ledger.drop_lines(DropReason::Refused, line);
    }
    let carried = stream.progress.settle(ticket, 1);
    finish_ticket(stream, carried, services);
}

fn finish_ticket(stream: &mut Stream, carried: Option<LineCount>, services: &mut Services) {
    if let Some(carried) = carried {
        stream.counts.delivered += carried;
        stream.dirty = true;
        services.ledger(stream.entry()).delivered += carried;
    }
}

/// The stream goes back to its resume point: what was pending is read again and not counted twice.
pub(super) fn rewound(stream: &mut Stream, services: &mut Services) {
    let pending = stream.pending();
    stream.counts.rewound += pending;
    services.ledger(stream.entry()).rewound += pending;
}

/// Something stands still.
pub(super) fn stuck(stream: &Stream, services: &mut Services, reason: &str) {
    tracing::error!(entry = %stream.entry(), file = %stream.path.display(), "{reason}");
    let now_ms = services.now_ms();
    services.ledger(stream.entry()).error(now_ms, reason);
}

//! Keys, topics, timestamps and headers on their way through a chain.
//!
//! What an earlier stage set survives a later one: a line that is kept keeps it; a rewritten line takes it over from
//! its source line, as far as the later stage sets nothing of its own (a key or header value for that line, a column
//! of topics, a column of timestamps). A topic that nobody set is 0 (the entry's own); a timestamp that nobody set,
//! in a column that some lines need, is 0 (the host's).

use super::pieces::compact;
use crate::model::Extras;
use std::sync::Arc;
use tailmill_engine::{Column, Header, Mask, Output};

/// Finds what the input line with a sequence number came with: its extras and its place in them.
pub(super) type Inherit<'a> = &'a dyn Fn(u64) -> Option<(&'a Extras, usize)>;

/// What the lines of an output come with.
pub(super) fn of_output(output: &mut Output, inherit: Option<Inherit<'_>>) -> Option<Box<Extras>> {
    let own = Extras {
        keys: output.keys.take(),
        topics: std::mem::take(&mut output.topics),
        timestamps_ms: std::mem::take(&mut output.timestamps_ms),
        headers: std::mem::take(&mut output.headers),
    };
    let from: Vec<_> = inherit.map(|find| output.sources.iter().map(|&seq| find(seq)).collect()).unwrap_or_default();
    let merged = if from.iter().any(Option::is_some) { merge(own, &from) } else { own };
    (!is_plain(&merged)).then(|| Box::new(merged))
}

/// Keeps the lines with a 1.
pub(super) fn keep(extras: &mut Extras, mask: &Mask) {
    if let Some(keys) = &mut extras.keys {
        compact(&mut keys.spans, mask);
    }
    compact(&mut extras.topics, mask);
    compact(&mut extras.timestamps_ms, mask);
    for header in &mut extras.headers {
        compact(&mut header.values.spans, mask);
    }
}

/// Cuts in two: the lines before `at` stay, the rest is returned.
pub(super) fn split_off(extras: &mut Extras, at: usize) -> Extras {
    fn column(column: &mut Column, at: usize) -> Column {
        Column { spans: column.spans.split_off(at), data: column.data.clone() }
    }
    fn values<T>(values: &mut Vec<T>, at: usize) -> Vec<T> {
        if values.is_empty() { Vec::new() } else { values.split_off(at) }
    }
    Extras {
        keys: extras.keys.as_mut().map(|keys| column(keys, at)),
        topics: values(&mut extras.topics, at),
        timestamps_ms: values(&mut extras.timestamps_ms, at),
        headers: extras
            .headers
            .iter_mut()
            .map(|header| Header { name: header.name.clone(), values: column(&mut header.values, at) })
            .collect(),
    }
}

/// After an entry's topics changed: a record goes to the topic of the same name, or to the entry's own if that is gone.
pub(super) fn retarget(extras: &mut Extras, old: &[Arc<str>], new: &[Arc<str>]) {
    for topic in &mut extras.topics {
        let name = old.get(usize::from(*topic));
        *topic = name.and_then(|name| new.iter().position(|n| n == name)).map_or(0, |i| i as u16);
    }
}

fn is_plain(extras: &Extras) -> bool {
    extras.keys.is_none() && extras.topics.is_empty() && extras.timestamps_ms.is_empty() && extras.headers.is_empty()
}

/// `from`: for each line, what its source line came with.
fn merge(mut own: Extras, from: &[Option<(&Extras, usize)>]) -> Extras {
    own.keys = merge_column(own.keys.take(), from, |extras| extras.keys.as_ref());
    own.topics = merge_values(own.topics, from, |extras| &extras.topics);
    own.timestamps_ms = merge_values(own.timestamps_ms, from, |extras| &extras.timestamps_ms);
    let mut names: Vec<String> = own.headers.iter().map(|header| header.name.clone()).collect();
    for header in from.iter().flatten().flat_map(|(extras, _)| &extras.headers) {
        if !names.contains(&header.name) {
            names.push(header.name.clone());
        }
    }
    let mut merged = Vec::with_capacity(names.len());
    for name in names {
        let mine = own.headers.iter_mut().find(|header| header.name == name).map(|h| std::mem::take(&mut h.values));
        let theirs = |extras| header(extras, &name);
        if let Some(values) = merge_column(mine, from, theirs) {
            merged.push(Header { name, values });
        }
    }
    own.headers = merged;
    own
}

fn header<'a>(extras: &'a Extras, name: &str) -> Option<&'a Column> {
    extras.headers.iter().find(|header| header.name == name).map(|header| &header.values)
}

fn merge_column<'a>(
    own: Option<Column>,
    from: &[Option<(&'a Extras, usize)>],
    pick: impl Fn(&'a Extras) -> Option<&'a Column>,
) -> Option<Column> {
    let mut merged = own;
    for (line, source) in from.iter().enumerate() {
        let Some((extras, i)) = source else { continue };
        let Some(value) = pick(extras).and_then(|column| column.get(*i)) else { continue };
        let column = merged.get_or_insert_with(Column::default);
        column.spans.resize(from.len(), None);
        if column.spans[line].is_none() {
            // Columns are bounded by an answer's output bytes, far below 4 GiB.
            let start = column.data.len() as u32;
            column.data.extend_from_slice(value);
            column.spans[line] = Some((start, column.data.len() as u32));
        }
    }
    merged
}

fn merge_values<'a, T: Copy + Default + 'a>(
    own: Vec<T>,
    from: &[Option<(&'a Extras, usize)>],
    pick: impl Fn(&'a Extras) -> &'a [T],
) -> Vec<T> {
    let inherited = |source: &Option<(&'a Extras, usize)>| source.and_then(|(extras, i)| pick(extras).get(i).copied());
    if !own.is_empty() || from.iter().all(|source| inherited(source).is_none()) {
        return own;
    }
    from.iter().map(|source| inherited(source).unwrap_or_default()).collect()
}

//! Keys, topics, timestamps and headers on their way through a chain.
//!
//! What an earlier stage set survives a later one: a line that is kept keeps it; a rewritten line takes it over from
//! its source line, as far as the later stage sets nothing of its own (a key, a timestamp or a header value for that
//! line, a column of topics). A topic that nobody set is 0 (the entry's own); a timestamp that nobody set, in a column
//! that some lines need, is the host's.

use super::pieces::compact;
use crate::model::{Extras, HOSTS_TIME};
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
    own.topics = merge_topics(own.topics, from);
    own.timestamps_ms = merge_timestamps(own.timestamps_ms, from);
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

fn merge_topics(own: Vec<u16>, from: &[Option<(&Extras, usize)>]) -> Vec<u16> {
    let inherited = |source: &Option<(&Extras, usize)>| source.and_then(|(extras, i)| extras.topics.get(i).copied());
    if !own.is_empty() || from.iter().all(|source| inherited(source).is_none()) {
        return own;
    }
    from.iter().map(|source| inherited(source).unwrap_or_default()).collect()
}

fn merge_timestamps(own: Vec<i64>, from: &[Option<(&Extras, usize)>]) -> Vec<i64> {
    let inherited = |source: &Option<(&Extras, usize)>| source.and_then(|(extras, i)| extras.timestamp_ms(i));
    if from.iter().all(|source| inherited(source).is_none()) {
        return own;
    }
    let mine = |line: usize| own.get(line).copied().filter(|time| *time != HOSTS_TIME);
    let merged = from.iter().enumerate().map(|(line, source)| mine(line).or_else(|| inherited(source)));
    merged.map(|time| time.unwrap_or(HOSTS_TIME)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[Option<&str>]) -> Column {
        let mut column = Column::default();
        for value in values {
            let start = column.data.len() as u32;
            column.data.extend_from_slice(value.unwrap_or("").as_bytes());
            column.spans.push(value.map(|_| (start, column.data.len() as u32)));
        }
        column
    }

    fn header(name: &str, values: &[Option<&str>]) -> Header {
        Header { name: name.into(), values: column(values) }
    }

    /// Two input lines with all kinds of extras; the second has neither key nor value for header `b`.
    fn input() -> Extras {
        Extras {
            keys: Some(column(&[Some("k0"), None])),
            topics: vec![1, 0],
            timestamps_ms: vec![10, 20],
            headers: vec![header("a", &[Some("a0"), Some("a1")]), header("b", &[Some("b0"), None])],
        }
    }

    fn output(sources: &[u64]) -> Output {
        let n = sources.len();
        Output { starts: vec![0; n], ends: vec![0; n], sources: sources.to_vec(), ..Output::default() }
    }

    fn shown(extras: &Extras, i: usize) -> String {
        let text = |value: Option<&[u8]>| value.map_or("-".into(), |v| String::from_utf8_lossy(v).into_owned());
        let key = text(extras.keys.as_ref().and_then(|keys| keys.get(i)));
        let headers: Vec<String> =
            extras.headers.iter().map(|header| format!("{}={}", header.name, text(header.values.get(i)))).collect();
        format!("{key} {:?} {:?} {}", extras.topics.get(i), extras.timestamp_ms(i), headers.join(" "))
    }

    fn merged(mut output: Output) -> Extras {
        let input = input();
        let find = |seq: u64| (seq < 2).then_some((&input, seq as usize));
        *of_output(&mut output, Some(&find)).expect("there are extras")
    }

    #[test]
    fn a_rewritten_line_takes_over_what_its_source_line_came_with() {
        let extras = merged(output(&[1, 0, 0]));
        assert_eq!(shown(&extras, 0), "- Some(0) Some(20) a=a1 b=-");
        assert_eq!(shown(&extras, 1), "k0 Some(1) Some(10) a=a0 b=b0");
        assert_eq!(shown(&extras, 1), shown(&extras, 2));
    }

    #[test]
    fn what_the_later_stage_sets_itself_wins() {
        let mut output = output(&[0, 0]);
        output.keys = Some(column(&[Some("mine"), None]));
        output.topics = vec![0, 0];
        output.timestamps_ms = vec![7, 8];
        output.headers = vec![header("b", &[None, Some("mine")]), header("c", &[Some("c"), None])];
        let extras = merged(output);
        assert_eq!(shown(&extras, 0), "mine Some(0) Some(7) b=b0 c=c a=a0");
        assert_eq!(shown(&extras, 1), "k0 Some(0) Some(8) b=mine c=- a=a0");
    }

    #[test]
    fn a_line_without_a_time_of_its_own_keeps_that_of_its_source() {
        let mut output = output(&[0, 1, 9]);
        output.timestamps_ms = vec![HOSTS_TIME, 7, HOSTS_TIME];
        let extras = merged(output);
        assert_eq!([0, 1, 2].map(|i| extras.timestamp_ms(i)), [Some(10), Some(7), None]);
    }

    #[test]
    fn a_line_that_nobody_set_anything_for_has_the_defaults_beside_one_that_somebody_did() {
        let extras = merged(output(&[9, 0]));
        assert_eq!(shown(&extras, 0), "- Some(0) None a=- b=-");
        let (mut plain, input) = (output(&[9]), input());
        let find = |seq: u64| (seq < 2).then_some((&input, seq as usize));
        assert!(of_output(&mut plain, Some(&find)).is_none());
        assert!(of_output(&mut output(&[0]), None).is_none());
    }

    #[test]
    fn masking_and_cutting_keep_every_column_in_step() {
        let mut kept = input();
        keep(&mut kept, &Mask { words: vec![0b10], len: 2 });
        assert_eq!(shown(&kept, 0), "- Some(0) Some(20) a=a1 b=-");
        let mut first = input();
        let second = split_off(&mut first, 1);
        assert_eq!(shown(&first, 0), "k0 Some(1) Some(10) a=a0 b=b0");
        assert_eq!(shown(&second, 0), "- Some(0) Some(20) a=a1 b=-");
        assert_eq!(shown(&first, 1), "- None None a=- b=-");
    }

    #[test]
    fn topics_follow_their_names_when_an_entry_changes() {
        let names = |list: &[&str]| list.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
        let mut extras = Extras { topics: vec![0, 1, 2, 9], ..Extras::default() };
        retarget(&mut extras, &names(&["main", "errors", "audit"]), &names(&["other", "audit", "errors"]));
        assert_eq!(extras.topics, [0, 2, 1, 0]);
    }
}

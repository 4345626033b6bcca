//! The fleet's part of `tailmill status`: what nodes write into etcd, for a person or as it is.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::{Value, json};

use super::{at, code, table, with_desk};
use crate::cli::say;
use crate::config::EtcdSettings;
use crate::fleet::nodes::{self, Fleet, State};
use crate::fleet::{Desk, FleetError};
use crate::model::exit;
use crate::observe::text::{Paint, bytes, count, counted, duration_ms, safe};
use crate::observe::{NodeStatus, now_ms};

/// What is asked for.
pub(in crate::cli) struct Asked<'a> {
    /// One node; else all.
    pub(in crate::cli) node: Option<&'a str>,
    pub(in crate::cli) json: bool,
    pub(in crate::cli) watch: Option<Duration>,
    /// Forget this node, which is gone for good.
    pub(in crate::cli) forget: Option<&'a str>,
}

pub(in crate::cli) fn run(etcd: &EtcdSettings, asked: &Asked<'_>) -> i32 {
    code(with_desk(etcd, async |desk| {
        if let Some(node) = asked.forget {
            nodes::forget(desk, node).await?;
            say(&format!("{node} is forgotten\n"));
            return Ok(exit::CLEAN);
        }
        let Some(every) = asked.watch else {
            say(&look(desk, asked).await?);
            return Ok(exit::CLEAN);
        };
        let clear = if std::io::stdout().is_terminal() && !asked.json { "\u{1b}[H\u{1b}[2J\u{1b}[3J" } else { "" };
        loop {
            let text = look(desk, asked).await.unwrap_or_else(|error| format!("{error}\n"));
            if !say(&format!("{clear}{text}")) {
                return Ok(exit::CLEAN);
            }
            tokio::time::sleep(every).await;
        }
    }))
}

async fn look(desk: &mut Desk, asked: &Asked<'_>) -> Result<String, FleetError> {
    let fleet = nodes::fleet(desk).await?;
    let Some(name) = asked.node else {
        return Ok(if asked.json { format!("{:#}\n", as_json(&fleet)) } else { all(&fleet) });
    };
    match (fleet.nodes.get(name), fleet.gone.get(name)) {
        (Some(Ok(node)), _) if asked.json => Ok(format!("{:#}\n", json!(node))),
        (Some(Ok(node)), _) => Ok(one(node, fleet.state(&Ok(node.clone())), fleet.revision)),
        (Some(Err(why)), _) => Err(FleetError::Refused(why.clone())),
        (None, Some(started)) => {
            Err(FleetError::Refused(format!("{name} is gone; it was started last at {}", at(*started))))
        }
        (None, None) => Err(FleetError::Refused(format!("there was never a node `{name}`"))),
    }
}

fn as_json(fleet: &Fleet) -> Value {
    let node = |(name, node): (&String, &Result<NodeStatus, String>)| {
        let state = fleet.state(node);
        match node {
            Ok(node) => json!({ "node": name, "state": state, "status": node }),
            Err(why) => json!({ "node": name, "state": state, "error": why }),
        }
    };
    let gone =
        fleet.gone.iter().map(|(name, started)| json!({ "node": name, "state": State::Gone, "started_ms": started }));
    let nodes: Vec<Value> = fleet.nodes.iter().map(node).chain(gone).collect();
    json!({ "revision": fleet.revision, "nodes": nodes })
}

fn painted(state: State, paint: Paint) -> String {
    match state {
        State::Ok => paint.good(state.word()),
        State::Behind => paint.warn(state.word()),
        _ => paint.bad(state.word()),
    }
}

/// The worst first, and why.
fn all(fleet: &Fleet) -> String {
    let paint = Paint::for_stream(&std::io::stdout());
    let mut rows: Vec<(State, Vec<String>)> = fleet
        .gone
        .iter()
        .map(|(name, started)| {
            (State::Gone, vec![name.clone(), "gone".to_owned(), format!("started {}", at(*started))])
        })
        .collect();
    let mut reasons = String::new();
    for (name, node) in &fleet.nodes {
        let state = fleet.state(node);
        match node {
            Err(why) => {
                rows.push((state, vec![name.clone(), state.word().to_owned()]));
                reasons += &format!("{name}: {}\n", safe(why));
            }
            Ok(node) => {
                rows.push((state, row(name, node, state)));
                reasons += &why(name, node);
            }
        }
    }
    rows.sort();
    let counts =
        [State::Gone, State::Unreadable, State::Trouble, State::Refuses, State::Behind, State::Ok].map(|state| {
            let number = rows.iter().filter(|(own, _)| *own == state).count();
            (number > 0).then(|| format!("{number} {}", painted(state, paint)))
        });
    let nodes = counted(rows.len() as u64, "node");
    let mut text = format!(
        "{nodes} at revision {}: {}\n\n",
        fleet.revision,
        counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    );
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
    text += &table(
        &["NODE", "STATE", "REVISION", "ENTRIES", "FILES", "LINES/S", "BEHIND", "WAITING", "HEARD", "VERSION"],
        &rows,
    );
    if !reasons.is_empty() {
        text += &format!("\n{reasons}");
    }
    text
}

fn row(name: &str, node: &NodeStatus, state: State) -> Vec<String> {
    let sum = |of: fn(&crate::observe::NodeEntry) -> u64| node.entries.iter().map(of).sum::<u64>();
    let rate: f64 = node.entries.iter().map(|entry| entry.rates.delivered_lines).sum();
    let oldest = node.entries.iter().map(|entry| entry.lag_ms).max().unwrap_or_default();
    let heard = u64::try_from(now_ms().saturating_sub(node.at_ms)).unwrap_or_default();
    vec![
        name.to_owned(),
        state.word().to_owned(),
        node.revision.to_string(),
        node.entries.len().to_string(),
        sum(|entry| entry.streams).to_string(),
        format!("{rate:.0}"),
        bytes(sum(|entry| entry.lag_bytes)),
        duration_ms(oldest),
        format!("{} ago", duration_ms(heard)),
        node.version.split_whitespace().next().unwrap_or_default().to_owned(),
    ]
}

/// What is wrong on a node, in lines.
fn why(name: &str, node: &NodeStatus) -> String {
    let mut text = String::new();
    for part in &node.troubles {
        text += &format!("{name}: {}: {}\n", safe(&part.part), safe(part.message.as_deref().unwrap_or("in trouble")));
    }
    for entry in node.entries.iter().filter(|entry| entry.state == "blocked") {
        let error = entry.last_error.as_ref().map_or(String::new(), |error| format!(": {}", safe(&error.message)));
        text += &format!("{name}: entry {} is blocked{error}\n", safe(&entry.name));
    }
    for problem in &node.problems {
        text += &format!("{name}: refuses {}\n", safe(&problem.to_string()));
    }
    if node.problems_untold > 0 {
        text += &format!("{name}: and refuses {} more\n", node.problems_untold);
    }
    text
}

/// One node.
fn one(node: &NodeStatus, state: State, revision: i64) -> String {
    let labels: Vec<String> = node.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut text = format!(
        "{} {}: revision {} of {revision}, started {}, heard {}\n{}{}\n\n",
        node.node,
        state.word(),
        node.revision,
        at(node.started_ms),
        at(node.at_ms),
        node.version,
        if labels.is_empty() { String::new() } else { format!(", {}", labels.join(" ")) },
    );
    let mut rows = Vec::new();
    for entry in &node.entries {
        let loss = &entry.loss;
        rows.push(vec![
            entry.name.clone(),
            entry.state.clone(),
            entry.streams.to_string(),
            count(loss.read.lines),
            count(loss.delivered.lines),
            count(loss.filtered.lines),
            count(loss.dropped_total().lines),
            count(loss.pending.lines),
            if loss.balanced { "yes" } else { "NO" }.to_owned(),
            bytes(entry.lag_bytes),
            format!("{:.0}", entry.rates.delivered_lines),
        ]);
    }
    let headings = [
        "ENTRY",
        "STATE",
        "FILES",
        "READ",
        "DELIVERED",
        "FILTERED",
        "DROPPED",
        "PENDING",
        "BALANCED",
        "BEHIND",
        "LINES/S",
    ];
    text += &table(&headings, &rows);
    let filters = node.entries.iter().flat_map(|entry| entry.filters.iter().map(move |filter| (entry, filter)));
    let rows: Vec<Vec<String>> = filters
        .map(|(entry, filter)| {
            let in_force = if entry.modules.contains(&filter.digest) { "in force" } else { "before" };
            vec![
                entry.name.clone(),
                filter.name.clone(),
                filter.digest.clone(),
                in_force.to_owned(),
                count(filter.lines_in),
                count(filter.dropped),
                count(filter.faults),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text += &format!("\n{}", table(&["ENTRY", "FILTER", "DIGEST", "", "LINES", "DROPPED", "FAULTS"], &rows));
    }
    let reasons = why(&node.node, node);
    if reasons.is_empty() { text } else { format!("{text}\n{reasons}") }
}

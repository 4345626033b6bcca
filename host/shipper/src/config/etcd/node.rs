//! This agent's own key, `nodes/NODE`: what it does and what it refuses, under a lease, so that it goes when the agent does.
//!
//! ```text
//! PREFIXnodes/NODE    the status, under a lease
//! PREFIXseen/NODE     that there was such a node; stays, so that one that is gone is missed
//! ```
//! A change that matters is written at once (at most every CHANGE_EVERY), counters now and then. Trouble here never touches
//! the watch: an agent that may not write its status ships all the same.

use std::time::{Duration, Instant};

use etcd_client::{Client, PutOptions};
use serde_json::json;
use tokio::sync::watch;

use super::super::settings::Settings;
use super::{backoff, random, within};
use crate::observe::status::Status;
use crate::observe::{Board, NodeStatus, now_ms};

/// A node is missed when it was not heard for so long. Three beats may get lost.
const LEASE_S: i64 = 45;
const BEAT_EVERY: Duration = Duration::from_secs(12);
/// Counters are written so often. Ten thousand agents: 333 writes of some 2 KB a second.
const COUNTERS_EVERY: Duration = Duration::from_secs(30);
/// What changes all the time is written so often.
const CHANGE_EVERY: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// etcd refuses more than 1.5 MiB.
const BYTES_MAX: usize = 1 << 20;

/// Never returns.
pub(super) async fn keep(client: Client, settings: &Settings, board: &Board, applied: &watch::Receiver<i64>) {
    let mut attempt = 0;
    loop {
        let began = Instant::now();
        let Err(trouble) = session(client.clone(), settings, board, applied).await;
        if attempt == 0 {
            tracing::warn!("the status of this node cannot be written to etcd: {trouble}; it is tried again");
        }
        attempt = if began.elapsed() > 2 * BEAT_EVERY { 0 } else { attempt + 1 };
        tokio::time::sleep(backoff(attempt, random())).await;
    }
}

async fn session(
    mut client: Client,
    settings: &Settings,
    board: &Board,
    applied: &watch::Receiver<i64>,
) -> Result<std::convert::Infallible, String> {
    let prefix = settings.etcd.as_ref().map_or("", |etcd| etcd.prefix.as_str());
    let key = format!("{prefix}nodes/{}", settings.node);
    let lease = within("asking for a lease", client.lease_grant(LEASE_S, None)).await?.id();
    let (mut keeper, mut answers) = within("keeping the lease", client.lease_keep_alive(lease)).await?;
    let seen = json!({ "node": &*settings.node, "version": env!("CARGO_PKG_VERSION"), "started_ms": now_ms() });
    within("writing the node", client.put(format!("{prefix}seen/{}", settings.node), seen.to_string(), None)).await?;
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut beat = tokio::time::interval(BEAT_EVERY);
    let mut last: Option<(Instant, NodeStatus)> = None;
    // Not all agents in the same second.
    let spread = COUNTERS_EVERY / 4 * u32::try_from(random() % 100).unwrap_or(0) / 100;
    loop {
        tokio::select! {
            _ = beat.tick() => {
                within("keeping the lease", keeper.keep_alive()).await?;
                let answer = within("keeping the lease", answers.message()).await?;
                if answer.is_none_or(|answer| answer.ttl() <= 0) {
                    return Err("the lease is over".to_owned());
                }
            }
            _ = look.tick() => {
                let revision = *applied.borrow();
                let status = NodeStatus::of(Status::of(&board.view()), settings.labels.clone(), revision);
                let material = status.material();
                let due = match &last {
                    None => true,
                    Some((at, told)) => {
                        let since = at.elapsed();
                        // A new plan or a refusal is told at once, what goes on and on not so often.
                        let news = told.revision != material.revision || told.problems != material.problems;
                        news || (since >= CHANGE_EVERY && *told != material) || since >= COUNTERS_EVERY - spread
                    }
                };
                if due {
                    let options = PutOptions::new().with_lease(lease);
                    within("writing the status", client.put(key.as_str(), text(status), Some(options))).await?;
                    last = Some((Instant::now(), material));
                }
            }
        }
    }
}

/// The document, without its entries if it would be too large.
fn text(mut status: NodeStatus) -> Vec<u8> {
    let mut text = serde_json::to_vec(&status).unwrap_or_default();
    if text.len() > BYTES_MAX {
        status.problems_untold += status.problems.len() as u64;
        (status.entries, status.problems) = (Vec::new(), Vec::new());
        text = serde_json::to_vec(&status).unwrap_or_default();
    }
    text
}

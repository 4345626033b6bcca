//! Entries and modules from etcd: listed at a revision, watched from the next, listed again whenever the watch is worth nothing.
//!
//! One watch stream for an agent, over the folders and the array key. Passwords and certificates are read at every
//! connection. A key that is not valid is passed on like any other: what it is worth is decided in `build`.

mod backoff; // how long to wait
mod connect; // connections and single requests
mod node; // this agent's own key
mod view; // what is known, and what a message means

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Client, EventType, GetOptions, WatchOptions, WatchResponse};
use tokio::sync::watch;

use super::build::FoundEtcd;
use super::classic;
use super::settings::{EtcdSettings, Settings};
use crate::observe::Board;
use view::{Change, Heard, Then, View};

pub(super) use backoff::backoff;
pub(crate) use backoff::random;
use connect::said;
pub(crate) use connect::{connect, within};

/// A watch that looks alive is asked for its progress this often,
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// and given up when nothing came for so long.
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// A watch that lived so long makes the next trouble a first one.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// Ten thousand entries of some KiB.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What is known of etcd now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EtcdNews {
    /// The last that was read. None: nothing yet.
    pub(super) found: Option<FoundEtcd>,
    /// etcd's revision of the last change in it.
    pub(super) revision: i64,
    /// Why it cannot be followed now.
    pub(super) trouble: Option<String>,
}

/// Follows etcd until `stop`; says every change in `news`. Meanwhile tells the fleet how this agent is; `applied` is the
/// revision that its plan was made of.
pub(super) async fn follow(
    settings: &Settings,
    news: &watch::Sender<EtcdNews>,
    board: &Board,
    applied: &watch::Receiver<i64>,
    mut stop: watch::Receiver<bool>,
) {
    let Some(etcd) = &settings.etcd else { return };
    let mut attempt = 0;
    loop {
        let began = Instant::now();
        let trouble = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            trouble = session(settings, etcd, news, board, applied) => trouble,
        };
        attempt = if began.elapsed() >= HEALTHY_AFTER { 0 } else { attempt };
        news.send_if_modified(|news| {
            let changed = news.trouble.as_ref() != Some(&trouble);
            news.trouble = Some(trouble);
            changed
        });
        let wait = backoff(attempt, random());
        attempt = attempt.saturating_add(1);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What etcd holds now, or why it cannot be told (`tailmill check`).
pub(crate) async fn list_once(settings: &EtcdSettings) -> Result<FoundEtcd, String> {
    let mut client = connect(settings).await?;
    Ok(list(settings, &mut client).await?.found())
}

/// Lists and watches until something goes wrong; says what.
async fn session(
    settings: &Settings,
    etcd: &EtcdSettings,
    news: &watch::Sender<EtcdNews>,
    board: &Board,
    applied: &watch::Receiver<i64>,
) -> String {
    let client = match connect(etcd).await {
        Ok(client) => client,
        Err(reason) => return reason,
    };
    // One connection for both. What goes wrong with the status never ends the watch.
    tokio::select! {
        ended = watch_all(etcd, client.clone(), news) => match ended {
            Ok(reason) | Err(reason) => reason,
        },
        () = node::keep(client, settings, board, applied) => "the status ended".to_owned(),
    }
}

async fn watch_all(
    settings: &EtcdSettings,
    mut client: Client,
    news: &watch::Sender<EtcdNews>,
) -> Result<String, String> {
    let mut view = list(settings, &mut client).await?;
    let say = |view: &View| {
        let fresh = EtcdNews { found: Some(view.found()), revision: view.revision(), trouble: None };
        news.send_if_modified(|news| {
            let changed = *news != fresh;
            *news = fresh;
            changed
        });
    };
    say(&view);
    let options = || WatchOptions::new().with_start_revision(view.watch_from());
    let mut watcher = client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
    let [entries, modules, releases] = view::FOLDERS.map(|folder| format!("{}{folder}", settings.prefix));
    let mut stream = within("watching", watcher.watch(entries, Some(options().with_prefix()))).await?;
    within("watching", stream.watch(modules, Some(options().with_prefix()))).await?;
    within("watching", stream.watch(releases, Some(options().with_prefix()))).await?;
    if let Some(key) = array_key(settings) {
        within("watching", stream.watch(key, Some(options()))).await?;
    }
    let mut progress = tokio::time::interval(PROGRESS_EVERY);
    let mut last_heard = Instant::now();
    loop {
        let heard = tokio::select! {
            message = stream.message() => {
                last_heard = Instant::now();
                match message {
                    Ok(Some(response)) => heard(&response),
                    Ok(None) => Heard::Ended,
                    Err(error) => Heard::Failed(said("watching", &error)),
                }
            }
            _ = progress.tick() => {
                if last_heard.elapsed() > SILENCE_MAX {
                    Heard::Silent
                } else {
                    match stream.request_progress().await {
                        Ok(()) => continue,
                        Err(error) => Heard::Failed(said("watching", &error)),
                    }
                }
            }
        };
        match view.hear(heard) {
            Then::Nothing => {}
            Then::Changed => say(&view),
            Then::ListAgain(reason) => return Ok(reason),
        }
    }
}

fn heard(response: &WatchResponse) -> Heard {
    let revision = response.header().map_or(0, etcd_client::ResponseHeader::revision);
    if response.canceled() {
        let reason = response.cancel_reason().to_owned();
        return Heard::Canceled { compact_revision: response.compact_revision(), reason };
    }
    if response.created() {
        return Heard::Created;
    }
    if response.events().is_empty() {
        return Heard::Progress { revision };
    }
    let change = |event: &etcd_client::Event| {
        let kv = event.kv()?;
        let value = (event.event_type() == EventType::Put).then(|| kv.value().into());
        Some(Change { key: String::from_utf8_lossy(kv.key()).into_owned(), value })
    };
    Heard::Changes { revision, changes: response.events().iter().filter_map(change).collect() }
}

/// All folders as of one revision. Unary calls are not repeated at another endpoint by the client: the caller's next
/// attempt does that.
async fn list(settings: &EtcdSettings, client: &mut Client) -> Result<View, String> {
    let mut kv = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
    let pair = |kv: &etcd_client::KeyValue| (String::from_utf8_lossy(kv.key()).into_owned(), Arc::from(kv.value()));
    let (mut revision, mut pairs) = (0, Vec::<(String, Arc<[u8]>)>::new());
    for folder in view::FOLDERS {
        // 0: as of now.
        let options = GetOptions::new().with_prefix().with_revision(revision);
        let response = within("listing", kv.get(format!("{}{folder}", settings.prefix), Some(options))).await?;
        if revision == 0 {
            revision = response.header().map_or(0, etcd_client::ResponseHeader::revision);
        }
        pairs.extend(response.kvs().iter().map(pair));
    }
    let array_key = array_key(settings);
    if let Some(key) = &array_key {
        let options = GetOptions::new().with_revision(revision);
        let response = within("listing", kv.get(key.as_str(), Some(options))).await?;
        pairs.extend(response.kvs().iter().map(pair));
    }
    Ok(View::listed(&settings.prefix, array_key.as_deref(), revision, pairs))
}

/// Asked again at every connection: a host's address may change.
fn array_key(settings: &EtcdSettings) -> Option<String> {
    settings.array_key.as_deref().map(classic::array_key)
}

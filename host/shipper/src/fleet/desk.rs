//! A client that tries again at another endpoint, and transactions whose answer may get lost.
//!
//! etcd's client repeats nothing: with one of three members down a third of all requests fail. A read is simply asked again. A
//! transaction that failed without an answer may have been done: the desk looks whether its first write stands there.

use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, KeyValue, Txn, TxnOp};

use crate::config::EtcdSettings;
use crate::config::etcd::{connect, within};

const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(250);
/// Releases of many modules with their chunks.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FleetError {
    /// It may work later.
    #[error("{0}")]
    Etcd(String),
    /// It is refused: something else has to be asked for.
    #[error("{0}")]
    Refused(String),
    /// Others change the same thing again and again.
    #[error("others change it at the same time, again and again: try again")]
    Crowded,
}

impl FleetError {
    pub(super) fn refused(why: impl Into<String>) -> FleetError {
        FleetError::Refused(why.into())
    }
}

/// What must not have changed.
#[derive(Clone, Debug)]
pub(crate) enum Guard {
    /// This key was changed last at this revision; 0: it is not there.
    Key(String, i64),
    /// No key with this prefix was written behind this revision.
    Prefix(String, i64),
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// Key and value.
    Put(String, Vec<u8>),
    /// A key.
    Delete(String),
    /// All keys with this prefix.
    DeletePrefix(String),
}

/// See the module.
pub(crate) struct Desk {
    client: Client,
    prefix: String,
    array_key: Option<String>,
}

/// Keys with their values, and the revision of the store.
pub(crate) struct Listed {
    pub(crate) revision: i64,
    pub(crate) pairs: Vec<KeyValue>,
}

impl Listed {
    /// The only key of a single read.
    pub(crate) fn one(&self) -> Option<&KeyValue> {
        self.pairs.first()
    }
}

impl Desk {
    /// Connects; an endpoint that is down is no error as long as another one answers.
    pub(crate) async fn open(settings: &EtcdSettings) -> Result<Desk, FleetError> {
        let client = connect(settings).await.map_err(FleetError::Etcd)?;
        Ok(Desk { client, prefix: settings.prefix.clone(), array_key: settings.array_key.clone() })
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// As in the settings, with its `%s`.
    pub(super) fn array_key(&self) -> Option<&str> {
        self.array_key.as_deref()
    }

    /// One key.
    pub(crate) async fn get(&mut self, key: &str) -> Result<Listed, FleetError> {
        self.read(key, None).await
    }

    /// All keys under the prefix of ours and this folder, in order.
    pub(crate) async fn folder(&mut self, folder: &str) -> Result<Listed, FleetError> {
        let prefix = format!("{}{folder}", self.prefix);
        self.read(&prefix, Some(GetOptions::new().with_prefix())).await
    }

    /// Keys without values.
    pub(crate) async fn keys(&mut self, folder: &str) -> Result<Vec<String>, FleetError> {
        let prefix = format!("{}{folder}", self.prefix);
        let listed = self.read(&prefix, Some(GetOptions::new().with_prefix().with_keys_only())).await?;
        Ok(listed.pairs.iter().map(|pair| String::from_utf8_lossy(pair.key()).into_owned()).collect())
    }

    /// The revision of the newest change to what is in a folder.
    pub(super) async fn newest(&mut self, folder: &str) -> Result<i64, FleetError> {
        let newest = GetOptions::new().with_prefix().with_keys_only().with_limit(1);
        let newest = newest.with_sort(etcd_client::SortTarget::Mod, etcd_client::SortOrder::Descend);
        let prefix = format!("{}{folder}", self.prefix);
        let listed = self.read(&prefix, Some(newest)).await?;
        Ok(listed.one().map_or(0, KeyValue::mod_revision))
    }

    /// Any read.
    pub(super) async fn read(&mut self, key: &str, options: Option<GetOptions>) -> Result<Listed, FleetError> {
        let mut kv = self.client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut attempt = 0;
        loop {
            match within("reading", kv.get(key, options.clone())).await {
                Ok(mut answer) => {
                    let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
                    return Ok(Listed { revision, pairs: answer.take_kvs() });
                }
                Err(reason) => pause(&mut attempt, reason).await?,
            }
        }
    }

    /// Writes a key that may be written twice without harm.
    pub(super) async fn put(&mut self, key: &str, value: Vec<u8>) -> Result<(), FleetError> {
        let mut attempt = 0;
        loop {
            match within("writing", self.client.put(key, value.clone(), None)).await {
                Ok(_) => return Ok(()),
                Err(reason) => pause(&mut attempt, reason).await?,
            }
        }
    }

    /// All or nothing. False: a guard does not hold any more. The first write must be one that nobody else could have made.
    pub(crate) async fn commit(&mut self, guards: &[Guard], writes: &[Write]) -> Result<bool, FleetError> {
        let mut attempt = 0;
        loop {
            match within("writing", self.client.txn(transaction(guards, writes))).await {
                Ok(answer) if answer.succeeded() => return Ok(true),
                // A try before this one may have done it, without its answer.
                Ok(_) if attempt > 0 => return self.stands(&writes[0]).await,
                Ok(_) => return Ok(false),
                Err(reason) => pause(&mut attempt, reason).await?,
            }
        }
    }

    async fn stands(&mut self, write: &Write) -> Result<bool, FleetError> {
        match write {
            Write::Put(key, value) => Ok(self.get(key).await?.one().is_some_and(|pair| pair.value() == value)),
            Write::Delete(key) => Ok(self.get(key).await?.one().is_none()),
            Write::DeletePrefix(_) => Ok(false),
        }
    }
}

/// Time for another member, or a new leader; the last reason when it was asked often enough. What is refused for good is
/// not asked again.
async fn pause(attempt: &mut u32, reason: String) -> Result<(), FleetError> {
    let for_good = ["permission denied", "too large", "authentication failed", "user name is empty"];
    *attempt += 1;
    if *attempt >= ATTEMPTS || for_good.iter().any(|known| reason.contains(known)) {
        return Err(FleetError::Etcd(reason));
    }
    tokio::time::sleep(PAUSE * *attempt).await;
    Ok(())
}

fn transaction(guards: &[Guard], writes: &[Write]) -> Txn {
    let guard = |guard: &Guard| match guard {
        Guard::Key(key, revision) => Compare::mod_revision(key.as_str(), CompareOp::Equal, *revision),
        Guard::Prefix(prefix, revision) => {
            Compare::mod_revision(prefix.as_str(), CompareOp::Less, *revision + 1).with_prefix()
        }
    };
    let write = |write: &Write| match write {
        Write::Put(key, value) => TxnOp::put(key.as_str(), value.as_slice(), None),
        Write::Delete(key) => TxnOp::delete(key.as_str(), None),
        Write::DeletePrefix(prefix) => {
            TxnOp::delete(prefix.as_str(), Some(etcd_client::DeleteOptions::new().with_prefix()))
        }
    };
    Txn::new().when(guards.iter().map(guard).collect::<Vec<_>>()).and_then(writes.iter().map(write).collect::<Vec<_>>())
}

//! A real etcd: the one that `scripts/fetch-etcd` put into the cache.

use etcd_client::Client;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use crate::kafka::block_on;
use crate::process::{Process, last_lines};
use crate::{scratch, wait};

/// A single member on ports of its own. Dropping it kills it and removes its data.
pub struct Etcd {
    home: tempfile::TempDir,
    port: u16,
    peer: u16,
    member: Mutex<Option<Process>>,
}

impl Etcd {
    /// The one that all tests of this process share; each uses a prefix of its own.
    pub fn shared() -> &'static Etcd {
        static SHARED: OnceLock<Etcd> = OnceLock::new();
        SHARED.get_or_init(Etcd::start)
    }

    /// An etcd that answers.
    pub fn start() -> Etcd {
        let etcd = Etcd::stopped();
        etcd.start_again();
        etcd
    }

    /// An etcd that was never started: its port is closed.
    pub fn stopped() -> Etcd {
        let (port, peer) = (scratch::port(), scratch::port());
        Etcd { home: scratch::dir("etcd"), port, peer, member: Mutex::new(None) }
    }

    /// The URL for clients.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// SIGKILL: after a SIGTERM it would hold its ports for seconds while a watch is open.
    pub fn kill(&self) {
        self.member.lock().expect("no test panicked in here").take().expect("etcd is running").kill();
    }

    /// Starts it on the same ports with the same data; returns when it answers.
    pub fn start_again(&self) {
        let log = self.home.path().join("etcd.log");
        let mut process = Process::start("etcd", &mut self.command(), &log);
        let ready = || {
            if let Some(status) = process.ended() {
                panic!("etcd ended with {status}\n{}", last_lines(&log, 40));
            }
            let health = ureq::get(format!("{}/health", self.endpoint())).call().ok()?;
            health.into_body().read_to_string().ok()?.contains("\"true\"").then_some(())
        };
        wait::until("etcd answers", || last_lines(&log, 40), ready);
        *self.member.lock().expect("no test panicked in here") = Some(process);
    }

    /// Writes a key.
    pub fn put(&self, key: &str, value: impl Into<Vec<u8>>) {
        let value = value.into();
        block_on(async {
            let mut client = self.client().await;
            client.put(key, value, None).await.expect("etcd takes a small value");
        });
    }

    /// A key's value.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        block_on(async {
            let answer = self.client().await.get(key, None).await.expect("etcd answers");
            answer.kvs().first().map(|pair| pair.value().to_vec())
        })
    }

    /// All keys that begin so, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        block_on(async {
            let options = etcd_client::GetOptions::new().with_prefix().with_keys_only();
            let answer = self.client().await.get(prefix, Some(options)).await.expect("etcd answers");
            answer.kvs().iter().map(|pair| String::from_utf8_lossy(pair.key()).into_owned()).collect()
        })
    }

    /// Deletes a key.
    pub fn delete(&self, key: &str) {
        block_on(async {
            self.client().await.delete(key, None).await.expect("etcd deletes a key");
        });
    }

    /// Forgets all history, as an operator's job does every few minutes.
    pub fn compact(&self) {
        block_on(async {
            let mut client = self.client().await;
            let revision = client.get("-", None).await.expect("etcd answers").header().expect("a header").revision();
            client.compact(revision, None).await.expect("etcd compacts");
        });
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The revision of a key's last change.
    pub fn revision_of(&self, key: &str) -> Option<i64> {
        block_on(async {
            let answer = self.client().await.get(key, None).await.expect("etcd answers");
            answer.kvs().first().map(etcd_client::KeyValue::mod_revision)
        })
    }

    /// Deletes all keys that begin so.
    pub fn delete_all(&self, prefix: &str) {
        block_on(async {
            let options = etcd_client::DeleteOptions::new().with_prefix();
            self.client().await.delete(prefix, Some(options)).await.expect("etcd deletes keys");
        });
    }

    /// So many writes, a hundred at a time.
    pub fn flood(&self, writes: usize, write: impl Fn(usize) -> (String, String)) {
        block_on(async {
            let mut client = self.client().await;
            for first in (0..writes).step_by(100) {
                let mut keys = std::collections::BTreeMap::new();
                keys.extend((first..writes.min(first + 100)).map(&write));
                let puts = keys.into_iter().map(|(key, value)| etcd_client::TxnOp::put(key, value, None));
                let txn = etcd_client::Txn::new().and_then(puts.collect::<Vec<_>>());
                client.txn(txn).await.expect("etcd takes a transaction");
            }
        });
    }

    /// Keeps a copy of its data. It must not be running.
    pub fn back_up(&self) {
        self.copy("data", "backup");
    }

    /// Puts the copy in the place of its data. It must not be running.
    pub fn restore(&self) {
        self.copy("backup", "data");
    }

    fn copy(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|name| self.home.path().join(name));
        let _ = std::fs::remove_dir_all(&to);
        let status = Command::new("cp").arg("-a").args([&from, &to]).status().expect("cp can be started");
        assert!(status.success(), "while copying {}", from.display());
    }

    async fn client(&self) -> Client {
        Client::connect([self.endpoint()], None).await.expect("connecting is lazy")
    }

    fn command(&self) -> Command {
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let mut etcd = Command::new(program());
        etcd.arg("--data-dir").arg(self.home.path().join("data"));
        // The kernel does not crash in these tests, only processes do.
        etcd.args(["--unsafe-no-fsync", "--log-level=warn"]);
        etcd.args(["--listen-client-urls", &self.endpoint(), "--advertise-client-urls", &self.endpoint()]);
        etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        etcd.args(["--initial-cluster", &format!("default={peer}")]);
        etcd
    }
}

/// `scripts/fetch-etcd` knows where it is; when it is there already, that costs some milliseconds.
pub(crate) fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| scratch::fetched("fetch-etcd").join("etcd")).clone()
}
